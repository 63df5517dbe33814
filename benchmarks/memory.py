"""Memory.

*In flight*: what the process grows by while so many requests wait for their answers at the stub, divided by
their number: task, request and connection. The openai package opens 1,000 connections at most by itself,
and httpx does not come to 5,000 within a minute, so they are not asked for so many. *Waiting*: calls for
which there is no slot yet. *Growth*: what the process grows by over 200,000 calls, after 20,000 to warm up.
Resident memory comes in pages, and arenas are not given back, so small figures are rough; *traced* is what
Python's own allocators hold (tracemalloc).
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

from benchmarks.case import Case, Metric
from benchmarks.clients import Send, open_client, run_calls
from benchmarks.processes import resident
from benchmarks.stub import stub

METRICS = {
    "kib": Metric("resident, KiB", ".1f", how="ratio"),
    "traced_kib": Metric("traced, KiB", ".1f", how="ratio"),
}
held = partial(stub, hold=True)
ALL = ("ours", "aiohttp", "httpx", "openai")


def _in_flight(number: int, **more: bool) -> Case:
    return Case(
        name=f"{number:,} in flight" + (", traced" if more else ""),
        clients=ALL if number == 1000 and not more else ("ours", "aiohttp"),
        base="aiohttp",
        options={"in_flight": number, "slots": number, **more},
        serve=held,
        rounds=3,
        timeout=60,
    )


def _waiting(**more: bool) -> Case:
    return Case(
        name="5,000 waiting" + (", traced" if more else ""),
        clients=("ours", "aiohttp"),
        base="aiohttp",
        options={"in_flight": 5008, "slots": 8, **more},
        serve=held,
        timeout=60,
    )


CASES = (
    _in_flight(1000),
    _in_flight(5000),
    _in_flight(1000, traced=True),
    _waiting(),
    _waiting(traced=True),
    Case(
        name="growth",
        clients=("ours",),
        options={"calls": 200_000},
        quick={"calls": 20_000},
        serve=partial(stub, 0.0),
        rounds=1,
    ),
)


def measure(client: str, where: str, **how: int) -> dict[str, float]:
    """Memory of one client."""
    if "calls" in how:
        return {"kib": asyncio.run(_growth(where, how["calls"])) / 1024}
    traced = bool(how.pop("traced", False))
    if traced:
        tracemalloc.start()
    size = _traced if traced else resident
    each = asyncio.run(_each(client, where, how["in_flight"], how["slots"], size)) / 1024
    return {"traced_kib" if traced else "kib": each}


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


async def _each(client: str, base: str, count: int, slots: int, size: Callable[[], int]) -> float:
    """Bytes that each call takes, of those in flight or, where slots are fewer, of those that wait."""
    async with AsyncExitStack() as stack:
        bound = {"slots": slots} if client == "ours" or slots < count else {}
        send = await open_client(client, stack, base, "images", **bound)
        await _hold(send, base, min(8, slots), min(8, slots), size)  # so that all is imported
        gc.collect()
        grown = await _hold(send, base, count, slots, size)
    return grown / (count - slots if slots < count else count)


async def _hold(send: Send, base: str, count: int, slots: int, size: Callable[[], int]) -> int:
    """What so many calls take together while the stub holds those that have a slot."""
    before = size()
    calls = [asyncio.ensure_future(send()) for _ in range(count)]
    while _ask(base, "held") < min(slots, count):
        done = [call for call in calls if call.done()]
        for call in done:
            call.result()  # one that failed ends the run
        await asyncio.sleep(0.05)
    gc.collect()
    grown = size() - before
    while not all(call.done() for call in calls):
        _ask(base, "release")
        await asyncio.sleep(0.02)
    await asyncio.gather(*calls)
    return grown


def _ask(base: str, question: str) -> int:
    """Calls that the stub holds; it lets them go when it is told to. Takes no part in the client's loop."""
    root = urlsplit(base)
    connection = http.client.HTTPConnection(str(root.hostname), root.port or 80)
    try:
        connection.request("GET", f"/v1/{question}")
        return int(connection.getresponse().read())
    finally:
        connection.close()


async def _growth(base: str, calls: int) -> float:
    async with AsyncExitStack() as stack:
        send = await open_client("ours", stack, base, "images")
        await run_calls(send, calls // 10, 64)
        gc.collect()
        before = resident()
        await run_calls(send, calls, 64)
        gc.collect()
        return resident() - before
