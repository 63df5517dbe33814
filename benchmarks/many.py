"""Many requests against an account that allows fewer in flight than are asked for.

    python -m benchmarks.many [--requests 2000] [--in-flight 64] [--allowed 32] [--latency 0.2]

The sandbox runs in a process of its own. Said are the wall time over the ideal (requests x latency /
allowed), what was billed, and whether the sandbox ever saw more in flight than it allows. Slow start is
part of it: the client begins with 8 in flight, because nobody tells it what the account allows.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from hinow_async import AsyncHinow, Limits
from hinow_async.sandbox import Behaviour, Sandbox


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    with Sandbox.in_thread(Behaviour(**options)) as sandbox:
        pipe.send((sandbox.base_url, sandbox.api_key))
        while pipe.recv() == "billing":
            billing = sandbox.billing
            most = max(billing.by_prompt.values(), default=0)
            pipe.send((billing.requests, most, billing.refused, billing.peak_in_flight))


@contextmanager
def sandbox_process(**options: Any) -> Iterator[tuple[str, str, Connection]]:
    """Run a sandbox in another process; yields its root, its key, and a pipe that answers `billing`."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, options), daemon=True)
    process.start()
    try:
        base_url, api_key = ours.recv()
        yield base_url, api_key, ours
    finally:
        ours.send("stop")
        process.join(10)


async def _run(base_url: str, api_key: str, requests: int, in_flight: int) -> tuple[float, int, int]:
    limits = Limits(max_in_flight=in_flight)
    failed = 0
    async with AsyncHinow(base_url=base_url, api_key=api_key, limits=limits) as client:
        begun = time.perf_counter()
        prompts = (f"Lighthouse number {number}" for number in range(requests))
        async with client.images.generate_many(prompts) as outcomes:
            async for outcome in outcomes:
                failed += outcome.error is not None
        return time.perf_counter() - begun, failed, client.stats().throttled


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--allowed", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2)
    args = parser.parse_args()
    with sandbox_process(latency=args.latency, max_in_flight=args.allowed) as (base_url, api_key, pipe):
        wall, failed, throttled = asyncio.run(_run(base_url, api_key, args.requests, args.in_flight))
        pipe.send("billing")
        billed, most, refused, peak = pipe.recv()
    ideal = args.requests * args.latency / args.allowed
    print(f"{args.requests} requests, {args.in_flight} in flight asked for, {args.allowed} allowed")
    print(f"wall {wall:.1f} s, {wall / ideal:.2f} times the ideal of {ideal:.1f} s; {failed} failed")
    print(f"billed {billed}, no request more than {most} times; {refused} refused (client: {throttled})")
    print(f"peak in flight at the service {peak}")


if __name__ == "__main__":
    main()
