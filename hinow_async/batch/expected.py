"""What a folder should hold, sorted and compared in little memory.

A hundred thousand pictures are kept in a database that SQLite makes for itself and nobody else: it lies in
memory while it is small, then in a temporary file of the system's, and is gone when it is closed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final, Literal

import attrs

from hinow_async._protocol import json
from hinow_async.batch.reader import KeptFile, Placed

Role = Literal["saved", "superseded", "placing"]
"""Of a file: a picture of the manifest's, one whose item has another request by now, or one on its way."""

_TABLES: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = FILE",
    "PRAGMA cache_size = -8192",
    "CREATE TABLE lines (id TEXT, picture INTEGER, json BLOB, file TEXT, at INTEGER,"
    " PRIMARY KEY (id, picture)) WITHOUT ROWID",
    "CREATE TABLE files (file TEXT PRIMARY KEY, id TEXT, picture INTEGER, sha256 TEXT, bytes INTEGER,"
    " width INTEGER, height INTEGER, role TEXT) WITHOUT ROWID",
    "BEGIN",
)


@attrs.frozen
class Wanted:
    """A picture, as it should be."""

    id: str | None
    kept: KeptFile


@attrs.frozen
class Line:
    """What is known of a line that the manifest should have, or has."""

    json: bytes | None
    """As the ledger has it; None: it does not."""
    at: int | None
    """Its number in the manifest; None: it was not met yet."""

    @property
    def fields(self) -> dict[str, Any]:
        """As the ledger has them."""
        return {} if self.json is None else dict(json.loads(self.json))


class Expected:
    """What ledger and manifest say that there is; for one thread."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        for statement in _TABLES:
            self._db.execute(statement)

    def close(self) -> None:
        """Forget it all."""
        self._db.close()

    # -- lines -------------------------------------------------------------------------------------

    def add_line(self, line: bytes) -> None:
        """Add a line as the ledger has it."""
        fields = json.loads(line)
        self._db.execute(
            "INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, NULL)",
            (fields["id"], fields["index"], line, fields["file"]),
        )

    def line(self, name: str, picture: int) -> Line | None:
        """Return what is known of a picture's line."""
        row = self._one("SELECT json, at FROM lines WHERE id = ? AND picture = ?", (name, picture))
        return None if row is None else Line(*row)

    def meet(self, name: str, picture: int, file: str, at: int) -> None:
        """Remember that the manifest has a picture's line, at this number."""
        self._db.execute(
            "INSERT INTO lines VALUES (?, ?, NULL, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
            (name, picture, file, at),
        )

    def unmet(self) -> Iterator[tuple[str, str]]:
        """Yield the ids and files of lines that the manifest does not have."""
        yield from self._db.execute("SELECT id, file FROM lines WHERE at IS NULL ORDER BY file, id")

    # -- files -------------------------------------------------------------------------------------

    def add_file(self, placed: Placed) -> Wanted | None:
        """Add a file; where another picture has it already, change nothing and return that."""
        kept = placed.kept
        role: Role = "placing" if not kept.is_saved else "superseded" if placed.id is None else "saved"
        other = self._one("SELECT * FROM files WHERE file = ?", (kept.file,))
        if other is not None and other[-1] == "saved":
            return _wanted(other)
        values = (kept.file, placed.id, kept.picture, kept.sha256, kept.size, kept.width, kept.height, role)
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return None if other is None else _wanted(other)

    def role(self, file: str) -> Role | None:
        """Return what a file is; None: nobody knows it."""
        with contextlib.suppress(UnicodeEncodeError):  # a name that is no text
            row = self._one("SELECT role FROM files WHERE file = ?", (file,))
            return None if row is None else row[0]
        return None

    def measure(self) -> tuple[int, int]:
        """Return how many files there should be, and their bytes."""
        count, size = self._db.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM files WHERE role <> 'placing'"
        ).fetchone()
        return count, size

    def files(self) -> Iterator[Wanted]:
        """Yield the files that there should be, by their names."""
        yield from map(_wanted, self._db.execute("SELECT * FROM files WHERE role <> 'placing' ORDER BY file"))

    def _one(self, statement: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._db.execute(statement, values).fetchone()
        return row


def _wanted(row: tuple[Any, ...]) -> Wanted:
    file, name, picture, digest, size, width, height, role = row
    return Wanted(name, KeptFile(picture, file, digest, size, width, height, role != "placing"))
