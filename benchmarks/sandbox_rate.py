"""How many requests the sandbox answers, so that a benchmark of the client does not measure the sandbox.

The sandbox runs in a process of its own and reports the CPU time that it used; what counts is requests per
second of *its* CPU, whatever else the machine does. Latency is 0, 64 connections.

    python benchmarks/sandbox_rate.py [requests]
"""

import asyncio
import json
import subprocess
import sys
import time

import aiohttp

from hinow_async.sandbox import Behaviour, Sandbox

IN_FLIGHT = 64
MODEL = "openai/gpt-image-2-2026-04-21"


async def serve() -> None:
    """The child: says where it is, and then, as often as it is asked, the CPU seconds it has used."""
    async with Sandbox(Behaviour(picture_size=256)) as sandbox:
        print(json.dumps([sandbox.base_url, sandbox.api_key]), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(time.process_time(), flush=True)


async def load(count: int, one) -> float:
    """Seconds for *count* calls of *one*, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - start


async def measure(child: subprocess.Popen, name: str, count: int, one) -> None:
    def cpu() -> float:
        child.stdin.write("\n")
        child.stdin.flush()
        return float(child.stdout.readline())

    before = cpu()
    elapsed = await load(count, one)
    used = cpu() - before
    print(f"{name:<28} {count / elapsed:8.0f} /s   {count / used:8.0f} per second of the sandbox's CPU")


async def drive(child: subprocess.Popen, count: int) -> None:
    base_url, key = json.loads(child.stdout.readline())
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def post(number: int) -> list[str]:
            body = {"model": MODEL, "prompt": f"Lighthouse {number}", "parameters": {"quality": "high"}}
            async with session.post(f"{base_url}/images", json=body) as response:
                return (await response.json())["data"]["urls"]

        urls = [(await post(number))[0] for number in range(100)]

        async def get(number: int) -> None:
            async with session.get(urls[number % len(urls)]) as response:
                await response.read()

        async def both(number: int) -> None:
            async with session.get((await post(number))[0]) as response:
                await response.read()

        await measure(child, "POST /v1/images", count, post)
        await load(len(urls), get)  # draws them
        await measure(child, "GET of a drawn picture", count, get)
        await measure(child, "POST, draw, GET (256 px)", count // 4, both)


def main(count: int) -> None:
    with subprocess.Popen([sys.executable, __file__, "serve"], stdin=-1, stdout=-1, text=True) as child:
        asyncio.run(drive(child, count))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 4000)
