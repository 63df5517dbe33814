"""What the ledger of a batch costs.

    python -m benchmarks.ledger changes [--rate 1000] [--seconds 5]
    python -m benchmarks.ledger batch [--items 600] [--rounds 5]
    python -m benchmarks.ledger finished [--items 100000]
    python -m benchmarks.ledger memory [--items 10000]

`changes`: CPU per durable change at so many a second, over the same loop that only pretends to commit.
`batch`: wall and CPU of a batch with 64 in flight and 0.05 s latency, over the same batch whose ledger
commits nothing (which is no option of the library: money would be lost), alternately, ratios within a round.
`finished`: how long a batch takes over a folder in which everything is done. `memory`: resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.many import sandbox_process
from hinow_async import AsyncHinow, ImageRequest, Limits
from hinow_async.batch import generate_batch
from hinow_async.batch.ledger import SANDBOX, Row, open_ledger
from hinow_async.batch.source import open_source
from hinow_async.batch.writer import Writer

WORKERS = 64


def without_durability() -> None:
    """Have changes be forgotten, and waiting for them cost one turn of the loop."""

    async def commit(self, change, then=None):
        await asyncio.sleep(0)

    Writer.commit = commit
    Writer.put = lambda self, change, then=None: None
    Writer.commit_from_thread = lambda self, change: None


# -- changes -----------------------------------------------------------------------------------------------


async def _paced(ledger, rate: float, seconds: float) -> tuple[float, int]:
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


async def _changes(rate: float, seconds: float) -> tuple[float, int]:
    root = Path(tempfile.mkdtemp(dir=Path.cwd()))
    (root / ".hinow").mkdir()
    ledger = open_ledger(root, SANDBOX)
    try:
        ledger.start(lambda error: None)
        return await _paced(ledger, rate, seconds)
    finally:
        ledger.close()
        shutil.rmtree(root)


def changes(args: argparse.Namespace) -> None:
    cpu, count = asyncio.run(_changes(args.rate, args.seconds))
    without_durability()
    idle, idle_count = asyncio.run(_changes(args.rate, args.seconds))
    each, loop = 1e6 * cpu / count, 1e6 * idle / idle_count
    print(f"{count / args.seconds:.0f} durable changes/s: {each - loop:.0f} us of CPU each")
    print(f"(and {loop:.0f} us for the loop that paces them)")


# -- whole batches -----------------------------------------------------------------------------------------


async def _batch(base_url: str, api_key: str, items: int) -> dict[str, float]:
    root = Path(tempfile.mkdtemp(dir=Path.cwd()))
    source = root / "prompts.txt"
    source.write_text("".join(f"Lighthouse number {number}\n" for number in range(items)))
    limits = Limits(max_in_flight=64, adaptive=False)
    try:
        async with AsyncHinow(base_url=base_url, api_key=api_key, limits=limits) as client:
            begun, cpu = time.perf_counter(), time.process_time()
            report = await generate_batch(client, source, root / "out")
            return {
                "saved": report.saved,
                "wall": time.perf_counter() - begun,
                "cpu": time.process_time() - cpu,
                "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
    finally:
        shutil.rmtree(root)


def one(args: argparse.Namespace) -> None:
    if args.forget:
        without_durability()
    print(json.dumps(asyncio.run(_batch(args.base_url, args.api_key, args.items))))


def _child(base_url: str, api_key: str, items: int, *, forget: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ledger", "one", base_url, api_key, f"--items={items}"]
    done = subprocess.run([*command, *["--forget"] * forget], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def batch(args: argparse.Namespace) -> None:
    walls, cpus = [], []
    with sandbox_process(latency=0.05, picture_size=64) as (base_url, api_key, _):
        for number in range(args.rounds):
            turns = (False, True) if number % 2 else (True, False)
            done = {turn: _child(base_url, api_key, args.items, forget=turn) for turn in turns}
            walls.append(done[False]["wall"] / done[True]["wall"])
            cpus.append(done[False]["cpu"] / done[True]["cpu"])
            print(f"  with {done[False]}, without {done[True]}")
    for name, ratios in (("wall", walls), ("CPU", cpus)):
        print(f"{name} with the ledger over without: {statistics.median(ratios):.2f} {sorted(ratios)}")


def memory(args: argparse.Namespace) -> None:
    with sandbox_process(picture_size=64) as (base_url, api_key, _):
        print(_child(base_url, api_key, args.items, forget=False))


# -- a finished folder -------------------------------------------------------------------------------------


async def _entries(source: Path):
    return [entry async for chunk in open_source(source).chunks() for entry in chunk]


def _finish(root: Path, items: int) -> Path:
    """Make a folder as a finished batch leaves it."""
    out, source = root / "out", root / "prompts.jsonl"
    (out / ".hinow").mkdir(parents=True)
    rows = ({"id": f"item-{number}", "prompt": f"prompt {number}"} for number in range(items))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = asyncio.run(_entries(source))
    open_ledger(out, SANDBOX).close()
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3")) as db, db:
        for number, entry in enumerate(entries, 1):
            folder = "images" if number <= 1000 else f"images/{(number - 1) // 1000:04d}"
            (out / folder).mkdir(parents=True, exist_ok=True)
            file = f"{folder}/item-{number - 1}-0.png"
            (out / file).touch()
            request = json.dumps({"model": ImageRequest("x").model, "prompt": entry.request.prompt})
            db.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, 'saved', 1, NULL)",
                (number, entry.id, entry.fingerprint, request),
            )
            db.execute(
                "INSERT INTO attempts VALUES (?, ?, ?, 'main', '0.087', 'then', 'answered')",
                (number, number, "0" * 32),
            )
            db.execute(
                "INSERT INTO answers VALUES (?, ?, 'r', ?, NULL, 'then', 'm', NULL, 1)",
                (number, number, b'{"data":{"urls":["https://x/' + b"s" * 300 + b'"]}}'),
            )
            db.execute(
                "INSERT INTO files VALUES (?, 0, ?, ?, 0, 64, 64, 'then', 'saved')", (number, file, "a" * 64)
            )
    return source


async def _again(source: Path, out: Path) -> tuple[float, float]:
    async with AsyncHinow(base_url="http://127.0.0.1:9/v1", api_key="hi_x") as client:
        begun, cpu = time.perf_counter(), time.process_time()
        report = await generate_batch(client, source, out)
        assert report.reused == report.total
        return time.perf_counter() - begun, time.process_time() - cpu


def finished(args: argparse.Namespace) -> None:
    root = Path(tempfile.mkdtemp(dir=Path.cwd()))
    try:
        source = _finish(root, args.items)
        for said in ("which derives the manifest anew", "as a clean end left it"):
            wall, cpu = asyncio.run(_again(source, root / "out"))
            print(f"{args.items} finished items, {said}: {wall:.1f} s, {cpu:.1f} s of CPU")
        print(f"resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    finally:
        shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for function, items in ((changes, 0), (batch, 600), (finished, 100_000), (memory, 10_000), (one, 600)):
        command = commands.add_parser(function.__name__)
        command.set_defaults(run=function)
        command.add_argument("--items", type=int, default=items)
        command.add_argument("--rate", type=float, default=1000)
        command.add_argument("--seconds", type=float, default=5)
        command.add_argument("--rounds", type=int, default=5)
        if function is one:
            command.add_argument("base_url")
            command.add_argument("api_key")
            command.add_argument("--forget", action="store_true")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
