"""Many calls at once, as one asynchronous iterator of outcomes.

Workers pull the source, each only when one more call can be of use: as long as no more wait for a slot
than are let through at once, and never more than two times what may be in flight beyond what the reader
has taken. So the source stays lazy, memory stays bounded, a slow reader slows the work down, and the
adaptive limiter always sees somebody waiting when it may grow.

No task group stays open around the reader's block: it would wrap his errors in a group.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

import anyio

from hinow_async._call import Call
from hinow_async._errors import ConfigurationError

_log = logging.getLogger("hinow_async")

O = TypeVar("O")  # noqa: E741 - an outcome

END: Any = object()

CLEANING = 10.0
"""Seconds that leaving waits for cancelled calls and downloads to tidy up."""


class Source:
    """Any iterable, sync or async, pulled one item at a time."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._async: AsyncIterator[Any] | None = None
        self._sync: Iterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        elif isinstance(items, Iterable) and not isinstance(items, str | bytes):
            self._sync = iter(items)
        else:
            raise ValueError(
                f"requests must be an iterable of prompts or requests, not {type(items).__name__}"
            )

    async def pull(self) -> Any:
        """Return the next item, or END."""
        if self._sync is not None:
            return next(self._sync, END)
        assert self._async is not None  # noqa: S101 - one of the two is there
        return await anext(self._async, END)

    async def aclose(self) -> None:
        """Close a generator, so that its `finally` runs now."""
        if self._async is not None and hasattr(self._async, "aclose"):
            await self._async.aclose()
        elif self._sync is not None and hasattr(self._sync, "close"):
            self._sync.close()


class Item:
    """One pulled item on its way; also what its call reports to (`_call.Watcher`)."""

    __slots__ = ("_stream", "call", "is_granted", "task")

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream
        self.call: Call[Any] | None = None
        self.is_granted = False
        self.task: asyncio.Task[Any] | None = None

    def on_granted(self, call: Call[Any]) -> None:
        """The call is about to be sent, so one more item may wait in its place."""
        self.call = call
        if not self.is_granted:
            self.is_granted = True
            self._stream.on_left_queue()

    def may_send(self) -> bool:
        """Whether the call may be tried again."""
        return not self._stream.is_stopped

    def stop(self, error: Exception) -> None:
        """Nothing more can be kept: send nothing more, and raise *error* when what is in flight is done."""
        self._stream.fail(error)

    @property
    def is_paid(self) -> bool:
        """Whether the call brought a result."""
        return self.call is not None and self.call.is_paid

    @property
    def is_maybe_paid(self) -> bool:
        """Whether the call was sent without an answer that could be read."""
        return self.call is not None and self.call.unknown_outcomes > 0


