"""One admission.

Acquire and release, beside `asyncio.Semaphore`. *Free*: nobody waits and there is room. *Waiting*: 1,000
tasks want one of 8 slots, 500 are cancelled while they wait, the others hold a slot for one turn of the
loop; the tasks are part of the figure, for all alike. *A waiter's memory* is that beyond a task which waits
for a bare future (tracemalloc; what the call itself keeps is left out). *Timers* are those in a loop in
which 100,000 wait, half of them with a deadline.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Any

import anyio

from benchmarks import waiters
from benchmarks.case import Case, Metric
from benchmarks.limiters import (
    LATENCY,
    SUCCESS,
    Acquire,
    Demand,
    Release,
    make_limiter,
    of_capacity,
    of_limiter,
    of_semaphore,
)

SLOTS = 8  # of those who wait
WAITERS = 1000
FREE = 50_000  # admissions in one figure
SEMAPHORE, CAPACITY = "asyncio.Semaphore", "anyio.CapacityLimiter"
OURS = {"adaptive off": False, "adaptive on": True}

METRICS = {
    "cpu_us": Metric("CPU, µs", ".2f", how="ratio"),
    "bytes": Metric("bytes a waiter", ".0f"),
    "timers": Metric("timers", ".0f"),
}
CASES = (
    *(
        Case(
            name=name,
            clients=(SEMAPHORE, *OURS, CAPACITY),
            base=SEMAPHORE,
            options={"what": name, "times": times},
            quick={"times": 1},
        )
        for name, times in (("free", 7), ("waiting", 11))
    ),
    Case(name="a waiter's memory", clients=(SEMAPHORE, "adaptive on"), options={"what": "memory"}, rounds=1),
    Case(name="timers", clients=("adaptive on",), options={"what": "timers"}, rounds=1),
)


def measure(client: str, where: Any, *, what: str, times: int = 1) -> dict[str, float]:
    """One way of being let through."""
    if what == "timers":
        with asyncio.Runner(loop_factory=waiters.CountingLoop) as runner:
            return {"timers": runner.run(waiters.timers(100_000))}
    if what == "memory":
        return {"bytes": asyncio.run(waiters.memory(adaptive=OURS.get(client)))}
    once = partial(_free, client) if what == "free" else partial(_waiting, client)
    asyncio.run(once())  # warms up
    return {"cpu_us": min(asyncio.run(once()) for _ in range(times)) * 1e6}


async def _free(client: str) -> float:
    """CPU seconds for one admission where there is room."""
    if client in OURS:
        return _free_limiter(adaptive=OURS[client])
    many = anyio.CapacityLimiter(256) if client == CAPACITY else asyncio.Semaphore(256)
    count = FREE // 5 if client == CAPACITY else FREE  # it is slow
    begun = time.process_time()
    for _ in range(count):
        await many.acquire()
        many.release()
    return (time.process_time() - begun) / count


def _free_limiter(*, adaptive: bool) -> float:
    limiter = make_limiter(256, adaptive=adaptive)
    demand = Demand(limiter.next_arrival())
    begun = time.process_time()
    for _ in range(FREE):
        grant = limiter.acquire_nowait(demand)
        if grant is None:
            raise RuntimeError("there should have been room")
        limiter.release(grant, SUCCESS, LATENCY)
    return (time.process_time() - begun) / FREE


async def _waiting(client: str) -> float:
    """CPU seconds for one of the waiters, half of whom leave."""
    make = {SEMAPHORE: of_semaphore, CAPACITY: of_capacity}.get(client)
    acquire, release = make(SLOTS) if make is not None else of_limiter(SLOTS, adaptive=OURS[client])
    return await _wait_and_leave(acquire, release, random.Random(1)) / WAITERS


async def _wait_and_leave(acquire: Acquire, release: Release, luck: random.Random) -> float:
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
