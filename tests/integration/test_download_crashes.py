"""Downloads that are killed, and the runs after: never half a picture, and no byte fetched twice."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from fileserver import Answer, FileServer, picture

from hinow_async._download import Downloader, checkpoint, sweep
from hinow_async._download.folder import Folder
from hinow_async._download.transfer import Version
from hinow_async._errors import DownloadError
from hinow_async._models.images import GeneratedImage
from hinow_async._options import DownloadPolicy, Network, Timeouts
from hinow_async._pool import Pool

DATA = picture(2_000_000)
PART = ".a-0.01234567.part"
STATE = ".a-0.resume"
HELD = 700_000
"""Bytes that the earlier run left."""


@pytest.fixture
async def server():
    async with FileServer() as made:
        yield made


@pytest.fixture
async def save(server, tmp_path):
    """Save one URL into the test's folder."""
    pool = Pool([], Network(), Timeouts())
    await pool.enter()
    downloader = Downloader(pool, DownloadPolicy(timeout=20), 0.2, pause=lambda tries: 0.0)

    async def call(url, index=0, folder=tmp_path):
        image = GeneratedImage(url, index=index)
        return await downloader.save(image, folder, "a", exempt=frozenset({server.origin}))

    yield call
    downloader.close()
    await pool.aclose()


@pytest.fixture
async def zygote():
    """Forks downloaders that may be killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        Path(__file__).parent / "zygote.py",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    yield process
    process.stdin.close()
    await process.wait()


async def start(zygote, folder, *urls, checkpoint=0.0):
    """Start a downloader in a process of its own; return its pid."""
    line = json.dumps({"folder": str(folder), "urls": urls, "checkpoint": checkpoint})
    zygote.stdin.write(line.encode() + b"\n")
    return int(await zygote.stdout.readline())


async def kill(zygote, pid):
    """Kill it as the kernel does, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):  # it was done sooner
        os.kill(pid, signal.SIGKILL)
    assert await zygote.stdout.readline() == b"ended\n"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def leave(folder, url, /, *, data=DATA[:HELD], part=PART, etag='"1"', **changes):
    """Leave what a killed run would have left."""
    handle = Folder(folder)
    (folder / PART).write_bytes(data)
    version = Version(etag, None, len(DATA))
    state = checkpoint.state_of(part, url, version, hashlib.sha256(data), len(data))
    assert checkpoint.note(handle, STATE, state | changes, is_first=True)
    handle.close()


@pytest.fixture
def url(server):
    """A file under a strong tag that the leavings know."""
    return server.url("/a", DATA, Answer(etag='"1"')) + "?sig=1"


async def test_a_killed_download_is_gone_on_with(server, save, zygote, tmp_path):
    """The next run asks for the rest alone, and nothing is left beside the picture."""
    url = server.url("/a", DATA, Answer(cut=1_300_000, stalls=True))
    pid = await start(zygote, tmp_path, url)
    async with asyncio.timeout(10):
        while not (tmp_path / STATE).exists():
            await asyncio.sleep(0.005)
    await kill(zygote, pid)
    held = json.loads((tmp_path / STATE).read_text("utf-8"))["size"]
    saved = await save(url)
    assert saved.path.read_bytes() == DATA
    assert saved.sha256 == hashlib.sha256(DATA).hexdigest()
    assert names(tmp_path) == ["a-0.png"]
    first, second = server.requests
    assert "range" not in first.headers
    assert held > 0
    assert second.headers["range"] == f"bytes={held}-"
    assert second.headers["if-range"].startswith('"')


async def test_what_is_left_is_gone_on_with(server, save, url, tmp_path):
    """Bytes beyond those that the state file vouches for are cut off first."""
    leave(tmp_path, url)
    with (tmp_path / PART).open("ab") as file:
        file.write(b"torn")
    assert (await save(url)).path.read_bytes() == DATA
    assert [request.headers.get("range") for request in server.requests] == [f"bytes={HELD}-"]
    assert names(tmp_path) == ["a-0.png"]


