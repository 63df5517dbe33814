"""Downloads over real sockets: the right bytes under the right name, or an error and no file at all."""

import asyncio
import base64
import contextlib
import errno
import gzip
import hashlib
import itertools
import logging
import os
import pickle
import random
import resource
import signal
import socket
import ssl
import stat
import time
import traceback
from contextlib import aclosing

import pytest
import trustme
from fileserver import Answer, FileServer, picture

from hinow_async._download import Downloader
from hinow_async._download.transfer import BLOCK
from hinow_async._errors import (
    DownloadError,
    DownloadTooLargeError,
    IntegrityError,
    UnsafeURLError,
    URLExpiredError,
)
from hinow_async._models.images import GeneratedImage, SavedImage
from hinow_async._options import DownloadPolicy, Network, Timeouts
from hinow_async._pool import Pool

DATA = picture(300_000)
CUT = Answer(cut=100_000)
SIGNATURE = "?sig=s3cr3t"


@pytest.fixture
async def server():
    async with FileServer() as made:
        yield made


@pytest.fixture
async def pool():
    made = Pool([], Network(), Timeouts(connect=5))
    await made.enter()
    yield made
    await made.aclose()


@pytest.fixture
def make(pool):
    """Downloaders with a policy, that wait for nothing between tries."""
    made = []

    def factory(*, idle=5.0, pause=lambda tries: 0.0, sessions=pool, **policy):
        made.append(Downloader(sessions, DownloadPolicy(**{"timeout": 20, **policy}), idle, pause=pause))
        return made[-1]

    yield factory
    for downloader in made:
        downloader.close()


@pytest.fixture
def save(make, server, tmp_path):
    """Save one URL into the test's folder, from the server as the exempt origin."""

    async def call(url, downloader=None, stem="a", **options):
        image = GeneratedImage(url, index=options.pop("index", 0))
        downloader = downloader or make()
        return await downloader.save(image, tmp_path, stem, exempt=frozenset({server.origin}), **options)

    return call


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole -------------------------------------------------------------------------------------------------


async def test_a_file_is_saved_with_its_facts(server, save, tmp_path):
    """Bytes, hash, size, format and dimensions are those of the file; nothing else is left in the folder."""
    saved = await save(server.url("/x/y.html", DATA) + "?X-Sig=%2F+a", index=3)
    assert saved == SavedImage(
        tmp_path / "a-3.png", 3, hashlib.sha256(DATA).hexdigest(), len(DATA), "png", 40, 30
    )
    assert saved.path.read_bytes() == DATA
    assert names(tmp_path) == ["a-3.png"]
    assert server.requests[0].path == "/x/y.html?X-Sig=%2F+a"


async def test_what_is_sent_with_a_download(server, save):
    """No key, no cookies (also none that were just set), no Referer, and nothing compressed asked for."""
    redirect = Answer(status=302, body=b"", headers={"Location": "/b.png", "Set-Cookie": "a=b"})
    server.url("/b.png", DATA)
    await save(server.url("/a.png", b"", redirect))
    for request in server.requests:
        assert request.headers["accept-encoding"] == "identity"
        assert not {"authorization", "cookie", "referer", "x-api-key"} & set(request.headers)
    assert [request.path for request in server.requests] == ["/a.png", "/b.png"]


@pytest.mark.parametrize("size", [100, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK])
@pytest.mark.parametrize(
    "answer", [Answer(), Answer(chunked=True), Answer(without=frozenset({"Content-Length"}))]
)
async def test_sizes_and_framings(server, save, size, answer):
    """Around the size of a block, and in each of HTTP's three framings."""
    data = picture(size)
    if "Content-Length" in answer.without:
        answer = Answer(without=answer.without, cut=size)
    saved = await save(server.url("/a", data, answer))
    assert saved.path.read_bytes() == data


async def test_pictures_are_read_and_streamed(server, make):
    """Into memory and through, the bytes are the same, in blocks."""
    data = picture(1_500_000)
    image, exempt = GeneratedImage(server.url("/a", data)), frozenset({server.origin})
    assert await make().read(image, exempt=exempt) == data
    blocks = [block async for block in make().stream(image, exempt=exempt)]
    assert b"".join(blocks) == data
    assert len(blocks) > 2


