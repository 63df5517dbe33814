"""Byte ranges, as far as resuming a download needs them (RFC 9110, section 14)."""

import re

import attrs

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Unsatisfiable(Exception):  # noqa: N818 - the RFC's word
    """The range lies beyond the end."""


@attrs.frozen
class ByteRange:
    """The bytes from *start* up to, not including, *stop*."""

    start: int
    stop: int


def read_range(header: str | None, size: int) -> ByteRange | None:
    """What a ``Range`` header asks for, of *size* bytes.

    Returns:
        None when the whole is to be sent: without the header, for other units, several ranges and nonsense,
        all of which a server may ignore.

    Raises:
        Unsatisfiable: nothing of it exists.
    """
    match = None if header is None else _ONE_RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, stop)
