"""The pictures: drawn from the request alone, so that the same request always gets the same bytes.

Pillow draws them, if it is there; without it they are plain, and always PNG. Drawing is meant to be cheap:
a palette of few colours, flat shapes, the encoders at their fastest.
"""

import colorsys
import functools
import hashlib
import io
import logging
import math
import struct
import unicodedata
import zlib
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_logger = logging.getLogger("hinow_async.sandbox")

LONG_EDGES = {"1k": 1280, "2k": 2048, "4k": 3840}
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}

_BANDS = 16
_SUN, _HILL, _PANEL, _INK = range(_BANDS, _BANDS + 4)  # places in the palette, after the sky's
_DRAWN_TEXT = 600  # characters; nobody reads more on a picture
_LEGIBLE = 8  # pixels: a smaller caption is not worth its time
_EM = 0.62  # width of a column in font sizes: a little above the mean, so that few lines are too long

# Tried in this order for a prompt beyond ASCII, for Pillow's own font has nothing else.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "segoeui.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)


@attrs.frozen
class Motif:
    """What a request's pictures show. Sizes are pixels."""

    digest: str
    """32 hex digits of the whole request."""
    prompt: str
    caption: str
    width: int
    height: int
    format: str

    @property
    def extension(self) -> str:
        """Of the files, without a dot."""
        return EXTENSIONS.get(self.format, "png")


def size_of(ratio: str, resolution: str) -> tuple[int, int]:
    """Width and height in even pixels: the contract's long edge, and the other by *ratio* (``"16:9"``)."""
    long_edge = LONG_EDGES.get(resolution, LONG_EDGES["1k"])
    left, _, right = ratio.partition(":")
    across, down = (int(side) if side.isascii() and side.isdigit() else 1 for side in (left, right))
    across, down = max(1, across), max(1, down)
    scale = long_edge / max(across, down)
    return max(2, round(across * scale / 2) * 2), max(2, round(down * scale / 2) * 2)


def draw(motif: Motif, index: int) -> bytes:
    """Picture number *index* of a request, encoded. Takes 10 to 200 ms: call it in a thread."""
    seed = hashlib.sha256(f"{motif.digest}-{index}".encode()).digest()
    if not _has_pillow():
        return plain_png(motif.width, motif.height, seed)
    return _encode(_paint(motif, index, seed), motif.format)


@functools.cache
def _has_pillow() -> bool:
    try:
        import PIL.Image  # noqa: F401, PLC0415 - 21 MB that only drawing needs
    except ImportError:
        _logger.warning(
            'The sandbox draws plain PNG pictures: for real ones, pip install "hinow-async[sandbox]"'
        )
        return False
    return True


def _encode(image: "Image.Image", form: str) -> bytes:
    out = io.BytesIO()
    if form == "jpeg":
        image.convert("RGB").save(out, "JPEG", quality=80)
    elif form == "webp":
        image.convert("RGB").save(out, "WEBP", quality=60, method=0)
    else:
        image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _palette(seed: bytes) -> list[int]:
    """The sky from light to deep, then sun, hill, panel and ink; as flat RGB values of 0 to 255."""
    hue = seed[0] / 256
    sky = [colorsys.hls_to_rgb(hue, 0.80 - 0.40 * band / _BANDS, 0.55) for band in range(_BANDS)]
    rest = [
        colorsys.hls_to_rgb((hue + 0.45) % 1, 0.70, 0.80),
        colorsys.hls_to_rgb((hue + 0.08) % 1, 0.28, 0.40),
        colorsys.hls_to_rgb(hue, 0.10, 0.30),
        (1.0, 1.0, 1.0),
    ]
    return [round(255 * part) for colour in (*sky, *rest) for part in colour]


def _paint(motif: Motif, index: int, seed: bytes) -> "Image.Image":
    from PIL import Image, ImageDraw  # noqa: PLC0415 - only drawing needs it

    image = Image.new("P", (motif.width, motif.height))
    image.putpalette(_palette(seed))
    canvas = ImageDraw.Draw(image)
    _paint_landscape(canvas, motif.width, motif.height, seed)
    _paint_text(canvas, motif, index)
    return image