@pytest.mark.parametrize("kind", ["data", "base64", "uri"])
async def test_inline_pictures_go_the_same_way(make, tmp_path, kind):
    """Checked, hashed and placed like any other; read and streamed too."""
    text = base64.b64encode(DATA).decode()
    image = {
        "data": GeneratedImage(data=DATA),
        "base64": GeneratedImage(encoded=text),
        "uri": GeneratedImage(encoded=f"data:image/jpeg;base64,{text}"),
    }[kind]
    seen = []
    saved = await make().save(image, tmp_path, "a", on_progress=lambda *now: seen.append(now))
    assert saved.path.read_bytes() == DATA
    assert saved.sha256 == hashlib.sha256(DATA).hexdigest()
    assert names(tmp_path) == ["a-0.png"]
    assert seen == [(len(DATA), len(DATA))]
    assert await make().read(image) == DATA
    assert b"".join([block async for block in make().stream(image)]) == DATA


@pytest.mark.parametrize(
    "image",
    [
        GeneratedImage(data=DATA[:-1]),
        GeneratedImage(encoded="no base64!"),
        GeneratedImage(encoded=base64.b64encode(b"<html>").decode()),
    ],
)
async def test_inline_pictures_that_are_none(make, tmp_path, image):
    """A cut one, bad base64 and other files are refused; nothing is written."""
    with pytest.raises(IntegrityError) as caught:
        await make().save(image, tmp_path / "out", "a")
    assert caught.value.path == tmp_path / "out" / "a-0"
    assert names(tmp_path) == []


async def test_a_picture_that_never_came(make, tmp_path):
    """Neither URL nor data is a DownloadError."""
    with pytest.raises(DownloadError, match="neither"):
        await make().save(GeneratedImage(), tmp_path, "a")


async def test_another_format_is_kept_under_its_true_extension(server, save, make, caplog):
    """Said once, in a warning, however many come."""
    downloader = make()
    with caplog.at_level(logging.WARNING, "hinow_async"):
        for index in range(3):
            saved = await save(server.url("/a.webp", DATA), downloader, index=index, asked="webp")
    assert saved.path.name == "a-2.png"
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "webp was asked for and png came"
    ]


async def test_progress_is_told_and_its_errors_are_not_fatal(server, save, caplog):
    """Bytes that are there, and how many there will be; a callback that fails is logged once."""
    data, seen = picture(2_000_000), []

    def report(done, total):
        seen.append((done, total))
        if len(seen) == 2:
            raise RuntimeError("my bug")

    saved = await save(server.url("/a", data), on_progress=report)
    assert saved.size_bytes == len(data)
    assert len(seen) == 2
    assert {total for _, total in seen} == {len(data)}
    assert [record.message for record in caplog.records if "on_progress" in record.message] != []


# --- breaks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("at", [0, 1, 299_999, 300_000, *random.Random(7).sample(range(300_000), 8)])
async def test_a_cut_at_any_place_is_gone_on_with(server, save, at, reset, tmp_path):
    """The rest is asked for with the strong ETag, and the bytes are the same."""
    saved = await save(server.url("/a", DATA, Answer(cut=at, reset=reset)))
    assert saved.path.read_bytes() == DATA
    assert names(tmp_path) == ["a-0.png"]
    again = server.asked("/a")[1:]
    if 0 < at < 300_000 and not reset:
        assert again[0].headers["range"] == f"bytes={at}-"
        assert again[0].headers["if-range"].startswith('"')


@pytest.mark.parametrize(
    "faults",
    [
        [CUT, Answer(ranges=False)],
        [CUT, Answer(status=416)],
        [CUT, Answer(shift=1000)],
        [CUT, Answer(shift=-1000)],
        [CUT, Answer(headers={"Content-Range": "bytes 0-299999/300000"})],
        [CUT, Answer(headers={"Content-Range": "bytes 100000-299999/300001"})],
        [CUT, Answer(headers={"Content-Range": "bytes 100000-299998/300000"})],
        [CUT, Answer(headers={"Content-Range": "bytes 100000-400000/300000"})],
        [CUT, Answer(headers={"Content-Range": "rubbish"})],
        [CUT, Answer(without=frozenset({"Content-Range"}))],
        [CUT, Answer(headers={"Content-Range": "bytes 100000-/*"})],
        [CUT, Answer(status=206)],
        [Answer(cut=100_000, etag='W/"weak"')],
        [Answer(cut=100_000, without=frozenset({"ETag"}))],
        [Answer(cut=100_000, body=picture(300_000, seed=2), etag='"other"')],
        [Answer(cut=100_000, body=picture(300_001, seed=2)), Answer(ranges=False)],
        [CUT, Answer(cut=100_000), Answer(cut=50_000, ranges=False), Answer(cut=150_000)],
        [CUT, Answer(status=503), Answer(status=429, headers={"Retry-After": "0"}), Answer(status=500)],
        [CUT, Answer(chunked=True)],
        [CUT, Answer(without=frozenset({"Content-Length"}), cut=200_000)],
        [Answer(cut=100_000, chunked=True)],
        [Answer(cut=100_000, without=frozenset({"Content-Length"}))],
        [Answer(length=300_010)],
        [Answer(length=299_990)],
        [Answer(length=10)],
        [Answer(body=b"<html>busy</html>")],
        [Answer(body=DATA + b"garbage")],
        [Answer(body=DATA[:-4])],
        [Answer(body=b"")],
        [Answer(stalls=True, cut=100_000), Answer(stalls=True, cut=0)],
        [Answer(cut=100_000, headers={"Content-Length": "abc"})],
        [Answer(headers={"X-Huge": "x" * 70_000})],
        [Answer(status=206)],
        [Answer(headers={"Content-Length": "1", "Transfer-Encoding": "chunked"}, cut=100_000)],
    ],
)
async def test_after_any_fault_the_bytes_are_right(server, save, make, faults, tmp_path):
    """Whatever goes wrong on the way and then ends: the very bytes, one file, nothing beside it."""
    saved = await save(server.url("/a", DATA, *faults), make(idle=0.15))
    assert saved.path.read_bytes() == DATA
    assert saved.sha256 == hashlib.sha256(DATA).hexdigest()
    assert names(tmp_path) == ["a-0.png"]


