"""Time that a client adds to a call.

Wall time of a call less what the service took, which is exact where nobody waits. *Idle*: one call after
the other. *At the limit*: twice as many callers as slots (64), so that each call waits for another to end;
bare aiohttp has an `asyncio.Semaphore` for that. There the service takes 100 ms, the queue as long again,
and the difference to the base is what ours adds. The callers begin one after the other, so that answers
come evenly and not 64 at once.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.case import Case, Metric
from benchmarks.clients import SLOWNESS, Send, open_client, run_calls
from benchmarks.stub import stub

IDLE, BUSY = 0.002, 0.1  # seconds that the stub takes
SLOTS = 64
METRICS = {
    "p50_us": Metric("p50, µs beyond the service", ",.0f", how="difference"),
    "p99_us": Metric("p99, µs beyond the service", ",.0f", how="difference"),
}
CASES = (
    Case(
        name="idle",
        clients=("ours", "aiohttp", "httpx", "openai"),
        base="aiohttp",
        options={"in_flight": 1, "calls": 1000, "takes": IDLE},
        quick={"calls": 300},
        serve=partial(stub, IDLE),
    ),
    Case(
        name="at the limit",
        clients=("ours", "aiohttp"),
        base="aiohttp",
        options={"in_flight": 2 * SLOTS, "calls": 2000, "takes": BUSY, "slots": SLOTS},
        quick={"calls": 1000},
        serve=partial(stub, BUSY),
    ),
)


def measure(
    client: str, where: str, *, in_flight: int, calls: int, takes: float, slots: int | None = None
) -> dict[str, float]:
    """Quantiles of one client's times."""
    count = max(200, calls // SLOWNESS.get(client, 1))
    times = asyncio.run(_times(client, where, in_flight, count, slots))
    beyond = sorted((each - takes) * 1e6 for each in times)
    return {"p50_us": statistics.median(beyond), "p99_us": _quantile(beyond, 0.99)}


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def _times(client: str, base: str, in_flight: int, calls: int, slots: int | None) -> list[float]:
    times: list[float] = []
    async with AsyncExitStack() as stack:
        how = {} if slots is None else {"slots": slots}
        send = await open_client(client, stack, base, "images", **how)

        async def timed() -> None:
            begun = time.perf_counter()
            await send()
            times.append(time.perf_counter() - begun)

        await run_calls(timed, max(50, 2 * in_flight), in_flight)
        times.clear()
        pause = 2 * BUSY / in_flight if in_flight > 1 else 0.0
        await asyncio.gather(*(_call_on(timed, n * pause, calls // in_flight) for n in range(in_flight)))
    return times


async def _call_on(call: Send, pause: float, count: int) -> None:
    await asyncio.sleep(pause)
    for _ in range(count):
        await call()
