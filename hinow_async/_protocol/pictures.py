"""Is it a whole picture? Judged by its frame alone: signature, size, structure, end; nothing is decoded.

Framing of the transport does not prove that a body is complete, and decoders do not either (some pass files
whose last bytes are missing). So a PNG is walked chunk by chunk to its exact end (W3C PNG, section 5), a
JPEG segment by segment to its scan and must end with its end marker (ITU-T T.81, annex B), a WebP must have
the length that its RIFF header says (RFC 9649, section 2.4). Memory is constant, whatever a header claims.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Generator
from typing import Final, TypeAlias

import attrs

from hinow_async._errors import IntegrityError
from hinow_async._models.images import ImageFormat

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
# Start of frame, of any coding; 0xC4, 0xC8 and 0xCC are other segments (T.81, table B.1).
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN: Final = 0xDA
# Markers without a length: none of them belongs before the scan.
_JPEG_BARE: Final = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
# Bounds the walk through headers made to be walked for ever. An encoder's chunks are 8 KiB and more.
_MOST_PARTS: Final = 1 << 18

_REST: Final = 0
_Steps: TypeAlias = Generator[int, bytes, None]
"""A walk asks for the next n bytes (n above 0), for -n bytes to be passed over, or for all the rest (0)."""


@attrs.frozen
class PictureFacts:
    """What a whole picture's frame says."""

    format: ImageFormat
    width: int
    """Pixels, as the header says."""
    height: int


def sniff(head: bytes) -> ImageFormat | None:
    """Tell a picture's format by its first bytes (12 are enough); None if it is none that we know."""
    if head.startswith(_PNG_SIGNATURE):
        return "png"
    if head.startswith(_JPEG_SIGNATURE):
        return "jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return None