async def test_last_modified_stands_in_for_an_etag(server, save):
    """Without a strong ETag a file's date will do, unless it is of this very second."""
    old, now = "Sat, 01 Nov 2025 10:00:00 GMT", "Sun, 22 Nov 2026 10:00:00 GMT"
    no_etag = frozenset({"ETag"})
    dated = Answer(cut=100_000, without=no_etag, headers={"Last-Modified": old, "Date": now})
    fresh = Answer(cut=100_000, without=no_etag, headers={"Last-Modified": now, "Date": now})
    await save(server.url("/dated", DATA, dated))
    await save(server.url("/fresh", DATA, fresh))
    assert server.asked("/dated")[1].headers["if-range"] == old
    assert "range" not in server.asked("/fresh")[1].headers


@pytest.mark.parametrize(
    "answer",
    [
        Answer(cut=100_000),
        Answer(cut=0),
        Answer(length=300_010),
        Answer(body=DATA[:-1]),
        Answer(body=DATA + b"\n"),
        Answer(body=b"<html>not here</html>"),
        Answer(body=b"GIF89a" + bytes(100)),
        Answer(body=b""),
        Answer(cut=100_000, without=frozenset({"Content-Length"})),
    ],
)
async def test_a_fault_that_does_not_end_is_an_integrity_error(server, save, make, answer, tmp_path):
    """Truncation is never success, nor is a file that is no picture; and nothing is left."""
    url = server.url("/a", DATA, *[Answer(**{**_fields(answer), "ranges": False})] * 40)
    with pytest.raises(IntegrityError) as caught:
        await save(url + SIGNATURE, make(attempts=3))
    assert names(tmp_path) == []
    assert caught.value.url == url
    assert caught.value.path == tmp_path / "a-0"
    assert SIGNATURE not in "".join(traceback.format_exception(caught.value))
    assert pickle.loads(pickle.dumps(caught.value)).url == url
    assert len(server.requests) <= 5


def _fields(answer):
    return {name: getattr(answer, name) for name in answer.__slots__ if not name.startswith("__")}


async def test_attempts_count_tries_without_progress(server, save, make):
    """Ten breaks that each brought something are no failure; as many empty tries as allowed are."""
    steps = [Answer(cut=20_000) for _ in range(10)]
    saved = await save(server.url("/steps", DATA, *steps), make(attempts=1))
    assert saved.path.read_bytes() == DATA
    waits = []
    downloader = make(attempts=4, pause=lambda tries: waits.append(tries) or 0.0)
    with pytest.raises(DownloadError, match="4 tries without progress"):
        await save(server.url("/down", DATA, *[Answer(status=503)] * 9), downloader)
    assert len(server.asked("/down")) == 4
    assert waits == [1, 2, 3]


