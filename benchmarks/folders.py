"""Folders for batches and downloads to write into, empty ones and finished ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away; not in /tmp, which may be memory and not a disk."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
        root = Path(folder)
        root.chmod(0o755)  # a server may work as another user
        yield root


def finish(root: Path, items: int) -> Path:
    """Make `root/out` as a finished batch leaves it, but for its manifest; returns its source."""
    from hinow_async.batch.ledger import SANDBOX, open_ledger

    out, source = root / "out", root / "prompts.jsonl"
    (out / ".hinow").mkdir(parents=True)
    rows = ({"id": f"item-{number}", "prompt": f"prompt {number}"} for number in range(items))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    entries = asyncio.run(_entries(source))
    open_ledger(out, SANDBOX).close()
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3")) as db, db:
        for number, entry in enumerate(entries, 1):
            _insert(db, out, number, entry)
    return source


async def _entries(source: Path) -> list[Any]:
    from hinow_async.batch.source import open_source

    return [entry async for chunk in open_source(source).chunks() for entry in chunk]


def _insert(db: sqlite3.Connection, out: Path, number: int, entry: Any) -> None:
    folder = "images" if number <= 1000 else f"images/{(number - 1) // 1000:04d}"
    (out / folder).mkdir(parents=True, exist_ok=True)
    file = f"{folder}/item-{number - 1}-0.png"
    (out / file).touch()
    request = json.dumps({"model": entry.request.model, "prompt": entry.request.prompt})
    answer = b'{"data":{"urls":["https://x/' + b"s" * 300 + b'"]}}'
    for table, row in (
        ("items", (number, entry.id, entry.fingerprint, request, "saved", 1, None)),
        ("attempts", (number, number, "0" * 32, "main", "0.087", "then", "answered")),
        ("answers", (number, number, "r", answer, None, "then", "m", None, 1)),
        ("files", (number, 0, file, "a" * 64, 0, 64, 64, "then", "saved")),
    ):
        db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
