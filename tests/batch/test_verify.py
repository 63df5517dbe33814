"""`verify_batch`: the same as `hinow verify`, from Python."""

import asyncio
import os
import sqlite3

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hinow_async import ConfigurationError, LedgerLockedError
from hinow_async._protocol import json
from hinow_async.batch.lock import FolderLock
from hinow_async.batch.manifest import Entry, MalformedLineError, parse
from hinow_async.batch.verify import VerifyProgress, verify_batch

pytestmark = pytest.mark.usefixtures("leak_guard")

ITEMS = [{"id": f"item-{n}", "prompt": "a", "num_images": 2} for n in range(3)]


def make_endless(out):
    """Let the ledger and the disk speak of a picture that takes a minute to read."""
    size, file = 1 << 36, "images/item-0-0.png"
    os.truncate(out / file, size)
    with sqlite3.connect(out / ".hinow/ledger.sqlite3") as db:
        db.execute("UPDATE files SET bytes = ? WHERE file = ?", (size, file))
    db.close()


async def test_a_report_is_a_frozen_value(run, out):
    """Counts, differences, and the same as JSON; progress ends with everything looked at."""
    seen = []
    await run(ITEMS)
    (out / "images/item-1-1.png").unlink()
    report = await verify_batch(out, deep=True, on_progress=seen.append)
    assert (report.pictures, report.is_deep, report.is_clean) == (6, True, False)
    (difference,) = report.differences
    assert (difference.kind, difference.id) == ("missing", "item-1")
    assert str(difference) == "images/item-1-1.png: is missing"
    assert json.loads(report.to_json().encode()) == report.to_dict()
    assert isinstance(seen[-1], VerifyProgress)
    assert (seen[-1].total, seen[-1].done, seen[-1].differences) == (6, 6, 1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report.pictures = 7


async def test_the_loop_goes_on_meanwhile_and_cancelling_ends_the_threads(run, out):
    """Other tasks run while files are hashed; the leak guard sees that no file is left open."""
    await run(ITEMS)
    make_endless(out)
    work = asyncio.create_task(verify_batch(out))
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert not work.done()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, 10)


async def test_no_batch_begins_in_a_folder_that_is_looked_at(run, out, sandbox):
    """Two may look at once; a batch is told, and sends nothing; a batch at work is not looked at."""
    await run(ITEMS)
    received = sandbox.billing.received
    make_endless(out)
    begun = [asyncio.Event(), asyncio.Event()]

    def look(event):
        return verify_batch(out, on_progress=lambda now: now.total and event.set())

    looking = [asyncio.create_task(look(event)) for event in begun]
    for event in begun:
        await asyncio.wait_for(event.wait(), 10)
    with pytest.raises(LedgerLockedError, match="is being worked on by another process"):
        await run(ITEMS)
    assert sandbox.billing.received == received
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)
    with FolderLock(out), pytest.raises(LedgerLockedError, match=f"process {os.getpid()} on "):
        await verify_batch(out)


async def test_a_callback_that_fails_ends_it(run, out):
    """Its error is the caller's."""
    await run(ITEMS)

    def fail(_):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await verify_batch(out, on_progress=fail)


async def test_a_folder_of_something_else_is_refused(tmp_path):
    """It is named, and left as it is."""
    with pytest.raises(ConfigurationError, match="is no folder of a batch"):
        await verify_batch(tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- lines -----------------------------------------------------------------------------------------------

LINE = {
    "id": "x", "index": 0, "request": {}, "fingerprint": "f", "model": None, "provider": None,
    "request_id": None, "file": "images/x-0.png", "sha256": "0" * 64, "bytes": 1, "width": 1, "height": 1,
    "estimated_usd": None, "created": "now",
}  # fmt: skip

TEXTS = ["", "x", "..", "../x", "/etc/x", "a\\b", "a\0b", "\ud800", "images/ü.png", "F" * 64, "1" * 64]
NUMBERS = [-1, 0, 1, 1.5, (1 << 63) - 1, 1 << 63, 10**40]
VALUES = st.sampled_from([None, True, [], {}, *TEXTS, *NUMBERS])


@given(st.binary(max_size=300))
@example(b"\n")
@example(b"[" * 5000 + b"\n")
@example(b'{"index": ' + b"9" * 5000 + b"}\n")
def test_any_bytes_are_a_line_or_malformed(line):
    """Nothing else is ever raised."""
    try:
        parse(line, 1)
    except MalformedLineError:
        return
    raise AssertionError("random bytes are no line")


@given(st.dictionaries(st.sampled_from(sorted(LINE)), VALUES))
def test_a_line_is_believed_only_with_possible_values(changed):
    """What comes out can be opened below the folder, and kept in a database."""
    try:
        entry = parse(json.dumps({**LINE, **changed}) + b"\n", 7)
    except MalformedLineError:
        return
    kept = entry.placed.kept
    assert isinstance(entry, Entry)
    assert not kept.file.startswith("/")
    assert ".." not in kept.file.split("/")
    assert kept.file.encode()
    assert entry.id.encode() is not None
    assert all(0 <= number < 1 << 63 for number in (kept.picture, kept.size, kept.width, kept.height))


@pytest.mark.parametrize("name", sorted(LINE))
def test_a_line_that_lacks_a_field_says_which(name):
    """Each of them."""
    line = {key: value for key, value in LINE.items() if key != name}
    with pytest.raises(MalformedLineError, match=f"missing or impossible: {name}|{name} is missing"):
        parse(json.dumps(line) + b"\n", 1)