@pytest.mark.parametrize(
    "changes",
    [
        {"data": DATA[: HELD - 1] + b"?"},
        {"data": DATA[1 : HELD + 1]},
        {"sha256": hashlib.sha256(DATA[:HELD]).hexdigest(), "data": bytes(HELD)},
        {"size": HELD + 1},
        {"size": -1},
        {"size": "700000"},
        {"size": None},
        {"url": "0" * 64},
        {"etag": None},
        {"etag": '"1"\r\nX-Evil: 1'},
        {"etag": 1},
        {"total": "x"},
        {"part": "../a"},
        {"part": "/etc/passwd"},
        {"part": ".b-0.01234567.part"},
        {"part": "a-0.png"},
        {"part": [1]},
    ],
)
async def test_what_cannot_be_trusted_is_not_gone_on_with(server, save, url, tmp_path, changes):
    """Other bytes than vouched for, another URL, nonsense: from the beginning, and the leavings go."""
    if "data" in changes and "sha256" not in changes:
        changes = {**changes, "sha256": hashlib.sha256(DATA[:HELD]).hexdigest()}
    leave(tmp_path, url, **changes)
    assert (await save(url)).path.read_bytes() == DATA
    assert [request.headers.get("range") for request in server.requests] == [None]
    sweep(tmp_path)
    assert names(tmp_path) == ["a-0.png"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"part": 1}', b"[" * 16_000, bytes(100_000)])
async def test_torn_state_files(server, save, url, tmp_path, text):
    """A state file that was cut, or is no state file, counts for nothing."""
    leave(tmp_path, url)
    (tmp_path / STATE).write_bytes(text)
    assert (await save(url)).path.read_bytes() == DATA
    sweep(tmp_path)
    assert names(tmp_path) == ["a-0.png"]


async def test_another_version_meanwhile(server, save, url, tmp_path):
    """A changed tag means the whole file: no byte of the old one is kept."""
    leave(tmp_path, url, data=picture(2_000_000, 2)[:HELD], etag='"old"')
    assert (await save(url)).path.read_bytes() == DATA
    assert server.requests[0].headers["if-range"] == '"old"'
    assert names(tmp_path) == ["a-0.png"]


@pytest.mark.parametrize("kind", ["hard", "symbolic"])
async def test_a_link_in_place_of_the_temporary_file(save, url, tmp_path, kind):
    """What it leads to is never written to, nor cut."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_bytes(DATA[:HELD] + b"and more")
    folder = tmp_path / "out"
    folder.mkdir()
    leave(folder, url)
    (folder / PART).unlink()
    if kind == "hard":
        (folder / PART).hardlink_to(outside / "mine")
    else:
        (folder / PART).symlink_to(outside / "mine")
    assert (await save(url, folder=folder)).path.read_bytes() == DATA
    assert (outside / "mine").read_bytes() == DATA[:HELD] + b"and more"
    assert names(folder) == ["a-0.png"]


async def test_a_living_process_keeps_its_temporary_file(save, url, tmp_path):
    """Two processes that save one URL under one name do not touch each other's files."""
    leave(tmp_path, url)
    with (tmp_path / PART).open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (await save(url)).path.read_bytes() == DATA
        assert sweep(tmp_path, resumable=True) == 0
        assert names(tmp_path) == [PART, STATE, "a-0.png"]
        assert (tmp_path / PART).read_bytes() == DATA[:HELD]
    assert sweep(tmp_path) == 0
    assert sweep(tmp_path, resumable=True) == 1
    assert names(tmp_path) == ["a-0.png"]


def test_sweeping(tmp_path):
    """Strays of dead processes go; what can be gone on with, and what is not ours, stays."""
    assert sweep(tmp_path / "not there") == 0
    leave(tmp_path, "https://a.example/")
    mine = [".b.part", "b.01234567.part", ".b-0.0123456.part", ".resume", "c.resume"]
    for name in [".b-0.01234567.part", ".c-0.resume", *mine]:
        (tmp_path / name).write_bytes(b"")
    assert sweep(tmp_path) == 1
    assert names(tmp_path) == sorted([PART, STATE, *mine])


async def test_the_state_file_holds_no_signature(server, zygote, tmp_path):
    """It is readable by its owner alone, and knows the URL by its hash."""
    url = server.url("/a", DATA, Answer(cut=1_300_000, stalls=True)) + "?sig=s3cr3t"
    pid = await start(zygote, tmp_path, url)
    async with asyncio.timeout(10):
        while not (tmp_path / STATE).exists() or not (tmp_path / STATE).read_bytes():
            await asyncio.sleep(0.005)
    await kill(zygote, pid)
    assert b"s3cr3t" not in (tmp_path / STATE).read_bytes()
    assert (tmp_path / STATE).stat().st_mode & 0o777 == 0o600


