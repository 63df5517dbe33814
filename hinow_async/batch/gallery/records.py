"""What a gallery shows: the lines of a batch's manifest and failures, each checked before it is believed.

The files may come from a stranger, and a batch may be writing them just now. They are opened once, so that
what was counted is what is read, even when a batch puts new ones in their place meanwhile. Everything in
here blocks, and runs in threads.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, Generic, TypeVar

import attrs

from hinow_async._errors import ConfigurationError, SourceError
from hinow_async._files import open_plain
from hinow_async._protocol import json
from hinow_async._protocol.failures import printable
from hinow_async.batch.ledger import FAILURES, MANIFEST
from hinow_async.batch.reader import is_inside

LONGEST_PROMPT: Final = 20_000
"""Characters of a prompt that are shown."""
_LONGEST: Final = 400
"""Characters of any other text that are shown."""
_MOST_PARAMETERS: Final = 40
_MOST_WHOLE: Final = 10**15
_LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes: a request may carry pictures of its own."""

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Picture:
    """A picture that the manifest names."""

    id: str
    index: int
    prompt: str
    parameters: Mapping[str, str]
    """Those that were sent, as text."""
    model: str | None
    """The one that answered; else the one that was asked for."""
    file: str
    """Relative to the folder, with `/`, and inside of it."""
    width: int | None = None
    height: int | None = None
    size: int | None = None
    """Bytes."""
    estimated_usd: float | None = None
    created: str | None = None
    is_sandbox: bool = False


@attrs.frozen(kw_only=True)
class Failure:
    """An item that is open."""

    id: str | None
    line: int | None
    """Of the source, where the item could not even be read."""
    prompt: str | None
    error: str
    """Name of the error's class."""
    message: str
    code: str | None
    outcome: str
    """What it means for money."""
    at: str | None


class Lines(Generic[T]):
    """A file of JSON lines, opened once, that can be read through several times."""

    def __init__(self, path: Path, read: Callable[[Fields], T]) -> None:
        """Open it; a file that is not there has no lines.

        Raises:
            OSError: it cannot be opened, is a link, or is no plain file.
        """
        self._name = printable(str(path), 200)
        self._read = read
        self._file: IO[bytes] | None = None
        with contextlib.suppress(FileNotFoundError):
            self._file = open_plain(path)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[T]:
        """Read from the beginning.

        Raises:
            SourceError: a line is not what a batch writes; the message names file and line.
        """
        if self._file is None:
            return
        self._file.seek(0)
        number = 0
        while data := self._file.readline(_LONGEST_LINE):
            number += 1
            if not data.endswith(b"\n") and len(data) < _LONGEST_LINE:
                return  # a batch is writing it just now, or died there: the next one mends it
            yield self._one(data, number)

    def _one(self, data: bytes, number: int) -> T:
        try:
            if not data.endswith(b"\n"):
                raise ValueError(f"it is longer than {_LONGEST_LINE:,} bytes")
            return self._read(Fields(json.loads(data)))
        except ValueError as error:
            problem = printable(str(error), 300)
        raise SourceError(f"{self._name}, line {number}: {problem}", line=number)


class Fields:
    """The fields of a JSON object from anywhere, each asked for by its type."""

    def __init__(self, value: Any, inside: str = "") -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{inside.rstrip('.') or 'it'} must be an object")
        self._values = value
        self._inside = inside

    def text(self, name: str, most: int = _LONGEST) -> str:
        """Return a text, cut to what is shown."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return cut(value, most)

    def text_or_none(self, name: str, most: int = _LONGEST) -> str | None:
        """Return a text that may be missing."""
        return None if self._values.get(name) is None else self.text(name, most)

    def whole(self, name: str) -> int | None:
        """Return a whole number that may be missing."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_WHOLE:
            raise self._wrong(name, "a whole number of at least 0")
        return value

    def usd(self, name: str) -> float | None:
        """Return an amount that may be missing."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise self._wrong(name, "an amount of US dollars")
        return float(value)

    def file(self, name: str) -> str:
        """Return a path that stays inside of the folder."""
        value = self._values.get(name)
        if not is_inside(value):
            raise self._wrong(name, "a path inside of the folder")
        return str(value)

    def object(self, name: str) -> Fields:
        """Return an object; a missing one has no fields."""
        return Fields(self._values.get(name) or {}, f"{self._inside}{name}.")

    def shown(self) -> dict[str, str]:
        """Return all fields as texts; a value that is none is written as JSON."""
        first = list(self._values.items())[:_MOST_PARAMETERS]
        return {cut(name, _LONGEST): _as_text(value) for name, value in first if value is not None}

    def is_true(self, name: str) -> bool:
        """Whether a field says so."""
        return self._values.get(name) is True

    def _wrong(self, name: str, wanted: str) -> ValueError:
        found = printable(repr(self._values.get(name))[:200], 80)
        return ValueError(f"{self._inside}{name} must be {wanted}, not {found}")


def open_manifest(folder: Path) -> Lines[Picture]:
    """Open the manifest of a batch's folder.

    Raises:
        ConfigurationError: the folder is none.
    """
    path = folder / MANIFEST
    try:
        is_batch = stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_batch = False
    if not is_batch:
        raise ConfigurationError(
            f"{printable(str(folder), 200)} is no folder of a batch: it has no {MANIFEST}. Give the folder"
            " that `hinow batch SOURCE OUT` wrote to, OUT"
        )
    return Lines(path, _picture)


def open_failures(folder: Path) -> Lines[Failure]:
    """Open what a batch left open."""
    return Lines(folder / FAILURES, _failure)


def _picture(line: Fields) -> Picture:
    request = line.object("request")
    return Picture(
        id=line.text("id"),
        index=line.whole("index") or 0,
        prompt=request.text("prompt", LONGEST_PROMPT),
        parameters=request.object("parameters").shown(),
        model=line.text_or_none("model") or request.text_or_none("model"),
        file=line.file("file"),
        width=line.whole("width"),
        height=line.whole("height"),
        size=line.whole("bytes"),
        estimated_usd=line.usd("estimated_usd"),
        created=line.text_or_none("created"),
        is_sandbox=line.is_true("sandbox"),
    )


def _failure(line: Fields) -> Failure:
    return Failure(
        id=line.text_or_none("id"),
        line=line.whole("line"),
        prompt=line.text_or_none("prompt", LONGEST_PROMPT),
        error=line.text("error"),
        message=line.text("message", 4 * _LONGEST),
        code=line.text_or_none("code"),
        outcome=line.text("outcome"),
        at=line.text_or_none("at"),
    )


def cut(text: str, most: int) -> str:
    """Return the beginning of a text that is too long to be shown, and say so."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return cut(value, _LONGEST)
    try:
        text = json.dumps(value).decode()
    except ValueError:  # NaN, which Python's reader lets pass
        text = str(value)[: 2 * _LONGEST]
    return cut(text, _LONGEST)
