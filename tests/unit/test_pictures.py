"""A picture is whole or it is none: judged from its frame, from blocks cut anywhere."""

import io
import struct
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from hinow_async._errors import IntegrityError
from hinow_async._protocol.pictures import PictureCheck, PictureFacts, sniff


def encoded(kind, size=(33, 17), mode="RGB", **options):
    """A real picture as Pillow writes it, with noise enough to need all of its bytes."""
    width, height = size
    noise = bytes((x * 37 + y * 101 + x * y) % 256 for y in range(height) for x in range(width * 4))
    picture = Image.frombytes("RGBA", size, noise).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def exif():
    """Metadata with an embedded thumbnail: a JPEG with an end of its own."""
    fields = Image.Exif()
    fields[0x010E] = "a thumbnail: " + encoded("JPEG", (8, 8)).hex()
    return fields


def with_notes():
    """A PNG whose text stands in chunks of its own."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("prompt", "a lighthouse IEND")
    return notes


PICTURES = {
    "png": (encoded("PNG"), "png"),
    "png-palette": (encoded("PNG", mode="P"), "png"),
    "png-notes": (encoded("PNG", mode="RGBA", pnginfo=with_notes()), "png"),
    "jpeg": (encoded("JPEG"), "jpeg"),
    "jpeg-progressive": (encoded("JPEG", progressive=True, quality=95), "jpeg"),
    "jpeg-grey": (encoded("JPEG", mode="L", restart_marker_blocks=1), "jpeg"),
    "jpeg-exif": (encoded("JPEG", exif=exif(), comment=b"\xff\xd9"), "jpeg"),
    "webp": (encoded("WEBP"), "webp"),
    "webp-lossless": (encoded("WEBP", lossless=True), "webp"),
    "webp-alpha": (encoded("WEBP", mode="RGBA", exif=exif()), "webp"),
}
each_picture = pytest.mark.parametrize(("data", "kind"), PICTURES.values(), ids=PICTURES)


def judge(data, cuts=()):
    """Feed *data* in the blocks that *cuts* make, and finish."""
    check = PictureCheck()
    for start, end in pairwise((0, *sorted(cuts), len(data))):
        check.feed(data[start:end])
    return check.finish()


@each_picture
def test_whole_pictures_pass(data, kind):
    """Each format, in every coding that Pillow writes, passes with its size; a memoryview does as well."""
    assert judge(data) == judge(memoryview(data)) == PictureFacts(kind, 33, 17)
    assert sniff(data[:12]) == kind


@each_picture
def test_every_cut_is_seen(data, kind):
    """A picture that lacks its last bytes, however few or many, is not whole."""
    passed = []
    for end in range(len(data)):
        check = PictureCheck()
        check.feed(data[:end])
        try:
            check.finish()
        except IntegrityError:
            continue
        passed.append(end)
    assert passed == []


@each_picture
@pytest.mark.parametrize("garbage", [b"\x00", b"\n", b"<html>", b"x" * 5000])
def test_bytes_after_the_end_are_seen(data, kind, garbage):
    """What was appended does not pass."""
    with pytest.raises(IntegrityError):
        judge(data + garbage)


@given(st.sampled_from(sorted(PICTURES)), st.data())
def test_blocks_may_be_cut_anywhere(name, data):
    """The judgement is the same in whatever blocks the bytes come, of whole pictures and of cut ones."""
    whole, kind = PICTURES[name]
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=40))
    assert judge(whole, cuts) == PictureFacts(kind, 33, 17)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(IntegrityError):
        judge(whole[:end], [min(cut, end) for cut in cuts])


@each_picture
def test_byte_by_byte(data, kind):
    """Even one byte at a time."""
    assert judge(data, range(1, len(data))) == PictureFacts(kind, 33, 17)


@given(
    st.binary(max_size=300) | st.sampled_from(sorted(PICTURES)).map(lambda name: PICTURES[name][0]), st.data()
)
@settings(max_examples=300)
def test_damage_is_an_integrity_error_or_nothing(data, draw):
    """No bytes make the check fail in any other way, nor pass with a size of nought."""
    damaged = bytearray(data)
    for at in draw.draw(st.lists(st.integers(0, max(0, len(data) - 1)), max_size=4)):
        damaged[at : at + 1] = draw.draw(st.binary(max_size=3))
    try:
        facts = judge(bytes(damaged))
    except IntegrityError:
        facts = None
    assert facts is None or facts.width * facts.height > 0


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0))
PNG_BODY = chunk(b"IDAT", b"x")
PNG_END = chunk(b"IEND")
WEBP = PICTURES["webp"][0]

MALFORMED = {
    "nothing": b"",
    "html": b"<!doctype html><html><body>not here</body></html>",
    "json": b'{"error": "gone"}',
    "gif": b"GIF89a" + bytes(40),
    "avif": b"\x00\x00\x00\x20ftypavif" + bytes(40),
    "wave": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40),
    "only a signature": SIGNATURE,
    "no header": SIGNATURE + PNG_BODY + PNG_END,
    "two headers": SIGNATURE + HEADER + HEADER + PNG_BODY + PNG_END,
    "no data": SIGNATURE + HEADER + PNG_END,
    "size of nought": SIGNATURE + chunk(b"IHDR", bytes(13)) + PNG_BODY + PNG_END,
    "short header": SIGNATURE + chunk(b"IHDR", bytes(12)) + PNG_BODY + PNG_END,
    "an end with data": SIGNATURE + HEADER + PNG_BODY + chunk(b"IEND", b"x"),
    "a chunk that is no chunk": SIGNATURE + HEADER + b"<html> not found",
    "a chunk of 4 GiB": SIGNATURE + HEADER + b"\xff\xff\xff\xffIDAT",
    "chunks for ever": SIGNATURE + HEADER + PNG_BODY + chunk(b"IDAT") * (1 << 18) + PNG_END,
    "end before a scan": b"\xff\xd8\xff\xd9",
    "no frame before the scan": b"\xff\xd8\xff\xda\x00\x02\xff\xd9",
    "a segment of length 1": b"\xff\xd8\xff\xe0\x00\x01" + bytes(20) + b"\xff\xd9",
    "fill bytes for ever": b"\xff\xd8" + b"\xff" * (1 << 19),
    "a frame of nought": b"\xff\xd8\xff\xc0\x00\x07\x08" + bytes(4) + b"\xff\xda\xff\xd9",
    "webp longer than it says": WEBP[:4] + struct.pack("<I", len(WEBP) - 10) + WEBP[8:],
    "webp shorter than it says": WEBP[:4] + struct.pack("<I", len(WEBP) - 6) + WEBP[8:],
    "webp of length nought": WEBP[:4] + bytes(4) + WEBP[8:],
    "webp of an unknown chunk": WEBP[:12] + b"VP9 " + WEBP[16:],
    "webp with a chunk beyond its end": WEBP[:16] + b"\xff\xff\xff\xff" + WEBP[20:],
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_whole_picture(data):
    """Other files, broken frames and frames made to be walked for ever are refused."""
    with pytest.raises(IntegrityError):
        judge(data)


def test_sniff_knows_three_formats():
    """Other formats, HTML and too few bytes are none."""
    assert [sniff(data) for data in (b"", b"\x89PN", b"<html>", b"RIFF....WAVE", b"GIF89a")] == [None] * 5


def test_the_size_is_read_whatever_it_claims_and_nothing_is_kept():
    """A header that claims 100,000 x 100,000 pixels allocates nothing; 64 MiB pass through 100 KiB."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 6, 0, 0, 0))
    block = bytes(1 << 20)
    start = SIGNATURE + header + struct.pack(">I4s", 64 << 20, b"IDAT")
    check = PictureCheck()
    tracemalloc.start()
    check.feed(start)
    for _ in range(64):
        check.feed(block)
    check.feed(bytes(4) + PNG_END)
    facts = check.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts == PictureFacts("png", 100_000, 100_000)
    assert peak < 100_000
