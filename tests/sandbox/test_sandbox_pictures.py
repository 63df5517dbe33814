"""The pictures: real ones, of the right shape, the same for the same request."""

import io
import logging
import sys
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hinow_async.sandbox import pictures
from hinow_async.sandbox.files import Files
from hinow_async.sandbox.pictures import Motif, draw, fit, plain_png, size_of, wrap
from hinow_async.sandbox.ranges import Unsatisfiable, read_range

PINNED = "openai/gpt-image-2-2026-04-21"


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def motif(prompt: str = "A fox", width: int = 96, height: int = 64, form: str = "png") -> Motif:
    return Motif(f"{zlib.crc32(repr(prompt).encode()):032x}", prompt, "caption", width, height, form)


@pytest.mark.parametrize(
    ("ratio", "resolution", "size"),
    [
        ("1:1", "1k", (1280, 1280)),
        ("16:9", "1k", (1280, 720)),
        ("9:16", "2k", (1152, 2048)),
        ("4:3", "2k", (2048, 1536)),
        ("3:4", "4k", (2880, 3840)),
        ("3:2", "1k", (1280, 854)),
        ("2:3", "4k", (2560, 3840)),
        ("21:9", "1k", (1280, 548)),
    ],
)
def test_sizes(ratio, resolution, size):
    """The long edge by resolution, the other by ratio, both even."""
    assert size_of(ratio, resolution) == size


@pytest.mark.parametrize(
    ("form", "kind", "ending"),
    [(None, "PNG", ".png"), ("png", "PNG", ".png"), ("jpeg", "JPEG", ".jpg"), ("webp", "WEBP", ".webp")],
)
async def test_the_picture_is_what_was_asked_for(behave, form, kind, ending):
    """Format and size are those of the request; the type is said rightly."""
    async with behave(picture_size=None) as caller:
        chosen = {} if form is None else {"output_format": form}
        (url,) = await caller.urls(aspect_ratio="16:9", resolution="1k", **chosen)
        reply = await caller.fetch(url)

    image = opened(reply.body)
    assert url.endswith(ending)
    assert (image.format, image.size) == (kind, (1280, 720))
    assert reply.headers["Content-Type"] == f"image/{kind.lower()}"
    assert reply.headers["Content-Length"] == str(len(reply.body))


async def test_the_same_request_gets_the_same_bytes(behave):
    """In two sandboxes too; another prompt, parameter or index gets others."""
    seen = []
    for _ in range(2):
        async with behave() as caller:
            urls = [*await caller.urls("A fox", num_images=2), *await caller.urls("An owl")]
            urls += await caller.urls("A fox", num_images=2, quality="high")
            seen.append([(await caller.fetch(url)).body for url in urls])

    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 5


async def test_pictures_are_drawn_when_they_are_fetched(caller):
    """An answer costs no drawing; a fetched picture comes from the cache the second time."""
    drawn = caller.sandbox._service.files._cache
    (url,) = await caller.urls()
    before = len(drawn)
    first = await caller.fetch(url)

    assert (before, len(drawn)) == (0, 1)
    assert (await caller.fetch(url)).body == first.body
    assert len(drawn) == 1


def test_the_prompt_is_drawn_in():
    """Two prompts with the same colours differ below the hills, where the text stands."""
    one, other = (draw(Motif("0" * 32, prompt, "c", 320, 200, "png"), 0) for prompt in ("A fox", "An owl"))
    images = [opened(content).convert("RGB") for content in (one, other)]

    sky, text = (0, 0, 320, 90), (0, 116, 320, 200)
    assert images[0].crop(sky).tobytes() == images[1].crop(sky).tobytes()
    assert images[0].crop(text).tobytes() != images[1].crop(text).tobytes()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=700), *[st.integers(2, 200)] * 2, st.sampled_from(sorted(pictures.EXTENSIONS)))
def test_any_prompt_can_be_drawn(prompt, width, height, form):
    """No prompt, lone surrogates and control characters included, and no size, breaks the drawing."""
    assert opened(draw(motif(prompt, width, height, form), 9)).size == (width, height)


@pytest.mark.parametrize(
    "prompt", ["\ud800 lone", "\0\x1b[31m", "灯台の夜明け", "منارة", "🦊" * 300, "W" * 5000]
)
async def test_any_script_goes_through_http(caller, prompt):
    """The answer to a prompt of any script is a picture."""
    (url,) = await caller.urls(prompt)

    assert opened((await caller.fetch(url)).body).size == (64, 64)


@given(st.text(max_size=300), st.integers(1, 40))
def test_wrapping_keeps_every_character(text, columns):
    """Lines hold at most so many columns (one wide character always fits) and all but the spaces."""
    lines = wrap(text, columns)

    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(sum(map(pictures._columns, line)) <= max(columns, 2) for line in lines)