async def killed_at_random(server, zygote, save, folder, kills):
    chance = random.Random(kills)
    for number in range(kills):
        seeds = [3 * number + index for index in range(3)]
        urls = [
            server.url(f"/{seed}", picture(chance.randrange(100, 1_500_000), seed), Answer(split=CHUNKS))
            for seed in seeds
        ]
        out = folder / str(number)
        pid = await start(zygote, out, *urls)
        await asyncio.sleep(chance.uniform(0, 0.08))
        await kill(zygote, pid)
        found = {path.name: path.read_bytes() for path in out.glob("a-*")}
        for index, seed in enumerate(seeds):
            assert found.get(f"a-{index}.png", server.files[f"/{seed}"]) == server.files[f"/{seed}"]
        assert set(found) <= {f"a-{index}.png" for index in range(3)}
        for index, url in enumerate(urls):
            assert (await save(url, index, out)).path.name == f"a-{index}.png"
        sweep(out, resumable=True)
        assert names(out) == ["a-0.png", "a-1.png", "a-2.png"]


CHUNKS = 64 * 1024


async def test_killed_at_random_moments(server, zygote, save, tmp_path):
    """Under the final name is the whole picture or nothing; the next run makes all good."""
    await killed_at_random(server, zygote, save, tmp_path, 12)


@pytest.mark.slow
async def test_killed_at_many_random_moments(server, zygote, save, tmp_path):
    """The same, 50 times and with other moments."""
    await killed_at_random(server, zygote, save, tmp_path, 50)


def another_version(chance, at, size):
    """A whole other file, cut: with a tag of its own, as strong tags are."""
    seed = chance.random()
    return Answer(cut=min(at, size - 1), body=picture(size, seed), etag=f'"{seed}"')


def random_answer(chance, size):
    """One fault, drawn from all that the server can do wrong."""
    at = chance.randrange(size + 1)
    return chance.choice(
        [
            lambda: Answer(cut=at),
            lambda: Answer(cut=at, reset=True),
            lambda: Answer(cut=at, chunked=True),
            lambda: Answer(cut=at, without=frozenset({"Content-Length"})),
            lambda: Answer(cut=at, ranges=False),
            lambda: Answer(cut=at, etag='W/"weak"'),
            lambda: Answer(cut=at, without=frozenset({"ETag"})),
            lambda: another_version(chance, at, size),
            lambda: Answer(shift=chance.randrange(-5, 5)),
            lambda: Answer(length=max(0, size + chance.randrange(-50, 50))),
            lambda: Answer(status=chance.choice([429, 500, 502, 503, 504])),
            lambda: Answer(shift=10**9),  # 416, where a part was asked for
            lambda: Answer(status=206),
            lambda: Answer(status=302, body=b"", headers={"Location": "/f"}),
            lambda: Answer(headers={"Content-Range": f"bytes {at}-{size}/{size}"}),
            lambda: Answer(chunked=True),
            lambda: Answer(body=b"<html>busy</html>"),
            lambda: Answer(body=picture(max(100, size - 10), 3)[:-1]),
        ]
    )()


async def through_faults(server, save, folder, seeds):
    whole = 0
    for seed in seeds:
        chance = random.Random(seed)
        size = chance.choice([100, 1000, 100_000, 524_288, 600_000])
        data = picture(size, seed)
        server.script.clear()
        url = server.url("/f", data, *[random_answer(chance, size) for _ in range(chance.randrange(1, 6))])
        try:
            saved = await save(url, seed, folder)
        except DownloadError:
            saved = None
        left = names(folder)
        assert left == ([f"a-{seed}.png"] if saved else []), seed
        if saved:
            assert saved.path.read_bytes() == data, seed
            saved.path.unlink()
            whole += 1
    return whole


async def test_a_hundred_seeds_of_faults(server, save, tmp_path):
    """Right bytes, or an error and nothing left; right bytes nearly always, for the faults end."""
    assert await through_faults(server, save, tmp_path, range(100)) >= 95


@pytest.mark.slow
async def test_a_thousand_seeds_of_faults(server, save, tmp_path):
    """The same with a thousand other seeds."""
    assert await through_faults(server, save, tmp_path, range(1000, 2000)) >= 980
