"""`write_gallery`: from a batch's folder to pages, whatever lies in it."""

import asyncio
import base64
import hashlib
import io
import json
import os
import re
import struct
import sys
import time
import zlib

import pytest
from PIL import Image

from hinow_async import ConfigurationError, SourceError
from hinow_async.batch.gallery import write_gallery
from hinow_async.batch.gallery.page import MARK
from hinow_async.sandbox import Fault

SHOTS = re.compile(r'<a class="shot" href="([^"]*)"><img src="data:image/webp;base64,([^"]*)"')
STATUS = re.compile(r'<span class="status">([a-z ]+)</span>')


def line(file="images/a-0.png", prompt="a fox", **fields):
    """A line of a manifest."""
    request = {"model": "m", "prompt": prompt, "parameters": {"quality": "low"}}
    return {"id": "a", "index": 0, "request": request, "model": "m", "file": file, **fields}


def failure(number=0):
    return {
        "id": f"f{number}",
        "error": "BadRequestError",
        "message": "no",
        "outcome": "refused",
        "prompt": "x",
    }


def png(width=640, height=480):
    file = io.BytesIO()
    Image.effect_noise((width, height), 50).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(out):
    """Make a batch's folder by hand."""

    def make(*lines, failures=(), files=None):
        (out / "images").mkdir(parents=True, exist_ok=True)
        for name, rows in (("manifest.jsonl", lines), ("failures.jsonl", failures)):
            texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
            (out / name).write_text("".join(f"{text}\n" for text in texts), "utf-8")
        for name, data in (files or {"images/a-0.png": png()}).items():
            (out / name).write_bytes(data)
        return out

    return make


def tree(path):
    """Each file with its hash."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def pages_in(path):
    return sorted(file.name for file in path.iterdir() if "gallery" in file.name)


async def test_a_batch_becomes_a_page(run, sandbox, out):
    """All pictures are on it, small and linked, and what failed with its reason; nothing else is touched."""
    sandbox.change(
        faults=[Fault(match="refuse", status=400, body={"error": {"message": "against the rules"}})]
    )
    report = await run(["a fox", "a <hen>", "refuse me"], defaults={"num_images": 2, "quality": "high"})
    before = tree(out)
    told = []
    gallery = await write_gallery(out, on_progress=lambda done, total: told.append((done, total)))

    assert (gallery.pictures, gallery.failures, gallery.unreadable) == (report.images, 1, 0) == (4, 1, 0)
    assert gallery.pages == (out / "gallery.html",)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    after = tree(out)
    assert after.pop("gallery.html")
    assert after == before
    page = gallery.pages[0].read_text("utf-8")
    shots = SHOTS.findall(page)
    assert all((out / href).is_file() for href, _ in shots)
    assert [Image.open(io.BytesIO(base64.b64decode(data))).size for _, data in shots] == [(64, 64)] * 4
    assert "a &lt;hen&gt;" in page
    assert "the service answered 400: against the rules" in page
    assert STATUS.findall(page) == ["failed"]


async def test_a_running_batch_can_be_looked_at(run, sandbox, out):
    """The folder's lock is not needed, and the batch goes on as if nobody had looked."""
    sandbox.change(latency=lambda body: 1.0 if body["prompt"] == "slow" else 0)
    batch = asyncio.create_task(run(["quick", "slow"]))
    manifest = out / "manifest.jsonl"
    while not (manifest.exists() and manifest.stat().st_size):
        assert not batch.done()
        await asyncio.sleep(0.01)
    assert (await write_gallery(out)).pictures >= 1
    assert (await batch).saved == 2
    assert (await write_gallery(out)).pictures == 2


async def test_thumbnails_are_small(folder):
    """Their longest side is 320 pixels, whatever the picture's format; clear stays clear."""
    files = {"images/a.png": png(1000, 500)}
    for kind, mode in (("webp", "RGBA"), ("jpeg", "CMYK"), ("png", "P")):
        file = io.BytesIO()
        Image.new(mode, (500, 2000)).save(file, kind)
        files[f"images/{kind}-{mode}"] = file.getvalue()
    gallery = await write_gallery(folder(*map(line, files), files=files))
    shots = SHOTS.findall(gallery.pages[0].read_text("utf-8"))
    small = [Image.open(io.BytesIO(base64.b64decode(data))) for _, data in shots]
    assert [image.size for image in small] == [(320, 160)] + [(80, 320)] * 3
    assert [image.mode for image in small] == ["RGB", "RGBA", "RGB", "RGB"]