async def test_retry_after_is_obeyed_and_bounded(server, save, make):
    """The wait that is asked for is waited, and one beyond the deadline ends it at once."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await save(server.url("/soon", DATA, Answer(status=429, headers={"Retry-After": "0.2"})))
    assert 0.2 <= loop.time() - start < 2
    start = loop.time()
    with pytest.raises(DownloadError, match="too late"):
        await save(server.url("/late", DATA, Answer(status=503, headers={"Retry-After": "1e9"})))
    with pytest.raises(DownloadError, match="too late"):
        await save(
            server.url("/never", DATA, Answer(status=503, headers={"Retry-After": "1e9"})), make(timeout=None)
        )
    assert loop.time() - start < 2


async def test_a_stall_is_a_break_but_a_slow_beginning_is_not(server, save, make):
    """`idle` runs between two pieces of a body: not before its first byte."""
    saved = await save(server.url("/slow", DATA, Answer(before=0.8)), make(idle=0.3, attempts=1))
    assert saved.size_bytes == len(DATA)
    with pytest.raises(DownloadError, match=r"nothing came for 0.1 s"):
        await save(server.url("/stall", DATA, *[Answer(cut=0, stalls=True)] * 3), make(idle=0.1, attempts=2))


async def test_the_deadline_holds_over_all(server, save, make, tmp_path):
    """A server that sends a byte now and then is stopped by `timeout`, where `idle` never is."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(DownloadError, match=r"not there after 0.3 s"):
        await save(server.url("/drip", DATA, Answer(split=1)), make(timeout=0.3))
    with pytest.raises(DownloadError, match=r"not there after 0.3 s"):
        await save(server.url("/mute", DATA, Answer(cut=9, stalls=True)), make(timeout=0.3, idle=None))
    with pytest.raises(DownloadError, match=r"not there after 0.3 s"):
        await save(server.url("/late", DATA, Answer(before=9)), make(timeout=0.3, idle=None))
    assert loop.time() - start < 3
    assert names(tmp_path) == []


async def test_a_server_that_is_gone(server, save, make, unused_port):
    """Refused connections are tried again, and then a DownloadError that names the host alone."""
    image = GeneratedImage(f"http://127.0.0.1:{unused_port}/a{SIGNATURE}")
    downloader = make(attempts=2, allowed_origins=(f"http://127.0.0.1:{unused_port}",))
    with pytest.raises(DownloadError, match="no connection to") as caught:
        await downloader.read(image)
    assert SIGNATURE not in "".join(traceback.format_exception(caught.value))


@pytest.fixture
def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_dead_link_ends_at_once(server, save, status):
    """Also in the middle of a resumption: asking again would not bring it back."""
    with pytest.raises(URLExpiredError, match=str(status)):
        await save(server.url("/dead", DATA, Answer(status=status)))
    with pytest.raises(URLExpiredError):
        await save(server.url("/dying", DATA, CUT, Answer(status=status)))
    assert len(server.asked("/dead")) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 405, 418, 451, 204, 304, 300])
async def test_other_statuses_end_at_once(server, save, status):
    """What is neither a file nor a passing trouble is not asked again."""
    with pytest.raises(DownloadError, match=str(status)) as caught:
        await save(server.url("/a", DATA, Answer(status=status, body=b"", length=0)))
    assert type(caught.value) is DownloadError
    assert len(server.requests) == 1


# --- bombs -------------------------------------------------------------------------------------------------


async def test_compression_is_refused(server, save, tmp_path):
    """A gzip bomb is not even unpacked: nobody asked for compression."""
    bomb = gzip.compress(bytes(10_000_000))
    for encoding in ("gzip", "br", "deflate", "gzip, gzip", "zstd"):
        with pytest.raises(IntegrityError, match="compressed"):
            await save(server.url("/a", bomb, Answer(headers={"Content-Encoding": encoding})))
    saved = await save(server.url("/a", DATA, Answer(headers={"Content-Encoding": "identity"})))
    assert saved.size_bytes == len(DATA)


@pytest.mark.parametrize("answer", [Answer(), Answer(chunked=True), Answer(length=10**15, cut=10)])
async def test_size_is_capped(server, save, make, answer, tmp_path):
    """By what is said before, else by what comes; nothing is left."""
    with pytest.raises(DownloadTooLargeError):
        await save(server.url("/a", picture(100_001), answer), make(max_bytes=100_000))
    with pytest.raises(DownloadTooLargeError):
        await make(max_bytes=100_000).save(GeneratedImage(encoded="A" * 200_000), tmp_path, "a")
    with pytest.raises(DownloadTooLargeError):
        await make(max_bytes=100_000).save(GeneratedImage(data=picture(100_001)), tmp_path, "a")
    assert names(tmp_path) == []
    assert (await save(server.url("/b", picture(100_000)), make(max_bytes=100_000))).size_bytes == 100_000


