"""A picture decoded to its last pixel, on request (`DownloadPolicy.full_decode`, `hinow verify --deep`).

The walk over a picture's frame (`_protocol/pictures`) finds every cut file; only decoding finds pixels that
were damaged in between: all of them in a PNG, whose data carry checksums, and in JPEG and WebP those that
cannot be decoded. It takes 20 to 560 ms a picture, and Pillow, which is an extra.
"""

from __future__ import annotations

from typing import IO

from hinow_async._errors import ConfigurationError, IntegrityError
from hinow_async._pillow import has_pillow, refuse_bombs
from hinow_async._protocol.pictures import PictureFacts


def require_decoder(what: str) -> None:
    """Refuse to begin what could not be done.

    Args:
        what: What needs it, as the user calls it.

    Raises:
        ConfigurationError: Pillow is not installed.
    """
    if not has_pillow():
        raise ConfigurationError(f'{what} needs Pillow: pip install "hinow-async[sandbox]"')


def decode_fully(file: IO[bytes], facts: PictureFacts) -> None:
    """Decode the picture in *file*. Runs in a thread.

    Raises:
        IntegrityError: it cannot be decoded.
    """
    from PIL import Image  # noqa: PLC0415 - an extra, and slow to import

    refuse_bombs(facts.width, facts.height)
    try:
        if facts.format == "png":  # decoding ignores the checksums: some damage is only another picture
            Image.open(file, formats=["png"]).verify()
            file.seek(0)
        with Image.open(file, formats=[facts.format]) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        problem = str(error)[:200] or type(error).__name__
    else:
        return
    raise IntegrityError(f"the {facts.format} picture cannot be decoded: {problem}")
