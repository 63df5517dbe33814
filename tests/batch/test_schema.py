"""Ledgers of other versions: older ones are brought up to date in one transaction, newer ones are refused."""

import contextlib
import signal
import sqlite3
import subprocess
import sys

import pytest

from hinow_async import LedgerCorruptError
from hinow_async.batch import schema
from hinow_async.batch.ledger import look_into, open_ledger

SECOND = (
    "ALTER TABLE answers ADD COLUMN note TEXT",
    "UPDATE answers SET note = request_id",
    "CREATE TABLE notes (note TEXT)",
)
ORIGIN = "sandbox"


@pytest.fixture
async def begun(run, out):
    """A folder with a saved item, and its ledger of today."""
    await run(["a"])
    return out


@pytest.fixture
def later(monkeypatch):
    """Let the library be one of later, whose schema is a step further."""

    def step(*statements):
        monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS, statements))

    return step


def looks(root):
    """The version of a ledger, and its tables."""
    with contextlib.closing(sqlite3.connect(root / ".hinow/ledger.sqlite3")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return db.execute("PRAGMA user_version").fetchone()[0], tables


async def test_an_older_ledger_is_brought_up_to_date(begun, run, monkeypatch, sandbox):
    """What it knows stands, nothing is paid again, and the library that made it refuses it from then on."""
    version, tables = looks(begun)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_STEPS", (*schema._STEPS, SECOND, ("DROP TABLE notes",)))
        report = await run(["a", "b"])
        assert (report.reused, report.saved, sandbox.billing.requests) == (1, 1, 2)
        assert looks(begun) == (version + 2, tables)
        with contextlib.closing(sqlite3.connect(begun / ".hinow/ledger.sqlite3")) as db:
            notes = db.execute("SELECT note = request_id FROM answers ORDER BY item").fetchall()
        assert notes == [(1,), (None,)]
    with pytest.raises(LedgerCorruptError, match=f"a newer hinow-async wrote it.*schema {version + 2}"):
        await run(["a", "b"])


async def test_a_new_ledger_has_the_tables_of_a_migrated_one(begun, later, tmp_path):
    """To the letter: else one of the two would be refused as a stranger's."""
    later(*SECOND)
    (tmp_path / "new/.hinow").mkdir(parents=True)
    found = []
    for root in (begun, tmp_path / "new"):
        open_ledger(root, ORIGIN).close()
        with contextlib.closing(sqlite3.connect(root / ".hinow/ledger.sqlite3")) as db:
            found.append(set(db.execute("SELECT type, name, sql FROM sqlite_master")))
    assert found[0] == found[1]


async def test_a_step_that_fails_leaves_it_as_it_was(begun, run, monkeypatch):
    """All of it or nothing: its own version goes on with it."""
    before = looks(begun)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_STEPS", (*schema._STEPS, (*SECOND, "INSERT INTO nothing VALUES (1)")))
        with pytest.raises(LedgerCorruptError):
            open_ledger(begun, ORIGIN)
    assert looks(begun) == before
    assert (await run(["a"])).reused == 1


async def test_a_process_that_is_killed_while_it_migrates_leaves_it_as_it_was(begun, run):
    """Killed between two statements: the next one finds the older version, whole."""
    before = looks(begun)
    code = f"""
import os, pathlib, signal, sys
from hinow_async.batch import schema
def dying():
    yield {SECOND[0]!r}
    yield {SECOND[2]!r}
    os.kill(os.getpid(), signal.SIGKILL)
schema._STEPS = (*schema._STEPS, dying())
schema.open_ledger(schema.path_of(pathlib.Path(sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", code, begun / ".hinow"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert looks(begun) == before
    assert (await run(["a"])).reused == 1


async def test_an_older_ledger_can_be_looked_at_without_being_changed(begun, later):
    """A dry run reads it as if it were up to date, and leaves the file alone."""
    path = begun / ".hinow/ledger.sqlite3"
    before = path.read_bytes()
    later(*SECOND)
    with contextlib.closing(look_into(begun)) as reader:
        assert list(reader.manifest()) != []
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"ledger.sqlite3", "lock"}


async def test_an_older_ledger_of_a_stranger_is_not_migrated(begun, later):
    """It is checked as what it says it is, before any of its triggers could see a statement."""
    with contextlib.closing(sqlite3.connect(begun / ".hinow/ledger.sqlite3")) as db:
        db.execute("CREATE TRIGGER evil AFTER UPDATE ON answers BEGIN DELETE FROM attempts; END")
    before = looks(begun)
    later(*SECOND)
    for look in (lambda: open_ledger(begun, ORIGIN), lambda: look_into(begun)):
        with pytest.raises(LedgerCorruptError, match="not those of a batch"):
            look()
    assert looks(begun) == before


async def test_a_ledger_whose_making_was_cut_short(out, run):
    """A process that died between the file and its tables: it counts as empty, and goes on."""
    (out / ".hinow").mkdir(parents=True)
    (out / ".hinow/ledger.sqlite3").touch()
    with contextlib.closing(look_into(out)) as reader:
        assert reader.known(["a"]) == {}
    assert (await run(["a"])).saved == 1
