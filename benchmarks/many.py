"""Many requests at once.

*64 in flight*: CPU per picture of `generate_many` beside as many callers of plain `generate`. *32 allowed*:
2,000 requests to a sandbox that takes 0.2 s and allows 32 in flight, which nobody told the client, whose
slow start is part of it. The wall time stands beside the ideal of requests x 0.2 s / 32, with refusals and
failures.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks.case import Case, Metric
from benchmarks.clients import PROMPT, open_client, our_client, run_calls
from benchmarks.sandboxes import sandbox_process
from benchmarks.stub import stub

ALLOWED, LATENCY = 32, 0.2
METRICS = {
    "cpu_us": Metric("CPU per picture, µs", ".0f", how="ratio"),
    "ideal": Metric("wall time over the ideal", ".2f"),
    "refused": Metric("refused per 100", ".2f"),
    "failed": Metric("failed", ".0f"),
}
CASES = (
    Case(
        name="64 in flight",
        clients=("generate_many", "generate"),
        base="generate",
        options={"calls": 5000},
        quick={"calls": 2000},
        serve=stub,
    ),
    Case(
        name=f"{ALLOWED} allowed",
        clients=("generate_many",),
        options={"requests": 2000},
        quick={"requests": 1000},
        serve=partial(sandbox_process, latency=LATENCY, max_in_flight=ALLOWED),
        rounds=1,
    ),
)


def measure(client: str, where: Any, *, calls: int = 0, requests: int = 0) -> dict[str, float]:
    """CPU of one way to ask, or how near to its ideal a batch of requests came."""
    if requests:
        return asyncio.run(_beside_ideal(where[0], where[1], requests))
    return {"cpu_us": asyncio.run(_cpu(client, where, calls)) / calls * 1e6}


async def _cpu(client: str, base: str, calls: int) -> float:
    async with AsyncExitStack() as stack:
        if client == "generate":
            send = await open_client("ours", stack, base, "images", slots=64)
            run = partial(run_calls, send, in_flight=64)
        else:
            ours = await stack.enter_async_context(our_client(base, slots=64))
            run = partial(_generate_many, ours)
        await run(calls=500)
        begun = time.process_time()
        await run(calls=calls)
        return time.process_time() - begun


async def _generate_many(client: Any, calls: int) -> None:
    from hinow_async import ImageRequest

    requests = (ImageRequest(PROMPT, num_images=1) for _ in range(calls))
    async with client.images.generate_many(requests) as outcomes:
        async for outcome in outcomes:
            outcome.unwrap()


async def _beside_ideal(base: str, key: str, requests: int) -> dict[str, float]:
    from hinow_async import AsyncHinow, Limits

    failed = 0
    async with AsyncHinow(base_url=base, api_key=key, limits=Limits(max_in_flight=64)) as client:
        begun = time.perf_counter()
        prompts = (f"Lighthouse number {number}" for number in range(requests))
        async with client.images.generate_many(prompts) as outcomes:
            async for outcome in outcomes:
                failed += outcome.error is not None
        wall = time.perf_counter() - begun
        refused = 100 * client.stats().throttled / requests
    return {"ideal": wall / (requests * LATENCY / ALLOWED), "refused": refused, "failed": failed}