# --- hostile URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/a",
        "https://127.0.0.1/a",
        "https://10.0.0.1/a",
        "https://[::ffff:169.254.169.254]/a",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "https://user:password@example.com/a",
        "https://localhost/",
        "//0x7f.1/",
        "https://example.com:22/",
        "\\\\example.com\\a",
    ],
)
async def test_redirects_to_where_nothing_may_be_fetched(server, save, location, tmp_path):
    """Each hop is checked like the first URL."""
    with pytest.raises(UnsafeURLError):
        await save(server.url("/a", b"", Answer(status=302, headers={"Location": location})))
    assert names(tmp_path) == []


@pytest.mark.parametrize(("hops", "followed"), [(5, True), (6, False), (20, False)])
async def test_five_redirects_are_followed(server, save, hops, followed):
    """Five hops, absolute and relative, and no sixth; a loop is no different."""
    server.url(f"/{hops}", DATA)
    for hop, status in zip(range(hops), itertools.cycle([301, 302, 303, 307, 308]), strict=False):
        target = f"/{hop + 1}" if hop % 2 else server.url(f"/{hop + 1}")
        server.url(f"/{hop}", b"", Answer(status=status, headers={"Location": target}))
    if followed:
        assert (await save(server.url("/0"))).size_bytes == len(DATA)
    else:
        with pytest.raises(DownloadError, match="more than 5"):
            await save(server.url("/0"))
        assert len(server.requests) == 6


async def test_the_address_that_is_dialled_is_checked(server, make, monkeypatch, unused_port):
    """A public name that leads to private addresses is refused when they are dialled, however many."""
    real = socket.getaddrinfo

    def lead_inside(host, port, *args, **options):
        if host != "cdn.example":
            return real(host, port, *args, **options)
        kinds = (("127.0.0.1", socket.AF_INET), ("10.1.2.3", socket.AF_INET), ("192.168.0.1", socket.AF_INET))
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for address, family in kinds]

    monkeypatch.setattr(socket, "getaddrinfo", lead_inside)
    with pytest.raises(UnsafeURLError) as caught:
        await make().read(GeneratedImage(f"https://cdn.example/a{SIGNATURE}"))
    assert SIGNATURE not in "".join(traceback.format_exception(caught.value))
    assert server.connections == 0


async def test_only_the_exempt_origin_is_exempt(server, make):
    """The API's own origin is fetched from as it is; the same server under another name is not."""
    url = server.url("/a", DATA)
    assert await make(allowed_origins=(f"http://127.0.0.1:{server.port}",)).read(GeneratedImage(url)) == DATA
    other = frozenset({("http", "127.0.0.1", server.port + 1), ("https", "127.0.0.1", server.port)})
    with pytest.raises(UnsafeURLError):
        await make().read(GeneratedImage(url), exempt=other)
    with pytest.raises(UnsafeURLError):
        await make().read(GeneratedImage(url.replace("127.0.0.1", "localhost")), exempt=other)


async def test_a_certificate_that_cannot_be_trusted_is_final(make):
    """It does not mend itself: one try."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    tries = []
    tls = await asyncio.start_server(lambda *_: tries.append(1), "127.0.0.1", 0, ssl=context)
    port = tls.sockets[0].getsockname()[1]
    waits = []
    downloader = make(
        allowed_origins=(f"https://127.0.0.1:{port}",), pause=lambda tries: waits.append(tries) or 0.0
    )
    async with tls:
        with pytest.raises(DownloadError, match="certificate"):
            await downloader.read(GeneratedImage(f"https://127.0.0.1:{port}/a"))
    assert waits == []


# --- names and the disk ------------------------------------------------------------------------------------


async def test_an_occupied_name_is_never_overwritten(server, save, tmp_path):
    """The same bytes are adopted, others get the next number; nothing that was there changes."""
    (tmp_path / "a-0.png").write_bytes(b"mine")
    (tmp_path / "a-0-2.png").mkdir()
    first = await save(server.url("/a", DATA))
    again = await save(server.url("/a", DATA))
    other = await save(server.url("/b", picture(5000, seed=2)))
    assert [saved.path.name for saved in (first, again, other)] == ["a-0-3.png", "a-0-3.png", "a-0-4.png"]
    assert (tmp_path / "a-0.png").read_bytes() == b"mine"
    assert names(tmp_path) == ["a-0-2.png", "a-0-3.png", "a-0-4.png", "a-0.png"]


async def test_overwriting_when_asked(server, save, tmp_path):
    """In one step; a folder of that name is an OSError, and stays."""
    (tmp_path / "a-0.png").write_bytes(b"mine")
    saved = await save(server.url("/a", DATA), overwrite=True)
    assert saved.path.read_bytes() == DATA
    (tmp_path / "a-1.png").mkdir()
    with pytest.raises(IsADirectoryError):
        await save(server.url("/a", DATA), overwrite=True, index=1)
    assert names(tmp_path) == ["a-0.png", "a-1.png"]


@pytest.mark.parametrize("overwrite", [False, True])
async def test_links_are_never_written_through(server, save, tmp_path, overwrite):
    """A link, hard or symbolic, dangling or to the same bytes, leads nothing out; nor does a pipe."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "same").write_bytes(DATA)
    (outside / "hard").write_bytes(b"mine")
    for index, target in enumerate(["same", "nowhere"]):
        (tmp_path / f"a-{index}.png").symlink_to(outside / target)
    (tmp_path / "a-2.png").hardlink_to(outside / "hard")
    os.mkfifo(tmp_path / "a-3.png")
    for index in range(4):
        saved = await save(server.url("/a", DATA), index=index, overwrite=overwrite)
        assert saved.path.name == (f"a-{index}.png" if overwrite else f"a-{index}-2.png")
        assert stat.S_ISREG(saved.path.lstat().st_mode)
    assert names(outside) == ["hard", "same"]
    assert (outside / "hard").read_bytes() == b"mine"


