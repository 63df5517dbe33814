"""The ledger's database: its tables, how it is opened, and what is checked before it is believed.

The file may come from a stranger or from a disk that lies, so nothing is sent before it was read through.
It holds links that may be signed: it is its owner's alone, whatever the umask.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hinow_async._errors import LedgerCorruptError
from hinow_async._models.images import MOST_IMAGES
from hinow_async._options import DEAREST
from hinow_async._protocol.failures import printable

LEDGER: Final = "ledger.sqlite3"
_STEPS: Final[Sequence[Iterable[str]]] = (
    (
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        # An item without an id was superseded by another request under its id: its money still counts.
        "CREATE TABLE items (item INTEGER PRIMARY KEY, id TEXT UNIQUE, fingerprint TEXT NOT NULL,"
        " request TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN"
        " ('planned', 'sent', 'answered', 'saved', 'failed', 'maybe_paid', 'paid_lost')),"
        " run INTEGER NOT NULL, problem TEXT)",
        "CREATE TABLE attempts (attempt INTEGER PRIMARY KEY, item INTEGER NOT NULL, key TEXT NOT NULL,"
        " account TEXT NOT NULL, usd TEXT, at TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN"
        " ('open', 'unbilled', 'unknown', 'answered')))",
        "CREATE INDEX attempts_of_item ON attempts (item)",
        # The answer as it came, or the name of the file beside the ledger that holds it.
        "CREATE TABLE answers (item INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, request_id TEXT,"
        " body BLOB, spool TEXT, at TEXT NOT NULL, model TEXT, provider TEXT, images INTEGER)",
        "CREATE TABLE files (item INTEGER NOT NULL, picture INTEGER NOT NULL, file TEXT NOT NULL,"
        " sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,"
        " at TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('placing', 'saved')),"
        " PRIMARY KEY (item, picture)) WITHOUT ROWID",
        "CREATE TABLE skipped (line INTEGER PRIMARY KEY, message TEXT NOT NULL, at TEXT NOT NULL)",
    ),
)
"""Each brings a ledger from one version of the schema, in `user_version`, to the next; version 0 is empty.

A new ledger takes all of them, an older one those that it lacks, in one transaction: so both have the very
same tables. What was released once is never changed; what comes is a step more.
"""

_MOST_NUMBER: Final = 1 << 53


def _is_text(*columns: str) -> str:
    return " AND ".join(f"typeof({column}) = 'text'" for column in columns)


def _is_text_or_null(*columns: str) -> str:
    return " AND ".join(f"typeof({column}) IN ('text', 'null')" for column in columns)


def _is_number(most: int, *columns: str) -> str:
    return " AND ".join(f"typeof({name}) = 'integer' AND {name} BETWEEN 0 AND {most}" for name in columns)


_SOUND: Final = {
    "facts": "typeof(value) = 'text' AND (name <> 'manifest' OR length(value) < 20"
    " AND value NOT GLOB '*[^0-9]*')",
    "items": f"{_is_number(_MOST_NUMBER, 'item', 'run')} AND {_is_text('fingerprint', 'request', 'state')}"
    f" AND {_is_text_or_null('id', 'problem')}",
    "attempts": f"{_is_number(_MOST_NUMBER, 'attempt', 'item')}"
    f" AND {_is_text('key', 'account', 'at', 'state')}"
    " AND (usd IS NULL OR typeof(usd) = 'text' AND usd GLOB '*[0-9]*' AND usd NOT GLOB '*[^0-9.E+-]*'"
    f" AND CAST(usd AS REAL) BETWEEN 0 AND {DEAREST * MOST_IMAGES})",
    "answers": f"{_is_number(_MOST_NUMBER, 'item', 'attempt')} AND {_is_text('at')}"
    f" AND {_is_text_or_null('request_id', 'spool', 'model', 'provider')}"
    f" AND typeof(body) IN ('blob', 'null') AND (images IS NULL OR {_is_number(_MOST_NUMBER, 'images')})",
    "files": f"{_is_number(_MOST_NUMBER, 'item', 'picture', 'bytes', 'width', 'height')}"
    f" AND {_is_text('file', 'sha256', 'at', 'state')} AND length(sha256) = 64",
    "skipped": f"{_is_number(_MOST_NUMBER, 'line')} AND {_is_text('message', 'at')}",
}
"""What is so of each row that a batch wrote, whichever its version."""
_SOUND_JSON: Final = (
    "json_valid(request) AND json_type(request) = 'object' AND json_type(request, '$.prompt') IS 'text'"
    " AND (problem IS NULL OR json_valid(problem) AND json_type(problem) = 'object')"
)
"""Of the items; where SQLite was built without these functions it is found when a row is read."""

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_CACHE: Final = 2 * 1024
"""KiB; each connection fills it in the end, and the system keeps the file's pages anyway."""
_MAGIC: Final = b"SQLite format 3\0"
_NOT_ITS_FAULT: Final = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
})  # fmt: skip


