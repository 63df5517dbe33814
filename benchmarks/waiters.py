"""What waiting for a slot takes: memory for each waiter, and timers for all of them together."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.limiters import LATENCY, SUCCESS, Demand, make_limiter

IN_MEMORY = 10_000


async def memory(*, adaptive: bool | None) -> float:
    """Bytes of a waiter beyond a task that waits for a bare future; None: `asyncio.Semaphore`'s."""
    loop = asyncio.get_running_loop()
    bare = await _each(lambda _: loop.create_future())
    if adaptive is None:
        semaphore = asyncio.Semaphore(1)
        await semaphore.acquire()
        return await _each(lambda _: semaphore.acquire()) - bare
    limiter = make_limiter(1, adaptive=adaptive)
    grant = limiter.acquire_nowait(Demand(0))
    taken = await _each(limiter.acquire)
    if grant is not None:
        limiter.release(grant, SUCCESS, LATENCY)
    return taken - bare


async def _each(wait: Callable[[Demand], Awaitable[Any]]) -> float:
    """Bytes that one more waiting task takes; the least of three, for the first find memory in pieces."""
    return min([await _once(wait) for _ in range(3)])


async def _once(wait: Callable[[Demand], Awaitable[Any]]) -> float:
    demands = [Demand(number + 1) for number in range(IN_MEMORY)]

    async def stay(demand: Demand) -> None:
        await wait(demand)

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.create_task(stay(demand)) for demand in demands]
    await asyncio.sleep(0)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return taken / IN_MEMORY


class CountingLoop(asyncio.SelectorEventLoop):
    """Knows the timers that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[asyncio.TimerHandle] = []

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        self._asked.append(handle)
        return handle

    def timers(self) -> int:
        """How many will still ring."""
        now = self.time()
        return sum(not handle.cancelled() and handle.when() > now for handle in self._asked)


async def timers(waiters: int) -> int:
    """Timers in the loop while so many wait, half of them with a deadline."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, CountingLoop):
        raise TypeError("needs a loop that counts")
    limiter = make_limiter(1, adaptive=True)
    grant = limiter.acquire_nowait(Demand(0))
    later = time.monotonic() + 3600

    async def stay(number: int) -> None:
        await limiter.acquire(Demand(number, later + number if number % 2 else None))

    tasks = [asyncio.create_task(stay(number + 1)) for number in range(waiters)]
    for _ in range(3):  # a timer that came due while so many tasks began rings, and is set anew
        await asyncio.sleep(0)
    counted = loop.timers()
    if limiter.waiting != waiters:
        raise RuntimeError("not all of them wait")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if grant is not None:
        limiter.release(grant, SUCCESS, LATENCY)
    return counted
