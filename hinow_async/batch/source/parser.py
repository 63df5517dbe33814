"""From the bytes of a text file to entries."""

from __future__ import annotations

from hinow_async._errors import SourceError
from hinow_async.batch.source.csv import Rows, is_header
from hinow_async.batch.source.entry import BadLine, Entry, Reading, as_entry, line_error
from hinow_async.batch.source.forms import Form, JsonLines, PlainText
from hinow_async.batch.source.lines import Lines, UnreadableError, decoded


class Parser:
    """Turns the bytes of one file into entries, told them block by block; after an error it takes no more."""

    def __init__(self, name: str, form: Form | None, reading: Reading) -> None:
        """Begin a file.

        Args:
            name: How messages call it.
            form: What its lines are; None: as the first line looks.
            reading: What lines leave out, and whether bad ones are passed over.
        """
        self.name = name
        self._form = form
        self._reading = reading
        self._lines = Lines()
        self._begun = 1
        """The line on which the item begins that is read next, or goes on."""
        self.error: SourceError | None = None

    def feed(self, block: bytes) -> list[Entry | BadLine]:
        """Take the next bytes; an empty block is the end."""
        entries: list[Entry | BadLine] = []
        try:
            for line in self._lines.cut(block):
                entry = self._entry_or_bad(line)
                if entry is not None:
                    entries.append(entry)
                if not self._is_open:
                    self._begun = self._lines.number + 1
            if not block and self._is_open:
                raise UnreadableError("a quote that opens in this row is closed nowhere")
        except ValueError as error:
            self.error = line_error(self.name, self._begun, error)
        return entries

    def _entry_or_bad(self, line: bytes) -> Entry | BadLine | None:
        try:
            return self._entry(line)
        except UnreadableError:
            raise
        except ValueError as error:
            if not self._reading.skip_bad_lines:
                raise
            return BadLine(self._begun, str(line_error(self.name, self._begun, error)))

    def _entry(self, line: bytes) -> Entry | None:
        if self._form is None:
            self._form = _form_of(line)
        item = None if self._form is None else self._form.take(line)
        return None if item is None else as_entry(item, self._reading.defaults, self._begun)

    @property
    def _is_open(self) -> bool:
        return self._form is not None and self._form.is_open


def _form_of(line: bytes) -> Form | None:
    """Say what a file is by its first line; None: the line is blank.

    Raises:
        ValueError: the line is no text.
    """
    text = decoded(line).strip()
    if not text:
        return None
    if text.startswith("{"):
        return JsonLines()
    return Rows() if is_header(line) else PlainText()