def path_of(state: Path) -> Path:
    """Return the ledger's path in the folder for what is ours."""
    return state / LEDGER


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open the ledger to be written, and make it if it is not there; the folder's lock is held.

    Raises:
        LedgerCorruptError: it cannot be believed, or is of a newer version.
        OSError: it cannot be made or opened.
    """
    _create(path)
    _check_files(path)
    with judged(path):
        connection = _connect(path, "rwc")
    try:
        with judged(path):
            _configure(connection)
            _check(connection, path)
            _migrate(connection, len(_STEPS))
            connection.execute("PRAGMA journal_mode = WAL")
            # CHECK is for what comes from elsewhere, which was checked above. For each row that we write
            # SQLite would make a table of the states that there are: a third of the time of its statements.
            connection.execute("PRAGMA ignore_check_constraints = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a ledger that was checked a moment ago, only to be read."""
    with judged(path):
        connection = _connect(path, "ro")
        _harden(connection)
    return connection


def open_at_rest(path: Path, *, scratch: Path | None = None) -> sqlite3.Connection:
    """Open a ledger to look at, without writing anything of it.

    Args:
        path: The ledger.
        scratch: An empty folder that outlives the connection. A log that a dead process left is read in a
            copy there; then not even its index beside the ledger is written anew. No batch must be at work.

    Raises:
        LedgerCorruptError: it cannot be believed, or is of a newer version.
    """
    _check_files(path)
    # A write-ahead log that a dead process left has to be read with it; without one nothing is written.
    is_clean = not path.with_name(f"{LEDGER}-wal").exists()
    place = path if is_clean or scratch is None else _copy(path, scratch)
    with judged(path):
        connection = _connect(place, "ro&immutable=1" if is_clean else "ro")
    try:
        with judged(path):
            _harden(connection)
            _check(connection, path)
            if _version(connection) < len(_STEPS):
                return _migrated_copy(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def close(connection: sqlite3.Connection) -> None:
    """Bring everything into the one file, and close it; blocks."""
    with contextlib.suppress(sqlite3.Error):  # a full disk: the log stays, and is read with it
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def untrusted(path: Path, problem: str) -> LedgerCorruptError:
    """Make the error for a ledger that cannot be believed."""
    return LedgerCorruptError(
        f"{printable(str(path), 200)}: {problem}. Nothing was sent and nothing was deleted:"
        " restore the file from a copy, or choose another folder"
    )


def _copy(path: Path, scratch: Path) -> Path:
    for name in (path.name, f"{path.name}-wal"):
        shutil.copyfile(path.with_name(name), scratch / name)
    return scratch / path.name


# -- opening -----------------------------------------------------------------------------------------------


def _create(path: Path) -> None:
    """Make the file with its permissions; SQLite gives those to the files beside it."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, _NEW, 0o600)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, 0o600)
        finally:
            os.close(fd)


def _check_files(path: Path) -> None:
    """Refuse links and whatever else is no file: they would lead elsewhere, or keep us waiting."""
    for beside in ("", "-wal", "-shm", "-journal"):
        name = path.with_name(path.name + beside)
        try:
            mode = name.lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            raise untrusted(name, "it is no regular file")
    if stat.S_ISLNK(path.parent.lstat().st_mode):
        raise untrusted(path.parent, "it is a link")
    with path.open("rb") as file:
        begin = file.read(len(_MAGIC))
    if begin and begin != _MAGIC:
        raise untrusted(path, "it is no SQLite database")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )


def _configure(connection: sqlite3.Connection) -> None:
    _harden(connection)
    # Builds differ in their default: without FULL a commit would not survive a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":  # there fsync alone leaves data in the drive's cache
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")


def _harden(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE}")


@contextlib.contextmanager
def judged(path: Path) -> Iterator[None]:
    """Say of a database that SQLite cannot read that it is corrupt."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _NOT_ITS_FAULT:
            raise OSError(f"{error} ({path.name})") from None
        raise untrusted(path, f"SQLite cannot read it ({error})") from None


# -- the schema --------------------------------------------------------------------------------------------


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a ledger to that version, all at once: killed or closed in between, it is what it was."""
    steps = _STEPS[_version(connection) : version]
    if not steps:
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in itertools.chain.from_iterable(steps):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")


def _migrated_copy(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Copy an older ledger into memory and bring it up to date there: the file is only looked at."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        connection.backup(copy)
        connection.close()
        _harden(copy)
        _migrate(copy, len(_STEPS))
    except BaseException:
        copy.close()
        raise
    return copy


def _schema(connection: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    return set(connection.execute("SELECT type, name, sql FROM sqlite_master"))


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not as a version that is known would have left it."""
    version = _version(connection)
    if version > len(_STEPS):
        raise untrusted(
            path, f"a newer hinow-async wrote it (schema {version}, this one knows {len(_STEPS)})"
        )
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        _migrate(model, version)
        if version < 0 or _schema(connection) != _schema(model):
            raise untrusted(path, "its tables are not those of a batch")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise untrusted(path, f"it is damaged ({printable(str(verdict), 200)})")
    if version:
        _check_rows(connection, path)


def _check_rows(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse rows that no batch wrote, before anything depends on them.

    What is read of them at the end of a run would end it otherwise, after it has paid.
    """
    checks = [*_SOUND.items()]
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("SELECT json_valid('1'), json_type('1')")
        checks.append(("items", _SOUND_JSON))
    for table, is_sound in checks:
        found = connection.execute(f"SELECT 1 FROM {table} WHERE NOT ({is_sound}) LIMIT 1").fetchone()  # noqa: S608 - constants
        if found is not None:
            raise untrusted(path, f"a row of its table {table} is none that a batch wrote")
