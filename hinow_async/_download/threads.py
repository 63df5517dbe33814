"""Threads for what blocks, and a way to them that costs little.

An executor hands over through a future with a lock, chains a second one to it, and writes to the loop's
pipe for each: 60 to 100 µs a time, twice a picture. Here its threads take what there is to do for as long as
there is something, and tell the loop together what has ended meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

Wait = Callable[[Callable[[Exception | None], None]], None]
"""Begins something, and has what it is given called when that has ended, in any thread, with what was wrong,
if anything was."""

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
        crew, told = self._get()
        future: asyncio.Future[_T] = told.loop.create_future()
        crew.put(_Call(function, args, future, told))
        return future

    def run_steps(self, steps: Generator[Wait, None, _T]) -> asyncio.Future[_T]:
        """Like `run`, for what has to wait in between: it yields for what, and no thread waits with it.

        Once begun it is brought to its end, as a function is, whether or not its caller still waits.
        """
        crew, told = self._get()
        future: asyncio.Future[_T] = told.loop.create_future()
        crew.put(_Steps(steps, future, told, crew))
        return future

    def _get(self) -> tuple[_Crew, _Told]:
        loop = asyncio.get_running_loop()
        if self._told is None or self._told.loop is not loop:
            self._told = _Told(loop)
        if self._crew is None or self._crew.pid != os.getpid():
            self._crew = _Crew(self._most)
        return self._crew, self._told

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        if self._crew is not None:
            self._crew.close()
        self._crew = self._told = None


class _Work:
    """What is to be done, and who waits for it."""

    __slots__ = ("error", "future", "result", "told")

    def __init__(self, future: asyncio.Future[Any], told: _Told) -> None:
        self.future, self.told = future, told
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self) -> None:
        """Do it, in the thread."""
        raise NotImplementedError

    def settle(self) -> None:
        """Say what came of it, on the loop."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)
            self.future.exception()


class _Call(_Work):
    """A function to be called."""

    __slots__ = ("args", "function")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], future: asyncio.Future[Any], told: _Told
    ) -> None:
        super().__init__(future, told)
        self.function, self.args = function, args

    def do(self) -> None:
        """Call it."""
        if self.future.cancelled():
            return
        try:
            self.result = self.function(*self.args)
        except StopIteration as error:  # which no future takes
            self.error = RuntimeError(f"StopIteration was raised: {error}")
        except BaseException as error:  # every kind of it goes to who waits
            self.error = error
        self.told.end(self)


class _Steps(_Work):
    """A generator to be driven, which needs no thread while it waits."""

    __slots__ = ("crew", "has_begun", "problem", "steps")

    def __init__(
        self, steps: Generator[Wait, None, Any], future: asyncio.Future[Any], told: _Told, crew: _Crew
    ) -> None:
        super().__init__(future, told)
        self.steps, self.crew = steps, crew
        self.problem: Exception | None = None
        self.has_begun = False

    def do(self) -> None:
        """Go on until it waits again, or ends."""
        if self.future.cancelled() and not self.has_begun:
            return
        self.has_begun = True
        try:
            wait = next(self.steps) if self.problem is None else self.steps.throw(self.problem)
        except StopIteration as end:
            self.result = end.value
        except BaseException as error:  # every kind of it goes to who waits
            self.error = error
        else:
            self._wait(wait)
            return
        self.told.end(self)

    def _wait(self, wait: Wait) -> None:
        self.crew.lend(1)
        try:
            wait(self._go_on)
        except Exception as error:  # it was not begun
            self._go_on(error)

    def _go_on(self, problem: Exception | None) -> None:
        self.problem = problem
        self.crew.put(self)
        self.crew.lend(-1)


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


class _Place:
    """Where one thread waits for what it is to do."""

    __slots__ = ("wake", "work")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.work: _Work | None = None


class _Crew:
    """The threads of one process, lent by a pool, which knows how they end with the interpreter.

    Each is handed its work at a place of its own. A `SimpleQueue` that is asked with a timeout may wait for
    ever instead, in CPython 3.11, when another thread takes what it was woken for in the moment it runs out.
    """

    def __init__(self, most: int) -> None:
        self.pid = os.getpid()
        self._most = most
        self._pool = ThreadPoolExecutor(most, "hinow-files")
        self._lock = threading.Lock()
        self._works: deque[_Work] = deque()
        """Those that found no thread free."""
        self._free: list[_Place] = []
        """Of threads that wait; the last one is woken first, so that those before it come to their end."""
        self._there = 0
        """Threads that work or wait for work, or were asked for."""
        self._lent = 0
        """Works that wait for something else, and will want a thread again."""

    def put(self, work: _Work) -> None:
        """Have *work* done by a thread that waits, by one more, or by the first one that is free."""
        with self._lock:
            place = self._free.pop() if self._free else None
            if place is not None:
                place.work = work
            else:
                if self._there < self._most:
                    self._add_thread()
                self._works.append(work)
        if place is not None:
            place.wake.release()

    def _add_thread(self) -> None:
        try:
            self._pool.submit(self._serve)
        except RuntimeError:  # closed, or the interpreter ends: who is there yet does it
            if not self._there:
                raise
        else:
            self._there += 1

    def lend(self, count: int) -> None:
        """So many more works wait for something else; one thread stays for them, also once it was closed."""
        with self._lock:
            self._lent += count

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        if self.pid == os.getpid():
            self._pool.shutdown(wait=False)

    def _serve(self) -> None:
        place = _Place()
        while (work := self._next(place)) is not None:
            work.do()
            del work  # a thread that waits holds nothing

    def _next(self, place: _Place) -> _Work | None:
        """Return what is to be done next; None: there was nothing for a while."""
        with self._lock:
            if self._works:
                return self._works.popleft()
            self._free.append(place)
        while not place.wake.acquire(timeout=_LINGER):
            with self._lock:
                if place.work is None and not (self._lent and self._there == 1):
                    self._free.remove(place)
                    self._there -= 1
                    return None
        work, place.work = place.work, None
        return work
