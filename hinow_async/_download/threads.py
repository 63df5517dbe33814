"""Threads for what blocks, and a way to them that costs little.

An executor hands over through a future with a lock, chains a second one to it, and writes to the loop's
pipe for each: 60 to 100 µs a time, twice a picture. Here its threads take what there is to do from one queue
for as long as there is something, and tell the loop together what has ended meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_LINGER: Final = 0.05
"""Seconds that a thread waits for more, before it goes back to its pool."""


class Threads:
    """As many threads as *most*; a forked child, which has none of its parent's threads, makes its own."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._crew: _Crew | None = None
        self._told: _Told | None = None

    def run(self, function: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        """Start *function* in a thread; cancelled before it begins, it does not.

        An error that nobody waits for any more, for the caller was cancelled or has another, is not news.
        """
        loop = asyncio.get_running_loop()
        if self._told is None or self._told.loop is not loop:
            self._told = _Told(loop)
        if self._crew is None or self._crew.pid != os.getpid():
            self._crew = _Crew(self._most)
        future: asyncio.Future[_T] = loop.create_future()
        self._crew.put(_Work(function, args, future, self._told))
        return future

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        if self._crew is not None:
            self._crew.close()
        self._crew = self._told = None


class _Work:
    """A function to be called, and who waits for it."""

    __slots__ = ("args", "error", "function", "future", "result", "told")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], future: asyncio.Future[Any], told: _Told
    ) -> None:
        self.function, self.args, self.future, self.told = function, args, future, told
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self) -> None:
        """Call it, in the thread."""
        if self.future.cancelled():
            return
        try:
            self.result = self.function(*self.args)
        except StopIteration as error:  # which no future takes
            self.error = RuntimeError(f"StopIteration was raised: {error}")
        except BaseException as error:  # every kind of it goes to who waits
            self.error = error
        self.told.end(self)

    def settle(self) -> None:
        """Say what came of it, on the loop."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)
            self.future.exception()


class _Told:
    """What a loop is to be told of: many things with one write to its pipe."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ended: deque[_Work] = deque()
        self._is_called = False

    def end(self, work: _Work) -> None:
        """Have *work* settled soon; any thread may call."""
        self._ended.append(work)
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # In this order: what is appended from now on calls again.
        self._is_called = False
        while self._ended:
            self._ended.popleft().settle()


class _Crew:
    """The threads of one process, lent by a pool, which knows how they end with the interpreter."""

    def __init__(self, most: int) -> None:
        self.pid = os.getpid()
        self._most = most
        self._pool = ThreadPoolExecutor(most, "hinow-files")
        self._works: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._there = 0
        """Threads that work or wait for work, or were asked for."""
        self._free = 0
        """Threads that wait, less the works that do."""

    def put(self, work: _Work) -> None:
        """Have *work* done by a thread that waits, by one more, or by the first one that is free."""
        with self._lock:
            self._works.put(work)
            self._free -= 1
            if self._free >= 0 or self._there == self._most:
                return
            self._there += 1
        self._pool.submit(self._serve)

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        if self.pid == os.getpid():
            self._pool.shutdown(wait=False)

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work.do()
            del work  # a thread that waits holds nothing

    def _next(self) -> _Work | None:
        """Return what is to be done next; None: there was nothing for a while."""
        with self._lock:
            self._free += 1
        with contextlib.suppress(queue.Empty):
            return self._works.get(timeout=_LINGER)
        with self._lock:
            with contextlib.suppress(queue.Empty):  # it came in this moment, and counts on us
                return self._works.get_nowait()
            self._free -= 1
            self._there -= 1
            return None
