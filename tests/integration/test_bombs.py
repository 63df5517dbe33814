"""Answers made to exhaust: memory and time stay bounded, and the call is an error of ours."""

import gzip
import json
import time
import tracemalloc
import zlib

import pytest
from rawserver import KEY, URL, RawServer, answer, http, in_pieces

from hinow_async import APIError, APIResponseError, AsyncHinow, DownloadError, Message
from hinow_async._pool import Sizes
from hinow_async._protocol.chat_images import find_images
from hinow_async._resources import images

MIB = 2**20


@pytest.fixture
def small(monkeypatch):
    """The bounds at a sixteenth, so that bombs may be small too."""
    monkeypatch.setattr(images, "SIZES", Sizes(of_success=8 * MIB, of_error=4 * MIB))


async def explode(raw):
    """Return the error of an answer, and the most memory that was held meanwhile."""
    async with (
        RawServer(in_pieces(raw)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(APIError) as caught:
                await client.images.generate("A lighthouse", timeout=30)
            return caught.value, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_compressed_bomb_is_cut_at_the_bound(small, coding, status):
    """What counts is what comes out of it, while it comes."""
    zeros = b" " * (100 * MIB)
    bomb = gzip.compress(zeros, 1) if coding == "gzip" else zlib.compress(zeros, 1)
    del zeros

    error, most = await explode(http(status, bomb, {"Content-Encoding": coding}))

    assert most < 40 * MIB
    assert error.outcome == "unknown"
    if status == 200:
        assert "larger than 8 MiB" in str(error)


async def test_an_answer_without_end_is_cut_at_the_bound(small):
    """Without a length, too."""
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (30 * MIB)

    error, most = await explode(raw)

    assert isinstance(error, APIResponseError)
    assert error.outcome == "unknown"
    assert most < 80 * MIB  # the server's own 30 MiB lie in the same process


TEXTS = {
    "a number without end": b'{"data": 1' + b"0" * (3 * MIB) + b"}",
    "an exponent": b'{"data": {"urls": 1e999999}}',
    "ten thousand digits": b'{"data": {"urls": [' + b"7" * 10_000 + b"]}}",
    "depth": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a million urls": json.dumps({"data": {"urls": [URL] * 100_000}}).encode(),
    "a million keys": json.dumps({"data": {str(n): n for n in range(100_000)}}).encode(),
    "nothing but quotes": b'"' * MIB,
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
async def test_hostile_json_is_an_answer_that_cannot_be_used(body):
    """Quickly, and with a message that can be shown."""
    begun = time.monotonic()
    error, _ = await explode(http(200, body))

    assert isinstance(error, APIResponseError)
    assert error.outcome == "unknown"
    assert len(str(error)) < 700
    assert time.monotonic() - begun < 5


GOOD = json.dumps({"data": {"urls": [URL], "note": "x"}})
READABLE = {
    "a byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "NaN in an unknown field": GOOD.replace('"x"', "NaN").encode(),
    "a lone surrogate": GOOD.replace('"x"', '"\\ud800"').encode(),
    "keys that come twice": GOOD.replace('"note"', '"urls": 7, "urls": ["https://x/b.png"], "note"').encode(),
    "a huge number in an unknown field": GOOD.replace('"x"', "1e999999").encode(),
}


@pytest.mark.parametrize("body", READABLE.values(), ids=READABLE)
async def test_odd_json_that_names_pictures_is_read(body):
    """What was paid for is not thrown away for a field that nobody needs."""
    async with (
        RawServer(answer(http(200, body))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        result = await client.images.generate("A lighthouse")

    assert len(result.images) == 1
    assert "note" in result.extra


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "file:///etc/passwd", "", "http://127.0.0.1/", "\x00", "\ud800", "data:,x"]
)
async def test_a_bad_link_never_fails_the_call(url):
    """Reading that picture does, with an error of ours."""
    async with (
        RawServer(answer(http(200, {"data": {"urls": [url]}}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        result = await client.images.generate("A lighthouse")
        with pytest.raises(DownloadError):
            await result.images[0].read()


async def test_a_megabyte_of_markdown_is_searched_in_no_time():
    """The search for pictures in a chat is linear."""
    for text in (
        "![](" * 250_000,
        "![" * 500_000,
        "![a](" + " " * MIB,
        "data:image/" * 90_000,
        "![[a]" * 200_000,
    ):
        begun = time.process_time()
        find_images(Message("assistant", text))
        assert time.process_time() - begun < 0.3
