"""The ledger of a batch: what may have been paid for is durable before anything depends on it.

*Sent* is durable before the first byte of a request leaves, *answered* with the whole answer before anything
else is done with it, *placing* before a picture gets its name. *Saved* comes afterwards and may be late:
should it be lost, the picture is found again by its name and its hash. So may what merely closes a try that
cost nothing: then the item looks maybe paid, which is the safe side.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import attrs

from hinow_async._errors import ConfigurationError
from hinow_async._protocol import json
from hinow_async._protocol.failures import printable
from hinow_async.batch import schema, spool
from hinow_async.batch.jsonl import JsonLines
from hinow_async.batch.line import failure_line, picture_line, skipped_line
from hinow_async.batch.lock import STATE
from hinow_async.batch.reader import KeptFile, Reader
from hinow_async.batch.reserve import Reserve
from hinow_async.batch.writer import Writer

MANIFEST: Final = "manifest.jsonl"
FAILURES: Final = "failures.jsonl"
SANDBOX: Final = "sandbox"
"""The origin of all sandboxes together."""

_LARGEST_IN_DATABASE: Final = 32 * 1024
"""Bytes of an answer; a larger one, with pictures in it, goes to a file of its own."""

_SETTLED: Final = (
    "CASE WHEN EXISTS (SELECT 1 FROM attempts WHERE item = items.item AND state = 'open') THEN 'sent'"
    " WHEN EXISTS (SELECT 1 FROM attempts WHERE item = items.item AND state = 'answered') THEN 'paid_lost'"
    " WHEN EXISTS (SELECT 1 FROM attempts WHERE item = items.item AND state = 'unknown') THEN 'maybe_paid'"
    " ELSE '{otherwise}' END"
)
"""The state of an item whose last try cost nothing: what earlier ones may have cost stands."""
_PLANNED: Final = _SETTLED.format(otherwise="planned")
_FAILED: Final = _SETTLED.format(otherwise="failed")

# Where it lies is no parameter that may be NULL: what is no text and no number is adapted at some expense.
_INSERT_ANSWER: Final = (
    "INSERT OR REPLACE INTO answers (item, attempt, request_id, body, at) VALUES (?, ?, ?, ?, ?)"
)
_INSERT_SPOOLED: Final = (
    "INSERT OR REPLACE INTO answers (item, attempt, request_id, spool, at) VALUES (?, ?, ?, ?, ?)"
)


@attrs.define
class Row:
    """An item as the ledger is told of it."""

    number: int
    id: str
    fingerprint: str
    request: str
    """As it is sent, in JSON."""
    supersedes: int | None = None
    """The item that had the id before, with another request that was paid for."""
    is_new: bool = attrs.field(default=False, kw_only=True)
    """Whether the ledger knew nothing of it when it was met: then it has no earlier tries, answers, files."""
    tries: int = attrs.field(default=0, init=False)
    """Those that were recorded in this run."""
    usd: str | None = attrs.field(default=None, init=False)
    """What the ledger has as the price of the last of them."""
    is_spooled: bool = attrs.field(default=False, init=False)
    """Whether its answer lies in a file beside the ledger."""


@attrs.frozen(kw_only=True)
class Problem:
    """Why an item is open."""

    error: str
    """Name of the error's class."""
    message: str
    code: str | None = None
    """The service's own code, where it gave one."""
    outcome: str
    """What it means for money: `not_sent`, `refused`, `unknown` (may have been billed), `lost` (paid)."""
    at: str
    """ISO 8601, UTC."""


@attrs.frozen(kw_only=True)
class Bought:
    """What the manifest says of the answer that pictures came with."""

    attempt: int
    model: str | None
    provider: str | None
    request_id: str | None
    images: int
    """Pictures that the answer had."""
    usd: Decimal | None


