"""`hinow batch`: the report, the exit codes, and real signals."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from hinow_async.sandbox import Fault


def test_a_batch_says_what_lies_where_and_goes_on_where_it_stopped(hinow, prompts, tmp_path):
    """In the sandbox it says what it would have cost; the second run makes nothing."""
    prompts(3, num_images=2)
    first = hinow("batch", "prompts.jsonl", "out", "--sandbox")
    assert first.code == 0
    assert "3 of 3 items done: 6 pictures lie in out/images (6 made now" in first.out
    assert "It would have cost an estimated $0.52; in the sandbox it cost nothing" in first.out
    assert "out/manifest.jsonl" in first.out
    assert len(list((tmp_path / "out/images").iterdir())) == 6
    second = hinow("batch", "prompts.jsonl", "out", "--sandbox", "--json")
    assert (second.code, second.json["reused"], second.json["images"]) == (0, 3, 0)
    assert "6 pictures lie in out/images (0 made now" in second.err


def test_a_dry_run_sends_nothing_and_writes_nothing(hinow, prompts, service, to_service, tmp_path):
    """It counts, and in a folder begun it counts what is left; needs no key."""
    prompts(4, num_images=3)
    fresh = hinow("batch", "prompts.jsonl", "out", "--dry-run", "--json", "--images-per-minute", 4).json
    assert (fresh["items"], fresh["images"], fresh["items_left"]) == (4, 12, 4)
    assert fresh["estimated_usd"] == pytest.approx(12 * 0.087)
    assert fresh["estimated_seconds"] == 180
    assert not (tmp_path / "out").exists()
    service.change(faults=(Fault(match="prompt 2", status=400),))
    hinow("batch", "prompts.jsonl", "out", env=to_service)
    received = service.billing.received
    left = hinow("batch", "prompts.jsonl", "out", "--dry-run", env=to_service)
    assert "Left to be made: 1 item, 3 pictures" in left.out
    assert "Estimated cost: $0.26" in left.out
    assert service.billing.received == received


TABLE = {"id": ["a", "b"], "prompt": ["A fox,\nred", "A hen"], "num_images": [2, None]}


def write_csv(path):
    rows = zip(*TABLE.values(), strict=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([tuple(TABLE), *rows])


def write_parquet(path):
    pyarrow.parquet.write_table(pyarrow.table(TABLE), path)


@pytest.mark.parametrize(("name", "write"), [("rows.csv", write_csv), ("rows.parquet", write_parquet)])
def test_tables_are_sources(hinow, start, tmp_path, name, write):
    """From CSV and Parquet: a dry run, a run, and a second one that makes nothing."""
    write(tmp_path / name)
    plan = hinow("batch", name, "out", "--sandbox", "--dry-run", "--json")
    assert (plan.code, plan.json["items"], plan.json["images"]) == (0, 2, 3)
    first = start("batch", name, "out", "--sandbox", "--json", "--set", "quality=low").end()
    assert (first.code, first.json["saved"], first.json["images"]) == (0, 2, 3)
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == [
        "a-0.png",
        "a-1.png",
        "b-0.png",
    ]
    rows = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    assert {(row["request"]["prompt"], row["request"]["parameters"]["quality"]) for row in rows} == {
        ("A fox,\nred", "low"),
        ("A hen", "low"),
    }
    second = hinow("batch", name, "out", "--sandbox", "--json", "--set", "quality=low")
    assert (second.code, second.json["reused"], second.json["images"]) == (0, 2, 0)


def test_a_table_on_standard_input_is_no_list_of_prompts(hinow, service, to_service):
    """Its header is known, and not paid for."""
    ended = hinow("batch", "-", "out", text="id,prompt\na,A fox\nb,A hen\n", env=to_service)
    assert ended.code == 0
    assert service.billing.by_prompt == {"A fox": 1, "A hen": 1}


def test_without_pyarrow_parquet_is_exit_2(hinow, tmp_path, monkeypatch):
    """One line says what to install."""
    write_parquet(tmp_path / "rows.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for more in ((), ("--dry-run",)):
        ended = hinow("batch", "rows.parquet", "out", "--sandbox", *more)
        assert ended.code == 2
        assert 'pip install "hinow-async[parquet]"' in ended.err
    assert not (tmp_path / "out").exists()


def test_standard_input_is_a_source(hinow, service, to_service):
    """Prompts, a line each; a bad line ends it after what came before, with exit 2 and its number."""
    ended = hinow("batch", "-", "out", "--set", "num_images=2", text="A fox\nA hen\n", env=to_service)
    assert ended.code == 0
    assert service.billing.images == 4
    bad = hinow("batch", "-", "more", text='{"prompt": "a"}\nnonsense\n', env=to_service)
    assert bad.code == 2
    assert "standard input, line 2: not JSON" in bad.err
    assert service.billing.requests == 3


def test_a_bad_line_is_named_before_anything_is_sent(hinow, prompts, service, to_service, tmp_path):
    """File name and line number, exit 2, and no folder."""
    path = prompts(300)
    path.write_text(path.read_text() + '{"prompt": "a", "colour": "\\u001b[2J"}\n')
    ended = hinow("batch", "prompts.jsonl", "out", env=to_service)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("hinow: prompts.jsonl, line 301: unknown field 'colour'")
    assert service.billing.received == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault(status=401), 4, "the service refused the key"),
        (Fault(status=403), 4, "the service refused the key"),
        (Fault(status=402), 3, "the account has no credit left"),
        (Fault(match="prompt 1", status=400), 1, "1 failed and cost nothing: the next run tries them again"),
        (Fault(match="prompt 1", drop="after"), 1, "1 may have been paid for without an answer"),
        (Fault(path="files", status=404, times=1), 1, "1 are paid for, but not all their pictures"),
    ],
)
def test_exit_codes_and_what_is_said(hinow, prompts, service, to_service, fault, code, said):
    """Each way to end has its code, says what happened and what to type next."""
    service.change(faults=(fault,))
    prompts(3)
    ended = hinow("batch", "prompts.jsonl", "out", env=to_service)
    assert ended.code == code
    assert said in ended.out
    assert "the same command again, with the same options: hinow batch prompts.jsonl out" in ended.out
    assert ("--resend-unknown" in ended.out) == (fault.drop == "after")


def test_resend_unknown_sends_again(hinow, prompts, service, to_service):
    """Only with the flag that the report names."""
    service.change(faults=(Fault(match="prompt 1", drop="after", times=1),))
    prompts(2)
    assert hinow("batch", "prompts.jsonl", "out", env=to_service).code == 1
    assert hinow("batch", "prompts.jsonl", "out", env=to_service).code == 1
    assert hinow("batch", "prompts.jsonl", "out", "--resend-unknown", env=to_service).code == 0
    assert service.billing.by_prompt["prompt 1"] == 2


def test_a_budget_ends_it_with_exit_3(hinow, prompts, service, to_service):
    """What fits is made."""
    prompts(20)
    ended = hinow("batch", "prompts.jsonl", "out", "--max-usd", 0.3, env=to_service)
    assert ended.code == 3
    assert "the budget is used up" in ended.out
    assert service.billing.requests == 3


def test_a_budget_holds_over_all_runs(hinow, prompts, service, to_service):
    """The same command again spends no more; a larger budget goes on from what was spent."""
    prompts(20)
    for usd, made in ((0.3, 3), (0.3, 3), (0.5, 5)):
        assert hinow("batch", "prompts.jsonl", "out", "--max-usd", usd, env=to_service).code == 3
        assert service.billing.requests == made


def test_a_spoilt_ledger_is_told_and_nothing_is_sent(hinow, prompts, service, to_service, tmp_path):
    """One readable line says what to do."""
    prompts(2)
    hinow("batch", "prompts.jsonl", "out", env=to_service)
    (tmp_path / "out/.hinow/ledger.sqlite3").write_bytes(b"garbage" * 1000)
    received = service.billing.received
    for more in ((), ("--dry-run",)):
        ended = hinow("batch", "prompts.jsonl", "out", *more, env=to_service)
        assert ended.code in {1, 2}
        assert "restore the file from a copy, or choose another folder" in ended.err
    assert service.billing.received == received


def in_own_mounts(script, **options):
    """Run a shell script in mount and user namespaces of its own, where it may mount; None if it may not."""
    try:
        may = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        may = False
    if not may:
        return None
    command = ["unshare", "-Urm", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, **options)


def test_a_full_disk_stops_it_and_no_paid_picture_is_lost(
    prompts, service, to_service, environment, tmp_path
):
    """Nothing more is sent when it is full; with room again, what was paid is fetched for free."""
    service.change(latency=0.02)
    prompts(200)
    done = in_own_mounts(
        """mkdir out; mount -t tmpfs -o size=2600k tmpfs out || exit 77
        "$HINOW" batch prompts.jsonl out --max-in-flight 8 --json > first.json 2> first.txt; echo $?
        mount -o remount,size=50m out
        "$HINOW" batch prompts.jsonl out --json > second.json 2> second.txt; echo $?
        ls out/images | wc -l; ls -A out/.hinow""",
        env={**environment, **to_service, "HINOW": str(Path(sys.executable).with_name("hinow"))},
        cwd=tmp_path,
    )
    if done is None:
        pytest.skip("no user namespaces here")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("first.json", "second.json"))
    assert first["stopped"] == "disk"
    assert "Stopped early, the disk takes no more" in (tmp_path / "first.txt").read_text()
    assert 10 < first["saved"] < 150
    assert first["saved"] + first["lost"] < 180
    assert (second["stopped"], second["saved"]) == (None, 200 - first["saved"])
    assert set(service.billing.by_prompt.values()) == {1}
    assert done.stdout.split() == ["1", "0", "200", "ledger.sqlite3", "lock"]


def test_a_disk_without_room_is_told_before_anything_is_sent(
    prompts, service, to_service, environment, tmp_path
):
    """Less than a megabyte is no place to buy pictures for."""
    prompts(2)
    done = in_own_mounts(
        'mkdir out; mount -t tmpfs -o size=500k tmpfs out; "$HINOW" batch prompts.jsonl out 2>&1; echo $?',
        env={**environment, **to_service, "HINOW": str(Path(sys.executable).with_name("hinow"))},
        cwd=tmp_path,
    )
    if done is None:
        pytest.skip("no user namespaces here")
    assert "the output folder out cannot be used: No space left on device; nothing was sent" in done.stdout
    assert done.stdout.endswith("\n2\n")
    assert service.billing.received == 0


def test_sandbox_pictures_and_bought_ones_lie_apart(hinow, prompts):
    """A folder of the demo is not continued with real money."""
    prompts(1)
    hinow("batch", "prompts.jsonl", "out", "--sandbox")
    env = {"HINOW_API_KEY": "hi_x", "HINOW_BASE_URL": "https://127.0.0.1:9/v1"}
    ended = hinow("batch", "prompts.jsonl", "out", env=env)
    assert ended.code == 2
    assert "holds pictures of the sandbox" in ended.err


def test_a_locked_folder_is_exit_2(start, hinow, prompts, service, to_service, wait_for):
    """The process that works in it is named."""
    service.change(latency=2)
    prompts(1)
    running = start("batch", "prompts.jsonl", "out", env=to_service)
    wait_for(lambda: service.billing.requests)
    ended = hinow("batch", "prompts.jsonl", "out", env=to_service)
    assert ended.code == 2
    assert f"process {running.process.pid} on " in ended.err
    assert running.end().code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_finishes_what_is_paid_for(
    start, hinow, prompts, service, to_service, wait_for, number, code
):
    """Nothing more is sent, and it is said; the same command later pays for nothing twice."""
    service.change(latency=0.4, max_in_flight=5)
    prompts(40)
    running = start("batch", "prompts.jsonl", "out", "--max-in-flight", 5, env=to_service)
    wait_for(lambda: service.billing.requests >= 12)
    running.signal(number)
    ended = running.end()
    paid = service.billing.requests
    assert ended.code == code
    assert "nothing more is sent" in ended.err
    assert re.search(r"in flight and paid for, .*; that takes about \d+ s\b.*Ctrl-C again", ended.err)
    assert f"{paid} of 40 items done" in ended.out
    service.change(latency=0)
    assert hinow("batch", "prompts.jsonl", "out", env=to_service).code == 0
    assert set(service.billing.by_prompt.values()) == {1}
    assert service.billing.requests == 40


def test_the_second_signal_stops_at_once_and_consistently(
    start, hinow, prompts, service, to_service, wait_for, tmp_path
):
    """What was in flight is maybe paid, recorded and reported; none of it is sent again."""
    service.change(latency=20, max_in_flight=3)
    prompts(10)
    running = start("batch", "prompts.jsonl", "out", "--max-in-flight", 3, "--json", env=to_service)
    wait_for(lambda: service.billing.requests >= 3)
    running.signal()
    said = b"".join(running.process.stderr.readline() for _ in range(2))
    assert b"Stopping: nothing more is sent; " in said
    assert b"how long that takes is not known yet" in said
    running.signal()
    ended = running.end()
    paid = service.billing.requests
    assert ended.code == 130
    assert ended.json["maybe_paid"] == paid
    rows = [json.loads(line) for line in (tmp_path / "out/failures.jsonl").read_text().splitlines()]
    assert [row["outcome"] for row in rows] == ["unknown"] * paid
    service.change(latency=0, max_in_flight=None)
    later = hinow("batch", "prompts.jsonl", "out", "--json", env=to_service)
    assert (later.json["saved"], later.json["maybe_paid"]) == (10 - paid, paid)
    assert set(service.billing.by_prompt.values()) == {1}


def test_an_interrupt_while_standard_input_waits(start, service, to_service, wait_for):
    """A terminal that says nothing keeps nobody: no hang, no traceback, no complaint at the end."""
    running = start("batch", "-", "out", env=to_service, stdin=subprocess.PIPE)
    running.process.stdin.write(b"A fox\n")
    running.process.stdin.flush()
    wait_for(lambda: service.billing.requests)
    running.signal()
    code = running.process.wait(30)
    err = running.process.stderr.read().decode()
    out = running.process.stdout.read().decode()
    running.process.stdin.close()
    for stream in (running.process.stderr, running.process.stdout):
        stream.close()
    assert code == 130
    assert "1 of 1 item done: 1 picture lies in" in out
    assert "Fatal" not in err
    assert "Traceback" not in err


def test_an_interrupted_generate_finishes_what_is_paid_for(start, service, to_service, wait_for):
    """The first Ctrl-C waits for the picture, the second does not, and says what that may have cost."""
    service.change(latency=1.0)
    running = start("generate", "A fox", "--name", "fox", env=to_service)
    wait_for(lambda: service.billing.requests == 1)
    running.signal()
    ended = running.end()
    assert (ended.code, ended.out) == (0, "fox-0.png\n")
    assert "what is paid for is finished and saved" in ended.err
    running = start("generate", "A hen", env=to_service)
    wait_for(lambda: service.billing.requests == 2)
    running.signal()
    assert b"Stopping" in b"".join(running.process.stderr.readline() for _ in range(2))
    running.signal()
    ended = running.end()
    assert (ended.code, ended.out) == (130, "")
    assert "may have been billed" in ended.err


def test_progress_without_a_terminal_is_plain_lines(start, prompts, service, to_service):
    """Done, in flight, failed, rate, time left, dollars: one readable line, none with --quiet."""
    service.change(latency=1.3)
    prompts(2)
    loud = start("batch", "prompts.jsonl", "loud", env=to_service)
    quiet = start("batch", "prompts.jsonl", "quiet", "--quiet", env=to_service)
    ended = loud.end()
    assert "0 of 2 done, 2 in flight (limit " in ended.err
    assert "estimated $0.00 spent, $0.17 to come" in ended.err
    assert "\x1b" not in ended.err
    assert quiet.end().err == ""
