"""The ledger: what is believed of it, what it refuses, and what it says after any crash."""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hinow_async import Budget, ConfigurationError, LedgerCorruptError, LedgerLockedError
from hinow_async.batch import schema
from hinow_async.batch.ledger import Bought, Problem, Row, look_into, now, open_ledger
from hinow_async.batch.lock import FolderLock
from hinow_async.batch.reader import KeptFile
from hinow_async.batch.verify import verify_batch
from hinow_async.batch.writer import Writer
from hinow_async.sandbox import Fault

ORIGIN = "https://api.hinow.ai:443"
RAW = b'{"data": {"urls": ["https://x/1.png"]}}'


def row(number, name=None):
    return Row(number, name or f"item-{number}", "f" * 64, '{"prompt":"p"}')


def problem(outcome):
    return Problem(error="SomeError", message="no", outcome=outcome, at=now())


def bought(attempt):
    return Bought(attempt=attempt, model="m", provider=None, request_id="r", images=1, usd=Decimal("0.087"))


def kept_file(root, number):
    file = f"images/{number}.png"
    (root / "images").mkdir(exist_ok=True)
    (root / file).write_bytes(b"123")
    return KeptFile(0, file, "a" * 64, 3, 8, 8, is_saved=True)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "out/.hinow").mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def path(root):
    return root / ".hinow/ledger.sqlite3"


@contextlib.contextmanager
def opened(root, origin=ORIGIN):
    """A ledger at work; left as a clean end leaves it."""
    ledger = open_ledger(root, origin)
    ledger.start(lambda error: None)
    ledger.mend()
    try:
        yield ledger
    except BaseException:
        ledger.close()
        raise
    ledger.finish(is_whole_source=True)


async def save_one(ledger, root, number=1):
    item, attempt = row(number), ledger.next_attempt()
    await ledger.sent(item, attempt, "key", "main", Decimal("0.087"))
    await ledger.answered(item, attempt, RAW, "r")
    ledger.kept(item, [kept_file(root, number)], bought(attempt), None)


async def test_an_answer_that_replaces_another_takes_its_pictures_from_the_manifest(root):
    """Also where the run ends before its own are there."""
    with opened(root) as ledger:
        await save_one(ledger, root)
    assert json.loads((root / "manifest.jsonl").read_text())["id"] == "item-1"
    with opened(root) as ledger:
        attempt = ledger.next_attempt()
        await ledger.sent(row(1), attempt, "key", "main", Decimal("0.087"))
        await ledger.answered(row(1), attempt, RAW, "r")
    assert not (root / "manifest.jsonl").read_text()


# -- what is refused -------------------------------------------------------------------------------------


def garbage(path):
    path.write_bytes(os.urandom(5000))


def newer(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def trigger(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER evil AFTER UPDATE ON items BEGIN DELETE FROM attempts; END")


def other_tables(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE mine (x)")


def torn(path):
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 5] = b"\x55" * 4096 * 3
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def linked_log(path):
    path.with_name("ledger.sqlite3-wal").symlink_to("/etc/passwd")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (garbage, "no SQLite database"),
        (newer, "a newer hinow-async wrote it"),
        (trigger, "not those of a batch"),
        (other_tables, "not those of a batch"),
        (torn, "damaged|cannot read it"),
        (cut, "damaged|cannot read it"),
        (link, "no regular file"),
        (linked_log, "no regular file"),
        (pipe, "no regular file"),
    ],
)
async def test_a_ledger_that_cannot_be_believed_is_refused_and_kept(root, path, spoil, said):
    """Whatever is wrong with it: nothing is sent, nothing is deleted, and it is said what to do."""
    with opened(root) as ledger:
        for number in range(1, 30):
            await save_one(ledger, root, number)
    spoil(path)
    before = path.lstat()
    for look in (lambda: open_ledger(root, ORIGIN), lambda: look_into(root)):
        with pytest.raises(LedgerCorruptError, match=rf"({said})(.|\n)*restore the file"):
            look()
    after = path.lstat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )


async def test_a_hostile_row_is_not_believed(root, path):
    """A path that leads out of the folder stops everything, though the database is sound."""
    with opened(root) as ledger:
        await save_one(ledger, root)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE files SET file = '../../etc/passwd'")
        db.commit()
    reader = look_into(root)
    with contextlib.closing(reader), pytest.raises(LedgerCorruptError, match="a file that cannot be"):
        reader.known(["item-1"])


async def test_pictures_without_their_ledger_are_not_paid_again(root, path):
    """A folder whose ledger was removed is refused: all of it would be sent once more."""
    with opened(root) as ledger:
        await save_one(ledger, root)
    path.unlink()
    with pytest.raises(LedgerCorruptError, match=r"it is gone, but manifest\.jsonl is there"):
        open_ledger(root, ORIGIN)
    assert not path.exists()


