"""A whole batch.

*Per item*: CPU of `generate_batch` for an item, 64 in flight, pictures of 4 KiB; the same with downloads
that only claim to have kept a picture (what a picture costs depends on its size and on the disk; the name
that it would get is committed to the ledger all the same, and no thread works on it); and a bare aiohttp
request with its JSON. All of them warm: a short batch, or a thousand requests, comes before. *Size*: what a
longer batch costs per item, the most memory that its process ever held, and how long it takes; without the
download as well, since syncing 100,000 files takes minutes and no memory. The service is the stub, so that
nothing but the client is busy.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from benchmarks import folders
from benchmarks.case import Case, Metric
from benchmarks.clients import KEY, open_client, run_calls
from benchmarks.processes import peak_mib
from benchmarks.stub import stub

IN_FLIGHT = 64
WITHOUT = "without the download"
_WARM = 1000
"""Items before those that are measured."""
METRICS = {
    "cpu_us": Metric("CPU per item, µs", ",.0f", how="ratio"),
    "items_per_cpu_second": Metric("items per CPU second", ",.0f"),
    "mib": Metric("most resident, MiB", ".0f", how="ratio"),
    "wall_s": Metric("time, s", ",.1f"),
}
served = partial(stub, pictures=True)
CASES = (
    Case(
        name="per item",
        clients=("whole", WITHOUT, "aiohttp"),
        base="aiohttp",
        options={"items": 6000},
        quick={"items": 1000},
        serve=served,
    ),
    Case(
        name="size",
        clients=("1,000", "10,000", "100,000", "1,000,000"),
        base="10,000",
        options={"scale": 1},
        quick={"scale": 100},
        serve=served,
        rounds=1,
        timeout=1800,
    ),
)


def measure(client: str, where: str, *, items: int = 0, scale: int = 1) -> dict[str, float]:
    """CPU and memory of one of them."""
    if client == "aiohttp":
        return {"cpu_us": asyncio.run(_bare(where, items)) / items * 1e6}
    if client != "whole":
        without_download()
    with folders.scratch() as root:
        if not items:
            return asyncio.run(one_batch((where, KEY), root, int(client.replace(",", "")) // scale))
        (root / "warm").mkdir()
        asyncio.run(one_batch((where, KEY), root / "warm", _WARM))
        return asyncio.run(one_batch((where, KEY), root, items))


async def one_batch(where: Any, root: Path, items: int) -> dict[str, float]:
    """A batch of so many prompts against (root, key)."""
    from hinow_async import AsyncHinow, Limits
    from hinow_async.batch import generate_batch

    base_url, key = where
    source = root / "prompts.txt"
    with source.open("w", encoding="utf-8") as lines:
        lines.writelines(f"Lighthouse number {number}\n" for number in range(items))
    limits = Limits(max_in_flight=IN_FLIGHT, adaptive=False)
    async with AsyncHinow(base_url=base_url, api_key=key, limits=limits) as client:
        wall, cpu = time.perf_counter(), time.process_time()
        report = await generate_batch(client, source, root / "out")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if report.saved != items:
        raise RuntimeError(f"not all was saved: {report}")
    return {
        "cpu_us": cpu / items * 1e6,
        "cpu_s": cpu,
        "wall_s": wall,
        "items_per_cpu_second": items / cpu,
        "mib": peak_mib(),
    }


async def _bare(base: str, items: int) -> float:
    async with AsyncExitStack() as stack:
        send = await open_client("aiohttp", stack, base, "images")
        await run_calls(send, _WARM, IN_FLIGHT)
        begun = time.process_time()
        await run_calls(send, items, IN_FLIGHT)
        return time.process_time() - begun


def without_download() -> None:
    """Have pictures claimed to be kept as soon as their names are recorded."""
    from hinow_async import GeneratedImage
    from hinow_async._download import Downloader, Kept

    async def keep(
        self: Any, image: GeneratedImage, directory: Path, stem: str, *, placing: Any, **_: Any
    ) -> Kept:
        if directory not in made:
            made.add(directory)
            await self._threads.run(partial(directory.mkdir, parents=True, exist_ok=True))
        kept = Kept(f"{stem}-{image.index}.png", image.index, "0" * 64, 4096, "png", 64, 64)
        await _recorded(partial(placing, kept))
        return kept

    made: set[Path] = set()

    Downloader.keep = keep  # type: ignore[method-assign]


def _recorded(placing: Any) -> asyncio.Future[None]:
    """Have a name recorded; those of one commit are told of together, as the threads of downloads tell."""
    from hinow_async._download.threads import _Told, _Work

    def end(problem: Exception | None) -> None:
        work.error = problem
        work.told.end(work)

    loop = asyncio.get_running_loop()
    if (told := _tellers.get(loop)) is None:
        told = _tellers[loop] = _Told(loop)
    work = _Work(loop.create_future(), told)
    placing(end)
    return work.future


_tellers: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
