"""Pictures of any size, for servers that are to cost nothing."""

from __future__ import annotations

import random
import struct
import zlib

MIB = 1024 * 1024


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: int, seed: int = 0) -> bytes:
    """A PNG frame of *size* bytes around noise."""
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 3840, 2160, 8, 2, 0, 0, 0))
    end = _chunk(b"IEND", b"")
    noise = random.Random(seed).randbytes(MIB) * (size // MIB + 1)
    left = size - len(head) - len(end)
    body = []
    while left > 0:
        length = min(left, 64 * 1024 + 12)
        if 0 < left - length < 12:
            length -= 12
        body.append(_chunk(b"IDAT", noise[: length - 12]))
        left -= length
    return head + b"".join(body) + end