@pytest.mark.parametrize(
    ("first", "second"), [("sandbox", ORIGIN), (ORIGIN, "sandbox"), (ORIGIN, "https://x:443")]
)
async def test_a_folder_has_one_origin(root, first, second):
    """Test pictures never pass for bought ones, nor those of one service for another's."""
    with opened(root, first):
        pass
    with pytest.raises(ConfigurationError, match="choose another folder"):
        open_ledger(root, second)


def test_a_second_process_is_told_who_works_in_the_folder(tmp_path):
    """The lock names its owner's process; a dead process holds none."""
    code = (
        "import sys, pathlib; from hinow_async.batch.lock import FolderLock\n"
        "with FolderLock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(LedgerLockedError, match=f"process {child.pid} on "), FolderLock(tmp_path):
            pass
        child.kill()
        child.wait()
    with FolderLock(tmp_path):
        owner = json.loads((tmp_path / ".hinow/lock").read_text())
    assert owner["pid"] == os.getpid()


# -- what it leaves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o777])
async def test_it_is_its_owners_alone(root, path, umask):
    """It holds links that may be signed: the umask changes nothing, for its log and large answers too."""
    before = os.umask(umask)
    try:
        ledger = open_ledger(root, ORIGIN)
    finally:
        os.umask(before)
    ledger.start(lambda error: None)
    attempt = ledger.next_attempt()
    await ledger.sent(row(1), attempt, "key", "main", None)
    await ledger.answered(row(1), attempt, b" " * 100_000, None)
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}
    ledger.close()
    assert modes == dict.fromkeys(
        ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm", f"{attempt}.json"], 0o600
    )


async def test_a_clean_end_leaves_one_file(root, path):
    """No log stays behind, and looking into it writes nothing."""
    with opened(root) as ledger:
        await save_one(ledger, root)
    assert os.listdir(path.parent) == ["ledger.sqlite3"]  # noqa: PTH208
    with contextlib.closing(look_into(root)) as reader:
        assert reader.known(["item-1"])["item-1"].state == "saved"
        assert reader.spent() == Decimal("0.087")
        assert os.listdir(path.parent) == ["ledger.sqlite3"]  # noqa: PTH208


@pytest.mark.parametrize("spoil", [b"", b'{"half', b'{"whole": 1}\n'])
async def test_the_manifest_is_what_the_ledger_says(root, spoil):
    """Whatever a crash or a hand did to it, the next run derives it anew."""
    with opened(root) as ledger:
        await save_one(ledger, root)
    manifest = root / "manifest.jsonl"
    right = manifest.read_bytes()
    manifest.write_bytes(spoil if not spoil.startswith(b'{"half') else right + spoil)
    with opened(root):
        assert manifest.read_bytes() == right
    assert manifest.read_bytes() == right


async def test_changes_that_come_together_are_committed_together(root):
    """A thousand waiting at once take a few commits, and none of them is lost."""
    ledger = open_ledger(root, ORIGIN)
    ledger.start(lambda error: None)
    statements = []
    ledger._connection.set_trace_callback(statements.append)
    await asyncio.gather(
        *(ledger.sent(row(n), ledger.next_attempt(), "key", "main", None) for n in range(1000))
    )
    ledger._connection.set_trace_callback(None)
    ledger.close()
    with contextlib.closing(look_into(root)) as reader:
        assert len(reader.known([f"item-{n}" for n in range(1000)])) == 1000
    assert 4 <= statements.count("COMMIT") <= 20


# -- any course of events --------------------------------------------------------------------------------

IDS = st.integers(1, 2)
ENDS = st.sampled_from(["saved", "paid_lost", "answered", "unreadable"])


