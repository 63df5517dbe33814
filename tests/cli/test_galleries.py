"""`hinow gallery`: what it prints, and its exit codes."""

import json
import resource
import signal
import sys

import pytest


@pytest.fixture
def batch(hinow, prompts):
    """A batch's folder with three pictures."""
    prompts(3)
    assert hinow("batch", "prompts.jsonl", "out", "--sandbox").code == 0


def test_a_gallery_prints_its_pages(hinow, batch, tmp_path):
    """Paths, a line each, and nothing else on standard output; the second run replaces the first."""
    for _ in range(2):
        ended = hinow("gallery", "out")
        assert (ended.code, ended.out) == (0, "out/gallery.html\n")
        assert ended.err == "3 pictures on 1 page\n"
    assert [path.name for path in (tmp_path / "out").iterdir() if "gallery" in path.name] == ["gallery.html"]


def test_json_is_one_object(hinow, batch, tmp_path):
    """Pages and counts; what is missing or open is said to the user too."""
    next((tmp_path / "out/images").iterdir()).unlink()
    row = {"id": "x", "error": "BadRequestError", "message": "no", "outcome": "refused", "prompt": "p"}
    (tmp_path / "out/failures.jsonl").write_text(json.dumps(row) + "\n")
    ended = hinow("gallery", "out", "--json")
    assert ended.code == 0
    assert ended.json == {"pages": ["out/gallery.html"], "pictures": 3, "failures": 1, "unreadable": 1}
    assert ended.err == "3 pictures on 1 page, 1 of them missing or broken, 1 failed or open\n"


def test_what_cannot_be_ends_with_exit_2(hinow, batch, tmp_path, monkeypatch):
    """A folder of nothing, a wrong line, a missing part: one readable line each."""
    (tmp_path / "empty").mkdir()
    ended = hinow("gallery", "empty")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("hinow: empty is no folder of a batch: it has no manifest.jsonl")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "PIL", None)
        ended = hinow("gallery", "out")
    assert (ended.code, ended.err) == (2, 'hinow: a gallery needs Pillow: pip install "hinow-async[cli]"\n')
    with (tmp_path / "out/manifest.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    ended = hinow("gallery", "out")
    assert ended.code == 2
    assert ended.err.startswith("hinow: out/manifest.jsonl, line 4: request.prompt must be a text")


def test_a_disk_that_takes_no_more_ends_with_exit_1(start, batch, tmp_path):
    """The system's own words; nothing lies there under the name of a page, nor hidden."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    ended = start("gallery", "out", preexec_fn=limit).end()
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("hinow: File too large")
    assert [path.name for path in (tmp_path / "out").iterdir() if "gallery" in path.name] == []


def test_ctrl_c_leaves_no_page(start, batch, tmp_path):
    """It ends with 130, without a traceback; nothing lies there under the name of a page, nor hidden."""
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_text(manifest.read_text() * 2_000)
    running = start("gallery", "out")
    assert running.process.stderr.readline()  # the first line of progress
    running.signal(signal.SIGINT)
    ended = running.end()
    assert (ended.code, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == "Stopped."
    assert "Traceback" not in ended.err
    assert [path.name for path in (tmp_path / "out").iterdir() if "gallery" in path.name] == []
