"""What the ledger knows, read: of a few items at a time, so that a million of them cost no memory.

A row is checked before it is believed: the file may have come from a stranger. Everything in here blocks,
and runs in threads.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from hinow_async._protocol import json
from hinow_async.batch import schema
from hinow_async.batch.line import failure_line, picture_line, skipped_line

State = Literal["planned", "sent", "answered", "saved", "failed", "maybe_paid", "paid_lost"]

_STATES: Final = frozenset({"planned", "sent", "answered", "saved", "failed", "maybe_paid", "paid_lost"})
_MOST: Final = 400
"""Parameters of one statement; old builds take 999."""
_NOT_IN_PATHS: Final = "\0\\:"
"""Backslash and colon are for Windows, where they lead elsewhere; no name of ours has them."""


@attrs.frozen
class KeptFile:
    """One picture of an item, as the ledger has it."""

    picture: int
    file: str
    """Relative to the batch's folder, with `/`."""
    sha256: str
    size: int
    width: int
    height: int
    is_saved: bool
    """False: it was about to be given its name."""


@attrs.frozen
class Known:
    """What the ledger knows of an item."""

    number: int
    id: str
    fingerprint: str
    state: State
    files: tuple[KeptFile, ...]


@attrs.frozen
class Placed:
    """One picture that the ledger knows, whosoever it is."""

    id: str | None
    """None: its item was superseded by another request under its id."""
    kept: KeptFile


@attrs.frozen
class Gap:
    """An item that counts as done, and has fewer pictures than its answer had."""

    id: str
    pictures: int
    answered: int | None
    """Pictures that its answer had; None: not known."""


@attrs.frozen
class Answered:
    """A paid answer."""

    body: bytes | None
    """None: it lies in the file *spool*, or is there no more."""
    spool: str | None
    attempt: int
    request_id: str | None
    account: str
    usd: Decimal | None


@attrs.frozen
class Try:
    """One try of a call."""

    key: str
    account: str