class PictureCheck:
    """Judges a picture while its bytes pass by, in blocks of any size.

    `feed` raises as soon as the bytes cannot become a whole picture, `finish` if they have not become one.
    """

    __slots__ = ("_asked", "_format", "_has_ended", "_size", "_steps", "_tail", "_taken", "fed")

    def __init__(self) -> None:
        self.fed = 0
        """Bytes seen so far."""
        self._format: ImageFormat | None = None
        self._size: tuple[int, int] | None = None
        self._tail = b""
        self._taken = b""
        self._has_ended = False
        self._steps = self._walk()
        self._asked = next(self._steps)

    def feed(self, block: bytes | memoryview) -> None:
        """Look at the next bytes.

        Raises:
            IntegrityError: they are no picture, a malformed one, or go on after its end.
        """
        length, at = len(block), 0
        while at < length:
            if self._has_ended:
                raise IntegrityError(f"there are bytes after the end of the {self._format} picture")
            if self._asked > 0:
                at = self._take(block, at)
            elif self._asked == _REST:
                at = length
            else:
                passed = min(length - at, -self._asked)
                at += passed
                self._asked += passed
                if not self._asked:
                    self._go_on(b"")
        self._tail = (self._tail + bytes(block[-2:]))[-2:]
        self.fed += length

    def finish(self) -> PictureFacts:
        """Judge the end.

        Raises:
            IntegrityError: the picture is not whole.
        """
        if self._format is None:
            raise IntegrityError(f"these {self.fed:,} bytes are no picture" if self.fed else "it is empty")
        has_ended = self._has_ended or (self._asked == _REST and self._tail == _JPEG_END)
        if not has_ended or self._size is None:
            raise IntegrityError(f"the {self._format} picture ends too soon, after {self.fed:,} bytes")
        return PictureFacts(self._format, *self._size)

    def _take(self, block: bytes | memoryview, at: int) -> int:
        """Collect what the walk asked for; return where to go on in *block*."""
        piece = bytes(block[at : at + self._asked])
        self._asked -= len(piece)
        self._taken += piece
        if not self._asked:
            taken, self._taken = self._taken, b""
            self._go_on(taken)
        return at + len(piece)

    def _go_on(self, taken: bytes) -> None:
        try:
            self._asked = self._steps.send(taken)
        except StopIteration:
            self._has_ended = True

    def _walk(self) -> _Steps:
        head = yield 2
        if head == _JPEG_SIGNATURE[:2]:
            self._format = "jpeg"
            yield from self._walk_jpeg()
        head += yield 6
        if head == _PNG_SIGNATURE:
            self._format = "png"
            yield from self._walk_png()
            return
        tag = yield 4
        if head[:4] != b"RIFF" or tag != b"WEBP":
            raise IntegrityError("these bytes are no picture (PNG, JPEG and WebP are known)")
        self._format = "webp"
        yield from self._walk_webp(int.from_bytes(head[4:], "little"))

    def _walk_png(self) -> _Steps:
        has_data = False
        for part in range(_MOST_PARTS):
            length, kind = struct.unpack(">I4s", (yield 8))
            if length >= 1 << 31 or not kind.isalpha() or (part == 0) != (kind == b"IHDR"):
                raise self._malformed()
            if part == 0:
                if length != 13:
                    raise self._malformed()
                self._set_size(*struct.unpack(">II", (yield 8)))
                length -= 8
            yield -(length + 4)  # and the checksum
            if kind == b"IEND":
                if length or not has_data:
                    raise self._malformed()
                return
            has_data = has_data or kind == b"IDAT"
        raise self._malformed()

    def _walk_jpeg(self) -> _Steps:
        before, marker = yield from self._pair()
        for _ in range(_MOST_PARTS):
            if before != 0xFF or marker in _JPEG_BARE:
                raise self._malformed()
            if marker == 0xFF:  # fill bytes may precede a marker (T.81, B.1.1.2)
                (marker,) = yield 1
                continue
            length = int.from_bytes((yield 2), "big") - 2
            if marker == _JPEG_SCAN and self._size:
                yield _REST
            if marker in _JPEG_FRAMES:
                _, height, width = struct.unpack(">BHH", (yield 5))
                self._set_size(width, height)
                length -= 5
            if length < 0 or marker == _JPEG_SCAN:
                raise self._malformed()
            if length:
                yield -length
            before, marker = yield from self._pair()
        raise self._malformed()

    def _pair(self) -> Generator[int, bytes, tuple[int, int]]:
        first, second = yield 2
        return first, second

    def _walk_webp(self, riff_length: int) -> _Steps:
        left = riff_length - len(b"WEBP")
        kind, length = struct.unpack("<4sI", (yield 8))
        head = yield 10
        left -= 18
        if length + 8 > left + 18 or left < 0:
            raise self._malformed()
        if kind == b"VP8 " and not head[0] & 1 and head[3:6] == b"\x9d\x01\x2a":  # a key frame
            width, height = struct.unpack("<HH", head[6:])
            self._set_size(width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and head[0] == 0x2F:
            packed = int.from_bytes(head[1:5], "little")
            self._set_size((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1)
        elif kind == b"VP8X":
            size = int.from_bytes(head[4:], "little")
            self._set_size((size & 0xFF_FFFF) + 1, (size >> 24) + 1)
        else:
            raise self._malformed()
        if left:
            yield -left

    def _set_size(self, width: int, height: int) -> None:
        if not width or not height:
            raise IntegrityError(f"the {self._format} picture is {width} x {height} pixels")
        self._size = (width, height)

    def _malformed(self) -> IntegrityError:
        return IntegrityError(f"the {self._format} picture is malformed")


def data_uri(data: bytes) -> str:
    """Write a whole picture as a `data:` URI (RFC 2397), of the type that its bytes say.

    Raises:
        ValueError: it is no whole picture.
    """
    check = PictureCheck()
    try:
        check.feed(data)
        facts = check.finish()
    except IntegrityError as error:
        raise ValueError(str(error)) from None
    return f"data:image/{facts.format};base64,{base64.b64encode(data).decode('ascii')}"
