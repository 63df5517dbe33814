"""`hinow verify`: each kind of damage to a real folder is named, and nothing is ever changed."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3

import pytest

from hinow_async.cli import main
from hinow_async.sandbox import Behaviour, Sandbox

A, B = "images/item-0-0.png", "images/item-1-0.png"
LAST = "images/item-3-1.png"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, log):
    """A folder as a real batch leaves it: four items of two pictures each."""
    root = tmp_path_factory.mktemp("finished")
    rows = ({"id": f"item-{n}", "prompt": f"prompt {n}", "num_images": 2} for n in range(4))
    (root / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Sandbox.in_thread(Behaviour(picture_size=64)) as sandbox, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HINOW_BASE_URL", sandbox.base_url)
        patch.setenv("HINOW_API_KEY", sandbox.api_key)
        assert main(["batch", str(root / "prompts.jsonl"), str(root / "out"), "-q"]) == 0
    return root / "out"


@pytest.fixture
def out(finished, tmp_path):
    """A copy of it, elsewhere."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def state_of(folder):
    """Everything that a look must leave as it was."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size, path.lstat().st_mode)
        for path in folder.rglob("*")
    }


def lines_of(out):
    return (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(out, lines):
    (out / "manifest.jsonl").write_bytes(b"".join(lines))


def change_line(out, number, **fields):
    lines = lines_of(out)
    lines[number] = json.dumps({**json.loads(lines[number]), **fields}).encode() + b"\n"
    rewrite(out, lines)


def execute(out, statement, *values):
    with contextlib.closing(sqlite3.connect(out / ".hinow/ledger.sqlite3")) as db:
        db.execute(statement, values)
        db.commit()


def number_of(out, file):
    return next(number for number, line in enumerate(lines_of(out)) if json.loads(line)["file"] == file)


# -- a folder as it should be ----------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--deep",)])
def test_a_copied_folder_is_as_it_should_be(hinow, out, more):
    """Exit 0, one line, nothing written."""
    before = state_of(out)
    ended = hinow("verify", "out", *more)
    assert ended.code == 0
    assert ended.out.startswith("All as it should be in out (8 pictures, ")
    assert ended.out.count("\n") == 1
    assert state_of(out) == before


def test_json_is_one_object(hinow, out):
    """Counts, and each difference with its kind, file, id and message; the human form goes elsewhere."""
    assert hinow("verify", "out", "--json").json["is_clean"] is True
    (out / A).unlink()
    ended = hinow("verify", "out", "--json")
    report = ended.json
    assert (ended.code, report["is_clean"], report["pictures"], report["out"]) == (1, False, 8, "out")
    assert report["bytes"] == sum(json.loads(line)["bytes"] for line in lines_of(out))
    assert report["differences"] == [{"kind": "missing", "file": A, "id": "item-0", "message": "is missing"}]
    assert f"{A}: is missing" in ended.err


# -- damage ----------------------------------------------------------------------------------------------


def flip(out):
    with (out / A).open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return {("sha256", A)}


def truncate(out):
    os.truncate(out / A, (out / A).stat().st_size - 1)
    return {("size", A)}


def swap(out):
    (out / A).rename(out / "x")
    (out / B).rename(out / A)
    (out / "x").rename(out / B)
    return None  # size or bytes, for both


def remove(out):
    (out / A).unlink()
    return {("missing", A)}


def replace_with_link(out):
    (out / A).rename(out / "elsewhere.png")
    (out / A).symlink_to("../elsewhere.png")
    return {("not_regular", A)}


def replace_with_folder(out):
    (out / A).unlink()
    (out / A).mkdir()
    return {("not_regular", A)}


def replace_with_pipe(out):
    (out / A).unlink()
    os.mkfifo(out / A)
    return {("not_regular", A)}


def link_folder(out):
    (out / "images").rename(out / "pictures")
    (out / "images").symlink_to("pictures")
    files = {("not_regular", json.loads(line)["file"]) for line in lines_of(out)}
    return {*files, ("not_regular", "images")}


def add_file(out):
    (out / "images/0007/deep").mkdir(parents=True)
    (out / "images/0007/deep/mine.txt").write_text("mine")
    (out / "images/link").symlink_to("/etc/passwd")
    return {("surplus", "images/0007/deep/mine.txt"), ("surplus", "images/link")}


def leave_temporary(out):
    (out / "images/.item-9-0.0123abcd.part").write_bytes(b"half")
    (out / ".manifest.jsonl.part").write_bytes(b"half")
    return {("leftover", "images/.item-9-0.0123abcd.part"), ("leftover", ".manifest.jsonl.part")}


def change_manifest(out):
    change_line(out, number_of(out, A), request={"prompt": "another"}, created="never")
    return {("fields", A)}


def drop_line(out):
    number = number_of(out, A)
    rewrite(out, [line for at, line in enumerate(lines_of(out)) if at != number])
    return {("not_in_manifest", A)}


def tear_line(out):
    os.truncate(out / "manifest.jsonl", (out / "manifest.jsonl").stat().st_size - 20)
    return {("malformed_line", "manifest.jsonl"), ("not_in_manifest", LAST)}


def take_last_newline(out):
    os.truncate(out / "manifest.jsonl", (out / "manifest.jsonl").stat().st_size - 1)
    return {("malformed_line", "manifest.jsonl"), ("not_in_manifest", LAST)}


def repeat_line(out):
    lines = lines_of(out)
    rewrite(out, [*lines, lines[number_of(out, A)]])
    return {("duplicate_line", A)}


def invent_line(out):
    lines = lines_of(out)
    new = {**json.loads(lines[0]), "id": "invented", "file": "images/invented.png"}
    rewrite(out, [*lines, json.dumps(new).encode() + b"\n"])
    return {("not_in_ledger", "images/invented.png"), ("missing", "images/invented.png")}


def lead_outside(out):
    change_line(out, number_of(out, A), file="../../etc/passwd")
    return {("malformed_line", "manifest.jsonl"), ("not_in_manifest", A)}


def write_nonsense(out):
    rewrite(out, [*lines_of(out), b"\xff\n", b"[]\n", b"{}\n", b'{"id": "\\ud800"}\n'])
    return {("malformed_line", "manifest.jsonl")}


def write_without_end(out):
    with (out / "manifest.jsonl").open("ab") as file:
        file.truncate(1 << 36)  # sparse
    return {("malformed_line", "manifest.jsonl")}


def remove_manifest(out):
    (out / "manifest.jsonl").unlink()
    return {("manifest_missing", "manifest.jsonl")}


def link_manifest(out):
    (out / "manifest.jsonl").rename(out / "m")
    (out / "manifest.jsonl").symlink_to("m")
    return {("not_regular", "manifest.jsonl")}


def remove_ledger(out):
    shutil.rmtree(out / ".hinow")
    return {("ledger_missing", ".hinow/ledger.sqlite3")}


def change_ledger(out):
    execute(out, "UPDATE files SET sha256 = ? WHERE file = ?", "0" * 64, A)
    return {("fields", A), ("sha256", A)}


def change_size_in_ledger(out):
    execute(out, "UPDATE files SET width = width + 1 WHERE file = ?", A)
    return {("fields", A), ("picture", A)}


def drop_row(out):
    execute(out, "DELETE FROM files WHERE file = ?", A)
    return {("not_in_ledger", A), ("no_pictures", ".hinow/ledger.sqlite3")}


def share_file(out):
    execute(out, "UPDATE files SET file = ? WHERE file = ?", A, B)
    return None


DAMAGE = [
    flip, truncate, swap, remove, replace_with_link, replace_with_folder, replace_with_pipe, link_folder,
    add_file, leave_temporary, change_manifest, drop_line, tear_line, take_last_newline, repeat_line,
    invent_line, lead_outside, write_nonsense, write_without_end, remove_manifest, link_manifest,
    remove_ledger, change_ledger, change_size_in_ledger, drop_row, share_file,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named(hinow, out, damage):
    """Exit 1, a line for what differs and none for anything else; nothing is written or mended."""
    expected = damage(out)
    before = state_of(out)
    ended = hinow("verify", "out", "--json")
    found = {(found["kind"], found["file"]) for found in ended.json["differences"]}
    assert ended.code == 1
    if expected is not None:
        assert found == expected
    else:
        assert {A, B} <= {file for _, file in found} <= {A, B}
    human = hinow("verify", "out")
    assert human.code == 1
    said = human.out.splitlines()
    count = len(ended.json["differences"])
    assert len(said) == count + 1
    assert all(any(line.startswith(f"{file}: ") for line in said) for _, file in found)
    assert said[-1].startswith(f"{count} difference{'' if count == 1 else 's'} in out (")
    assert state_of(out) == before


def test_differing_fields_are_named(hinow, out):
    """Those that a line has, lacks, or has too much."""
    change_line(out, 0, request={"prompt": "another"}, created="never", mine=1)
    (line, _) = hinow("verify", "out").out.splitlines()
    assert line.endswith("line 1 of manifest.jsonl differs from the ledger in request, created, mine")


def test_deep_finds_what_no_hash_can(hinow, out):
    """A picture that was recorded with its damage: its frame is whole, its pixels are not."""
    content = bytearray((out / A).read_bytes())
    at = content.index(b"IDAT") + 10
    content[at : at + 4] = b"\0\0\0\0"
    (out / A).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    execute(out, "UPDATE files SET sha256 = ? WHERE file = ?", digest, A)
    change_line(out, number_of(out, A), sha256=digest)
    assert hinow("verify", "out").code == 0
    ended = hinow("verify", "out", "--deep")
    assert ended.code == 1
    assert f"{A}: is not the picture that is recorded: the png picture cannot be decoded" in ended.out


def test_names_of_files_cannot_move_the_cursor(hinow, out):
    """A surplus file is named by whoever put it there."""
    (out / "images/a\x1b[2J\nb\udcff.png").write_text("")
    ended = hinow("verify", "out")
    assert ended.code == 1
    assert "images/a\\x1b[2J\\nb\\udcff.png: is none that manifest or ledger know" in ended.out
    assert hinow("verify", "out", "--json").json["differences"][0]["kind"] == "surplus"


# -- what is no difference -------------------------------------------------------------------------------


def test_pictures_of_a_superseded_item_are_known(hinow, tmp_path, service, to_service):
    """Both are paid for and stay, though the manifest names the new one alone; both are looked at."""
    path = tmp_path / "prompts.jsonl"
    for prompt in ("a", "b"):
        path.write_text(json.dumps({"id": "x", "prompt": prompt}) + "\n")
        assert hinow("batch", "prompts.jsonl", "out", "--on-change", "new", "-q", env=to_service).code == 0
    assert hinow("verify", "out").code == 0
    os.truncate(tmp_path / "out/images/x-0.png", 10)
    assert "images/x-0.png: has 10 bytes instead of" in hinow("verify", "out").out


def test_a_picture_that_a_dead_process_was_placing_is_told(hinow, out):
    """It lies there, and is in no record that counts; the next run takes it over."""
    execute(out, "UPDATE files SET state = 'placing' WHERE file = ?", A)
    execute(out, "UPDATE items SET state = 'answered' WHERE id = 'item-0'")
    drop_line(out)
    (found,) = hinow("verify", "out", "--json").json["differences"]
    assert (found["kind"], found["file"]) == ("leftover", A)
    assert "the next run takes it over" in found["message"]


def test_a_folder_whose_process_was_killed(start, hinow, prompts, service, to_service, wait_for, tmp_path):
    """What it left can be looked at without being touched; the next run puts it in order."""
    service.change(latency=0.1, max_in_flight=4)
    prompts(40)
    running = start("batch", "prompts.jsonl", "out", "--max-in-flight", 4, env=to_service)
    wait_for(lambda: service.billing.requests >= 12)
    running.signal(signal.SIGKILL)
    running.end()
    before = state_of(tmp_path / "out")
    ended = hinow("verify", "out", "--json")
    kinds = {found["kind"] for found in ended.json["differences"]}
    assert kinds <= {"leftover", "not_in_manifest", "malformed_line"}
    assert ended.json["pictures"] > 3
    assert state_of(tmp_path / "out") == before
    hinow("batch", "prompts.jsonl", "out", env=to_service)
    assert hinow("verify", "out").code == 0


# -- what cannot be verified -----------------------------------------------------------------------------


def test_a_wrong_folder_is_wrong_use(hinow, out, tmp_path):
    """None, a file, or a folder of something else: exit 2, and it is named."""
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("nowhere", "nowhere is no folder"),
        ("out/manifest.jsonl", "out/manifest.jsonl is no folder"),
        ("empty", "empty is no folder of a batch: it has neither manifest.jsonl nor .hinow/ledger.sqlite3"),
    ):
        ended = hinow("verify", name)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.err


def test_a_ledger_that_cannot_be_believed_is_exit_2(hinow, out):
    """As everywhere: it is to be restored from a copy."""
    (out / ".hinow/ledger.sqlite3").write_bytes(b"garbage" * 1000)
    ended = hinow("verify", "out")
    assert (ended.code, ended.out) == (2, "")
    assert "restore the file from a copy" in ended.err
    (out / ".hinow/ledger.sqlite3").unlink()
    (out / ".hinow/ledger.sqlite3").symlink_to("nowhere")
    assert hinow("verify", "out").code == 2


def test_a_folder_that_is_worked_on_is_exit_2(start, hinow, prompts, service, to_service, wait_for):
    """The process that works in it is named; the batch goes on undisturbed."""
    service.change(latency=1.5)
    prompts(1)
    running = start("batch", "prompts.jsonl", "out", env=to_service)
    wait_for(lambda: service.billing.requests)
    ended = hinow("verify", "out")
    assert ended.code == 2
    assert f"is being worked on by process {running.process.pid} on " in ended.err
    assert running.end().code == 0
    assert hinow("verify", "out").code == 0


def test_an_interrupt_ends_it(start, out):
    """Ctrl-C while it reads: 130, at once, and no word of a result."""
    execute(out, "UPDATE files SET bytes = ? WHERE file = ?", 1 << 36, A)
    os.truncate(out / A, 1 << 36)  # sparse: it takes a minute to read
    running = start("verify", "out")
    assert b" of 8 pictures looked at" in running.process.stderr.readline()
    running.signal(signal.SIGINT)
    ended = running.end()
    assert (ended.code, ended.out) == (130, "")