class Reader:
    """Asks the ledger; any thread may, one at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def fact(self, name: str) -> str | None:
        """Return what was recorded of the folder under *name*."""
        rows = self._all("SELECT value FROM facts WHERE name = ?", (name,))
        return None if not rows else self._text(rows[0][0])

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """Return what is known of these items, by id."""
        items: dict[int, tuple[str, str, State]] = {}
        for part in _parts(ids):
            marks = ",".join("?" * len(part))
            rows = self._all(f"SELECT item, id, fingerprint, state FROM items WHERE id IN ({marks})", part)  # noqa: S608 - only marks
            for number, name, mark, state in rows:
                if state not in _STATES or not isinstance(name, str):
                    raise schema.untrusted(self._path, f"item {number} cannot be")
                items[number] = (name, self._text(mark), state)
        files = self._files([number for number, (_, _, state) in items.items() if state != "planned"])
        return {
            name: Known(number, name, mark, state, tuple(files.get(number, ())))
            for number, (name, mark, state) in items.items()
        }

    def _files(self, numbers: Sequence[int]) -> dict[int, list[KeptFile]]:
        files: dict[int, list[KeptFile]] = {}
        for part in _parts(numbers):
            marks = ",".join("?" * len(part))
            rows = self._all(
                "SELECT item, picture, file, sha256, bytes, width, height, state = 'saved' FROM files"  # noqa: S608 - only marks
                f" WHERE item IN ({marks}) ORDER BY item, picture",
                part,
            )
            for number, *values in rows:
                files.setdefault(number, []).append(self._file(values))
        return files

    def _file(self, values: Sequence[Any]) -> KeptFile:
        picture, file, digest, size, width, height, is_saved = values
        numbers = (picture, size, width, height)
        if not is_inside(file) or not all(isinstance(number, int) for number in numbers):
            raise schema.untrusted(self._path, "it names a file that cannot be")
        return KeptFile(picture, file, self._text(digest), size, width, height, bool(is_saved))

    def answer(self, number: int) -> Answered | None:
        """Return the answer that an item was paid for."""
        rows = self._all(
            "SELECT body, spool, attempt, request_id, account, usd FROM answers JOIN attempts USING (attempt)"
            " WHERE answers.item = ?",
            (number,),
        )
        if not rows:
            return None
        body, spool, attempt, request_id, account, usd = rows[0]
        if not isinstance(body, bytes | None) or not isinstance(spool, str | None):
            raise schema.untrusted(self._path, f"the answer of item {number} cannot be")
        return Answered(
            body, spool, attempt, self._text_or_none(request_id), self._text(account), self._usd(usd)
        )

    def unknown_try(self, number: int) -> Try | None:
        """Return the last try of an item of which nobody knows whether it was billed."""
        rows = self._all(
            "SELECT key, account FROM attempts WHERE item = ? AND state IN ('unknown', 'open')"
            " ORDER BY attempt DESC LIMIT 1",
            (number,),
        )
        return Try(self._text(rows[0][0]), self._text(rows[0][1])) if rows else None

    def spent(self) -> Decimal:
        """Return the estimated US dollars of all tries that were answered, are unknown or still open."""
        rows = self._each(
            "SELECT usd, count(*) FROM attempts WHERE state <> 'unbilled' AND usd IS NOT NULL GROUP BY usd"
        )
        return sum((count * (self._usd(usd) or Decimal(0)) for usd, count in rows), Decimal(0))

    def manifest(self) -> Iterator[bytes]:
        """Yield the lines of the manifest, items in the order in which they were first sent."""
        rows = self._each(
            "SELECT id, picture, request, fingerprint, answers.model, provider, request_id, file, sha256,"
            " bytes, width, height, usd, images, files.at FROM files JOIN items USING (item)"
            " LEFT JOIN answers USING (item) LEFT JOIN attempts USING (attempt)"
            " WHERE files.state = 'saved' AND id IS NOT NULL ORDER BY files.item, picture"
        )
        is_sandbox = self.fact("origin") == "sandbox"
        for name, picture, request, *more, usd, images, at in rows:
            share = self._usd(usd)
            try:
                # Not as it lies there: in a stranger's file it may be anything.
                first = (name, picture, json.dumps(self._object(request)).decode(), *more)
                line = picture_line(first, usd=share, images=images, at=at, is_sandbox=is_sandbox)
            except (TypeError, ValueError, ArithmeticError):
                raise schema.untrusted(self._path, "a row of it is none of a picture") from None
            yield line

    def placed(self) -> Iterator[Placed]:
        """Yield every picture that has its name, or was about to get it, of superseded items too."""
        rows = self._each(
            "SELECT id, picture, file, sha256, bytes, width, height, files.state = 'saved'"
            " FROM files JOIN items USING (item) ORDER BY files.item, picture"
        )
        for name, *values in rows:
            yield Placed(self._text_or_none(name), self._file(values))

    def gaps(self) -> Iterator[Gap]:
        """Yield the items that count as done without all their pictures."""
        rows = self._each(
            "SELECT id, (SELECT count(*) FROM files WHERE files.item = items.item AND files.state = 'saved')"
            " AS pictures, images FROM items LEFT JOIN answers USING (item)"
            " WHERE items.state = 'saved' AND id IS NOT NULL AND pictures < max(1, coalesce(images, 1))"
            " ORDER BY items.item"
        )
        for name, pictures, images in rows:
            yield Gap(self._text(name), pictures, images if isinstance(images, int) else None)

    def failures(self) -> Iterator[bytes]:
        """Yield the lines of `failures.jsonl`: what is open, and why."""
        rows = self._each(
            "SELECT id, request, problem FROM items WHERE (id IS NOT NULL OR state = 'failed')"
            " AND problem IS NOT NULL"
            " AND state IN ('answered', 'failed', 'maybe_paid', 'paid_lost') ORDER BY item"
        )
        for name, request, problem in rows:
            said = self._object(problem)
            own = said.pop("id", None)  # of one that was to take the place of another under its id
            name = name if name is not None else own  # noqa: PLW2901 - the ledger gave the id back
            prompt = self._object(request).get("prompt")
            try:
                line = failure_line({"id": name, **said, "prompt": prompt})
            except ValueError:
                raise schema.untrusted(self._path, "a failure in it is none") from None
            yield line
        for line, message, at in self._each("SELECT line, message, at FROM skipped ORDER BY line"):
            yield skipped_line(line, message, at)

    # -- rows --------------------------------------------------------------------------------------

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    def _each(self, statement: str) -> Iterator[Any]:
        with self._translated():
            cursor = self._connection.execute(statement)
        while True:
            with self._translated():
                rows = cursor.fetchmany(1000)
            if not rows:
                return
            yield from rows

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Take the connection, and say of what cannot be read that it is corrupt."""
        with self._lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                raise schema.untrusted(self._path, f"it cannot be read ({error})") from None

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise schema.untrusted(self._path, "a text in it is none")
        return value

    def _text_or_none(self, value: Any) -> str | None:
        return None if value is None else self._text(value)

    def _usd(self, value: Any) -> Decimal | None:
        if value is None:
            return None
        try:
            usd = Decimal(self._text(value))
        except InvalidOperation:
            usd = Decimal("NaN")
        if not usd.is_finite() or usd < 0:
            raise schema.untrusted(self._path, "a price in it is none")
        return usd

    def _object(self, value: Any) -> dict[str, Any]:
        try:
            found = json.loads(self._text(value).encode())
        except json.MalformedJSONError:
            found = None
        if not isinstance(found, dict):
            raise schema.untrusted(self._path, "a request or a failure in it is none")
        return found


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + _MOST] for start in range(0, len(values), _MOST))


def is_inside(file: Any) -> bool:
    """Whether a path from a ledger or a manifest stays in the folder, on every system."""
    if not isinstance(file, str) or any(char in file for char in _NOT_IN_PATHS):
        return False
    return all(part not in {"", ".", ".."} for part in file.split("/"))
