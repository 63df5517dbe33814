"""Whole batches against the sandbox: what lies in the folder, what was paid, what the next run does."""

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import urllib.request

import pytest

from hinow_async import (
    Budget,
    ConfigurationError,
    ImageRequest,
    LedgerLockedError,
    Limits,
    RetryPolicy,
    SourceError,
    Timeouts,
)
from hinow_async._download.checkpoint import state_of
from hinow_async._download.transfer import Version
from hinow_async.batch import BatchProgress, generate_batch
from hinow_async.sandbox import Fault

pytestmark = pytest.mark.usefixtures("leak_guard")


def lines(tmp_path, *rows, name="prompts.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def numbered(tmp_path, count, **fields):
    return lines(tmp_path, *({"id": f"item-{n}", "prompt": f"prompt {n}", **fields} for n in range(count)))


async def test_a_source_becomes_a_folder_of_pictures(tmp_path, sandbox, run, out, rows):
    """Every line of the manifest is true of its file; the report agrees with the service's bill."""
    source = lines(
        tmp_path,
        {"id": "fox", "prompt": "A fox", "num_images": 3, "output_format": "jpeg", "quality": "high"},
        {"prompt": "石桥"},
        {"prompt": "石桥"},
    )
    report = await run(source)
    manifest = rows(out / "manifest.jsonl")
    assert (report.total, report.saved, report.images, report.stopped) == (3, 3, 5, None)
    assert report.estimated_usd == pytest.approx(float(sandbox.billing.usd))
    assert report.balance_fell_usd == pytest.approx(float(sandbox.billing.usd))
    assert report.is_complete
    assert len(manifest) == 5
    for row in manifest:
        content = (out / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        assert len(content) == row["bytes"]
        assert row["sandbox"] is True
        assert row["created"].endswith("Z")
        assert row["estimated_usd"] == 0.087
    fox = [row for row in manifest if row["id"] == "fox"]
    assert sorted(row["file"] for row in fox) == [f"images/fox-{n}.jpg" for n in range(3)]
    assert fox[0]["request"]["parameters"] == {"quality": "high", "output_format": "jpeg", "num_images": 3}
    mark = next(row["fingerprint"] for row in manifest if row["id"] != "fox")
    assert {row["id"] for row in manifest} == {"fox", mark[:16], f"{mark[:16]}-2"}
    assert report.bytes == sum(row["bytes"] for row in manifest)
    assert (out / "failures.jsonl").read_text() == ""


async def test_a_finished_folder_asks_nothing(tmp_path, sandbox, run):
    """The same command again makes no request at all."""
    source = numbered(tmp_path, 5, num_images=2)
    await run(source)
    received = sandbox.billing.received
    report = await run(source)
    assert (report.saved, report.reused, report.images, report.estimated_usd) == (0, 5, 0, 0.0)
    assert sandbox.billing.received == received


async def test_a_picture_that_is_gone_is_fetched_again_and_not_paid(tmp_path, sandbox, run, out, rows):
    """The ledger keeps its link; the manifest ends with one line for each picture."""
    source = numbered(tmp_path, 3, num_images=2)
    await run(source)
    (out / "images/item-1-0.png").unlink()
    report = await run(source)
    assert (report.saved, report.reused, report.images) == (1, 2, 1)
    assert sandbox.billing.requests == 3
    manifest = rows(out / "manifest.jsonl")
    assert sorted((row["id"], row["index"]) for row in manifest) == [
        (f"item-{n}", index) for n in range(3) for index in range(2)
    ]
    assert (out / "images/item-1-0.png").exists()


async def test_a_picture_whose_link_is_dead_is_made_again_only_with_consent(
    tmp_path, sandbox, run, out, rows
):
    """A paid picture that is gone is lost; its links are asked first even where it may be paid again."""
    source = numbered(tmp_path, 2)
    await run(source)
    (out / "images/item-1-0.png").unlink()
    sandbox.change(faults=(Fault(path="files", status=404, times=2),))
    report = await run(source)
    assert (report.lost, sandbox.billing.requests) == (1, 2)
    assert [(row["id"], row["outcome"], row["error"]) for row in rows(out / "failures.jsonl")] == [
        ("item-1", "lost", "URLExpiredError")
    ]
    report = await run(source, pay_again=True)
    assert (report.saved, report.lost, sandbox.billing.requests) == (1, 0, 3)
    assert len(set(sandbox.billing.by_key)) == 3
    assert (await run(source, pay_again=True)).reused == 2
    assert rows(out / "failures.jsonl") == []


async def test_items_beyond_a_thousand_lie_in_folders_of_their_own(run, out, rows, monkeypatch):
    """The position in the source decides; the manifest says where."""
    monkeypatch.setattr("hinow_async.batch.plan.PER_FOLDER", 2)
    await run([{"id": f"item-{n}", "prompt": "a"} for n in range(5)])
    files = {row["id"]: row["file"] for row in rows(out / "manifest.jsonl")}
    assert files["item-1"] == "images/item-1-0.png"
    assert files["item-4"] == "images/0002/item-4-0.png"
    assert all((out / file).exists() for file in files.values())


@pytest.mark.parametrize(
    "bad", ["not json", '{"prompt": "b", "nonsense": 1}', '{"id": "item-0", "prompt": "b"}']
)
async def test_a_bad_line_of_a_file_ends_it_before_anything_is_sent(tmp_path, sandbox, run, out, bad):
    """However far down it stands; no folder is left behind."""
    source = numbered(tmp_path, 500)
    source.write_text(source.read_text() + bad + "\n")
    with pytest.raises(SourceError) as caught:
        await run(source)
    assert caught.value.line == 501
    assert f"{source}, line 501: " in str(caught.value)
    assert sandbox.billing.received == 0
    assert not out.exists()


async def test_an_iterable_stops_at_its_bad_item_with_what_came_before_saved(sandbox, run, out, rows):
    """What was sent is finished and recorded; the error is the item's own."""
    with pytest.raises(SourceError, match="item 3 of the source"):
        await run(["a", ImageRequest("b"), {"prompt": "c", "quality": "ultra"}, "d"])
    assert sandbox.billing.requests == len(rows(out / "manifest.jsonl")) == 2


async def test_a_changed_request_under_an_old_id_is_no_silent_reuse(tmp_path, sandbox, run):
    """A picture of another prompt is not passed off as this one's."""
    await run(lines(tmp_path, {"id": "x", "prompt": "a"}))
    with pytest.raises(SourceError, match="line 1: the request of 'x' is not the one"):
        await run(lines(tmp_path, {"id": "x", "prompt": "b"}))
    assert sandbox.billing.requests == 1


async def test_defaults_fill_what_lines_leave_out(sandbox, run, out, rows):
    """They are part of the request that is sent and recorded."""
    await run(["a"], defaults={"output_format": "webp", "num_images": 2})
    assert [row["file"][-5:] for row in rows(out / "manifest.jsonl")] == [".webp", ".webp"]
    assert sandbox.billing.images == 2


@pytest.mark.parametrize("spoil", ["file", "below a file", "proc"])
async def test_a_folder_that_cannot_be_used_is_told_before_anything_is_sent(
    tmp_path, sandbox, connect, spoil
):
    """A file in its place, or a place where nothing can be written, is a matter of configuration."""
    (tmp_path / "file").write_text("mine")
    out = {"file": tmp_path / "file", "below a file": tmp_path / "file/out", "proc": "/proc/self/out"}[spoil]
    async with connect() as client:
        with pytest.raises(ConfigurationError, match=r"cannot be used: .*nothing was sent"):
            await generate_batch(client, ["a"], out)
    assert sandbox.billing.received == 0
    assert (tmp_path / "file").read_text() == "mine"


async def test_two_batches_never_work_in_one_folder(tmp_path, sandbox, run, out):
    """The second is told at once, also within one process."""
    sandbox.change(latency=0.3)
    first = asyncio.create_task(run(["a"]))
    while not (out / "manifest.jsonl").exists():
        await asyncio.sleep(0.005)
    with pytest.raises(LedgerLockedError, match="is being worked on by process"):
        await run(["b"])
    assert (await first).saved == 1


# -- failures --------------------------------------------------------------------------------------------


async def test_a_refused_item_is_recorded_and_tried_again(tmp_path, sandbox, run, out, rows):
    """The others are made; the next run tries it again, and forgets it when it has its picture."""
    source = numbered(tmp_path, 4)
    sandbox.change(
        faults=(Fault(match="prompt 2", status=400, body={"error": {"message": "no", "code": "bad"}}),)
    )
    report = await run(source)
    (failure,) = rows(out / "failures.jsonl")
    assert (report.saved, report.failed, report.stopped, report.is_complete) == (3, 1, None, False)
    assert {key: failure[key] for key in ("id", "error", "code", "outcome", "prompt")} == {
        "id": "item-2", "error": "BadRequestError", "code": "bad", "outcome": "refused", "prompt": "prompt 2",
    }  # fmt: skip
    sandbox.change(faults=())
    report = await run(source)
    assert (report.saved, report.reused, report.failed) == (1, 3, 0)
    assert (out / "failures.jsonl").read_text() == ""


async def test_a_maybe_paid_item_is_sent_again_only_with_consent(tmp_path, sandbox, run, out, rows):
    """An answer that was lost may have been billed: it is reported until somebody says what to do."""
    source = numbered(tmp_path, 3)
    sandbox.change(faults=(Fault(match="prompt 1", drop="after", times=1),))
    report = await run(source)
    assert (report.saved, report.maybe_paid, report.failed) == (2, 1, 0)
    assert report.estimated_usd == pytest.approx(3 * 0.087)
    for _ in range(2):
        report = await run(source)
        assert (report.reused, report.maybe_paid) == (2, 1)
        assert [row["outcome"] for row in rows(out / "failures.jsonl")] == ["unknown"]
    assert sandbox.billing.by_prompt["prompt 1"] == 1
    report = await run(source, resend_unknown=True)
    assert (report.saved, report.reused, report.maybe_paid) == (1, 2, 0)
    assert sandbox.billing.by_prompt["prompt 1"] == 2
    assert rows(out / "failures.jsonl") == []


async def test_a_refusal_takes_nothing_back_of_what_may_have_been_paid(tmp_path, sandbox, run, out, rows):
    """An item stays maybe paid when its resend is refused."""
    source = numbered(tmp_path, 1)
    sandbox.change(faults=(Fault(drop="after"),))
    await run(source)
    sandbox.change(faults=(Fault(status=400),))
    report = await run(source, resend_unknown=True)
    assert (report.maybe_paid, report.failed) == (1, 0)
    assert [row["outcome"] for row in rows(out / "failures.jsonl")] == ["unknown"]


async def test_a_lost_picture_is_fetched_later_without_paying(tmp_path, sandbox, run, out, rows):
    """Its links are kept and asked again; what was saved of the item stays, and nothing is sent."""
    source = numbered(tmp_path, 2, num_images=2)
    sandbox.change(faults=(Fault(path="files", status=404, match="-1."),))
    report = await run(source)
    assert (report.saved, report.lost, report.images) == (0, 2, 2)
    assert {row["outcome"] for row in rows(out / "failures.jsonl")} == {"lost"}
    sandbox.change(faults=())
    report = await run(source)
    assert (report.saved, report.lost, report.images, report.estimated_usd) == (2, 0, 2, 0.0)
    assert sandbox.billing.requests == 2
    manifest = rows(out / "manifest.jsonl")
    assert sorted((row["id"], row["index"]) for row in manifest) == [
        ("item-0", 0), ("item-0", 1), ("item-1", 0), ("item-1", 1),
    ]  # fmt: skip
    assert {row["estimated_usd"] for row in manifest} == {0.087}
    assert (await run(source)).reused == 2
    assert rows(out / "failures.jsonl") == []


@pytest.mark.parametrize(
    ("form", "error"),
    [({"data": {"urls": ["file:///etc/passwd"]}}, "UnsafeURLError"), (None, "IntegrityError")],
)
async def test_a_picture_that_is_none_is_lost_and_never_paid_twice(
    tmp_path, sandbox, run, out, rows, form, error
):
    """A `file:` link, and an HTML page for a picture."""
    fault = Fault(body=form) if form else Fault(path="files", garbage=b"<html>sorry</html>")
    sandbox.change(faults=(fault,))
    source = numbered(tmp_path, 1)
    assert [(await run(source)).lost for _ in range(2)] == [1, 1]
    assert sandbox.billing.requests == 1
    assert [row["error"] for row in rows(out / "failures.jsonl")] == [error]
    assert list((out / "images").glob("*")) == []


async def test_an_answer_that_does_not_come_in_time_is_maybe_paid(tmp_path, sandbox, run, out, rows):
    """It concerns its item alone: the others are made, and it is reported with what happened."""
    sandbox.change(faults=(Fault(match="prompt 1", delay=5),))
    report = await run(numbered(tmp_path, 4), client_options={"timeouts": Timeouts(response=0.2)})
    assert (report.saved, report.maybe_paid, report.stopped) == (3, 1, None)
    (failure,) = rows(out / "failures.jsonl")
    assert (failure["id"], failure["error"], failure["outcome"]) == ("item-1", "APITimeoutError", "unknown")


async def test_an_answer_without_pictures_is_maybe_paid(tmp_path, sandbox, run, out, rows):
    """A success that cannot be used may have been billed."""
    sandbox.change(faults=(Fault(body={"success": True, "data": {"urls": []}}),))
    report = await run(numbered(tmp_path, 1))
    assert (report.maybe_paid, sandbox.billing.requests) == (1, 1)
    assert [row["error"] for row in rows(out / "failures.jsonl")] == ["APIResponseError"]


async def test_throttling_fails_no_item(tmp_path, sandbox, run):
    """Whatever the client's patience: items wait until the account accepts them."""
    sandbox.change(latency=0.02, max_in_flight=2, retry_after="none")
    retry = RetryPolicy(throttled_max=0.001, wait_initial=0.01, wait_max=0.02)
    report = await run(numbered(tmp_path, 40), client_options={"retry": retry})
    assert (report.saved, report.failed) == (40, 0)
    assert sandbox.billing.requests == 40


# -- stopping --------------------------------------------------------------------------------------------


async def test_a_wrong_key_stops_it_and_marks_no_item(tmp_path, sandbox, run, out, rows):
    """A key that is refused is no fault of the items: they go on with the right one."""
    source = numbered(tmp_path, 20)
    report = await run(source, client_options={"api_key": "hi_wrong"})
    assert (report.stopped, report.saved, report.failed, report.total) == ("key", 0, 0, 20)
    assert rows(out / "failures.jsonl") == []
    assert (await run(source)).saved == 20


async def test_a_model_that_is_forbidden_from_the_start_stops_it(tmp_path, sandbox, run):
    """403 before anything of the model was accepted is about the key."""
    sandbox.change(faults=(Fault(status=403),))
    report = await run(numbered(tmp_path, 20))
    assert (report.stopped, report.saved, report.failed) == ("key", 0, 0)


async def test_an_empty_account_stops_it_and_the_rest_goes_on_later(tmp_path, sandbox, run):
    """402: what the balance could pay is saved; with new credit the same command goes on."""
    sandbox.change(balance="0.435")
    source = numbered(tmp_path, 30)
    report = await run(source)
    assert (report.stopped, report.saved, report.failed) == ("balance", 5, 0)
    sandbox.change(balance=100)
    report = await run(source)
    assert (report.stopped, report.saved, report.reused) == (None, 25, 5)
    assert sandbox.billing.requests == 30


async def test_a_budget_is_used_to_its_end_and_never_passed(tmp_path, sandbox, run):
    """What has its part of the budget is made, also while others are refused."""
    sandbox.change(latency=0.02)
    budget = Budget(0.087 * 7, usd_per_image=0.087)
    report = await run(numbered(tmp_path, 30), client_options={"budget": budget})
    assert (report.stopped, report.saved, report.failed) == ("budget", 7, 0)
    assert sandbox.billing.requests == 7


async def test_a_service_out_of_reach_stops_it(tmp_path, run, unused_tcp_port):
    """Nobody there: the batch does not try a million times; a short one says so as well."""
    options = {"base_url": f"http://127.0.0.1:{unused_tcp_port}/v1", "limits": Limits(max_in_flight=4)}
    options["retry"] = RetryPolicy(attempts=1)
    report = await run(numbered(tmp_path, 200), client_options=options)
    assert (report.stopped, report.saved) == ("unreachable", 0)
    assert 10 <= report.failed < 30
    report = await run(numbered(tmp_path, 2), client_options=options)
    assert (report.stopped, report.failed) == ("unreachable", 2)


@pytest.mark.slow  # the limiter spaces calls that die, as it should: a minute
async def test_a_service_that_loses_answers_stops_it(tmp_path, sandbox, run):
    """Ten in succession that may have been paid for nothing are enough."""
    sandbox.change(faults=(Fault(drop="after"),))
    report = await run(numbered(tmp_path, 300), client_options={"limits": Limits(max_in_flight=3)})
    assert report.stopped == "failing"
    assert 10 <= report.maybe_paid <= 16
    assert sandbox.billing.requests == report.maybe_paid


async def test_the_first_wish_to_stop_finishes_what_is_paid_for(tmp_path, sandbox, run):
    """Nothing more is sent, everything sent is saved, and the next run does the rest: each is paid once."""
    sandbox.change(latency=0.2, max_in_flight=4)
    source, stop = numbered(tmp_path, 40), asyncio.Event()
    batch = asyncio.create_task(run(source, stop=stop, client_options={"limits": Limits(max_in_flight=4)}))
    while sandbox.billing.requests < 6:
        await asyncio.sleep(0.01)
    stop.set()
    report = await batch
    assert report.stopped == "interrupted"
    assert report.saved == sandbox.billing.requests < 40
    assert (report.failed, report.maybe_paid, report.lost) == (0, 0, 0)
    sandbox.change(latency=0)
    assert (await run(source)).is_complete
    assert set(sandbox.billing.by_prompt.values()) == {1}
    assert sandbox.billing.requests == 40


async def test_a_wish_to_stop_reaches_a_source_that_waits(sandbox, run):
    """A source that gives nothing for now keeps nobody."""
    stop, closed = asyncio.Event(), []

    async def slow():
        try:
            yield "a"
            await asyncio.sleep(3600)
        finally:
            closed.append(True)

    batch = asyncio.create_task(run(slow(), stop=stop))
    while sandbox.billing.requests < 1:
        await asyncio.sleep(0.01)
    stop.set()
    report = await asyncio.wait_for(batch, 5)
    assert (report.stopped, report.saved, closed) == ("interrupted", 1, [True])


async def test_cancelling_records_what_may_have_been_paid(tmp_path, sandbox, run, out, rows):
    """The second wish: calls under way are maybe paid, and the next run sends none of them."""
    sandbox.change(latency=0.5, max_in_flight=4)
    source = numbered(tmp_path, 20)
    batch = asyncio.create_task(run(source, client_options={"limits": Limits(max_in_flight=4)}))
    while sandbox.billing.requests < 4:
        await asyncio.sleep(0.01)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    paid = sandbox.billing.requests
    open_items = rows(out / "failures.jsonl")
    assert [row["outcome"] for row in open_items] == ["unknown"] * paid
    sandbox.change(latency=0, max_in_flight=None)
    report = await run(source)
    assert (report.saved, report.maybe_paid) == (20 - paid, paid)
    assert set(sandbox.billing.by_prompt.values()) == {1}


async def test_cancelling_a_download_loses_no_paid_picture(tmp_path, sandbox, run, out, rows):
    """Its links are recorded, and the next run fetches it without sending anything."""
    sandbox.change(faults=(Fault(path="files", delay=30),))
    source = numbered(tmp_path, 3)
    batch = asyncio.create_task(run(source))
    while sandbox.billing.received < 7:  # the balance, three calls, three downloads
        await asyncio.sleep(0.01)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert [row["outcome"] for row in rows(out / "failures.jsonl")] == ["lost"] * 3
    sandbox.change(faults=())
    report = await run(source)
    assert (report.saved, report.images, sandbox.billing.requests) == (3, 3, 3)


# -- seeing it -------------------------------------------------------------------------------------------


async def test_progress_is_told_and_may_fail_without_harm(tmp_path, run, caplog):
    """The last one tells all; a callback that raises is logged once and called no more."""
    seen = []
    source = numbered(tmp_path, 30)
    await run(source, on_progress=seen.append)
    assert isinstance(seen[0], BatchProgress)
    assert (seen[0].total, seen[0].done) == (30, 0)
    assert (seen[-1].done, seen[-1].images, seen[-1].in_flight, seen[-1].failed) == (30, 30, 0, 0)

    def fail(_):
        seen.append("called")
        raise RuntimeError("mine")

    report = await run(source, on_progress=fail)
    assert report.reused == 30
    assert seen.count("called") == 1
    assert [record.message for record in caplog.records if "on_progress" in record.message]


async def test_another_model_in_the_answers_is_counted(tmp_path, sandbox, run):
    """What was made by another model than was asked for is said."""
    body = {"success": True, "data": {"urls": ["file:///x.png"], "model": "openai/gpt-image-2"}}
    sandbox.change(faults=(Fault(body=body, when=[0]),))
    report = await run(numbered(tmp_path, 3))
    assert report.model_mismatches == 1


async def test_memory_of_the_source_is_that_of_the_work_in_flight(sandbox, run):
    """An endless source is pulled no further than what is in flight and its double."""
    pulled = 0
    stop = asyncio.Event()

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield f"prompt {pulled}"

    sandbox.change(latency=0.2)
    limits = {"limits": Limits(max_in_flight=5, adaptive=False)}
    batch = asyncio.create_task(run(endless(), stop=stop, client_options=limits))
    while sandbox.billing.requests < 10:
        await asyncio.sleep(0.01)
    assert pulled <= sandbox.billing.requests + 2 * 5
    stop.set()
    assert (await batch).saved == sandbox.billing.requests


async def test_a_folder_is_made_durable_once_for_all_who_come_first(tmp_path, run, out, monkeypatch):
    """Each way up to the root syncs all folders on it."""
    synced = []
    fsync = os.fsync

    def watched(fd):
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    report = await run(numbered(tmp_path, 40))

    assert report.saved == 40
    ways_up = synced.count(tmp_path.stat().st_ino)
    assert 1 <= ways_up <= 4  # for the folder, for its state, and for its pictures


async def test_a_batch_goes_on_with_half_a_picture_that_a_dead_process_left(tmp_path, sandbox, run, out):
    """It asks for the rest of it, and only of the picture that has one."""
    source = numbered(tmp_path, 2)
    await run(source)
    whole = (out / "images/item-0-0.png").read_bytes()
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3")) as db:
        (body,) = db.execute(
            "SELECT body FROM answers JOIN items USING (item) WHERE id = 'item-0'"
        ).fetchone()
    (url,) = json.loads(body)["data"]["urls"]
    with await asyncio.to_thread(urllib.request.urlopen, url) as answer:
        version = Version(answer.headers["ETag"], None, len(whole))
    half = whole[: len(whole) // 2]
    part = ".item-0-0.01234567.part"
    state = state_of(part, url, version, hashlib.sha256(half), len(half))
    for number in range(2):
        (out / f"images/item-{number}-0.png").unlink()
    (out / "images" / part).write_bytes(half)
    (out / "images/.item-0-0.resume").write_text(json.dumps(state))
    seen = len(sandbox.log)
    report = await run(source)

    asked = sorted(
        entry.headers.get("range", "") for entry in list(sandbox.log)[seen:] if "/v1/" not in entry.path
    )
    assert (report.saved, sandbox.billing.requests) == (2, 2)
    assert asked == ["", f"bytes={len(half)}-"]
    assert (out / "images/item-0-0.png").read_bytes() == whole
    assert sorted(path.name for path in (out / "images").iterdir()) == ["item-0-0.png", "item-1-0.png"]


def one(prompt):
    return [{"id": "x", "prompt": prompt}]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 422])
async def test_a_change_that_cost_nothing_takes_the_place_of_nothing(sandbox, run, out, rows, status):
    """What is paid for under an id stays there: going back to it pays for nothing."""
    first = await run(one("A"))
    sandbox.change(faults=(Fault(match="B", status=status),))
    changed = await run(one("B"), on_change="new")
    lines = [row["request"]["prompt"] for row in rows(out / "manifest.jsonl")]
    failures = [(row["id"], row["prompt"]) for row in rows(out / "failures.jsonl")]
    back = await run(one("A"))

    assert (first.saved, changed.saved, back.reused, back.saved) == (1, 0, 1, 0)
    assert sandbox.billing.requests == 1
    assert lines == ["A"]
    assert failures == ([("x", "B")] if status in {400, 422} else [])
    with pytest.raises(SourceError, match="not the one that was paid for"):
        await run(one("B"))


async def test_a_change_that_is_made_in_the_second_try_takes_the_id(sandbox, run, out, rows):
    """Whatever its first try was answered."""
    await run(one("A"))
    sandbox.change(faults=(Fault(match="B", status=503, times=1),))
    changed = await run(one("B"), on_change="new")
    again = await run(one("B"))

    assert (changed.saved, again.reused, sandbox.billing.requests) == (1, 1, 2)
    assert [row["request"]["prompt"] for row in rows(out / "manifest.jsonl")] == ["B"]


async def test_pictures_are_written_through_no_link(tmp_path, sandbox, run, out):
    """Neither one that lay there, nor one that is put there while the batch runs."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / "images").symlink_to(elsewhere)
    report = await run(numbered(tmp_path, 3))
    assert (report.stopped, report.saved, sandbox.billing.requests) == ("disk", 0, 0)
    assert "images cannot be used, and must be no link" in report.reason
    (out / "images").unlink()

    def swap(progress):
        if progress.done and not (out / "images").is_symlink():
            (out / "images").rename(tmp_path / "moved")
            (out / "images").symlink_to(elsewhere)

    sandbox.change(latency=0.03)
    one_by_one = {"client_options": {"limits": Limits(max_in_flight=1)}}
    report = await run(numbered(tmp_path, 20), on_progress=swap, **one_by_one)
    assert report.stopped == "disk"
    assert list(elsewhere.iterdir()) == []
    (out / "images").unlink()
    (tmp_path / "moved").rename(out / "images")
    again = await run(numbered(tmp_path, 20))
    assert (again.saved + again.reused, sandbox.billing.requests) == (20, 20)


async def test_what_is_ours_is_written_through_no_link(tmp_path, sandbox, run, out):
    """Not even the lock, by which others learn that the folder is taken."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / ".hinow").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match=r"cannot be used: \.hinow is a link; nothing was sent"):
        await run(numbered(tmp_path, 1))
    assert list(elsewhere.iterdir()) == []
    assert sandbox.billing.requests == 0