async def test_two_with_one_name_do_not_clobber_each_other(server, save, make, tmp_path):
    """Sixteen at once under one name: the same bytes share it, others are numbered."""
    downloader = make()
    urls = [server.url(f"/{seed % 4}", picture(50_000, seed % 4)) for seed in range(16)]
    saved = await asyncio.gather(*(save(url, downloader) for url in urls))
    assert len({one.path for one in saved}) == 4
    assert names(tmp_path) == ["a-0-2.png", "a-0-3.png", "a-0-4.png", "a-0.png"]
    for seed, one in enumerate(saved):
        assert one.path.read_bytes() == picture(50_000, seed % 4)


async def test_where_links_do_not_work_names_are_reserved(server, save, tmp_path, monkeypatch):
    """On file systems without links too nothing is overwritten."""

    def no_links(*_, **__):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a-0.png").write_bytes(b"mine")
    assert (await save(server.url("/a", DATA))).path.name == "a-0-2.png"
    assert (await save(server.url("/a", DATA))).path.name == "a-0-2.png"
    assert names(tmp_path) == ["a-0-2.png", "a-0.png"]


async def test_without_handles_locks_and_vectors(server, save, tmp_path, monkeypatch):
    """Where a system lacks them (Windows), the same files come to lie in the folder, and nothing else."""
    monkeypatch.setattr("hinow_async._download.folder._HAS_DIR_FD", False)
    monkeypatch.setattr("hinow_async._download.checkpoint._HAS_LOCKS", False)
    monkeypatch.delattr(os, "writev")
    first = await save(server.url("/a", DATA, CUT))
    again = await save(server.url("/a", DATA))
    other = await save(server.url("/b", picture(1000)))
    over = await save(server.url("/c", picture(2000)), overwrite=True)
    assert [saved.path.name for saved in (first, again, other, over)] == [
        "a-0.png", "a-0.png", "a-0-2.png", "a-0.png",
    ]  # fmt: skip
    assert (tmp_path / "a-0.png").read_bytes() == picture(2000)
    assert names(tmp_path) == ["a-0-2.png", "a-0.png"]


async def test_many_share_the_folder_and_its_fsync(server, save, make, tmp_path, monkeypatch):
    """Thirty files at once: each is synced once, the folder less often, and no handle is left (the guard)."""
    synced, real = {"file": 0, "folder": 0}, os.fsync

    def fsync(fd):
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        if not is_file:
            time.sleep(0.02)  # a disk that takes its time
        synced["file" if is_file else "folder"] += 1
        return real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    downloader = make(max_in_flight=30)
    await asyncio.gather(
        *(save(server.url(f"/{n}", picture(500, n)), downloader, index=n) for n in range(30))
    )
    assert synced["file"] == 30
    assert 1 <= synced["folder"] <= 15
    assert len(names(tmp_path)) == 30


@pytest.mark.parametrize("stem", ["", ".", "..", "../a", "a/b", "a\\b", "a\0b"])
async def test_a_stem_that_would_leave_the_folder(server, save, stem):
    """Callers make stems valid; should one forget, nothing is written."""
    with pytest.raises(ValueError, match="stem"):
        await save(server.url("/a", DATA), stem=stem)


