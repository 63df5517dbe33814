"""Server-sent events from bytes that are cut anywhere (WHATWG HTML standard, section 9.2.6).

Pure: it is fed what came and gives the events that are whole. What it costs is linear in the bytes, however
they are cut: what is unfinished is kept until the end of its line comes, and is searched once. What it holds
is bounded by `max_event`, whatever a server sends and however it cuts it: pieces of two bytes, kept as
they came, would take thirty times their size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

MAX_EVENT: Final = 64 * 2**20
"""Bytes of one line, and of the data of one event: pictures come as base64."""

_BOM: Final = b"\xef\xbb\xbf"
_QUICK: Final = b"data: "


class EventTooLargeError(ValueError):
    """A line, or the data of an event, is longer than allowed."""


@attrs.define  # not frozen: one is made per chunk of a stream, and a frozen one takes thrice as long
class Event:
    """One event."""

    data: str
    """Its data lines, joined by line feeds."""
    name: str = "message"
    id: str = ""
    """The last id that was sent, with this event or before it."""


class Decoder:
    """Turns the bytes of one stream into its events; an unfinished last event is never given."""

    __slots__ = ("_data", "_has_begun", "_id", "_line", "_max", "_name", "_skips_lf", "retry")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        """Begin a stream.

        Args:
            max_event: The longest line, and the most data of one event, in bytes.
        """
        self._max = max_event
        self._line = bytearray()  # the line whose end has not come
        self._data: bytearray | None = None
        self._name = ""
        self._id = ""
        self._has_begun = False
        self._skips_lf = False
        self.retry: int | None = None
        """Milliseconds after which the server wants to be asked again, if it said so."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take bytes, and yield the events that they complete. It has to be read to its end.

        Raises:
            EventTooLargeError: a line or an event is too long; the events before it were yielded.
        """
        lines = self._whole_lines(self._with_line_feeds(data))
        if lines is not None:
            yield from self._events(lines)
        if len(self._line) > self._max + (0 if self._has_begun else len(_BOM)):
            raise self._too_large()

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Make every end of a line a line feed, also one that is cut between its CR and its LF."""
        if self._skips_lf and data:
            self._skips_lf = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._skips_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _whole_lines(self, data: bytes) -> bytes | bytearray | None:
        """Return the lines that are whole by now, with their ends; keep what is unfinished."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._line += data
            return None
        whole: bytes | bytearray = data[:end]
        if self._line:
            self._line += whole
            whole, self._line = self._line, bytearray()
        self._line += data[end:]
        if not self._has_begun:
            self._has_begun = True
            if whole.startswith(_BOM):
                whole = whole.removeprefix(_BOM)
        return whole

    def _events(self, lines: bytes | bytearray) -> Iterator[Event]:
        *blocks, last = lines.split(b"\n\n")
        for block in blocks:
            # Nearly every event of a chat is one line of data: that takes the short way.
            if self._data is None and block.startswith(_QUICK) and not self._name and b"\n" not in block:
                if len(block) > self._max:
                    raise self._too_large()
                yield Event(block[6:].decode("utf-8", "replace"), id=self._id)
            else:
                yield from self._slowly(block)
                if (event := self._dispatch()) is not None:
                    yield event
        if last:
            yield from self._slowly(last.removesuffix(b"\n"))

    def _slowly(self, block: bytes | bytearray) -> Iterator[Event]:
        for line in block.split(b"\n"):
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                yield event

    def _take(self, line: bytes | bytearray) -> None:
        if len(line) > self._max:
            raise self._too_large()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._add(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit():
            self.retry = int(value[:18])

    def _add(self, value: bytes | bytearray) -> None:
        if self._data is None:
            self._data = bytearray(value)
        else:
            self._data += b"\n"
            self._data += value
        if len(self._data) > self._max:
            raise self._too_large()

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name = None, ""
        if data is None:
            return None
        return Event(data.decode("utf-8", "replace"), name or "message", self._id)

    def _too_large(self) -> EventTooLargeError:
        return EventTooLargeError(f"an event is larger than {self._max:,} bytes")
