"""The manifest, the failures and the lock: what is believed of them, and what is not."""

import json
import os
import stat
import subprocess
import sys

import pytest

from hinow_async import ConfigurationError, LedgerCorruptError, LedgerLockedError
from hinow_async.batch.lock import FolderLock
from hinow_async.batch.records import FAILURES, MANIFEST, Answer, Failure, Failures, JsonLines, Manifest


def line(item_id="x", index=0, file="images/x-0.png", size=3, mark="f", **more):
    return {"id": item_id, "index": index, "file": file, "bytes": size, "fingerprint": mark, **more}


def write_manifest(root, *rows):
    (root / "images").mkdir(exist_ok=True)
    (root / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in rows))


def failure(item_id="x", outcome="refused", answer=None):
    return Failure(
        id=item_id, error="BadRequestError", message="no", code=None, outcome=outcome, prompt="p",
        at="2026-01-01T00:00:00Z", fingerprint="f", answer=answer,
    )  # fmt: skip


def test_half_a_last_line_is_cut(tmp_path):
    """A dead process's last line is dropped, and the next one begins where it began."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2, "b')
    lines = JsonLines(path, 0o600)
    lines.append([{"a": 3}])
    lines.close()
    assert path.read_bytes() == b'{"a": 1}\n{"a":3}\n'


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    """An editor that strips the last newline loses nothing."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}')
    lines = JsonLines(path, 0o600)
    lines.append([{"a": 3}])
    lines.close()
    assert path.read_bytes() == b'{"a": 1}\n{"a":3}\n'


def test_a_link_is_never_written_through(tmp_path):
    """A manifest that is a symbolic link is refused."""
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "x.jsonl").symlink_to(target)
    with pytest.raises(OSError, match=r"x\.jsonl"):
        JsonLines(tmp_path / "x.jsonl", 0o600)
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    "bad",
    [
        "nonsense",
        "[]",
        json.dumps(line(file="../x.png")),
        json.dumps(line(file="/x.png")),
        json.dumps({"id": 1}),
    ],
)
def test_a_line_that_cannot_be_believed_stops_everything(tmp_path, bad):
    """Passing over it could mean to pay again, or to leave the folder."""
    (tmp_path / MANIFEST).write_text(json.dumps(line()) + "\n" + bad + "\n" + json.dumps(line()) + "\n")
    with pytest.raises(LedgerCorruptError, match=r"manifest.jsonl, line 2.*Nothing was sent"):
        Manifest(tmp_path, is_sandbox=False)


def test_an_item_is_made_where_all_its_files_have_their_size(tmp_path):
    """A missing file, or one that was cut, makes its item one to be made again."""
    rows = [line("a", 0, "images/a-0.png"), line("b", 0, "images/b-0.png"), line("b", 1, "images/b-1.png")]
    write_manifest(tmp_path, *rows, line("c", 0, "images/c-0.png"))
    for name, content in (("a-0", b"123"), ("b-0", b"123"), ("c-0", b"12")):
        (tmp_path / "images" / f"{name}.png").write_bytes(content)
    manifest = Manifest(tmp_path, is_sandbox=False)
    assert set(manifest.made) == {"a"}
    assert manifest.broken == {"b", "c"}


def test_items_made_anew_leave_their_old_lines_behind(tmp_path):
    """At the end the manifest holds one line for each picture that is there."""
    write_manifest(tmp_path, line("a", 0, "images/a-0.png"), line("b"), line("a", 1, "images/a-1.png"))
    manifest = Manifest(tmp_path, is_sandbox=False)
    manifest.open()
    manifest.add("a", [line("a", 0, "images/a-0-2.png")])
    manifest.finish()
    manifest.close()
    files = [json.loads(text)["file"] for text in (tmp_path / MANIFEST).read_text().splitlines()]
    assert files == ["images/x-0.png", "images/a-0-2.png"]


def test_sandbox_and_service_do_not_share_a_folder(tmp_path):
    """Test pictures never pass for bought ones."""
    write_manifest(tmp_path, line(sandbox=True))
    with pytest.raises(ConfigurationError, match="holds pictures of the sandbox"):
        Manifest(tmp_path, is_sandbox=False)


def test_failures_come_back_with_their_links_and_are_the_owners_alone(tmp_path):
    """Links may be signed: nobody else reads them."""
    answer = Answer(
        urls={1: "https://x/1"},
        images=2,
        model="m",
        provider=None,
        request_id="r",
        estimated_usd=0.1,
        account="a",
    )
    failures = Failures(tmp_path)
    failures.open()
    failures.add(failure("lost", "lost", answer))
    failures.add(failure("bad"))
    failures.finish(is_whole_source=True)
    failures.close()
    assert stat.S_IMODE((tmp_path / FAILURES).stat().st_mode) == 0o600
    again = Failures(tmp_path)
    assert again.earlier["lost"] == failure("lost", "lost", answer)
    assert again.earlier["bad"].answer is None


def test_what_may_have_been_paid_is_never_forgotten(tmp_path):
    """Failures of items that left the source go; maybe-paid ones stay until they are resolved."""
    failures = Failures(tmp_path)
    failures.open()
    failures.add(failure("maybe", "unknown"))
    failures.add(failure("bad"))
    failures.finish(is_whole_source=True)
    again = Failures(tmp_path)
    again.open()
    again.finish(is_whole_source=True)
    last = Failures(tmp_path)
    assert set(last.earlier) == {"maybe"}
    failures.close()
    again.close()


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