async def test_folders_are_made_and_their_links_followed(server, make, tmp_path):
    """The folder belongs to the user: it may be new, and it may be a link to elsewhere."""
    exempt, image = frozenset({server.origin}), GeneratedImage(server.url("/a", DATA))
    saved = await make().save(image, tmp_path / "x" / "y", "a", exempt=exempt)
    assert saved.path == tmp_path / "x" / "y" / "a-0.png"
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert (await make().save(image, tmp_path / "link", "b", exempt=exempt)).path.read_bytes() == DATA
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        await make().save(image, tmp_path / "file", "a", exempt=exempt)


async def test_permissions_follow_the_umask(server, save):
    """Pictures are as readable as any file of this user."""
    before = os.umask(0o027)
    try:
        saved = await save(server.url("/a", DATA))
    finally:
        os.umask(before)
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o640


def failing(real, error, times, calls):
    def call(*args, **options):
        calls.append(1)
        if len(calls) <= times:
            raise OSError(error, os.strerror(error))
        return real(*args, **options)

    return call


@pytest.mark.parametrize(
    ("function", "error"),
    [("writev", errno.ENOSPC), ("writev", errno.EIO), ("writev", errno.EDQUOT), ("open", errno.EACCES)],
)
async def test_a_disk_that_fails_is_an_oserror(server, save, tmp_path, monkeypatch, function, error):
    """Its type and number are the system's; nothing is tried again, nothing is left."""
    monkeypatch.setattr(os, function, failing(getattr(os, function), error, 1, []))
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        await save(server.url("/a", picture(2_000_000)))
    monkeypatch.undo()
    assert caught.value.errno == error
    assert not isinstance(caught.value, DownloadError)
    assert names(tmp_path) == []
    assert len(server.requests) <= 1


