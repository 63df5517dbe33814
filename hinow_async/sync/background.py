"""A thread with an event loop for one client: it ends with its client, or with the interpreter."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from hinow_async.sync.job import Job, closed_error

ENDING: Final = 3.0
"""Seconds that the interpreter's end waits for clients that were not closed."""

_running: set[Background] = set()


class Background:
    """A thread with an event loop, and the client's way to close itself in it."""

    def __init__(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """Start the thread, and return when its loop runs."""
        self._aclose = aclose
        self._tasks: set[asyncio.Task[None]] = set()
        ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, args=(ready,), name="hinow", daemon=True)
        self.thread.start()
        problem = ready.get()
        if problem is not None:
            raise problem
        _running.add(self)

    def _run(self, ready: queue.SimpleQueue[BaseException | None]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            # After its beginning nothing can fail but asyncio's own end, when the interpreter ends, too.
            ready.put(error)
        finally:
            _running.discard(self)

    async def _serve(self, ready: queue.SimpleQueue[BaseException | None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        ready.put(None)
        await self._ended.wait()

    @property
    def is_here(self) -> bool:
        """Whether the calling code runs in this very loop, so that it must not wait for it."""
        return self.thread is threading.current_thread()

    def submit(self, job: Job[Any]) -> None:
        """Start a job, in the context of the caller.

        Raises:
            ConfigurationError: the loop has ended.
        """
        try:
            self.loop.call_soon_threadsafe(self._begin, job)
        except RuntimeError:
            raise closed_error() from None

    def _begin(self, job: Job[Any]) -> None:
        if not self._ended.is_set():  # else its caller sees that the thread is gone
            self._start(job.run)

    def soon(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have *call* made some time, without waiting for it."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._start, call)

    def _start(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self.loop.create_task(call())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end_soon(self) -> None:
        """Close the client and end the loop and the thread, without waiting for it."""
        self.soon(self.end)

    async def end(self) -> None:
        """Close the client; calls that are still under way are cancelled with their loop."""
        try:
            await self._aclose()
        finally:
            self._ended.set()


def _end_all() -> None:
    """Close what was not closed, so that no connection is found open when the interpreter ends."""
    backgrounds = list(_running)
    for background in backgrounds:
        background.end_soon()
    for background in backgrounds:
        background.thread.join(ENDING)


def forget_all() -> None:
    """In a forked child: the threads of its parent are not here."""
    _running.clear()


atexit.register(_end_all)
