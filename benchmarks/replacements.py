"""Faster replacements: uvloop, orjson.

What a user would gain by installing them. *On another loop*: CPU of an image call, 64 in flight, ours and
bare aiohttp's on asyncio's own loop and on uvloop, which works with the library and is not required. *JSON*:
CPU of reading and writing what a call brings and sends, with the standard library, which the library uses,
and with orjson: that is what orjson could save of a call, and all that it could.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.case import Case, Metric
from benchmarks.clients import BODIES, open_client, run_calls
from benchmarks.stub import IMAGES, stub

IN_FLIGHT = 64
ON_UVLOOP = ", uvloop"
METRICS = {"cpu_us": Metric("CPU, µs", ",.1f", how="ratio")}
CASES = (
    Case(
        name="an image call on another loop",
        clients=("ours", f"ours{ON_UVLOOP}", "aiohttp", f"aiohttp{ON_UVLOOP}"),
        base="aiohttp",
        options={"calls": 4000},
        quick={"calls": 1000},
        serve=stub,
    ),
    Case(
        name="JSON of an image call",
        clients=("json", "orjson"),
        base="json",
        options={"calls": 20_000},
        quick={"calls": 5000},
    ),
    Case(
        name="JSON of 8 MB with a picture in it",
        clients=("json", "orjson"),
        base="json",
        options={"calls": 10, "size": 8_000_000},
        quick={"calls": 3},
    ),
)


def measure(client: str, where: Any, *, calls: int, size: int = 0) -> dict[str, float]:
    """CPU of one call, or of its JSON."""
    if where is None:
        return {"cpu_us": _json(client, calls, size) / calls * 1e6}
    name, _, loop = client.partition(", ")
    with asyncio.Runner(loop_factory=_factory(loop)) as runner:
        return {"cpu_us": runner.run(_cpu(name, where, calls)) / calls * 1e6}


def _factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if not loop:
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _cpu(client: str, base: str, calls: int) -> float:
    async with AsyncExitStack() as stack:
        send = await open_client(client, stack, base, "images")
        await run_calls(send, 1000, IN_FLIGHT)
        begun = time.process_time()
        await run_calls(send, calls, IN_FLIGHT)
        return time.process_time() - begun


def _json(client: str, calls: int, size: int) -> float:
    """Read an answer and write a request, so often."""
    loads, dumps = _orjson() if client == "orjson" else _standard()
    answer = b'{"data":{"b64_json":"%b"}}' % (b"A" * size) if size else IMAGES
    request = BODIES["images"]
    begun = time.process_time()
    for _ in range(calls):
        loads(answer)
        dumps(request)
    return time.process_time() - begun


def _standard() -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    from hinow_async._protocol import json

    return json.loads, json.dumps


def _orjson() -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    import orjson

    return orjson.loads, orjson.dumps
