"""One admission, acquire and release: the limiter's over `asyncio.Semaphore` in the same run, alternately.

    python -m benchmarks.admission [--rounds 7] [--waiters 100000] [--write]

Every round measures each way once, in turn; CPU of the process, medians with their spread, ratios within a
round. *Free*: nobody waits and there is room. *Waiting*: 1,000 tasks want one of 8 slots, 500 are cancelled
while they wait, the others hold a slot for one turn of the loop; the tasks are part of the figure, for all
ways alike. Then: memory per waiter beyond a task that waits for a bare future (tracemalloc, what the call
itself keeps left out), and how many timers a loop holds for very many waiters, half of them with a deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import random
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs

from benchmarks.limits import write_section
from hinow_async._limiter import Admission, Limiter
from hinow_async._protocol.adaptive import Controller
from hinow_async._protocol.outcome import Event

LATENCY = 0.3  # seconds, as told to the limiter
SLOTS = 8  # of those who wait
WAITERS = 1000
FREE = 50_000  # admissions in one figure
REPEATS = 5  # times the waiters of one figure
IN_MEMORY = 10_000
SUCCESS = Event.SUCCESS  # before Python 3.12 looking it up costs the caller a tenth of an admission

Ways = dict[str, Callable[[], Awaitable[float]]]
"""A name, and what measures it once: CPU seconds for one admission."""


@attrs.define(eq=False)
class Demand:
    """A call as the limiter sees it."""

    arrival: int
    deadline: float | None = None
    arrived_at: float = 0.0
    weight: int = 1
    kind: tuple[str, str] = ("images", "model")
    model: str = "model"
    bound: Admission | None = None
    throttled_max: float = 600.0


def make_limiter(max_in_flight: int, *, adaptive: bool) -> Limiter:
    controller = Controller(max_in_flight, adaptive=adaptive, jitter=random.random)
    return Limiter([Admission(0, "default", controller, None, max_in_flight)])


# -- free ------------------------------------------------------------------------------------------


async def free_semaphore() -> float:
    semaphore = asyncio.Semaphore(256)
    begun = time.process_time()
    for _ in range(FREE):
        await semaphore.acquire()
        semaphore.release()
    return (time.process_time() - begun) / FREE


async def free_capacity() -> float:
    limiter = anyio.CapacityLimiter(256)
    count = FREE // 5  # it is slow
    begun = time.process_time()
    for _ in range(count):
        await limiter.acquire()
        limiter.release()
    return (time.process_time() - begun) / count


def free_limiter(*, adaptive: bool) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        limiter = make_limiter(256, adaptive=adaptive)
        demand = Demand(limiter.next_arrival())
        begun = time.process_time()
        for _ in range(FREE):
            grant = limiter.acquire_nowait(demand) or await limiter.acquire(demand)
            limiter.release(grant, SUCCESS, LATENCY)
        return (time.process_time() - begun) / FREE

    return measure


# -- waiting ---------------------------------------------------------------------------------------

Acquire = Callable[[], Awaitable[Any]]
Release = Callable[[Any], None]


def of_semaphore(slots: int) -> tuple[Acquire, Release]:
    semaphore = asyncio.Semaphore(slots)
    return semaphore.acquire, lambda _: semaphore.release()


def of_capacity(slots: int) -> tuple[Acquire, Release]:
    limiter = anyio.CapacityLimiter(slots)
    return limiter.acquire, lambda _: limiter.release()


def of_limiter(slots: int, *, adaptive: bool) -> tuple[Acquire, Release]:
    limiter = make_limiter(slots, adaptive=adaptive)

    async def acquire() -> Any:
        demand = Demand(limiter.next_arrival())
        return limiter.acquire_nowait(demand) or await limiter.acquire(demand)

    return acquire, lambda grant: limiter.release(grant, SUCCESS, LATENCY)


def waiting(make: Callable[[int], tuple[Acquire, Release]]) -> Callable[[], Awaitable[float]]:
    async def measure() -> float:
        used = 0.0
        for repeat in range(REPEATS):
            used += await _wait_and_leave(*make(SLOTS), random.Random(repeat))
        return used / REPEATS / WAITERS

    return measure


async def _wait_and_leave(acquire: Acquire, release: Release, luck: random.Random) -> float:
    """CPU seconds for all the waiters, half of which leave."""

    async def hold() -> None:
        held = await acquire()
        try:
            await asyncio.sleep(0)
        finally:
            release(held)

    async def keep(full: asyncio.Event) -> None:
        held = await acquire()
        await full.wait()
        release(held)

    leaving = luck.sample(range(WAITERS), WAITERS // 2)
    full = asyncio.Event()
    begun = time.process_time()
    keepers = [asyncio.create_task(keep(full)) for _ in range(SLOTS)]
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(hold()) for _ in range(WAITERS)]
    await asyncio.sleep(0)
    for number in leaving:
        tasks[number].cancel()
    full.set()
    ended = await asyncio.gather(*keepers, *tasks, return_exceptions=True)
    used = time.process_time() - begun
    if sum(isinstance(end, asyncio.CancelledError) for end in ended) != WAITERS // 2:
        raise RuntimeError("half of them should have left")
    return used


# -- memory and timers -----------------------------------------------------------------------------


async def memory_per_waiter(wait: Callable[[Demand], Awaitable[Any]]) -> float:
    """Bytes that one more waiting task takes."""
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


async def memory() -> dict[str, float]:
    """Bytes per waiter: a bare future, a semaphore, the limiter."""
    loop = asyncio.get_running_loop()
    semaphore = asyncio.Semaphore(1)
    await semaphore.acquire()
    limiter = make_limiter(1, adaptive=True)
    grant = limiter.acquire_nowait(Demand(0))
    figures = {
        "a bare future": await memory_per_waiter(lambda _: loop.create_future()),
        "`asyncio.Semaphore`": await memory_per_waiter(lambda _: semaphore.acquire()),
        "limiter": await memory_per_waiter(limiter.acquire),
    }
    if grant is not None:
        limiter.release(grant, SUCCESS, LATENCY)
    return figures


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
    """Timers in the loop while so many wait."""
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


# -- the table -------------------------------------------------------------------------------------

SEMAPHORE = "`asyncio.Semaphore`"
WAYS_FREE: Ways = {
    SEMAPHORE: free_semaphore,
    "limiter, adaptive off": free_limiter(adaptive=False),
    "limiter, adaptive on": free_limiter(adaptive=True),
    "`anyio.CapacityLimiter`": free_capacity,
}
WAYS_WAITING: Ways = {
    SEMAPHORE: waiting(of_semaphore),
    "limiter, adaptive off": waiting(lambda slots: of_limiter(slots, adaptive=False)),
    "limiter, adaptive on": waiting(lambda slots: of_limiter(slots, adaptive=True)),
    "`anyio.CapacityLimiter`": waiting(of_capacity),
}
TARGETS = {
    ("free", "limiter, adaptive off"): 2.0,
    ("free", "limiter, adaptive on"): 6.0,
    ("waiting", "limiter, adaptive off"): 1.5,
    ("waiting", "limiter, adaptive on"): 1.5,
}


async def measured(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Microseconds per admission, for each way and round."""
    figures: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        order = list(ways) if number % 2 else list(ways)[::-1]
        for name in order:
            gc.collect()
            value = await ways[name]() * 1e6
            if number:  # the first round warms up
                figures[name].append(value)
    return figures


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f}; {min(values):.2f} to {max(values):.2f}"