class Ledger:
    """The ledger of one folder, opened by one process; made with `open_ledger`, in a thread."""

    def __init__(self, root: Path, connection: sqlite3.Connection, reader: Reader, origin: str) -> None:
        self._root = root
        self._connection = connection
        self._is_sandbox = origin == SANDBOX
        self._reserve = Reserve(root / STATE / "reserve")
        self._spool = root / STATE / spool.FOLDER
        self._writer: Writer | None = None
        self._has_changed = False
        self._on_full: Callable[[OSError], None] | None = None
        self._run = _recover(connection, origin)
        first = _next(connection, "items", "item")
        self._items = itertools.count(first)
        self._attempts = itertools.count(_next(connection, "attempts", "attempt"))
        self.reader = reader
        self.is_after_crash = reader.fact("manifest") is None
        """Whether the run before did not come to its end; also where there was none."""
        self.was_empty = first == 1
        """Whether it knew no item when it was opened: then it cannot know one that this run meets first."""
        self._manifest = JsonLines(root / MANIFEST, 0o666)
        try:
            self._failures = JsonLines(root / FAILURES, 0o600)
        except BaseException:
            self._manifest.close()
            raise

    def start(self, on_full: Callable[[OSError], None]) -> None:
        """Begin to record, on the running loop.

        Args:
            on_full: Called when the disk takes no more, and the room that was kept is used for the answers of
                what is in flight: nothing more must be sent.
        """
        self._on_full = on_full
        name = printable(str(schema.path_of(self._root / STATE)), 200)
        self._writer = Writer(self._connection, name, self._write_lines)

    def reserve_room(self) -> None:
        """Keep room for the answers of what is in flight; blocks.

        Raises:
            OSError: there is too little: no picture should be paid for.
        """
        self._reserve.take()

    def next_item(self) -> int:
        """Return the number of an item that is new."""
        return next(self._items)

    def next_attempt(self) -> int:
        """Return the number of a try that is new."""
        return next(self._attempts)

    # -- what happens to an item -------------------------------------------------------------------

    def sent(
        self, row: Row, attempt: int, key: str, account: str, usd: Decimal | None
    ) -> asyncio.Future[None]:
        """Record a try that is about to be sent, durably, when what is returned has been waited for.

        Raises:
            OSError: it could not be recorded, and must not be sent.
        """
        row.tries += 1
        row.usd = None if usd is None else str(usd)
        return self._opened.commit(
            self._write_sent, row, (attempt, row.number, key, account, row.usd, now(), "open")
        )

    def _write_sent(self, db: sqlite3.Cursor, row: Row, values: tuple[Any, ...]) -> None:
        self._upsert(db, row, "'sent'", None)
        db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def unbilled(self, row: Row, attempt: int) -> None:
        """Close a try that cost nothing; soon."""
        self._opened.put(_write_unbilled, row, attempt)

    async def answered(self, row: Row, attempt: int, raw: bytes, request_id: str | None) -> None:
        """Record an answer as it came, durably, on a full disk too.

        Raises:
            OSError: it could not be recorded.
        """
        row.is_spooled = len(raw) > _LARGEST_IN_DATABASE
        has_more = row.tries > 1 or not row.is_new
        self._has_changed = self._has_changed or has_more  # pictures of an earlier answer are no more its own
        values = (row.number, attempt, request_id, raw, now())
        try:
            await self._opened.commit(self._write_answer, values, row.is_spooled, has_more)
        except OSError as error:
            if self._on_full is not None:
                self._on_full(error)
            await asyncio.to_thread(self._reserve.give_back)
            await self._opened.commit(self._write_answer, values, row.is_spooled, has_more)

    def _write_answer(
        self,
        db: sqlite3.Cursor,
        values: tuple[int, int, str | None, bytes, str],
        is_spooled: bool,
        has_more: bool,
    ) -> None:
        item, attempt, request_id, raw, at = values
        place: bytes | str = raw
        if is_spooled:
            place = spool.name_of(attempt)
            spool.write(self._spool, place, raw)
        db.execute("UPDATE attempts SET state = 'answered' WHERE attempt = ?", (attempt,))
        if has_more:
            db.execute("UPDATE attempts SET state = 'unknown' WHERE item = ? AND state = 'open'", (item,))
            db.execute("DELETE FROM files WHERE item = ?", (item,))
        db.execute(_INSERT_SPOOLED if is_spooled else _INSERT_ANSWER, (item, attempt, request_id, place, at))
        db.execute("UPDATE items SET state = 'answered' WHERE item = ?", (item,))

    def placing(self, row: Row, file: KeptFile, told: Callable[[Exception | None], None]) -> None:
        """Record the name that a picture is about to get, and call *told* when it is durable; for threads."""
        self._opened.commit_and_tell(told, _put_files, [_file_values(row, file, "placing")])

    def kept(self, row: Row, saved: Sequence[KeptFile], bought: Bought, problem: Problem | None) -> None:
        """Record which pictures of an answer are there, and that it is done if there is no *problem*; soon.

        Until then they are found again by their names, and known by their hashes.
        """
        self._has_changed = True
        files = [_file_values(row, file, "saved") for file in saved]
        self._opened.put(self._write_kept, row, files, bought, problem is None, then=self._on_kept)

    def _write_kept(
        self, db: sqlite3.Cursor, row: Row, files: Sequence[tuple[Any, ...]], bought: Bought, is_done: bool
    ) -> None:
        _put_files(db, files)
        db.execute(
            "UPDATE answers SET model = ?, provider = ?, images = ? WHERE item = ?",
            (bought.model, bought.provider, bought.images, row.number),
        )
        usd = None if bought.usd is None else str(bought.usd)
        if not row.tries or usd != row.usd:
            db.execute("UPDATE attempts SET usd = ? WHERE attempt = ?", (usd, bought.attempt))
        if is_done:
            db.execute(
                "UPDATE items SET state = 'saved', problem = NULL, run = ? WHERE item = ?",
                (self._run, row.number),
            )

    def _on_kept(self, row: Row, files: Sequence[tuple[Any, ...]], bought: Bought, is_done: bool) -> None:
        self._manifest.add(self._lines(row, files, bought))
        if is_done and row.is_spooled:
            spool.remove(self._spool, spool.name_of(bought.attempt))

    def put_off(self, row: Row, problem: Problem) -> None:
        """An answered item keeps its state, with what was in the way of its pictures; soon."""
        self._end(row, "'answered'", problem)

    def lost(self, row: Row, problem: Problem) -> None:
        """An answered item's pictures cannot be had; soon."""
        self._end(row, "'paid_lost'", problem)

    def failed(self, row: Row, problem: Problem) -> None:
        """An item was refused for good; what earlier tries of it may have cost stands; soon."""
        self._end(row, _FAILED, problem)

    def maybe_paid(self, row: Row, problem: Problem, *, attempt: int | None = None) -> None:
        """A call ended without an answer that is of use; soon.

        Args:
            row: Its item.
            problem: What happened.
            attempt: The try whose answer cannot be read; None: none was answered.
        """
        self._end(row, "'maybe_paid'", problem, attempt)

    def skip(self, line: int, message: str) -> None:
        """Record a line of the source that cannot be read; soon."""
        self._opened.put(_write_skipped, line, message, now(), then=self._on_skipped)

    def _on_skipped(self, line: int, message: str, at: str) -> None:
        self._failures.add([skipped_line(line, message, at)])

    def _end(self, row: Row, state: str, problem: Problem, attempt: int | None = None) -> None:
        self._has_changed = True
        self._opened.put(self._write_end, row, state, problem, attempt, then=self._on_end)

    def _write_end(
        self, db: sqlite3.Cursor, row: Row, state: str, problem: Problem, attempt: int | None
    ) -> None:
        if state == "'maybe_paid'":
            db.execute(
                "UPDATE attempts SET state = 'unknown' WHERE item = ? AND (state = 'open' OR attempt = ?)",
                (row.number, attempt),
            )
        said = attrs.asdict(problem)
        if row.supersedes is not None:  # its id may be taken from it
            said["id"] = row.id
        self._upsert(db, row, state, json.dumps(said).decode())
        _give_id_back(db, row)

    def _on_end(self, row: Row, _: str, problem: Problem, __: int | None) -> None:
        prompt = json.loads(row.request.encode()).get("prompt")
        self._failures.add([failure_line({"id": row.id, **attrs.asdict(problem), "prompt": prompt})])

    def _upsert(self, db: sqlite3.Cursor, row: Row, state: str, problem: str | None) -> None:
        """Give an item its state, *state* being SQL of this module; a problem stays until the next."""
        if row.supersedes is not None:
            db.execute("UPDATE items SET id = NULL WHERE item = ?", (row.supersedes,))
        first = "'failed'" if state == _FAILED else state
        values: tuple[Any, ...] = (row.number, row.id, row.fingerprint, row.request, self._run)
        db.execute(
            f"INSERT INTO items VALUES (?, ?, ?, ?, {first}, ?, {'NULL' if problem is None else '?'})"  # noqa: S608 - constants
            f" ON CONFLICT (item) DO UPDATE SET id = excluded.id, state = {state},"
            " fingerprint = excluded.fingerprint,"
            " request = excluded.request, run = excluded.run,"
            " problem = coalesce(excluded.problem, problem)",
            values if problem is None else (*values, problem),
        )

    # -- the two files -----------------------------------------------------------------------------

    def _lines(self, row: Row, files: Sequence[tuple[Any, ...]], bought: Bought) -> Iterator[bytes]:
        for _, picture, file, digest, size, width, height, at, _ in files:
            values = (
                row.id, picture, row.request, row.fingerprint, bought.model, bought.provider,
                bought.request_id, file, digest, size, width, height,
            )  # fmt: skip
            yield picture_line(
                values, usd=bought.usd, images=bought.images, at=at, is_sandbox=self._is_sandbox
            )

    def _write_lines(self) -> None:
        """Append what a commit brought to files that are derived: the end, or the next start, mends them."""
        for file in (self._manifest, self._failures):
            try:
                file.flush()
            except OSError:
                self._has_changed = True

    def mend(self) -> None:
        """Bring the manifest up to what the ledger says, if a run before did not end; blocks."""
        size = self.reader.fact("manifest")
        if size is None or int(size) != self._manifest.size:
            self._manifest.rewrite(self.reader.manifest())
        self._write_fact("manifest", None)

    def finish(self, *, is_whole_source: bool) -> None:
        """Leave the folder as it is to be found; blocks.

        Args:
            is_whole_source: Whether every item was met: then what failed in earlier runs, and is no more in
                the source, is forgotten; never what is known of paid ones.

        Raises:
            OSError: something could not be written; the ledger itself stands.
        """
        try:
            self._opened.put(self._forget if is_whole_source else _nothing)
            self._opened.close()
            self._failures.rewrite(self.reader.failures())
            if self._has_changed:
                self._manifest.rewrite(self.reader.manifest())
            self._write_fact("manifest", str(self._manifest.size))
        except sqlite3.Error as error:
            raise OSError(f"the ledger cannot be written to: {error}") from None
        finally:
            self.close()

    def close(self) -> None:
        """Close everything; blocks."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.end()
        self._manifest.close()
        self._failures.close()
        self.reader.close()
        schema.close(self._connection)
        self._reserve.give_back()

    def _forget(self, db: sqlite3.Cursor) -> None:
        db.execute("UPDATE items SET state = 'planned' WHERE state = 'failed' AND run < ?", (self._run,))

    def _write_fact(self, name: str, value: str | None) -> None:
        """Record something of the folder while nothing else is written."""
        if value is None:
            self._connection.execute("DELETE FROM facts WHERE name = ?", (name,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @property
    def _opened(self) -> Writer:
        assert self._writer is not None  # noqa: S101 - nothing is recorded before it was started
        return self._writer


def open_ledger(root: Path, origin: str) -> Ledger:
    """Open the ledger of a folder, or make it; the folder's lock is held, and this blocks.

    After a crash, what was sent without an answer is maybe paid from here on.

    Args:
        root: The batch's folder.
        origin: Where the pictures come from: the API's origin, or `SANDBOX`.

    Raises:
        LedgerCorruptError: it cannot be believed; nothing was changed.
        ConfigurationError: the folder's pictures come from elsewhere.
        OSError: it cannot be opened.
    """
    path = schema.path_of(root / STATE)
    check_orphan(root)
    with contextlib.ExitStack() as opened:
        connection = opened.enter_context(contextlib.closing(schema.open_ledger(path)))
        reader = opened.enter_context(contextlib.closing(Reader(schema.open_reader(path), path)))
        check_origin(root, reader, origin)
        with schema.judged(path):  # a disk that is full, or another program that has it
            ledger = Ledger(root, connection, reader, origin)
        opened.pop_all()
        return ledger


def look_into(root: Path, *, scratch: Path | None = None) -> Reader | None:
    """Read the ledger of a folder without writing anything of it; None: there is none. Blocks.

    With *scratch* see `schema.open_at_rest`.
    """
    path = schema.path_of(root / STATE)
    if not path.exists():
        check_orphan(root)
        return None
    return Reader(schema.open_at_rest(path, scratch=scratch), path)


def exists(root: Path) -> bool:
    """Whether a folder has a ledger."""
    return os.path.lexists(schema.path_of(root / STATE))


def check_orphan(root: Path) -> None:
    """Refuse a folder whose pictures were paid for, and whose ledger is gone: all would be paid for again.

    Raises:
        LedgerCorruptError: it is so.
    """
    manifest = root / MANIFEST
    if not exists(root) and manifest.is_file() and manifest.stat().st_size > 0:
        raise schema.untrusted(schema.path_of(root / STATE), f"it is gone, but {MANIFEST} is there")


def check_origin(root: Path, reader: Reader, origin: str) -> None:
    """Refuse to continue a folder with pictures from elsewhere.

    Raises:
        ConfigurationError: they are.
    """
    begun = reader.fact("origin")
    if begun is not None and begun != origin:
        said = "the sandbox" if begun == SANDBOX else f"the service at {printable(begun, 200)}"
        now_is = "a sandbox" if origin == SANDBOX else f"the service at {origin}"
        raise ConfigurationError(
            f"{printable(str(root), 200)} holds pictures of {said}: choose another folder for {now_is}"
        )


def now() -> str:
    """Return the time, as all records have it: ISO 8601, UTC, milliseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1_000_000:03d}Z"


