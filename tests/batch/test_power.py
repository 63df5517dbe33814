"""What is durable before what, and what is left after a power cut: from recordings of every system call."""

import contextlib
import hashlib
import random
import re
import shutil
from collections import Counter

import attrs
import power
import pytest
import syscalls
from programs import skip_without
from scene import KILLED, environment, opened, setting

pytestmark = skip_without(syscalls.binary(), "strace")

WAL = "ledger.sqlite3-wal"
ITEMS = 5
_PROMPT = re.compile(rb'"prompt": ?"prompt (\d+)"')
_SYNCS = {"fsync", "fdatasync"}


@attrs.frozen
class Recording:
    """A run, all that it asked of the system, and what it is about."""

    folder: object
    scene: object
    calls: list


FORMS = {"links": {}, "pictures": {"answer_form": "openai_b64", "picture_size": 800}}
"""What answers hold; those with pictures are too large for the ledger, and lie beside it."""


@pytest.fixture(scope="module", params=["links", pytest.param("pictures", marks=pytest.mark.slow)])
def recording(request, tmp_path_factory):
    """A whole run of five items, in one folder that did not exist before."""
    folder = tmp_path_factory.mktemp("recording").resolve()
    with setting(folder, ITEMS, limit=2, latency=0.01, **FORMS[request.param]) as scene:
        calls = record(scene)
        large = [call for call in calls if call.name == "renameat" and "/answers/" in call.path(1)]
        assert bool(large) == (request.param == "pictures")
        yield Recording(folder, scene, calls)


def record(scene, after=()):
    """Run the batch, with whole paths so that they can be followed."""
    arguments = ["batch", scene.folder / "prompts.jsonl", scene.out, *scene.arguments()[3:]]
    log, env = scene.folder / "log", environment(scene.service)
    return syscalls.record(arguments, log, after, env=env, cwd=scene.folder)


def sent_by(call):
    """The item whose request is about to be written to a socket; None: it is another call."""
    found = _PROMPT.search(call.data) if call.name in {"sendto", "sendmsg"} else None
    return found and f"item-{found[1].decode()}"


def is_of(call, name):
    return bool(call.handles) and call.handles[0][1].endswith(name)


def ids_in(page):
    return set(re.findall(rb"item-\d+", page))


# -- the order of things ---------------------------------------------------------------------------------


def test_the_ledger_is_synced_before_the_first_byte_of_a_request(recording):
    """For each item: the log's write that names it, its fdatasync, and only then the request."""
    written, durable, sent = set(), set(), set()
    for call, _ in power.replay(recording.calls, recording.folder):
        if call.name == "pwrite64" and is_of(call, WAL):
            written |= {name.decode() for name in ids_in(call.data)}
        elif call.name in _SYNCS and is_of(call, WAL):
            durable |= written
        elif item := sent_by(call):
            sent.add(item)
            assert item in durable
            ends = [other.ended for other in recording.calls if other.name in _SYNCS and is_of(other, WAL)]
            assert any(end < call.begun for end in ends)
    assert sent == set(recording.scene.ids)


def test_a_picture_is_synced_placed_named_and_synced_before_it_is_saved(recording):
    """Bytes, the ledger's word of the name, the name, its folder, and then the ledger's last word."""
    named = set()
    for call, disk in power.replay(recording.calls, recording.folder):
        if call.name == "linkat" and "/images/" in call.path(1):
            file = disk.node(call.path(0))
            assert file.durable == file.state
            with ledger(disk, recording.folder) as db:
                (state, digest) = db.execute(
                    "SELECT state, sha256 FROM files WHERE file = ?",
                    (f"images/{call.path(1).split('/')[-1]}",),
                ).fetchone()
            assert (state, digest) == ("placing", hashlib.sha256(file.durable).hexdigest())
            named.add(call.path(1))
        elif call.name in _SYNCS and is_of(call, WAL):
            check_saved_is_durable(disk, recording.folder)
    assert len(named) == sum(number % 3 + 1 for number in range(ITEMS))


@contextlib.contextmanager
def ledger(disk, folder, keep=lambda node: node.durable):
    """Open the ledger as a power cut would leave it."""
    left = folder / "left"
    shutil.rmtree(left, ignore_errors=True)
    disk.lay_out(left, keep)
    with opened(left / "out", folder / "copy") as db:
        yield db


def check_saved_is_durable(disk, folder):
    """Each picture that the log calls saved, as it is about to be synced, is durable under its name."""
    wal = disk.node(folder / f"out/.hinow/{WAL}")
    with ledger(disk, folder, lambda node: node.state if node is wal else node.durable) as db:
        rows = [] if db is None else db.execute("SELECT file, sha256 FROM files WHERE state = 'saved'")
        for file, digest in rows:
            assert hashlib.sha256((folder / "left/out" / file).read_bytes()).hexdigest() == digest


# -- a power cut -----------------------------------------------------------------------------------------


def cuts(calls, root):
    """Yield the disk at the last moment before each sync is done, with the items that were sent by then."""
    sent = set()
    for call, disk in power.replay(calls, root):
        if item := sent_by(call):
            sent.add(item)
        if call.name in _SYNCS and disk.node(call.handles[0][1]) is not None:
            yield disk, set(sent)
    yield disk, set(sent)


def lay_out(disk, target, keep=lambda node: node.durable):
    shutil.rmtree(target, ignore_errors=True)
    disk.lay_out(target, keep)


