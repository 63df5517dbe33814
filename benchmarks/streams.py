"""Streamed chats.

*10,000 chunks*: CPU per chunk, beside bare aiohttp by lines and json, and the openai package; the stub
sends as fast as it is read. *One line*: CPU per MiB of one data line of 8 and of 32 MiB, which shows
whether the cost stays linear. *1,000 open*: memory of each of so many streams at once, of which two chunks
have come.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks.case import Case, Metric
from benchmarks.clients import KEY
from benchmarks.pictures import MIB
from benchmarks.processes import resident
from benchmarks.stub import stub

Read = Callable[[], Awaitable[int]]
MESSAGES = [{"role": "user", "content": "Name three lighthouses"}]
BODY = {"model": "hinow/himax", "messages": MESSAGES, "stream": True}
METRICS = {
    "cpu_us": Metric("CPU per chunk, µs", ".1f", how="ratio"),
    "per_second": Metric("chunks per CPU second", ",.0f"),
    "cpu_ms": Metric("CPU per MiB, ms", ".1f"),
    "kib": Metric("resident, KiB", ".1f"),
}


def _line(mib: int) -> Case:
    return Case(
        name=f"one line of {mib} MiB",
        clients=("ours",),
        options={"mib": mib},
        serve=partial(stub, chunks=1, text="A" * (mib * MIB)),
        rounds=3,
    )


CASES = (
    Case(
        name="10,000 chunks",
        clients=("ours", "aiohttp", "openai"),
        base="aiohttp",
        options={"chunks": 10_000, "streams": 3},
        quick={"streams": 1},
        serve=partial(stub, 0.0005, chunks=10_000),
    ),
    _line(8),
    _line(32),
    Case(
        name="1,000 open",
        clients=("ours",),
        options={"opened": 1000},
        serve=partial(stub, chunks=3, at_once=2, pause=600.0),
        rounds=1,
        timeout=60,
    ),
)


def measure(
    client: str, where: str, *, chunks: int = 0, streams: int = 1, mib: int = 0, opened: int = 0
) -> dict[str, float]:
    """What one client's streams take."""
    if opened:
        return {"kib": asyncio.run(_open(where, opened)) / opened / 1024}
    cpu = asyncio.run(_cpu(client, where, 1 if client == "openai" else streams))
    if mib:
        return {"cpu_ms": cpu * 1e3 / mib}
    return {"cpu_us": cpu * 1e6 / chunks, "per_second": chunks / cpu}


async def _cpu(client: str, base: str, streams: int) -> float:
    """CPU seconds of one stream, after one to warm up."""
    async with AsyncExitStack() as stack:
        read = await READERS[client](stack, base)
        await read()
        begun = time.process_time()
        for _ in range(streams):
            if not await read():
                raise RuntimeError("nothing was said")
        return (time.process_time() - begun) / streams


async def _ours(stack: AsyncExitStack, base: str) -> Read:
    from hinow_async import AsyncHinow

    client: Any = await stack.enter_async_context(AsyncHinow(base_url=base, api_key=KEY))

    async def read() -> int:
        size = 0
        async with client.chat.completions.stream(MESSAGES, model="hinow/himax") as stream:
            async for text in stream.text:
                size += len(text)
        return size

    return read


async def _aiohttp(stack: AsyncExitStack, base: str) -> Read:
    import aiohttp

    session = await stack.enter_async_context(
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}, read_bufsize=64 * MIB)
    )

    async def read() -> int:
        size = 0
        async with session.post(f"{base}/chat/completions", json=BODY) as response:
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                data = line[6:].strip()
                if data == b"[DONE]":
                    break
                size += len(json.loads(data)["choices"][0]["delta"].get("content") or "")
        return size

    return read


async def _openai(stack: AsyncExitStack, base: str) -> Read:
    import openai

    client: Any = await stack.enter_async_context(openai.AsyncOpenAI(base_url=base, api_key=KEY))

    async def read() -> int:
        size = 0
        create = client.chat.completions.create
        async for chunk in await create(messages=MESSAGES, model="hinow/himax", stream=True):
            size += len(chunk.choices[0].delta.content or "")
        return size

    return read


READERS = {"ours": _ours, "aiohttp": _aiohttp, "openai": _openai}


async def _open(base: str, count: int) -> float:
    """Bytes that so many streams hold together; they are opened twice, since the first time warms up."""
    from hinow_async import AsyncHinow, Limits

    limits = Limits(max_in_flight=count, adaptive=False)
    async with AsyncHinow(base_url=base, api_key=KEY, limits=limits) as client:
        chat: Any = client.chat.completions
        for _ in range(2):
            gc.collect()
            before = resident()
            making = (chat.create(MESSAGES, model="hinow/himax", stream=True) for _ in range(count))
            readers = [aiter(stream) for stream in await asyncio.gather(*making)]
            for reader in readers:
                await anext(reader)
            held = resident() - before
            del reader, readers  # whoever lets go of a stream gives its slot back
            gc.collect()
            await asyncio.sleep(0.2)
    return held
