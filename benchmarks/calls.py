"""CPU of a call.

The CPU that the client's process uses for a call, after a warm-up, in user and kernel. The stub answers
after 5 ms with one canned answer, from a process of its own. Ours has all features on: adaptive limits,
deadlines, judging, records, budget. *Bare aiohttp* posts the same body and decodes the answer's JSON,
nothing else. Calls per second of one core are the inverse: what one process could reach if the service were
quick enough.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from benchmarks.case import Case, Metric
from benchmarks.clients import SLOWNESS, open_client, run_calls
from benchmarks.stub import stub

SHORT = ("ours", "aiohttp", "openai")
ALL = (*SHORT, "httpx")  # which takes longer to warm up than all others together
METRICS = {
    "cpu_us": Metric("CPU per call, µs", ".0f", how="ratio"),
    "per_second": Metric("calls per second of one core", ",.0f"),
}
CASES = tuple(
    Case(
        name=f"{kind}, {in_flight} in flight",
        clients=ALL if path == "images" else SHORT,
        base="aiohttp",
        options={"path": path, "in_flight": in_flight, "calls": calls},
        quick={"calls": calls // 4},
        serve=stub,
    )
    for kind, path in (("image", "images"), ("chat", "chat/completions"))
    for in_flight, calls in ((1, 600), (64, 4000), (512, 5000))
)


def measure(client: str, where: str, *, path: str, in_flight: int, calls: int) -> dict[str, float]:
    """CPU of one client."""
    count = max(in_flight, calls // SLOWNESS.get(client, 1))
    cpu = asyncio.run(_cpu(client, where, path, in_flight, count)) / count
    return {"cpu_us": cpu * 1e6, "per_second": 1 / cpu}


async def _cpu(client: str, base: str, path: str, in_flight: int, calls: int) -> float:
    async with AsyncExitStack() as stack:
        how = {"slots": max(in_flight, 256)} if client == "ours" else {}
        send = await open_client(client, stack, base, path, **how)
        await run_calls(send, 50 if in_flight == 1 else max(1000, in_flight * 2), in_flight)
        begun = time.process_time()
        await run_calls(send, calls, in_flight)
        return time.process_time() - begun
