"""Pictures made small by Pillow, which is an extra: as data: URIs that a page or a notebook can carry.

Threads do as well as processes here (measured: Pillow lets go of the interpreter while it decodes and
resizes). Everything in here blocks.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import threading
from typing import IO, Final

import attrs

from hinow_async._errors import IntegrityError

FORMATS: Final = ("png", "jpeg", "webp")
"""No other decoder of Pillow's is ever asked."""
MOST_PIXELS: Final = 80_000_000
"""Decoding allocates some four bytes a pixel: beyond this a header's claim is not believed (4k: 15e6)."""
_MANY_PIXELS: Final = 20_000_000
_QUALITY: Final = 75
"""Of WebP: a fifth smaller than JPEG at 80, for 4 ms more."""
_one_at_a_time = threading.Lock()
"""Held while a picture of many pixels is decoded: side by side they could fill the memory."""


@attrs.frozen
class Small:
    """A picture made small."""

    uri: str
    """`data:image/webp;base64,...`"""
    width: int
    height: int


def has_pillow() -> bool:
    """Whether there is a Pillow."""
    return importlib.util.find_spec("PIL") is not None


def refuse_bombs(width: int, height: int) -> None:
    """Refuse what would fill the memory once decoded.

    Raises:
        IntegrityError: it has too many pixels.
    """
    if width * height > MOST_PIXELS:
        raise IntegrityError(f"{width:,} x {height:,} pixels are too many to be decoded")


def shrunk(file: IO[bytes], longest: int, formats: tuple[str, ...] = FORMATS) -> Small:
    """Make a small picture of *file*, whose longest side has *longest* pixels.

    Raises:
        IntegrityError: it has too many pixels.
        Exception: it is broken; Pillow's parsers raise whatever they trip over.
    """
    from PIL import Image  # noqa: PLC0415 - an extra, and slow to import

    with Image.open(file, formats=formats) as opened:
        refuse_bombs(*opened.size)  # two decoders may read one header in two ways
        is_large = opened.width * opened.height > _MANY_PIXELS
        with _one_at_a_time if is_large else contextlib.nullcontext():
            opened.draft("RGB", (2 * longest, 2 * longest))  # a JPEG is decoded small at once
            small = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
            small.thumbnail((longest, longest), reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY, method=2)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return Small(f"data:image/webp;base64,{text}", *small.size)