def bomb():
    """A PNG of a few bytes that says that it has 10,000,000,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 6, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


BAD_PICTURES = {
    "missing": (None, "missing", "The file is not there"),
    "empty": (b"", "broken", "it is empty"),
    "html": (b"<html><script>alert(1)</script>", "broken", "these bytes are no picture"),
    "cut": (png()[:-9], "broken", "the png picture ends too soon"),
    "damaged": (png()[:200] + bytes(100) + png()[300:], "broken", "The picture cannot be shown"),
    "bomb": (bomb(), "broken", "100,000 x 100,000 pixels are too many to be decoded"),
}


@pytest.mark.parametrize(("data", "status", "said"), BAD_PICTURES.values(), ids=BAD_PICTURES)
async def test_a_bad_picture_is_shown_as_such(folder, data, status, said):
    """The page is there, with the other pictures, and says which one is missing or broken."""
    files = {"images/a-0.png": png()} | ({} if data is None else {"images/bad.png": data})
    gallery = await write_gallery(folder(line(), line("images/bad.png", "a hen"), files=files))
    page = gallery.pages[0].read_text("utf-8")
    assert (gallery.pictures, gallery.unreadable) == (2, 1)
    assert STATUS.findall(page) == [status]
    assert len(SHOTS.findall(page)) == 1
    assert "a hen" in page
    assert said in page


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need rights there")
@pytest.mark.parametrize("trap", ["file", "folder", "pipe", "directory"])
async def test_links_and_pipes_are_not_followed(folder, tmp_path, out, trap):
    """Nothing from outside of the folder gets into a page, and nothing is waited for."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a-0.png").write_bytes(png())
    folder(line("images/sub/a-0.png"))
    if trap == "folder":
        (out / "images/sub").symlink_to(secret)
    else:
        target = out / "images/sub/a-0.png"
        target.parent.mkdir()
        if trap == "file":
            target.symlink_to(secret / "a-0.png")
        elif trap == "pipe":
            os.mkfifo(target)
        else:
            target.mkdir()
    gallery = await write_gallery(out)
    assert gallery.unreadable == 1
    assert SHOTS.findall(gallery.pages[0].read_text("utf-8")) == []


BAD_LINES = {
    "nonsense": ("{", "Expecting property name"),
    "no object": ("[1]", "it must be an object"),
    "empty": ("", "Expecting value"),
    "way up": (line("../../etc/passwd"), "file must be a path inside of the folder, not '../../etc/passwd'"),
    "absolute": (line("/etc/passwd"), "file must be a path inside"),
    "script": (line("javascript:alert(1)"), "file must be a path inside"),
    "escape": (line("\x1b[2J:"), r"not '\x1b[2J:'"),
    "no prompt": (line(request={"prompt": 3}), "request.prompt must be a text, not 3"),
    "no parameters": (
        line(request={"prompt": "", "parameters": [1]}),
        "request.parameters must be an object",
    ),
    "no number": (line(width=-1), "width must be a whole number of at least 0, not -1"),
    "no dollars": (line(estimated_usd=float("nan")), "estimated_usd must be an amount of US dollars"),
    "deep": ("[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize(("bad", "said"), BAD_LINES.values(), ids=BAD_LINES)
async def test_a_wrong_line_is_named_and_nothing_is_written(folder, bad, said):
    """File and line number, in a message that no terminal is moved by; an earlier gallery stays."""
    path = folder(line(), line())
    await write_gallery(path)
    before = (path / "gallery.html").read_bytes()
    folder(line(), bad, line())
    with pytest.raises(SourceError) as caught:
        await write_gallery(path)
    assert caught.value.line == 2
    assert str(caught.value).startswith(f"{path / 'manifest.jsonl'}, line 2: ")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert pages_in(path) == ["gallery.html"]
    assert (path / "gallery.html").read_bytes() == before


async def test_a_wrong_line_of_the_failures_is_named(folder):
    """Like one of the manifest."""
    path = folder(line(), failures=[failure(), {**failure(), "error": None}])
    with pytest.raises(SourceError, match=r"failures\.jsonl, line 2: error must be a text, not None"):
        await write_gallery(path)


async def test_a_line_in_the_making_is_left_out(folder):
    """The last line has no end yet: a batch is writing it."""
    path = folder(line(), failures=[failure()])
    for name in ("manifest.jsonl", "failures.jsonl"):
        with (path / name).open("a") as file:
            file.write('{"id": "torn')
    gallery = await write_gallery(path)
    assert (gallery.pictures, gallery.failures) == (1, 1)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "linked"])
