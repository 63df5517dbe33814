"""From the bytes of a file to its lines, and from bytes to text: UTF-8, with or without a byte order mark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

LONGEST_LINE: Final = 16 * 1024 * 1024
"""Bytes of a line, or of a row of several: no prompt is that long, and no more than that is held."""


class UnreadableError(ValueError):
    """From here on nobody can tell where the next row begins: nothing more is read, also if bad lines are."""


class Lines:
    """Cuts a file into its lines, told it block by block."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self.number = 0
        """Of the line that was yielded last, from 1."""

    def cut(self, block: bytes) -> Iterator[bytes]:
        """Yield the lines that are whole now, without their ends; an empty block is the end.

        Raises:
            UnreadableError: a line is too long, or the file is UTF-16.
        """
        *whole, rest = block.split(b"\n") if block else (b"", b"")
        for index, line in enumerate(whole):
            if index == 0:
                line = b"".join([*self._parts, line])  # noqa: PLW2901 - the first goes on from before
                self._parts, self._held = [], 0
            self.number += 1
            yield line if self.number > 1 else _unmarked(line)
        self._held += len(rest)
        if self._held > LONGEST_LINE:
            raise UnreadableError(f"the line is longer than {LONGEST_LINE:,} bytes")
        if rest:
            self._parts.append(rest)


def _unmarked(line: bytes) -> bytes:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError("the file is UTF-16; save it as UTF-8")
    return line.removeprefix(b"\xef\xbb\xbf")


def decoded(raw: bytes) -> str:
    """Read bytes as text.

    Raises:
        ValueError: they are none.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    if "\0" in text:
        raise ValueError("it holds a zero byte: this is not a text file")
    return text
