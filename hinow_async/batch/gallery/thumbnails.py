"""Thumbnails: pictures made small, as data: URIs that a page can carry.

Whatever lies in the folder may be broken, huge or a trap: a picture is opened without following links, its
frame is walked first (`_protocol/pictures`), and only then is it decoded. Threads do as well as processes
here (measured: Pillow lets go of the interpreter while it decodes and resizes). Everything in here blocks.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import threading
from pathlib import Path
from typing import IO, Final

from hinow_async._download.decode import MOST_PIXELS
from hinow_async._errors import ConfigurationError, IntegrityError
from hinow_async._protocol.failures import printable
from hinow_async._protocol.pictures import PictureCheck, PictureFacts
from hinow_async.batch.gallery.cards import Thumbnail
from hinow_async.batch.gallery.files import open_inside

LONGEST_SIDE: Final = 320
"""Pixels of a thumbnail."""
_QUALITY: Final = 75
"""Of WebP: a fifth smaller than JPEG at 80, for 4 ms more."""
_MANY_PIXELS: Final = 20_000_000
_one_at_a_time = threading.Lock()
"""Held while a picture of many pixels is decoded: side by side they could fill the memory."""

_BLOCK: Final = 256 * 1024


def require_pillow() -> None:
    """Refuse to begin what could not be done.

    Raises:
        ConfigurationError: Pillow is not installed.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ConfigurationError('a gallery needs Pillow: pip install "hinow-async[cli]"')


def thumbnail(folder: Path, file: str) -> Thumbnail:
    """Make a small picture of *file*, a path inside of *folder*; never fails for what the file is."""
    try:
        with open_inside(folder, file) as opened:
            facts = _walk(opened)
            opened.seek(0)
            with _one_at_a_time if facts.width * facts.height > _MANY_PIXELS else contextlib.nullcontext():
                return _shrunk(opened, facts)
    except FileNotFoundError:
        return Thumbnail(None, is_missing=True)
    except Exception as error:  # of broken files Pillow's parsers raise whatever they trip over
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Thumbnail(None, problem=printable(reason, 200))


def _walk(file: IO[bytes]) -> PictureFacts:
    check = PictureCheck()
    while block := file.read(_BLOCK):
        check.feed(block)
    facts = check.finish()
    _refuse_bombs(facts.width, facts.height)
    return facts


def _refuse_bombs(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise IntegrityError(f"{width:,} x {height:,} pixels are too many to be decoded")


def _shrunk(file: IO[bytes], facts: PictureFacts) -> Thumbnail:
    from PIL import Image  # noqa: PLC0415 - an extra, and slow to import

    with Image.open(file, formats=[facts.format]) as opened:
        _refuse_bombs(*opened.size)  # two decoders may read one header in two ways
        opened.draft("RGB", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))  # a JPEG is decoded small at once
        is_clear = opened.has_transparency_data
        small = opened.convert("RGBA" if is_clear else "RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY, method=2)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/webp;base64,{text}", *small.size)
