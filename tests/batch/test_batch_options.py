"""What the caller may decide about items that the folder knows, and about lines that are wrong."""

import contextlib
import json
import os
import sqlite3

import pytest

from hinow_async import Account, ConfigurationError, SourceError
from hinow_async.sandbox import Fault

pytestmark = pytest.mark.usefixtures("leak_guard")


def write(tmp_path, *rows):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


async def test_a_changed_request_is_made_too_where_that_is_wished(tmp_path, sandbox, run, out, rows):
    """Both pictures stay, both are paid for once, the manifest names the new one, and it settles there."""
    await run(write(tmp_path, {"id": "x", "prompt": "a"}))
    source = write(tmp_path, {"id": "x", "prompt": "b"})
    report = await run(source, on_change="new")
    assert (report.saved, sandbox.billing.requests) == (1, 2)
    (line,) = rows(out / "manifest.jsonl")
    assert (line["request"]["prompt"], line["file"]) == ("b", "images/x-0-2.png")
    assert (out / "images/x-0.png").exists()
    assert (await run(source)).reused == 1
    with pytest.raises(SourceError, match="is not the one that was paid for"):
        await run(write(tmp_path, {"id": "x", "prompt": "a"}))
    assert sandbox.billing.requests == 2


async def test_a_failed_item_may_be_changed(tmp_path, sandbox, run):
    """Nothing was paid for it: its next request needs nobody's consent."""
    sandbox.change(faults=(Fault(match="bad", status=400),))
    assert (await run(write(tmp_path, {"id": "x", "prompt": "bad"}))).failed == 1
    assert (await run(write(tmp_path, {"id": "x", "prompt": "good"}))).saved == 1


async def test_bad_lines_are_passed_over_where_that_is_wished(tmp_path, sandbox, run, out, rows):
    """They count as failed and are named; repeated ids too; mended, they are made."""
    source = write(
        tmp_path, {"id": "x", "prompt": "a"}, "nonsense", {"id": "x", "prompt": "b"}, {"prompt": "c"}
    )
    report = await run(source, skip_bad_lines=True)
    assert (report.total, report.saved, report.failed, report.is_complete) == (4, 2, 2, False)
    open_lines = rows(out / "failures.jsonl")
    assert [(row["line"], row["error"], row["outcome"]) for row in open_lines] == [
        (2, "SourceError", "not_sent"), (3, "SourceError", "not_sent"),
    ]  # fmt: skip
    assert "not JSON" in open_lines[0]["message"]
    report = await run(write(tmp_path, {"id": "x", "prompt": "a"}, {"prompt": "c"}))
    assert (report.reused, report.is_complete) == (2, True)
    assert rows(out / "failures.jsonl") == []


async def test_a_resend_goes_to_the_same_account_with_the_same_key(tmp_path, sandbox, run):
    """A service that honours the key then bills nothing twice."""
    accounts = [Account(sandbox.api_key, sandbox.base_url, name=name) for name in ("one", "two")]
    how = {"client_options": {"accounts": accounts, "api_key": None, "base_url": None}}
    sandbox.change(faults=(Fault(drop="after", times=4),))
    source = write(tmp_path, *({"id": f"x{n}", "prompt": f"p {n}"} for n in range(4)))
    assert (await run(source, **how)).maybe_paid == 4
    assert (await run(source, resend_unknown=True, **how)).saved == 4
    assert sorted(sandbox.billing.by_key.values()) == [2] * 4
    with contextlib.closing(sqlite3.connect(tmp_path / "out/.hinow/ledger.sqlite3")) as db:
        tries = db.execute("SELECT count(DISTINCT account), count(DISTINCT key) FROM attempts GROUP BY item")
        assert set(tries) == {(1, 1)}


async def test_a_resend_whose_account_is_gone_stays_maybe_paid(tmp_path, sandbox, run):
    """Another account would be billed for certain."""
    sandbox.change(faults=(Fault(drop="after", times=1),))
    source = write(tmp_path, {"prompt": "a"})

    def how(name):
        account = Account(sandbox.api_key, sandbox.base_url, name=name)
        return {"client_options": {"accounts": [account], "api_key": None, "base_url": None}}

    await run(source, **how("one"))
    assert (await run(source, resend_unknown=True, **how("two"))).maybe_paid == 1
    assert sandbox.billing.requests == 1


@pytest.mark.parametrize("size", [64, 512])
async def test_pictures_that_come_inline_survive_a_full_disk(tmp_path, sandbox, run, out, monkeypatch, size):
    """The answer is kept until its pictures are: in the ledger, or beside it when it is large."""
    sandbox.change(answer_form="openai_b64", picture_size=size)
    source = write(tmp_path, {"id": "x", "prompt": "a", "num_images": 3})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hinow_async._download.part._write_all", full)
        report = await run(source)
    assert (report.stopped, report.lost) == ("disk", 1)
    report = await run(source)
    assert (report.saved, report.images, sandbox.billing.requests) == (1, 3, 1)
    assert list((out / ".hinow").glob("answers/*")) == []


async def test_strays_go_also_where_nothing_is_to_be_made(tmp_path, run, out):
    """What a process left that died when all was saved is removed by the next run."""
    source = write(tmp_path, {"id": "x", "prompt": "a"})
    await run(source)
    stray = out / "images/.x-0.01234567.part"
    stray.write_bytes(b"half")
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3")) as db:
        db.execute("DELETE FROM facts WHERE name = 'manifest'")
        db.commit()
    assert (await run(source)).reused == 1
    assert [path.name for path in (out / "images").iterdir()] == ["x-0.png"]


@pytest.mark.parametrize("name", ["failures.jsonl", "manifest.jsonl", ".hinow/reserve"])
async def test_a_pipe_in_place_of_a_file_of_ours_keeps_nobody_waiting(tmp_path, sandbox, run, out, name):
    """It is refused before anything is paid for."""
    (out / ".hinow").mkdir(parents=True)
    os.mkfifo(out / name)
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*nothing was sent"):
        await run(write(tmp_path, {"prompt": "a"}))
    assert sandbox.billing.requests == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "extra": {"n": 10**400}}, "extra: n must be at most 1000"),
        ({"prompt": "a", "model": "a/b", "num_images": 10**400}, "num_images must be a whole number from 1"),
        ({"prompt": "a", "extra": {"e": json.loads("[" * 900 + "]" * 900)}}, "nested more than 200 levels"),
    ],
)
async def test_numbers_and_depths_that_no_request_has_are_found_in_the_source(tmp_path, run, row, said):
    """By their line, before anything is sent."""
    with pytest.raises(SourceError, match=f"line 2: .*{said}") as caught:
        await run(write(tmp_path, {"prompt": "first"}, row))
    assert len(str(caught.value)) < 700