def _paint_landscape(canvas: "ImageDraw.ImageDraw", width: int, height: int, seed: bytes) -> None:
    for band in range(_BANDS):
        canvas.rectangle((0, band * height // _BANDS, width, (band + 1) * height // _BANDS), fill=band)
    radius = min(width, height) * (10 + seed[1] % 10) // 100
    x, y = width * (15 + seed[2] % 70) // 100, height * (12 + seed[3] % 25) // 100
    canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_SUN)
    ridge = [
        (width * step // 16, height * (48 + 6 * math.sin(step * 0.9 + seed[4]) + seed[5 + step] % 5) / 100)
        for step in range(17)
    ]
    canvas.polygon([(0, height), *ridge, (width, height)], fill=_HILL)


def _paint_text(canvas: "ImageDraw.ImageDraw", motif: Motif, index: int) -> None:
    margin = max(2, min(motif.width, motif.height) // 24)
    left, top, right, bottom = margin, motif.height * 58 // 100, motif.width - margin, motif.height - margin
    width, height = right - left - 2 * margin, bottom - top - 2 * margin
    small = max(6, min(height // 8, width // 34))
    if width < 8 or height - 2 * small < 8:
        return
    canvas.rectangle((left, top, right, bottom), fill=_PANEL)
    text = printable(motif.prompt[:_DRAWN_TEXT])
    size, lines = fit(text, width, height - 2 * small)
    for row, line in enumerate(lines):
        canvas.text(
            (left + margin, top + margin + row * size * 5 // 4), line, fill=_INK, font=_font(text, size)
        )
    if small < _LEGIBLE:
        return
    caption = f"{printable(motif.caption)} · {index}"
    canvas.text((left + margin, bottom - margin - small), caption, fill=_SUN, font=_font(caption, small))


def printable(text: str) -> str:
    """*text* with a space for whatever has no shape: control characters, lone surrogates, line ends."""
    return "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text).strip()


def fit(text: str, width: float, height: float) -> tuple[int, list[str]]:
    """The font size (pixels) at which *text* fills the box, and its lines, cut with an ellipsis at need."""
    cells = max(1, sum(map(_columns, text)))
    size = math.sqrt(width * height / (cells * _EM * 1.25)) * 0.9  # lines are never quite full
    size = int(min(max(size, height / 12, 8), height / 2.5, width / 8))
    size = max(size, 6)
    rows = max(1, int(height // (size * 1.25)))
    lines = wrap(text, max(1, int(width / (size * _EM))))
    if len(lines) > rows:
        lines = [*lines[: rows - 1], lines[rows - 1][:-1] + "…"]
    return size, lines


def wrap(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns, broken at spaces, and within words that are longer than a line."""
    lines, line, used = [], "", 0
    for word in text.split():
        width = sum(map(_columns, word))
        if line and used + 1 + width <= columns:
            line, used = f"{line} {word}", used + 1 + width
            continue
        if line:
            lines.append(line)
        line, used = "", 0
        for char in word:
            if line and used + _columns(char) > columns:
                lines.append(line)
                line, used = "", 0
            line, used = line + char, used + _columns(char)
    return [*lines, line] if line else lines


def _columns(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _font(text: str, size: int) -> Any:
    return _load_font("" if text.isascii() else _best_font(frozenset(text)), size)


@functools.lru_cache(maxsize=64)
def _load_font(name: str, size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont  # noqa: PLC0415 - only drawing needs it

    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)


@functools.lru_cache(maxsize=1024)
def _best_font(characters: frozenset[str]) -> str:
    """The installed font that has most of *characters*; the first of equals, Pillow's own before them."""
    return max(("", *_installed()), key=lambda name: sum(_has_glyph(name, char) for char in characters))


@functools.cache
def _installed() -> tuple[str, ...]:
    found = []
    for name in _FONTS:
        try:
            _load_font(name, 24)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@functools.lru_cache(maxsize=65_536)
def _has_glyph(name: str, char: str) -> bool:
    """A character that the font lacks looks like U+FFFF, which no font has."""
    font = _load_font(name, 24)
    return char.isspace() or bytes(font.getmask(char)) != bytes(font.getmask("\uffff"))


def plain_png(width: int, height: int, seed: bytes) -> bytes:
    """A PNG of two flat colours, made without Pillow (PNG, third edition, sections 5 and 11)."""
    stride = (width + 7) // 8
    sky, hill = b"\0" * (1 + stride), b"\0" + b"\xff" * stride
    rows = sky * (height - height // 2) + hill * (height // 2)
    palette = bytes(_palette(seed)[:3] + _palette(seed)[3 * _HILL : 3 * _HILL + 3])
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)),
            _png_chunk(b"PLTE", palette),
            _png_chunk(b"IDAT", zlib.compress(rows, 1)),
            _png_chunk(b"IEND", b""),
        )
    )


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