def rows(case: str, figures: dict[str, list[float]]) -> list[str]:
    lines = []
    for name, values in figures.items():
        ratios = [mine / theirs for mine, theirs in zip(values, figures[SEMAPHORE], strict=True)]
        target = TARGETS.get((case, name))
        aim = "" if target is None else f"at most {target:g}"
        lines.append(f"| {case} | {name} | {spread(values)} | {spread(ratios)} | {aim} |")
    return lines


def report(rounds: int, waiters: int) -> str:
    """Measure everything; returns it in Markdown."""
    load = os.getloadavg()[0]
    free = asyncio.run(measured(WAYS_FREE, rounds))
    queued = asyncio.run(measured(WAYS_WAITING, rounds))
    taken = asyncio.run(memory())
    bare = taken.pop("a bare future")
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        counted = runner.run(timers(waiters))
    beyond = ", ".join(f"{name} {size - bare:.0f}" for name, size in taken.items())
    return "\n".join(
        [
            "| case | way | CPU, µs (median; least to most) | over Semaphore (median; least to most) | aim |",
            "|---|---|---|---|---|",
            *rows("free", free),
            *rows("waiting", queued),
            "",
            f"Bytes per waiter beyond a task that waits for a bare future ({bare:.0f}): {beyond};"
            " aim: below 1024.",
            f"Timers in the loop while {waiters:,} wait, half of them with a deadline: {counted}; aim: 1.",
            "",
            f"{rounds} rounds; {time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores, {platform.machine()},"
            f" load {load:.1f} before and {os.getloadavg()[0]:.1f} after;"
            f" Python {platform.python_version()}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--waiters", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks")
    args = parser.parse_args()
    text = report(args.rounds, args.waiters)
    print(text)
    if args.write:
        write_section("admission", text)


if __name__ == "__main__":
    main()
