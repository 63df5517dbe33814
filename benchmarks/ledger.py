"""The ledger of a batch.

*Changes*: CPU per durable change at 1,000 a second, beside the same loop whose changes are forgotten. *A
batch*: CPU and wall time of a batch of 3,000 with 64 in flight and 0.05 s latency, beside the same batch
whose ledger commits nothing (which is no option of the library: money would be lost). *A finished folder*:
what a batch takes that finds everything done, when the manifest has to be derived anew, and as a clean end
left it.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import folders
from benchmarks.batch import one_batch
from benchmarks.case import Case, Metric
from benchmarks.sandboxes import sandbox_process

WORKERS = 64
UNDURABLE = "undurable"

METRICS = {
    "cpu_us": Metric("CPU per item, µs", ",.0f", how="difference"),
    "cpu_s": Metric("CPU, s", ".2f", how="ratio"),
    "wall_s": Metric("time, s", ".2f", how="ratio"),
    "items_per_cpu_second": Metric("items per CPU second", ",.0f"),
}
CASES = (
    Case(
        name="1,000 changes a second",
        clients=("ours", UNDURABLE),
        base=UNDURABLE,
        options={"rate": 1000, "seconds": 4},
        quick={"seconds": 2},
    ),
    Case(
        name="a batch of 3,000",
        clients=("ours", UNDURABLE),
        base=UNDURABLE,
        options={"items": 3000},
        quick={"items": 600},
        serve=partial(sandbox_process, latency=0.05, picture_size=64),
    ),
    Case(
        name="a finished folder",
        clients=("manifest derived anew", "as a clean end left it"),
        options={"finished": 100_000},
        quick={"finished": 10_000},
        rounds=1,
    ),
)


def measure(client: str, where: Any, **how: int) -> dict[str, float]:
    """One way to keep books."""
    if client == UNDURABLE:
        without_durability()
    with folders.scratch() as root:
        if "rate" in how:
            return asyncio.run(_changes(root, how["rate"], how["seconds"]))
        if "finished" in how:
            return _finished(root, how["finished"], is_clean=client.startswith("as"))
        return asyncio.run(one_batch(where, root, how["items"]))


def without_durability() -> None:
    """Have changes be forgotten, and waiting for them cost one turn of the loop."""
    from hinow_async.batch.writer import Writer

    def commit(self: Any, change: Any, *args: Any) -> Any:
        return asyncio.sleep(0)

    Writer.commit = commit  # type: ignore[method-assign]
    Writer.put = lambda self, change, *args, then=None: None  # type: ignore[method-assign]
    Writer.commit_and_tell = lambda self, told, change, *args: told(None)  # type: ignore[method-assign]


async def _changes(root: Path, rate: float, seconds: float) -> dict[str, float]:
    from hinow_async.batch.ledger import SANDBOX, open_ledger

    (root / ".hinow").mkdir()
    ledger = open_ledger(root, SANDBOX)
    try:
        ledger.start(lambda error: None)
        cpu, count = await _paced(ledger, rate, seconds)
    finally:
        ledger.close()
    return {"cpu_us": 1e6 * cpu / count}


async def _paced(ledger: Any, rate: float, seconds: float) -> tuple[float, int]:
    from hinow_async.batch.ledger import Row

    count, until = 0, time.monotonic() + seconds

    async def work(worker: int) -> None:
        nonlocal count
        turn = time.monotonic() + worker / rate
        while turn < until:
            await asyncio.sleep(max(0.0, turn - time.monotonic()))
            number = ledger.next_item()
            row = Row(number, f"item-{number}", "f" * 64, '{"model":"m","prompt":"A lighthouse at dawn"}')
            await ledger.sent(row, ledger.next_attempt(), "0" * 32, "main", None)
            count += 1
            turn += WORKERS / rate

    begun = time.process_time()
    await asyncio.gather(*(work(worker) for worker in range(WORKERS)))
    return time.process_time() - begun, count


def _finished(root: Path, items: int, *, is_clean: bool) -> dict[str, float]:
    source = folders.finish(root, items)
    if is_clean:
        asyncio.run(_again(source, root / "out"))
    return asyncio.run(_again(source, root / "out"))


async def _again(source: Path, out: Path) -> dict[str, float]:
    from hinow_async import AsyncHinow
    from hinow_async.batch import generate_batch

    async with AsyncHinow(base_url="http://127.0.0.1:9/v1", api_key="hi_x") as client:
        wall, cpu = time.perf_counter(), time.process_time()
        report = await generate_batch(client, source, out)
        if report.reused != report.total:
            raise RuntimeError("all of it should have been there")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"wall_s": wall, "cpu_s": cpu, "items_per_cpu_second": report.total / cpu}
