"""CPU of one image request: ours over bare aiohttp and over the openai package, run alternately.

    python -m benchmarks.calls [--calls 3000] [--in-flight 64] [--rounds 5] [--peers aiohttp openai]

Every round runs each client once, in a process of its own, against one stub server; what counts is the CPU
of the client's process between its first call (after a warm-up) and its last. Figures are medians, with
their spread; ratios are taken within a round, for what else the machine does changes from round to round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from benchmarks.stub import stub

Send = Callable[[], Awaitable[object]]
BODY = {
    "model": "openai/gpt-image-2-2026-04-21",
    "prompt": "A lighthouse at dawn",
    "parameters": {"num_images": 1},
}


async def _ours(base: str, stack: AsyncExitStack, in_flight: int) -> tuple[Send, object]:
    from hinow_async import AsyncHinow, Limits

    client = await stack.enter_async_context(
        AsyncHinow(base_url=base, api_key="hi_bench", limits=Limits(max_in_flight=max(in_flight, 256)))
    )
    return lambda: client.images.generate("A lighthouse at dawn", num_images=1), client


async def _aiohttp(base: str, stack: AsyncExitStack, in_flight: int) -> tuple[Send, object]:
    import aiohttp

    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Authorization": "Bearer hi_bench"}
        )
    )

    async def send() -> object:
        async with session.post(f"{base}/images", json=BODY) as response:
            return await response.json()

    return send, session


async def _openai(base: str, stack: AsyncExitStack, in_flight: int) -> tuple[Send, object]:
    import httpx
    import openai

    http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
    client = await stack.enter_async_context(
        openai.AsyncOpenAI(base_url=base, api_key="hi_bench", http_client=http)
    )
    return lambda: client.images.generate(prompt="A lighthouse at dawn", model="gpt-image-2", n=1), client


CLIENTS = {"ours": _ours, "aiohttp": _aiohttp, "openai": _openai}


async def _open_up(client: object, run: Callable[[int], Awaitable[None]], in_flight: int) -> None:
    """Let slow start find that the stub allows as many in flight as are measured: that takes seconds."""
    stats = getattr(client, "stats", None)
    until = time.monotonic() + 20
    while stats is not None and stats().limit < in_flight and time.monotonic() < until:
        await run(in_flight * 4)


async def _measure(name: str, base: str, calls: int, in_flight: int) -> tuple[float, float]:
    async with AsyncExitStack() as stack:
        send, client = await CLIENTS[name](base, stack, in_flight)
        left = 0

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await send()

        async def run(count: int) -> None:
            nonlocal left
            left = count
            await asyncio.gather(*(worker() for _ in range(in_flight)))

        await run(in_flight * 4)
        await _open_up(client, run, in_flight)
        cpu, wall = time.process_time(), time.perf_counter()
        await run(calls)
        return time.process_time() - cpu, time.perf_counter() - wall


def _child(name: str, base: str, calls: int, in_flight: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.calls", "--child", name, "--base", base]
    command += ["--calls", str(calls), "--in-flight", str(in_flight)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu, wall = json.loads(out)
    return cpu / calls * 1e6, wall / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peers", nargs="*", default=["aiohttp", "openai"], choices=sorted(set(CLIENTS) - {"ours"})
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(asyncio.run(_measure(args.child, args.base, args.calls, args.in_flight))))
        return
    names = ["ours", *args.peers]
    cpu: dict[str, list[float]] = {name: [] for name in names}
    with stub() as base:
        for number in range(args.rounds):
            order = names if number % 2 == 0 else names[::-1]
            for name in order:
                calls = args.calls if name != "openai" else max(200, args.calls // 8)
                cpu[name].append(_child(name, base, calls, args.in_flight)[0])
    print(f"{args.calls} calls, {args.in_flight} in flight, {args.rounds} rounds,", end=" ")
    print(f"Python {platform.python_version()}, {platform.machine()}")
    print("| client | CPU per call, µs (median; least to most) | ours over it (median; least to most) |")
    print("|---|---|---|")
    for name in names:
        mine = sorted(a / b for a, b in zip(cpu["ours"], cpu[name], strict=True))
        values = sorted(cpu[name])
        print(
            f"| {name} | {statistics.median(values):.0f}; {values[0]:.0f} to {values[-1]:.0f}"
            f" | {statistics.median(mine):.2f}; {mine[0]:.2f} to {mine[-1]:.2f} |"
        )


if __name__ == "__main__":
    main()
