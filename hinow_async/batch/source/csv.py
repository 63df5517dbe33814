"""CSV, as RFC 4180 has it: the first row names the columns, each further one is a request.

The `csv` of the standard library would take a stray quote for a letter, go on through the whole file after
one that is left open, and refuse cells of 131,072 characters. What is unclear is refused here, since each row
costs money: a quote inside a cell that does not begin with one, and anything between a closing quote and the
next separator. After those nobody can tell where the next row begins, and no line is read on.

The separator is that of comma, semicolon (spreadsheets of half of Europe) and tab which stands in the header:
no name of a column holds one, so this cannot be mistaken.
"""

from __future__ import annotations

from typing import Any, Final

from hinow_async.batch.source.columns import COLUMNS, check_columns, from_text
from hinow_async.batch.source.lines import LONGEST_LINE, UnreadableError, decoded

_SEPARATORS: Final = (b",", b";", b"\t")
_MOST_CELLS: Final = 1000
"""Further cells of a row are not told apart: it is wrong anyway."""


class Rows:
    """Turns the lines of a CSV file into the fields of requests, told them line by line."""

    def __init__(self, separator: bytes = b",") -> None:
        """Begin a file; *separator* is for one with a single column, whose header shows none."""
        self._separator = separator
        self._columns: tuple[str, ...] = ()
        self._cells: _Cells | None = None

    @property
    def is_open(self) -> bool:
        """Whether the row goes on in the next line."""
        return self._cells is not None and self._cells.is_open

    def take(self, line: bytes) -> dict[str, Any] | None:
        """Take the next line."""
        if self._cells is None:
            if not line.strip():
                return None
            self._cells = _Cells(_separator_of(line) or self._separator)
        cells = self._cells.take(line)
        if cells is None or not any(map(bytes.strip, cells)):
            return None  # spreadsheets keep empty rows
        if self._columns:
            return self._fields(cells)
        self._columns = _header(cells)
        return None

    def _fields(self, cells: list[bytes]) -> dict[str, Any]:
        if len(cells) != len(self._columns):
            raise ValueError(
                f"{_count(len(cells), 'cell')} for {_count(len(self._columns), 'column')}; a text with a"
                " separator in it has to stand in quotes"
            )
        return {
            column: from_text(column, _text(column, cell))
            for column, cell in zip(self._columns, cells, strict=True)
            if cell
        }


def is_header(line: bytes) -> bool:
    """Whether a file's first line can be nothing but the header of a CSV file with several columns."""
    try:
        separator = _separator_of(line)
        names = [name.strip(b' "\r').decode() for name in line.split(separator or b",")]
    except ValueError:
        return False
    return separator is not None and "prompt" in names and set(names) <= set(COLUMNS)


def _separator_of(header: bytes) -> bytes | None:
    found = [mark for mark in _SEPARATORS if mark in header]
    if len(found) > 1:
        names = " and ".join(repr(mark.decode()) for mark in found)
        raise UnreadableError(f"the columns are separated by {names}: which one it is cannot be told")
    return found[0] if found else None


def _header(cells: list[bytes]) -> tuple[str, ...]:
    """Read the names of the columns; whatever is wrong with them is wrong with every row."""
    try:
        names = tuple(decoded(cell).strip() for cell in cells)
        check_columns(names)
    except ValueError as error:
        raise UnreadableError(f"the first row names the columns: {error}") from None
    return names


def _text(column: str, cell: bytes) -> str:
    try:
        return decoded(cell)
    except ValueError as error:
        raise ValueError(f"{column}: {error}") from None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class _Cells:
    """Cuts rows into cells, line by line; each byte is looked at once, however long the row is."""

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._cells: list[bytes] = []
        self._quoted = bytearray()
        """What there is of the cell in whose quotes the line ended."""
        self._held = 0
        """Bytes of the row that goes on."""
        self.is_open = False

    def take(self, line: bytes) -> list[bytes] | None:
        """Take the next line; return the cells of the row that it ends, if it does.

        Raises:
            UnreadableError: a quote stands where none can, or the row is too long.
        """
        if not self.is_open and b'"' not in line:
            return _whole(line.removesuffix(b"\r")).split(self._separator, _MOST_CELLS)
        at: int | None = 0
        while at is not None:
            is_quoted = self.is_open or line.startswith(b'"', at)
            at = self._take_quoted(line, at) if is_quoted else self._take_bare(line, at)
        if self.is_open:
            self._go_on(line)
            return None
        cells, self._cells, self._held = self._cells, [], 0
        return cells

    def _go_on(self, line: bytes) -> None:
        self._held += len(line) + 1
        if self._held > LONGEST_LINE:
            raise UnreadableError(f"the row is longer than {LONGEST_LINE:,} bytes: is a quote left open?")

    def _take_bare(self, line: bytes, at: int) -> int | None:
        """Take the cell that begins at *at*; return where the next one does."""
        end = line.find(self._separator, at)
        cell = _whole(line[at:].removesuffix(b"\r") if end < 0 else line[at:end])
        if b'"' in cell:
            raise UnreadableError(
                'a quote stands in a cell that does not begin with one: write "..." around the cell, and each'
                ' quote in it as ""'
            )
        self._add(cell)
        return None if end < 0 else end + 1

    def _take_quoted(self, line: bytes, at: int) -> int | None:
        """Take the cell whose quote opens at *at*, or goes on there from the line before."""
        start = at if self.is_open else at + 1
        end = _closing(line, start)
        if end < 0:
            self._quoted += line[start:] + b"\n"
            self.is_open = True
            return None
        cell = bytes(self._quoted) + line[start:end]
        self._quoted.clear()
        self.is_open = False
        self._add(cell.replace(b'""', b'"'))
        if line.startswith(self._separator, end + 1):
            return end + 2
        if line[end + 1 :] not in {b"", b"\r"}:
            raise UnreadableError('a cell goes on after its closing quote: write each quote in it as ""')
        return None

    def _add(self, cell: bytes) -> None:
        if len(self._cells) <= _MOST_CELLS:
            self._cells.append(cell)


def _whole(text: bytes) -> bytes:
    if b"\r" in text:
        raise UnreadableError(
            "a carriage return stands outside of quotes: save the file with the line ends of Windows or Unix"
        )
    return text


def _closing(line: bytes, at: int) -> int:
    """Return where the quotes are closed, a doubled one being a quote in the text; -1: not in this line."""
    while True:
        at = line.find(b'"', at)
        if at < 0 or line[at + 1 : at + 2] != b'"':
            return at
        at += 2
