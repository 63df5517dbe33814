"""Thumbnails: the pictures of a folder made small.

Whatever lies in the folder may be broken, huge or a trap: a picture is opened without following links, its
frame is walked first (`_protocol/pictures`), and only then is it decoded. Everything in here blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

from hinow_async._errors import ConfigurationError
from hinow_async._files import open_inside
from hinow_async._pillow import has_pillow, refuse_bombs, shrunk
from hinow_async._protocol.failures import printable
from hinow_async._protocol.pictures import PictureCheck, PictureFacts
from hinow_async.batch.gallery.cards import Thumbnail

LONGEST_SIDE: Final = 320
"""Pixels of a thumbnail."""
_BLOCK: Final = 256 * 1024


def require_pillow() -> None:
    """Refuse to begin what could not be done.

    Raises:
        ConfigurationError: Pillow is not installed.
    """
    if not has_pillow():
        raise ConfigurationError('a gallery needs Pillow: pip install "hinow-async[cli]"')


def thumbnail(folder: Path, file: str) -> Thumbnail:
    """Make a small picture of *file*, a path inside of *folder*; never fails for what the file is."""
    try:
        with open_inside(folder, file) as opened:
            facts = _walk(opened)
            opened.seek(0)
            small = shrunk(opened, LONGEST_SIDE, (facts.format,))
    except FileNotFoundError:
        return Thumbnail(None, is_missing=True)
    except Exception as error:  # of broken files Pillow's parsers raise whatever they trip over
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Thumbnail(None, problem=printable(reason, 200))
    return Thumbnail(small.uri, small.width, small.height)


def _walk(file: IO[bytes]) -> PictureFacts:
    check = PictureCheck()
    while block := file.read(_BLOCK):
        check.feed(block)
    facts = check.finish()
    refuse_bombs(facts.width, facts.height)
    return facts