class Course(RuleBasedStateMachine):
    """Calls come and go, the process dies at any moment; a model knows what may have been billed."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.generation = 0
        self.runner = asyncio.Runner()
        self.states = dict.fromkeys((1, 2), "planned")
        self.flying = {}
        self.unknown, self.paid, self.spent = set(), set(), 0
        self.kept = set()
        self.root = self.folder / "0"
        (self.root / ".hinow").mkdir(parents=True)
        self.open()

    def open(self):
        async def start():
            ledger = open_ledger(self.root, ORIGIN)
            ledger.start(lambda error: None)
            ledger.mend()
            return ledger

        self.ledger = self.runner.run(start())

    def do(self, call):
        async def wait():
            await call

        self.runner.run(wait())

    def settled(self, number):
        if number in self.paid:
            return "paid_lost"
        return "maybe_paid" if number in self.unknown else None

    def draw(self, data):
        return data.draw(st.sampled_from(sorted(self.flying)))

    @rule(number=IDS)
    def send(self, number):
        if number in self.flying or self.states[number] == "answered":
            return
        attempt = self.flying[number] = self.ledger.next_attempt()
        self.do(self.ledger.sent(row(number), attempt, "key", "main", Decimal(1)))
        self.states[number] = "sent"

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), is_final=st.booleans())
    def refused(self, data, is_final):
        self.refuse(self.draw(data), is_final=is_final)

    def refuse(self, number, *, is_final):
        self.ledger.unbilled(row(number), self.flying.pop(number))
        self.states[number] = self.settled(number) or "planned"
        if is_final:
            self.ledger.failed(row(number), problem("refused"))
            self.states[number] = self.settled(number) or "failed"

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lost_answer(self, data):
        self.lose_the_answer(self.draw(data))

    def lose_the_answer(self, number):
        del self.flying[number]
        self.ledger.maybe_paid(row(number), problem("unknown"))
        self.states[number] = "maybe_paid"
        self.unknown.add(number)
        self.spent += 1

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), is_large=st.booleans(), end=ENDS)
    def answer(self, data, is_large, end):
        number = self.draw(data)
        attempt = self.flying.pop(number)
        self.do(self.ledger.answered(row(number), attempt, RAW + b" " * 40_000 * is_large, "r"))
        self.spent += 1
        self.states[number] = "answered"
        self.kept.discard(number)  # its pictures are those of the last answer
        if end == "unreadable":
            self.ledger.maybe_paid(row(number), problem("unknown"), attempt=attempt)
            self.unknown.add(number)
            self.states[number] = "maybe_paid"
            return
        self.paid.add(number)
        if end == "saved":
            file = kept_file(self.root, number)
            self.ledger.placing(row(number), file, lambda problem: None)
            self.ledger.kept(row(number), [file], bought(attempt), None)
            self.do(self.settle_price(attempt))
            self.states[number] = "saved"
            self.kept.add(number)
        elif end == "paid_lost":
            self.ledger.lost(row(number), problem("lost"))
            self.states[number] = "paid_lost"

    async def settle_price(self, attempt):
        await self.ledger._opened.commit(
            lambda db: db.execute("UPDATE attempts SET usd = '1' WHERE attempt = ?", (attempt,))
        )

    @precondition(lambda self: any(state == "answered" for state in self.states.values()))
    @rule()
    def fetch_later(self):
        for number, state in self.states.items():
            if state == "answered":
                self.ledger.lost(row(number), problem("lost"))
                self.states[number] = "paid_lost"

    @rule(is_late=st.booleans())
    def die(self, is_late):
        """Go on with the files as they lie on the disk at this moment, when refusals may be on their way."""
        for number in [n for n in self.flying if is_late and self.settled(n) is None]:
            self.refuse(number, is_final=False)
        self.generation += 1
        died, self.root = self.root, self.folder / str(self.generation)
        shutil.copytree(died, self.root, ignore=shutil.ignore_patterns("*-shm"))
        self.ledger.close()
        self.open()
        self.compare(is_flushed=False)

    @rule()
    def end(self):
        self.flush()
        for number in list(self.flying):
            self.lose_the_answer(number)
        self.ledger.finish(is_whole_source=False)
        lines = (self.root / "manifest.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["id"] for line in lines) == [f"item-{n}" for n in sorted(self.kept)]
        self.open()

    def flush(self):
        async def nothing():
            await self.ledger._opened.commit(lambda db: None)

        self.do(nothing())

    def compare(self, *, is_flushed):
        known = self.ledger.reader.known([f"item-{n}" for n in self.states])
        for number in self.states:
            found = known.get(f"item-{number}")
            state = "planned" if found is None else found.state
            may_be_billed = number in self.flying or number in self.unknown or number in self.paid
            assert not (may_be_billed and state in {"planned", "failed"})
            if is_flushed:
                assert state == self.states[number]
            elif number in self.flying:
                assert state == "maybe_paid"
                self.unknown.add(number)
                self.spent += 1
            elif state == "maybe_paid" and self.states[number] in {"planned", "failed"}:
                self.unknown.add(number)  # that it cost nothing was not on disk yet: the safe side
                self.spent += 1
            self.states[number] = state
        self.flying = {} if not is_flushed else self.flying

    @invariant()
    def it_says_what_happened(self):
        self.flush()
        self.compare(is_flushed=True)
        assert self.ledger.reader.spent() == self.spent + len(self.flying)

    def teardown(self):
        self.ledger.close()
        self.runner.close()
        shutil.rmtree(self.folder)


Course.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestCourse = Course.TestCase


async def test_what_comes_after_the_end_is_refused_and_not_kept_waiting(path, root):
    """A download that was cancelled goes on in its thread, and may ask for its name when all is closed."""
    told = []
    connection = schema.open_ledger(path)
    with contextlib.closing(connection):
        writer = Writer(connection, "the ledger", lambda: None)
        writer.end()
        writer.commit_and_tell(told.append, lambda db: None)
        with pytest.raises(OSError, match="the ledger is closed"):
            await writer.commit(lambda db: None)
    assert [str(problem) for problem in told] == ["[Errno 9] the ledger is closed: 'the ledger'"]


STRANGE = {
    "a run": "UPDATE items SET run = 9223372036854775807",
    "an infinite run": "UPDATE items SET run = 9e999",
    "an item": "UPDATE items SET item = 9223372036854775807",
    "an attempt": "UPDATE attempts SET attempt = 9223372036854775807",
    "a size of the manifest": "UPDATE facts SET value = 'abc' WHERE name = 'manifest'",
    "a size of 5,000 digits": "UPDATE facts SET value = printf('%.5000d', 9) WHERE name = 'manifest'",
    "a request that is none": "UPDATE items SET request = '[]'",
    "a request of bytes": "UPDATE items SET request = x'00'",
    "a request without a prompt": "UPDATE items SET request = '{}'",
    "a request with a NaN": """UPDATE items SET request = '{"prompt":"a","x":NaN}'""",
    "a failure that is none": "UPDATE items SET problem = 'x'",
    "a price of letters": "UPDATE attempts SET usd = 'NaN'",
    "a price without end": "UPDATE attempts SET usd = '1e999999'",
    "a price of bytes": "UPDATE attempts SET usd = x'31'",
    "a negative price": "UPDATE attempts SET usd = '-1'",
    "a count of pictures": "UPDATE answers SET images = -1",
    "a model of bytes": "UPDATE answers SET model = x'ff'",
    "a width": "UPDATE files SET width = -1",
    "a size": "UPDATE files SET bytes = 9223372036854775807",
    "a hash": "UPDATE files SET sha256 = 'x'",
    "a time": "UPDATE files SET at = x'ff'",
}


@pytest.mark.parametrize("strange", STRANGE)
async def test_rows_of_a_stranger_are_refused_before_anything_is_paid_for(
    tmp_path, sandbox, run, out, strange
):
    """By the next run, and by who looks at the folder; both say that nothing was sent."""
    await run([{"id": "a", "prompt": "a"}])
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3")) as db:
        db.execute(STRANGE[strange])
        db.commit()
    for _ in range(2):
        with pytest.raises(LedgerCorruptError, match="Nothing was sent and nothing was deleted"):
            await run([{"id": "a", "prompt": "a"}, {"id": "b", "prompt": "b"}])
    with pytest.raises(LedgerCorruptError):
        await verify_batch(out)
    assert sandbox.billing.requests == 1


async def test_a_ledger_that_another_program_has_is_left_alone(sandbox, run, out):
    """A browser of databases, say; it is said, and nothing is sent."""
    await run([{"id": "a", "prompt": "a"}])
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3", isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match="cannot be used: database is locked"):
            await run([{"id": "b", "prompt": "b"}])
    assert (await run([{"id": "b", "prompt": "b"}])).saved == 1
    assert sandbox.billing.requests == 2


@pytest.mark.parametrize(
    "price",
    [
        Decimal("0.08699999999999999400035451799339163489639759063720703125"),
        Decimal("-0.0"),
        Decimal("1E-30"),
        10**9,
    ],
)
async def test_any_price_that_may_be_said_leaves_a_ledger_that_is_believed(sandbox, run, price):
    """As it is recorded before the call is sent: with all its digits."""
    sandbox.change(faults=(Fault(match="a", drop="after"),))
    budget = {"client_options": {"budget": Budget(max_usd=10**13, usd_per_image=price)}}
    source = [{"id": "a", "prompt": "a", "num_images": 1}]
    assert (await run(source, **budget)).maybe_paid == 1
    assert (await run(source, **budget)).maybe_paid == 1


async def test_a_catalogue_that_names_no_price_of_this_world_is_not_believed(sandbox, run):
    """The model card's is taken, as where the catalogue has none."""
    cost = {"total": 1e308, "type": "per_image"}
    models = [{"id": "openai/gpt-image-2-2026-04-21", "cost": cost}]
    sandbox.change(faults=(Fault(path="models", body={"success": True, "data": models}),))
    report = await run([{"prompt": "a"}], client_options={"budget": Budget(max_usd=1)})
    assert (report.saved, report.estimated_usd) == (1, 0.087)