async def test_a_real_limit_on_file_size(server, save, tmp_path):
    """RLIMIT_FSIZE stands in for a full disk: short writes, then an error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_001, before[1]))
    try:
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            await save(server.url("/a", picture(2_000_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == []


async def test_a_failed_fsync_is_never_trusted_later(server, save, tmp_path, monkeypatch):
    """The file is fetched and written anew (another inode); if that fails as well, it is an OSError."""
    synced, calls, real = [], [], os.fsync

    def fsync(fd):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            synced.append(os.fstat(fd).st_ino)
        return failing(real, errno.EIO, 1, calls)(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    saved = await save(server.url("/a", DATA))
    assert saved.path.read_bytes() == DATA
    assert len(server.requests) == 2
    assert len(synced) == 2
    assert names(tmp_path) == ["a-0.png"]
    monkeypatch.setattr(os, "fsync", failing(real, errno.EIO, 99, []))
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        await save(server.url("/a", DATA), index=1)
    assert caught.value.errno == errno.EIO
    assert names(tmp_path) == ["a-0.png"]


def noting(real, name, steps):
    def call(*args, **options):
        steps.append(name)
        return real(*args, **options)

    return call


async def test_everything_is_durable_before_it_is_reported(server, save, monkeypatch, tmp_path):
    """The file is synced under its hidden name, then named, then the folder is synced."""
    steps = []
    for name in ("fsync", "link", "unlink"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os,
            name,
            lambda *args, _real=real, _name=name, **options: (steps.append(_name), _real(*args, **options))[
                1
            ],
        )
    await save(server.url("/a", DATA))
    assert steps == ["fsync", "link", "fsync", "unlink"]


# --- cancelling and sharing --------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [picture(100), picture(1_200_000)], ids=["small", "large"])
async def test_cancelled_anywhere_nothing_is_left(server, save, make, tmp_path, data):
    """At each of many moments: no temporary file; under the name, if anything, the whole."""
    downloader = make(max_in_flight=1)
    for moment in itertools.count():
        task = asyncio.create_task(save(server.url("/a", data), downloader, stem=f"s{moment}"))
        for _ in range(moment):
            await asyncio.sleep(0)
        is_done = task.done()
        task.cancel()
        await asyncio.wait({task})
        assert task.done()
        assert [name for name in names(tmp_path) if name.endswith(".part")] == []
        if is_done:
            break
    assert moment > 5
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {data}
    assert (await save(server.url("/a", data), downloader)).size_bytes == len(data)


async def test_cancelled_twice(server, save, tmp_path, make):
    """The second cancel does not stop the cleaning: it goes on in its thread."""
    downloader = make()
    stuck = server.url("/a", picture(2_000_000), Answer(cut=1_200_000, stalls=True))
    task = asyncio.create_task(save(stuck, downloader))
    while not names(tmp_path):
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(2):
        while names(tmp_path):
            await asyncio.sleep(0.001)
    assert names(tmp_path) == []


async def test_no_more_than_allowed_at_once(server, save, make):
    """Over the whole client; what is cancelled, waiting or under way, gives its place back."""
    downloader = make(max_in_flight=3)

    def start(n):
        url = server.url(f"/{n}", picture(2000, n), Answer(before=0.02))
        return asyncio.create_task(save(url, downloader, index=n))

    await asyncio.gather(*(start(n) for n in range(12)))
    assert server.peak == 3
    tasks = [start(n) for n in range(20, 38)]
    while len(server.requests) < 14:
        await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in done[1::3] + done[2::3]] == [SavedImage] * 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_waits_for_no_folder_of_its_parent(tmp_path):
    """Forked while a thread syncs the folder, it saves into the same one."""
    downloader = Downloader(Pool([], Network(), Timeouts()), DownloadPolicy(), 5.0)
    folder = downloader._folders.take(tmp_path)
    with folder._syncing:
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                asyncio.run(downloader.save(GeneratedImage(data=DATA), tmp_path, "a"))
                code = 0
            os._exit(code)
        until = time.monotonic() + 20
        while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
            time.sleep(0.01)
        if done == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    downloader._folders.give_back(folder)
    assert done == (child, 0)
    assert names(tmp_path) == ["a-0.png"]


def test_one_event_loop_after_another(tmp_path):
    """Made outside any loop it serves one, is cancelled there while others wait, and serves the next."""
    pool = Pool([], Network(), Timeouts())
    downloader = Downloader(pool, DownloadPolicy(max_in_flight=1), 5.0, pause=lambda tries: 0.0)

    async def one(stem):
        await pool.enter()
        async with FileServer() as server:
            image = GeneratedImage(server.url("/a", DATA))
            stuck = GeneratedImage(server.url("/b", DATA, Answer(cut=1000, stalls=True)))
            exempt = frozenset({server.origin})
            saved = await downloader.save(image, tmp_path, stem, exempt=exempt)
            waiting = [
                asyncio.create_task(downloader.save(stuck, tmp_path, "stuck", exempt=exempt))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await pool.aclose()
            return saved

    assert asyncio.run(one("a")).path.read_bytes() == DATA
    assert asyncio.run(one("b")).path.read_bytes() == DATA
    assert names(tmp_path) == ["a-0.png", "b-0.png"]
    downloader.close()


# --- streams -----------------------------------------------------------------------------------------------


async def collect(blocks, into):
    async for block in blocks:
        into.append(block)


async def test_a_stream_goes_on_after_a_break(server, make):
    """By a part, and where the server sends the whole again under the same strong ETag, without repeating."""
    data, exempt = picture(2_000_000), frozenset({server.origin})
    for faults in ([Answer(cut=1_200_000)], [Answer(cut=1_200_000), Answer(ranges=False)]):
        image = GeneratedImage(server.url("/a", data, *faults))
        assert b"".join([block async for block in make().stream(image, exempt=exempt)]) == data


async def test_a_stream_never_mixes_versions(server, make):
    """Once bytes were handed on, another version of the file is an error."""
    first, second = picture(2_000_000, 1), picture(2_000_000, 2)
    image = GeneratedImage(server.url("/a", second, Answer(body=first, cut=1_200_000)))
    got = []
    with pytest.raises(DownloadError, match="anew"):
        await collect(make().stream(image, exempt=frozenset({server.origin})), got)
    assert first.startswith(b"".join(got))


async def test_a_stream_keeps_its_last_block_until_the_end_is_checked(server, make):
    """Whoever saw the end of the iteration has a whole picture; of a bad one he never has all bytes."""
    data = picture(4 * BLOCK)
    image = GeneratedImage(server.url("/a", data + b"garbage"))
    got = []
    with pytest.raises(DownloadError):
        await collect(make().stream(image, exempt=frozenset({server.origin})), got)
    assert 0 < sum(map(len, got)) < len(data)


async def test_a_stream_that_is_left_gives_its_place_back(server, make):
    """Closing it frees the slot and the connection; a slow reader is not timed."""
    downloader, exempt = make(max_in_flight=1, timeout=0.5), frozenset({server.origin})
    image = GeneratedImage(server.url("/a", picture(3_000_000)))
    async with aclosing(downloader.stream(image, exempt=exempt)) as blocks:
        async for _ in blocks:
            break
    blocks = []
    async for block in downloader.stream(image, exempt=exempt):
        if not blocks:
            await asyncio.sleep(0.6)
        blocks.append(block)
    assert b"".join(blocks) == server.files["/a"]
