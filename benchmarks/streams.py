"""CPU of streamed chats: ours over aiohttp by lines and json, and over the openai package, run alternately.

    python -m benchmarks.streams [--chunks 10000] [--streams 5] [--rounds 5] [--at-once 1000000]
    python -m benchmarks.streams --lines     # one data line of 8 and of 32 MiB: does its cost stay linear?
    python -m benchmarks.streams --open 1000 # that many streams at once: memory for each, and what is left

Every round runs each client once, in a process of its own, against one stub server; what counts is the CPU
of the client's process over its streams, after one to warm up. Figures are medians, with their spread;
ratios are taken within a round, for what else the machine does changes from round to round.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.stub import stub

Read = Callable[[], Awaitable[int]]
MESSAGES = [{"role": "user", "content": "Name three lighthouses"}]
BODY = {"model": "hinow/himax", "messages": MESSAGES, "stream": True}


async def _ours(base: str, stack: AsyncExitStack) -> Read:
    from hinow_async import AsyncHinow

    client = await stack.enter_async_context(AsyncHinow(base_url=base, api_key="hi_bench"))

    async def read() -> int:
        size = 0
        async with client.chat.completions.stream(MESSAGES, model="hinow/himax") as stream:
            async for text in stream.text:
                size += len(text)
        return size

    return read


async def _aiohttp(base: str, stack: AsyncExitStack) -> Read:
    import aiohttp

    session = await stack.enter_async_context(
        aiohttp.ClientSession(headers={"Authorization": "Bearer hi_bench"}, read_bufsize=2**26)
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
                chunk = json.loads(data)
                size += len(chunk["choices"][0]["delta"].get("content") or "")
        return size

    return read


async def _openai(base: str, stack: AsyncExitStack) -> Read:
    import openai

    client = await stack.enter_async_context(openai.AsyncOpenAI(base_url=base, api_key="hi_bench"))

    async def read() -> int:
        size = 0
        async for chunk in await client.chat.completions.create(
            messages=MESSAGES,  # type: ignore[arg-type]
            model="hinow/himax",
            stream=True,
        ):
            size += len(chunk.choices[0].delta.content or "")
        return size

    return read


CLIENTS = {"ours": _ours, "aiohttp": _aiohttp, "openai": _openai}


async def _measure(name: str, base: str, streams: int) -> tuple[float, int]:
    async with AsyncExitStack() as stack:
        read = await CLIENTS[name](base, stack)
        await read()
        begun, size = time.process_time(), 0
        for _ in range(streams):
            size += await read()
        return time.process_time() - begun, size


def _child(name: str, base: str, streams: int) -> float:
    command = [sys.executable, "-m", "benchmarks.streams", "--child", name, "--base", base]
    out = subprocess.run(
        [*command, "--streams", str(streams)], check=True, capture_output=True, text=True
    ).stdout
    cpu, size = json.loads(out)
    assert size > 0
    return cpu / streams


def _compare(args: argparse.Namespace) -> None:
    names = ["ours", *args.peers]
    cpu: dict[str, list[float]] = {name: [] for name in names}
    with stub(0.0005, chunks=args.chunks, at_once=args.at_once) as base:
        for number in range(args.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                cpu[name].append(_child(name, base, args.streams if name != "openai" else 1))
    print(f"{args.streams} streams of {args.chunks} chunks, {args.rounds} rounds,", end=" ")
    print(f"Python {platform.python_version()}, {platform.machine()}")
    print("| client | chunks per CPU second (median; least to most) | ours over it (median; least to most) |")
    print("|---|---|---|")
    for name in names:
        mine = sorted(a / b for a, b in zip(cpu["ours"], cpu[name], strict=True))
        rates = sorted(args.chunks / value for value in cpu[name])
        print(
            f"| {name} | {statistics.median(rates):,.0f}; {rates[0]:,.0f} to {rates[-1]:,.0f}"
            f" | {statistics.median(mine):.2f}; {mine[0]:.2f} to {mine[-1]:.2f} |"
        )


def _lines(args: argparse.Namespace) -> None:
    figures: dict[int, list[float]] = {8: [], 32: []}
    for _ in range(args.rounds):
        for mib, found in figures.items():
            with stub(chunks=1, text="A" * (mib * 2**20)) as base:
                found.append(_child("ours", base, 1))
    ratios = sorted(b / a for a, b in zip(figures[8], figures[32], strict=True))
    for mib, found in figures.items():
        print(f"a data line of {mib} MiB: {statistics.median(found) * 1000:.0f} ms of CPU")
    print(f"32 MiB over 8 MiB: {statistics.median(ratios):.1f}; {ratios[0]:.1f} to {ratios[-1]:.1f}")


def _sockets() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _open_many(count: int, base: str) -> None:
    from hinow_async import AsyncHinow, Limits

    limits = Limits(max_in_flight=count, adaptive=False)
    async with AsyncHinow(base_url=base, api_key="hi_bench", limits=limits) as client:
        for name in ("first", "second"):
            gc.collect()
            before, sockets = _resident(), _sockets()
            streams = await asyncio.gather(
                *(
                    client.chat.completions.create(MESSAGES, model="hinow/himax", stream=True)
                    for _ in range(count)
                )
            )
            readers = [aiter(stream) for stream in streams]
            for reader in readers:
                await anext(reader)
            held, opened = _resident() - before, _sockets() - sockets
            assert client.stats().in_flight == count
            print(f"{name} {count} streams: {held / count / 1024:.1f} KiB each, {opened} sockets", end="; ")
            del streams, readers, reader
            gc.collect()
            await asyncio.sleep(0.2)
            print(f"dropped: {client.stats().in_flight} in flight, {_sockets() - sockets} sockets left")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=2**30)
    parser.add_argument(
        "--peers", nargs="*", default=["aiohttp", "openai"], choices=sorted(set(CLIENTS) - {"ours"})
    )
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--open", type=int)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(asyncio.run(_measure(args.child, args.base, args.streams))))
    elif args.lines:
        _lines(args)
    elif args.open:
        with stub(chunks=3, at_once=2, pause=600.0) as base:
            asyncio.run(_open_many(args.open, base))
    else:
        _compare(args)


if __name__ == "__main__":
    main()
