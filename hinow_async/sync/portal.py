"""The way from synchronous code into an event loop of its own, and back.

Each client has one thread with one event loop, begun by its first call. A caller's thread hands over a job
and waits for it; when it is interrupted (Ctrl-C) the job is cancelled as the asynchronous client's would be,
so slot, connection and money are looked after before `KeyboardInterrupt` goes on its way.

What runs in the loop never refers to the portal, so that a forgotten client can be collected: its thread
then ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

from hinow_async._errors import ConfigurationError
from hinow_async.sync import background as threads
from hinow_async.sync.background import Background
from hinow_async.sync.job import Job, Mail, closed_error, next_letter

T = TypeVar("T")


class Stream(Protocol):
    """Something of the client that is open until it is closed."""

    async def aclose(self) -> None:
        """Close it; any number of times."""


class Portal:
    """A client's way into its background loop, from any thread."""

    def __init__(
        self, aclose: Callable[[], Awaitable[None]], adapt: Callable[[BaseException, Portal], None]
    ) -> None:
        """Prepare; no thread is started yet.

        Args:
            aclose: Closes the asynchronous client.
            adapt: Told each error before it is raised.
        """
        self._aclose = aclose
        self._adapt = adapt
        self._lock = threading.Lock()
        self._background: Background | None = None
        self._finalizer: weakref.finalize[Any, Portal] | None = None
        self._is_closed = False
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        _portals.add(self)

    def run(self, call: Callable[[], Awaitable[T]], mail: Mail | None = None) -> T:
        """Have *call* made in the loop and wait for it.

        Args:
            call: Makes the coroutine.
            mail: Where errands for this thread arrive meanwhile.

        Raises:
            ConfigurationError: the client is closed, or this is its own loop, which would wait for itself.
        """
        background = self._begun()
        job = Job(call, queue.SimpleQueue() if mail is None else mail)
        try:
            background.submit(job)
            return job.outcome(background.thread)
        except BaseException as error:
            job.cancel()
            self._adapt(error, self)
            raise

    def tend(self, stream: Stream) -> None:
        """Remember what is open, so that closing the client leaves it first."""
        with self._lock:
            self._streams.add(stream)

    def finish(self, call: Callable[[], Awaitable[None]]) -> None:
        """Have something left or closed; where the client itself was closed that is done already."""
        if not self._is_closed:
            self.run(call)

    def ask(self, question: Callable[[], T]) -> T:
        """Have a plain function run where nothing changes meanwhile: in the loop, if it runs."""
        background = self._background
        if background is None or self._is_closed or background.is_here:
            return question()

        async def answer() -> T:
            return question()

        return self.run(answer)

    def iterate(self, make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        """Iterate in this thread over what *make* makes in the loop; leaving it early closes that, too.

        One task does all of it: what an asynchronous generator holds open belongs to a task.
        """
        mail: Mail = queue.SimpleQueue()
        pump = _Pump(make, mail)
        job = Job(pump.run, mail)
        background = self._begun()
        try:
            background.submit(job)
            while True:
                letter = next_letter(mail, background.thread)
                if letter is job:
                    mail.put(job)
                    job.outcome(background.thread)
                    return
                yield letter[0]
                background.loop.call_soon_threadsafe(pump.wanted.set)
        except Exception as error:
            self._adapt(error, self)
            raise
        finally:
            job.cancel()

    def leave_behind(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have *call* made some time, without waiting: for what is collected, in whatever thread."""
        if self._background is not None:
            self._background.soon(call)

    def close(self) -> None:
        """Close the client, and end the thread. Closing twice is fine."""
        if self._is_closed:
            return
        background = self._begun()
        with self._lock:
            streams = list(self._streams)

        async def close() -> None:
            for stream in streams:
                await stream.aclose()
            await self._aclose()

        try:
            self.run(close)
        finally:
            with self._lock:
                self._is_closed = True
                self._background = None
            if self._finalizer is not None:
                self._finalizer.detach()
            background.end_soon()
            background.thread.join()

    def _begun(self) -> Background:
        background = self._background
        if background is None:
            background = self._begin()
        if background.is_here:
            raise ConfigurationError(
                "a hook or a callback runs in the client's own event loop, which would wait for itself:"
                " make calls from another thread"
            )
        return background

    def _begin(self) -> Background:
        with self._lock:
            if self._is_closed:
                raise closed_error()
            if self._background is None:
                self._background = Background(self._aclose)
                self._finalizer = weakref.finalize(self, self._background.end_soon)
                self._finalizer.atexit = False
            return self._background

    def forget(self) -> None:
        """In a forked child: the parent's thread is not here, so the next call begins a new one."""
        self._lock = threading.Lock()  # another thread may have held the old one
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._background is not None:
            _forgotten.append(self._background)
            self._background = None


class _Pump(Generic[T]):
    """Hands the items of an asynchronous iterator over, each when the one before was used up."""

    def __init__(self, make: Callable[[], AsyncIterator[T]], mail: Mail) -> None:
        self._make = make
        self._mail = mail
        self.wanted = asyncio.Event()

    async def run(self) -> None:
        items = self._make()
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(items, AsyncGenerator):
                await stack.enter_async_context(contextlib.aclosing(items))
            async for item in items:
                self._mail.put((item,))
                await self.wanted.wait()
                self.wanted.clear()


_portals: weakref.WeakSet[Portal] = weakref.WeakSet()
_forgotten: list[Background] = []
"""What a forked child keeps of its parent, lest its collection touch the parent's sockets."""


def _forget_all() -> None:
    threads.forget_all()
    for portal in list(_portals):
        portal.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