class Stream(Generic[O]):
    """Pulls a source with as many workers as are of use, and hands over outcomes."""

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        run: Callable[[int, Any, Item], Awaitable[O]],
        limit: Callable[[], int],
        ceiling: int,
        *,
        ordered: bool,
    ) -> None:
        """Prepare; nothing is pulled yet.

        Args:
            items: The source.
            run: Makes the outcome of the item at a position; it raises only to stop the whole stream.
            limit: Calls that are let through at once now.
            ceiling: Calls that may ever be in flight together.
            ordered: Whether outcomes keep the order of the source.
        """
        self._source = Source(items)
        self._run = run
        self._limit = limit
        self._most = 2 * ceiling
        self._ordered = ordered
        self._lock = asyncio.Lock()
        self._ready: deque[O] = deque()
        self._early: dict[int, O] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: dict[asyncio.Task[None], asyncio.Future[None]] = {}
        """Workers that are of no use now, and what each waits for: a new task for each item costs more."""
        self._items: set[Item] = set()
        self._reader: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._pulled = 0
        self._taken = 0
        self._next = 0
        self._in_queue = 0
        self._is_starting = False
        self._is_exhausted = False
        self._puller: asyncio.Task[Any] | None = None
        self.is_stopped = False

    # -- the reader's side -------------------------------------------------------------------------

    async def take(self) -> O:
        """Return the next outcome.

        Raises:
            StopAsyncIteration: there are no more.
        """
        while not self._ready:
            self._grow()
            if len(self._tasks) == len(self._resting):
                await self._end()
            if self._reader is not None:
                raise ConfigurationError("these outcomes are being read by another task")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        self._taken += 1
        outcome = self._ready.popleft()
        self._grow()
        return outcome

    async def _end(self) -> None:
        await self._source.aclose()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopAsyncIteration

    def start(self) -> None:
        """Begin to pull."""
        self._grow()

    def stop(self) -> None:
        """Send nothing more: who still waits leaves the queue, what is in flight is finished."""
        self.is_stopped = True
        for item in self._items:
            if item.is_granted and item.call is not None:
                item.call.give_up()
            elif item.task is not None:
                item.task.cancel()
        # A source that waits for something may wait for ever; one that stops us itself is not cancelled.
        if self._puller is not None and self._puller is not asyncio.current_task():
            self._puller.cancel()

    def fail(self, error: Exception) -> None:
        """Stop, and raise *error* at the end."""
        self._break(error)
        self.stop()

    async def aclose(self) -> tuple[int, int]:
        """Cancel what is under way.

        Returns:
            Calls that may have been billed without a result, and outcomes that nobody took.
        """
        self.is_stopped = True
        items = list(self._items)
        tasks = list(self._tasks)
        for task in tasks:
            # One that rests has nothing to clean up, and an error that nobody reads is a cycle.
            if task not in self._resting or not _release(self._resting.pop(task)):
                task.cancel()
        # Shielded, for a cancelled scope of anyio would cut the waiting short, and leave them running.
        with anyio.move_on_after(CLEANING, shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._source.aclose()
        # A result whose pictures were still being saved is as paid as one that was ready.
        untaken = len(self._ready) + len(self._early) + sum(item.is_paid for item in items)
        self._ready.clear()
        self._early.clear()
        return sum(item.is_maybe_paid for item in items), untaken

    # -- the workers' side -------------------------------------------------------------------------

    def _is_of_use(self) -> bool:
        return not (
            self._is_exhausted
            or self.is_stopped
            or self._in_queue >= self._limit()
            or self._pulled - self._taken >= self._most
        )

    def _grow(self) -> None:
        """Start one more worker if it is of use, or one that rests; it starts the next one in its turn."""
        if self._is_starting or not self._is_of_use():
            return
        self._is_starting = True
        while self._resting:
            if _release(self._resting.popitem()[1]):
                return
        task = asyncio.get_running_loop().create_task(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._on_worker_left)

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        while True:
            self._is_starting = False
            while self._is_of_use() and (item := await self._pull(task)) is not END:
                index = self._pulled
                self._pulled += 1
                self._in_queue += 1
                await self._make(index, item, task)
            if self._is_exhausted or self.is_stopped:
                return
            await self._rest(task)

    async def _rest(self, task: asyncio.Task[None]) -> None:
        """Wait until one more worker is of use, or the stream is closed."""
        waiter = self._resting[task] = asyncio.get_running_loop().create_future()
        self._wake()
        try:
            await waiter
        except asyncio.CancelledError:
            self._resting.pop(task, None)
            raise

    async def _pull(self, task: asyncio.Task[None]) -> Any:
        await self._lock.acquire()
        try:
            if not self._is_of_use():
                return END
            self._puller = task
            item = await self._source.pull()
        except Exception as error:
            self._break(error)
            return END
        finally:
            self._puller = None
            self._lock.release()
        if item is END:
            self._is_exhausted = True
        return END if self.is_stopped else item

    def _break(self, error: BaseException) -> None:
        self._is_exhausted = True
        if self._error is None:
            self._error = error

    async def _make(self, index: int, item: Any, task: asyncio.Task[None]) -> None:
        state = Item(self)
        state.task = task
        self._items.add(state)
        self._grow()
        try:
            outcome = await self._run(index, item, state)
        except Exception as error:
            self._break(error)
            return
        finally:
            self._items.discard(state)
            if not state.is_granted:
                self._in_queue -= 1
        self._deliver(index, outcome)

    def on_left_queue(self) -> None:
        """One call less waits."""
        self._in_queue -= 1
        self._grow()

    def _deliver(self, index: int, outcome: O) -> None:
        if not self._ordered:
            self._ready.append(outcome)
        else:
            self._early[index] = outcome
            while self._next in self._early:
                self._ready.append(self._early.pop(self._next))
                self._next += 1
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _on_worker_left(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            self._is_starting = False
        elif (error := task.exception()) is not None:
            self._break(error)
        self._wake()


def _release(waiter: asyncio.Future[None]) -> bool:
    """Let a worker go on that rests; False: it was cancelled a moment ago."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True


class Outcomes(Generic[O]):
    """What `generate_many` and `create_many` return: enter it with `async with`, then iterate it."""

    def __init__(
        self,
        open_stream: Callable[[], Awaitable[Stream[O]]],
        name: str,
        *,
        on_left: Callable[[], None] | None = None,
    ) -> None:
        self._open = open_stream
        self.name = name
        self._on_left = on_left
        self._stream: Stream[O] | None = None

    async def __aenter__(self) -> Self:
        if self._stream is not None:
            raise ConfigurationError(f"these outcomes were entered before: call {self.name} again")
        self._stream = await self._open()
        self._stream.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        stream = self._entered()
        try:
            maybe_paid, untaken = await stream.aclose()
        finally:
            if self._on_left is not None:
                self._on_left()
        if maybe_paid or untaken:
            _log.warning(
                "left early: %d calls in flight were cancelled and may have been billed,"
                " %d results that were ready were not taken",
                maybe_paid,
                untaken,
            )

    def __aiter__(self) -> AsyncIterator[O]:
        self._entered()
        return self

    async def __anext__(self) -> O:
        return await self._entered().take()

    def stop(self) -> None:
        """Send nothing more; the iteration ends when what is in flight is done."""
        self._entered().stop()

    def _entered(self) -> Stream[O]:
        if self._stream is None:
            raise ConfigurationError(f"enter the outcomes first: async with {self.name}(...) as outcomes")
        return self._stream