async def test_a_folder_that_is_no_batchs_is_refused(out, tmp_path, kind):
    """The message names it and says which one is meant."""
    if kind == "file":
        out.write_text("x")
    elif kind != "missing":
        out.mkdir()
    if kind == "linked":
        (tmp_path / "manifest").write_text("")
        (out / "manifest.jsonl").symlink_to(tmp_path / "manifest")
    with pytest.raises(ConfigurationError, match=r"out is no folder of a batch: it has no manifest\.jsonl"):
        await write_gallery(out)
    assert not out.is_dir() or pages_in(out) == []


async def test_500_pictures_are_a_page(folder):
    """Failures begin on the last page with pictures, and are 500 a page too."""
    path = folder(*[line("images/none.png")] * 1001, failures=[failure(number) for number in range(501)])
    gallery = await write_gallery(path)
    texts = [page.read_text("utf-8") for page in gallery.pages]
    assert [page.name for page in gallery.pages] == [
        "gallery.html", "gallery-2.html", "gallery-3.html", "gallery-4.html",
    ]  # fmt: skip
    assert [STATUS.findall(text).count("missing") for text in texts] == [500, 500, 1, 0]
    assert [STATUS.findall(text).count("failed") for text in texts] == [0, 0, 500, 1]
    assert "501 to 1,000 of 1,001 pictures" in texts[1]
    assert 'href="gallery-3.html#failures">501 failed or open' in texts[0]


async def test_a_smaller_gallery_removes_pages_of_a_larger_one(folder):
    """But nothing that is not ours, whatever it is called."""
    path = folder(*[line("images/none.png")] * 1001)
    await write_gallery(path)
    (path / "gallery-4.html").write_text("my own")
    (path / "gallery-x.html").write_text(MARK)
    old, new = path / ".gallery-2.html.0123abcd.part", path / ".gallery.html.89abcdef.part"
    for part in (old, new):
        part.write_text(MARK)
    os.utime(old, (time.time() - 7200,) * 2)
    folder(line())
    await write_gallery(path)
    assert pages_in(path) == [new.name, "gallery-4.html", "gallery-x.html", "gallery.html"]


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
async def test_what_is_not_ours_is_not_replaced(folder, tmp_path, kind):
    """A file that only has the name of a page is the user's."""
    path = folder(line())
    page = path / "gallery.html"
    if kind == "folder":
        page.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_text(MARK)
        page.symlink_to(tmp_path / "elsewhere")
    else:
        page.write_text("my own")
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError, match=r"gallery\.html was not written by `hinow gallery`"):
        await write_gallery(path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("has_one", [False, True])
async def test_cancelling_leaves_everything_as_it_was(folder, has_one):
    """No half page, no file on the way; an earlier gallery stays whole."""
    path = folder(*[line()] * 40)
    if has_one:
        await write_gallery(path)
    before = tree(path)
    task = asyncio.create_task(write_gallery(path, on_progress=lambda *_: task.cancel()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tree(path) == before


async def test_long_texts_are_cut(folder):
    """A page stays small whatever a manifest says; it says that there was more."""
    huge = "x" * 3_000_000
    request = {"prompt": huge, "parameters": {"image": huge, **{f"p{n}": n for n in range(1000)}}}
    gallery = await write_gallery(folder(line(request=request, id=huge)))
    page = gallery.pages[0].read_text("utf-8")
    assert len(page) < 200_000
    assert "… (3,000,000 characters)" in page


async def test_it_needs_pillow(folder, monkeypatch):
    """Without it, what to install is said."""
    path = folder(line())
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigurationError, match=re.escape('pip install "hinow-async[cli]"')):
        await write_gallery(path)