@given(st.text(max_size=600), st.integers(8, 4000), st.integers(8, 2000))
def test_text_is_made_to_fit(text, width, height):
    """At least one line's height is there; what is too much is cut with an ellipsis."""
    size, lines = fit(text, width, height)

    assert size >= 6
    assert len(lines) <= max(1, height // (size * 1.25))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (1280, 720)])
def test_plain_pictures_are_whole(width, height):
    """The picture made without Pillow is a valid PNG of the right size."""
    image = opened(plain_png(width, height, bytes(range(32))))

    assert (image.format, image.size) == ("PNG", (width, height))


async def test_without_pillow_it_says_so_once(caller, monkeypatch, caplog):
    """A PNG is served whatever the format, rightly labelled, and one warning names the extra."""
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    pictures._has_pillow.cache_clear()
    caplog.set_level(logging.WARNING, "hinow_async.sandbox")
    try:
        replies = [await caller.fetch(url) for url in await caller.urls(output_format="webp", num_images=2)]
    finally:
        pictures._has_pillow.cache_clear()

    assert [reply.headers["Content-Type"] for reply in replies] == ["image/png"] * 2
    assert replies[0].body.startswith(b"\x89PNG")
    assert len([record for record in caplog.records if "hinow-async[sandbox]" in record.message]) == 1


async def test_files_need_no_key_but_their_token(caller):
    """A link is enough; with another token, index, ending or digest there is nothing."""
    (url,) = await caller.urls()
    head, token, name = url.rsplit("/", 2)
    wrong = [f"{head}/{'x' * len(token)}/{name}", url.replace("-0.", "-1."), url.replace(".png", ".jpg")]
    wrong += [f"{head}/{token}/{'0' * 32}-0.png", f"{head}/{token}/../{token}/{name}x", f"{head}/"]

    assert len(token) >= 20
    assert (await caller.fetch(url)).status == 200
    assert [(await caller.fetch(one)).status for one in wrong] == [404] * len(wrong)


async def test_links_expire(behave):
    """After their time they answer 403; the same request makes them new."""
    async with behave(urls_expire=0) as caller:
        (url,) = await caller.urls()
        expired = await caller.fetch(url)
        caller.sandbox.change(urls_expire=60)

        assert (expired.status, expired.error["code"]) == (403, "link_expired")
        assert (await caller.fetch(url)).status == 200


async def test_a_part_of_a_picture(caller):
    """`Range` gets the part, with the ETag of the whole; `If-Range` with another ETag gets the whole."""
    (url,) = await caller.urls()
    whole = await caller.fetch(url)
    etag, size = whole.headers["ETag"], len(whole.body)
    rest = await caller.fetch(url, Range="bytes=10-", If_Range=etag)
    tail = await caller.fetch(url, Range="bytes=-5")
    changed = await caller.fetch(url, Range="bytes=10-", If_Range='"other"')
    beyond = await caller.fetch(url, Range=f"bytes={size}-")

    assert (rest.status, rest.body, rest.headers["ETag"]) == (206, whole.body[10:], etag)
    assert rest.headers["Content-Range"] == f"bytes 10-{size - 1}/{size}"
    assert (tail.status, tail.body) == (206, whole.body[-5:])
    assert (changed.status, changed.body) == (200, whole.body)
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")


async def test_ranges_can_be_off(behave):
    """A server that knows no ranges sends the whole."""
    async with behave(ranges=False) as caller:
        (url,) = await caller.urls()
        reply = await caller.fetch(url, Range="bytes=10-")

    assert reply.status == 200
    assert reply.body.startswith(b"\x89PNG")


@given(
    st.one_of(st.none(), st.text(), st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True)),
    st.integers(1, 5000),
)
def test_ranges_never_leave_the_body(header, size):
    """Whatever the header says, a range is within the body and not empty."""
    try:
        part = read_range(header, size)
    except Unsatisfiable:
        return
    assert part is None or 0 <= part.start < part.stop <= size


async def test_bandwidth_slows_the_download(behave):
    """A body of n bytes takes n / bandwidth seconds, and is whole."""
    async with behave(picture_size=256) as caller:
        (url,) = await caller.urls()
        quick = await caller.fetch(url)
        caller.sandbox.change(bandwidth=len(quick.body) / 0.2)
        started = time.perf_counter()
        slow = await caller.fetch(url)
        elapsed = time.perf_counter() - started

    assert slow.body == quick.body
    assert elapsed >= 0.2


async def test_the_cache_is_bounded(monkeypatch):
    """Old pictures go when there is no room, and are drawn again, the same."""
    monkeypatch.setattr("hinow_async.sandbox.files.CACHE_BYTES", 1500)
    files = Files()
    first = await files.picture(motif(), 0)
    for index in range(1, 10):
        await files.picture(motif(), index)

    assert sum(len(one.content) for one in files._cache.values()) <= 1500
    assert (await files.picture(motif(), 0)).content == first.content
    await files.aclose()