@functools.lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """Return a second in UTC: thousands of records have the same one."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# -- rows --------------------------------------------------------------------------------------------------


def _recover(connection: sqlite3.Connection, origin: str) -> int:
    """Close what a dead process left open, in one transaction; return the number of this run."""
    connection.execute("BEGIN IMMEDIATE")
    left = connection.execute(
        "SELECT item, max(at) FROM attempts JOIN items USING (item)"
        " WHERE items.state = 'sent' AND attempts.state = 'open' GROUP BY item"
    ).fetchall()
    for item, at in left:
        problem = Problem(
            error="ProcessDied",
            message="the process ended while the answer was awaited; it may have been billed",
            outcome="unknown",
            at=str(at),
        )
        connection.execute(
            "UPDATE items SET state = 'maybe_paid', problem = ? WHERE item = ?",
            (json.dumps(attrs.asdict(problem)).decode(), item),
        )
    connection.execute("UPDATE attempts SET state = 'unknown' WHERE state = 'open'")
    connection.execute("DELETE FROM skipped")
    connection.execute("INSERT OR REPLACE INTO facts VALUES ('origin', ?)", (origin,))
    (run,) = connection.execute("SELECT coalesce(max(run), 0) + 1 FROM items").fetchone()
    connection.execute("COMMIT")
    return int(run)


def _next(connection: sqlite3.Connection, table: str, column: str) -> int:
    (number,) = connection.execute(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}").fetchone()  # noqa: S608 - our own names
    return int(number)


def _file_values(row: Row, file: KeptFile, state: str) -> tuple[Any, ...]:
    return (
        row.number, file.picture, file.file, file.sha256, file.size, file.width, file.height, now(), state,
    )  # fmt: skip


def _put_files(db: sqlite3.Cursor, files: Sequence[tuple[Any, ...]]) -> None:
    db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", files)


def _write_unbilled(db: sqlite3.Cursor, row: Row, attempt: int) -> None:
    db.execute("UPDATE attempts SET state = 'unbilled' WHERE attempt = ?", (attempt,))
    db.execute("DELETE FROM answers WHERE attempt = ? AND item = ?", (attempt, row.number))
    db.execute(
        f"UPDATE items SET state = {_PLANNED} WHERE item = ? AND state IN ('sent', 'answered')",  # noqa: S608 - a constant
        (row.number,),
    )
    _give_id_back(db, row)


def _give_id_back(db: sqlite3.Cursor, row: Row) -> None:
    """A request that cost nothing takes the place of none that was paid for: that one has its id again."""
    if row.supersedes is None:
        return
    db.execute("UPDATE items SET id = NULL WHERE item = ? AND state IN ('planned', 'failed')", (row.number,))
    if db.rowcount:
        db.execute("UPDATE items SET id = ? WHERE item = ?", (row.id, row.supersedes))


def _write_skipped(db: sqlite3.Cursor, *values: Any) -> None:
    db.execute("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", values)


def _nothing(_: sqlite3.Cursor) -> None:
    """Change nothing."""