def check_left(left, copy, sent):
    """Nothing that was sent looks unsent, and what is saved is there: invariants 2 and 4."""
    with opened(left / "out", copy) as db:
        states = {} if db is None else dict(db.execute("SELECT id, state FROM items"))
        assert {item for item in sent if states.get(item, "planned") in {"planned", "failed"}} == set()
        rows = () if db is None else db.execute("SELECT file, sha256 FROM files WHERE state = 'saved'")
        for file, digest in rows:
            assert hashlib.sha256((left / "out" / file).read_bytes()).hexdigest() == digest


def go_on(scene, sent):
    """Start a batch on what a power cut left: it ends, and pays for nothing that was sent before."""
    scene.begin_bills()
    assert scene.run() in {0, 1}
    assert {item for item in sent if scene.billed(item)} == set()
    scene.kills = 1
    states = Counter(scene.states().values())
    assert sum(states.values()) == scene.items
    scene.check_folder(states)


def test_a_power_cut_at_each_sync(recording):
    """What was not synced is gone: no item that was sent looks unsent, and no saved picture is missing."""
    left, count = recording.folder / "left", 0
    for disk, sent in cuts(recording.calls, recording.folder):
        lay_out(disk, left)
        check_left(left, recording.folder / "copy", sent)
        count += 1
    assert count > 40


def test_what_a_clean_end_leaves_is_durable(recording):
    """Power may fail as soon as it is over: the pictures, the manifest and the failures are there."""
    *_, (disk, _) = cuts(recording.calls, recording.folder)
    lay_out(disk, recording.folder / "left")
    for path in recording.scene.out.rglob("*"):
        if path.is_file() and ".hinow" not in path.parts:
            left = recording.folder / "left/out" / path.relative_to(recording.scene.out)
            assert left.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "most", [pytest.param(4, id="4"), pytest.param(1000, id="all", marks=pytest.mark.slow)]
)
def test_a_batch_goes_on_after_a_power_cut(recording, most):
    """It pays for nothing that was sent before, and every item of the source is accounted for."""
    scene, left = attrs.evolve(recording.scene, place="left/out"), recording.folder / "left"
    count = sum(1 for _ in cuts(recording.calls, recording.folder))
    chosen = set(random.Random(most).sample(range(count), min(most, count)))
    for number, (disk, sent) in enumerate(cuts(recording.calls, recording.folder)):
        if number in chosen:
            lay_out(disk, left)
            go_on(scene, sent)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_that_keeps_some_of_what_was_not_synced(recording, seed):
    """File systems write when they please: any part of the rest may have come to the disk, in any order."""
    scene, left = attrs.evolve(recording.scene, place="left/out"), recording.folder / "left"
    for number, (disk, sent) in enumerate(cuts(recording.calls, recording.folder)):
        rng = random.Random(f"{seed}/{number}")
        lay_out(disk, left, lambda node: node.state if rng.random() < 0.5 else node.durable)  # noqa: B023
        check_left(left, recording.folder / "copy", sent)
        go_on(scene, sent)


def is_sync_of_pictures(call):
    return call.name == "fsync" and is_of(call, "/images")


def is_step(call):
    return call.name in {*_SYNCS, "linkat", "rename"}


@pytest.mark.parametrize(
    ("choose", "most"),
    [
        pytest.param(is_sync_of_pictures, 1, id="1"),
        pytest.param(is_step, 1000, id="all", marks=pytest.mark.slow),
    ],
)
def test_a_power_cut_after_a_kill(tmp_path, choose, most):
    """What a killed run had not synced is not durable because the next one finds it: that syncs it first."""
    folder = tmp_path.resolve()
    with setting(folder, ITEMS, limit=1) as scene:
        whole = record(scene)
        for step in [call for call in whole if choose(call)][:most]:
            before = [call for call in whole if call.ended < step.begun]
            *_, (_, disk) = power.replay(before, folder)
            shutil.rmtree(scene.out)
            disk.lay_out(folder, lambda node: node.state)
            both = record(scene, before)
            for disk, sent in cuts(both, folder):
                lay_out(disk, folder / "left")
                check_left(folder / "left", folder / "copy", sent)


# -- kills inside ----------------------------------------------------------------------------------------

CALLS = {
    "fsync": 8,
    "fdatasync": 12,
    "linkat": 1,
    "rename,renameat,renameat2": 2,
    "sendto": 10,
    "pwrite64": 40,
    "unlink,unlinkat": 4,
}
"""How often a thread begins each of them in a run, at least."""


@pytest.mark.parametrize(
    ("call", "numbers", "least"),
    [
        ("fdatasync", (10,), 10),
        ("linkat", (1,), 1),
        ("sendto", (4,), 4),
        *(pytest.param(call, range(1, 1000), CALLS[call], marks=pytest.mark.slow, id=call) for call in CALLS),
    ],
)
def test_kill_9_inside(tmp_path, call, numbers, least):
    """The kernel kills it as it begins that call for the n-th time, for each n to the end of the run."""
    with setting(tmp_path, ITEMS, limit=2, latency=0.005) as scene:
        env = environment(scene.service)
        for number in numbers:
            scene.begin_anew()
            if syscalls.kill_at(call, number, scene.arguments(), env=env, cwd=tmp_path) != KILLED:
                assert number > least
                return
            scene.kills = 1
            scene.check_killed()
            assert scene.run() in {0, 1}
            scene.check_killed()
            scene.check_ended()
            scene.check_resent()
