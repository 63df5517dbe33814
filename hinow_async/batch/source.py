"""Where requests come from: JSON lines, plain text, both also compressed (gzip), standard input, iterables.

Whatever the source, it is read in chunks of checked entries. A file is read in a thread, and can be read
twice: once to check it and once to work on it. A pipe is read once, by a thread that nobody waits for:
reading from a terminal cannot be cancelled. Sources are hostile: lines have a greatest length, and what a
message repeats of them is cut and escaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import stat
import sys
import threading
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar

import attrs

from hinow_async._errors import ConfigurationError, SourceError
from hinow_async._models.images import PARAMETERS, ImageRequest
from hinow_async._protocol import json
from hinow_async._protocol.failures import printable
from hinow_async._protocol.wire import fingerprint, image_request_to_wire

T = TypeVar("T")

FIELDS: Final = ("prompt", "model", *PARAMETERS, "extra")
"""The fields of a request that a line may have, beside `id`."""

LONGEST_LINE: Final = 16 * 1024 * 1024
_BLOCK: Final = 64 * 1024
_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_UNREAD_SUFFIXES: Final = frozenset({".csv", ".tsv", ".parquet", ".zip", ".zst", ".xlsx"})
"""Not text with a prompt a line: each row would be paid for as a prompt."""


@attrs.frozen
class Entry:
    """One request of a source, checked."""

    request: ImageRequest
    id: str | None
    """As the source says it; None: it has none."""
    line: int | None
    """Its line, from 1; None where the source has no lines."""
    fingerprint: str
    """SHA-256 of the request as it will be sent, 64 hex digits."""


@attrs.frozen
class BadLine:
    """A line that is no request, and is passed over."""

    line: int
    """From 1; of an iterable, the item's position."""
    message: str


class Source(Protocol):
    """Entries in chunks."""

    name: str
    is_rereadable: bool
    """Whether it can be read through before anything is sent."""

    def chunks(self) -> AsyncGenerator[Sequence[Entry | BadLine], None]:
        """Read from the beginning; a bad entry raises `SourceError` after those before it were handed on."""


def open_source(
    source: Any, defaults: Mapping[str, Any] | None = None, *, skip_bad_lines: bool = False
) -> Source:
    """Say how *source* is read; nothing is read yet.

    Args:
        source: A path, `-` for standard input, or an iterable of requests, prompts or mappings.
        defaults: Fields for what entries leave out. A whole `ImageRequest` keeps its model.
        skip_bad_lines: Hand on what is wrong as a `BadLine`, and read on.

    Raises:
        SourceError: there is no such file, or it is of a kind that is not read.
        ConfigurationError: it is no source at all, or a default is no field.
    """
    reading = Reading(_checked_defaults(defaults), skip_bad_lines)
    if source == "-" and isinstance(source, str):
        return PipeSource("standard input", _standard_input, Parser("standard input", None, reading))
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), reading)
    if isinstance(source, AsyncIterable) or (isinstance(source, Iterable) and not isinstance(source, bytes)):
        return IterableSource(source, reading)
    raise ConfigurationError(
        f"a source is a path, '-' or an iterable of requests, not {type(source).__name__}"
    )


@attrs.frozen
class Reading:
    """How the caller wants entries to be read."""

    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    """Checked fields for what entries leave out."""
    skip_bad_lines: bool = False


def _checked_defaults(defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    values = {name: value for name, value in (defaults or {}).items() if value is not None}
    for name in values:
        if name not in FIELDS[1:]:
            raise ConfigurationError(f"defaults: {name!r} is none of {', '.join(FIELDS[1:])}")
    if not isinstance(values.get("extra", {}), Mapping):
        raise ConfigurationError("defaults: extra must be a mapping")
    return values


def _open_path(path: Path, reading: Reading) -> Source:
    name = printable(str(path), 200)
    is_packed = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if is_packed else path).suffix.lower()
    if suffix in _UNREAD_SUFFIXES:
        raise SourceError(f"{name}: {suffix} is not read; make it JSON lines, or text with a prompt a line")
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise SourceError(f"{name} cannot be read: {_reason(error)}") from None
    if stat.S_ISDIR(mode):
        raise SourceError(f"{name} is a folder; a source is a file")
    is_json = True if suffix in _JSON_SUFFIXES else None
    if stat.S_ISREG(mode):
        return FileSource(path, name, is_json, reading, is_packed=is_packed)
    if is_packed:
        raise SourceError(f"{name} is no regular file; unpack it on the way, and read it as -")
    return PipeSource(name, lambda: os.open(path, os.O_RDONLY), Parser(name, is_json, reading))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# -- from bytes to entries ---------------------------------------------------------------------------------


class Parser:
    """Turns the bytes of one file into entries, told them block by block; after an error it takes no more."""

    def __init__(self, name: str, is_json: bool | None, reading: Reading) -> None:
        """Begin a file.

        Args:
            name: How messages call it.
            is_json: Whether each line is a JSON object; None: as the first line looks.
            reading: What lines leave out, and whether bad ones are passed over.
        """
        self._name = name
        self._is_json = is_json
        self._reading = reading
        self._parts: list[bytes] = []
        self._held = 0
        self._line = 0
        self.error: SourceError | None = None

    def feed(self, block: bytes) -> list[Entry | BadLine]:
        """Take the next bytes; an empty block is the end."""
        entries: list[Entry | BadLine] = []
        try:
            for line in self._cut(block):
                self._line += 1
                entry = self._entry_or_bad(line)
                if entry is not None:
                    entries.append(entry)
        except ValueError as error:
            self.error = self._error(str(error))
        return entries

    def _entry_or_bad(self, raw: bytes) -> Entry | BadLine | None:
        if not self._reading.skip_bad_lines:
            return self._entry(raw)
        try:
            return self._entry(raw)
        except ValueError as error:
            return BadLine(self._line, str(self._error(str(error))))

    def _cut(self, block: bytes) -> Iterable[bytes]:
        """Yield the lines that are whole now, without their ends."""
        *whole, rest = block.split(b"\n") if block else (b"", b"")
        for index, line in enumerate(whole):
            if index == 0:
                line = b"".join([*self._parts, line])  # noqa: PLW2901 - the first goes on from before
                self._parts, self._held = [], 0
            yield line
        self._held += len(rest)
        if self._held > LONGEST_LINE:
            self._line += 1
            raise ValueError(f"the line is longer than {LONGEST_LINE:,} bytes")
        if rest:
            self._parts.append(rest)

    def _entry(self, raw: bytes) -> Entry | None:
        text = _text(raw, is_first=self._line == 1)
        if not text:
            return None
        if self._is_json is None:
            self._is_json = text.startswith("{")
        if not self._is_json:
            return as_entry(text, self._reading.defaults, self._line)
        try:
            row = json.loads(text.encode("utf-8", "surrogatepass"))
        except json.MalformedJSONError as error:
            raise ValueError(f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError("not a JSON object")
        return as_entry(row, self._reading.defaults, self._line)

    def _error(self, message: str) -> SourceError:
        return SourceError(f"{self._name}, line {self._line}: {printable(message, 500)}", line=self._line)


def _text(raw: bytes, *, is_first: bool) -> str:
    if is_first:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError("the file is UTF-16; save it as UTF-8")
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    if "\0" in text:
        raise ValueError("it holds a zero byte: this is not a text file")
    return text


def as_entry(item: Any, defaults: Mapping[str, Any], line: int | None) -> Entry:
    """Check one item of a source.

    Args:
        item: A prompt, a request, or a mapping with the fields of a request, and `id`.
        defaults: Fields for what it leaves out.
        line: Where it stands.

    Raises:
        ValueError: it is impossible; the message says why.
    """
    name: str | None = None
    if isinstance(item, ImageRequest):
        request = _filled(item, defaults)
    elif isinstance(item, str):
        request = ImageRequest(item, **defaults)
    elif isinstance(item, Mapping):
        name = _id(item.get("id"))
        request = _request(item, defaults)
    else:
        raise ValueError(f"not a request, a prompt or a mapping, but {type(item).__name__}")
    try:
        return Entry(request, name, line, fingerprint(image_request_to_wire(request)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"extra is not JSON: {error}") from None


def _id(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"id must be a text that is not empty, not {value!r}")
    text = str(value)
    if any("\ud800" <= char <= "\udfff" for char in text):  # half of an emoji, which no database keeps
        raise ValueError(f"id must be text that can be written, not {value!r}")
    return text


def _request(row: Mapping[str, Any], defaults: Mapping[str, Any]) -> ImageRequest:
    given = {name: value for name, value in row.items() if value is not None and name != "id"}
    for name in given:
        if name not in FIELDS:
            raise ValueError(f"unknown field {name!r}; there are id, {', '.join(FIELDS)}")
    if "prompt" not in given:
        raise ValueError("prompt is missing")
    if "extra" in defaults and isinstance(given.get("extra"), Mapping):
        given["extra"] = {**defaults["extra"], **given["extra"]}
    return ImageRequest(**{**defaults, **given})


def _filled(request: ImageRequest, defaults: Mapping[str, Any]) -> ImageRequest:
    missing = {
        name: value
        for name, value in defaults.items()
        if name in PARAMETERS and getattr(request, name) is None
    }
    if "extra" in defaults:
        missing["extra"] = {**defaults["extra"], **request.extra}
    return attrs.evolve(request, **missing) if missing else request


# -- files, pipes, iterables -------------------------------------------------------------------------------


class FileSource:
    """A file, which stays as it was checked or is read no further."""

    is_rereadable = True

    def __init__(
        self, path: Path, name: str, is_json: bool | None, reading: Reading, *, is_packed: bool = False
    ) -> None:
        self.name = name
        self._is_packed = is_packed
        self._path = path
        self._is_json = is_json
        self._reading = reading
        self._state: tuple[int, ...] | None = None

    async def chunks(self) -> AsyncGenerator[Sequence[Entry | BadLine], None]:
        """Read from the beginning."""
        file = await asyncio.to_thread(self._open)
        try:
            parser = Parser(self.name, self._is_json, self._reading)
            text = gzip.GzipFile(fileobj=file) if self._is_packed else file
            while True:
                entries, is_end = await asyncio.to_thread(self._step, text, parser)
                if entries:
                    yield entries
                if parser.error is not None:
                    raise parser.error
                if is_end:
                    return
        finally:
            file.close()

    def _step(self, file: BinaryIO | gzip.GzipFile, parser: Parser) -> tuple[list[Entry | BadLine], bool]:
        try:
            block = file.read(_BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{self.name} cannot be read: {_reason(error)}") from None
        return parser.feed(block), not block

    def _open(self) -> BinaryIO:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read: {_reason(error)}") from None
        now = os.fstat(file.fileno())
        state = (now.st_ino, now.st_size, now.st_mtime_ns)
        if self._state is not None and state != self._state:
            file.close()
            raise SourceError(f"{self.name} changed after it was checked: start again")
        self._state = state
        return file


class PipeSource:
    """Standard input, or another pipe: read once, line by line as they come."""

    is_rereadable = False

    def __init__(self, name: str, open_fd: Callable[[], int], parser: Parser) -> None:
        self.name = name
        self._open_fd = open_fd
        self._parser = parser

    async def chunks(self) -> AsyncGenerator[Sequence[Entry | BadLine], None]:
        """Read what comes."""
        fd = -1
        is_reading = False
        try:
            # Opening may block as well: a named pipe waits for its writer.
            fd = await in_own_thread(self._open_fd)
            block = b"-"
            while block:
                is_reading = True
                block = await in_own_thread(partial(os.read, fd, _BLOCK))
                is_reading = False
                entries = self._parser.feed(block)
                if entries:
                    yield entries
                if self._parser.error is not None:
                    raise self._parser.error
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read: {_reason(error)}") from None
        finally:
            # While a thread still reads, its number must not become that of another file.
            if fd > 0 and not is_reading:
                os.close(fd)


def _standard_input() -> int:
    """Return a descriptor of it: a thread in the middle of `sys.stdin.read` would spoil the program's end."""
    try:
        return os.dup(sys.stdin.fileno())
    except (AttributeError, ValueError) as error:
        raise OSError("there is none") from error


class IterableSource:
    """Any iterable; a synchronous one is iterated on the loop."""

    name = "the source"
    is_rereadable = False

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], reading: Reading) -> None:
        self._items = items
        self._reading = reading

    async def chunks(self) -> AsyncGenerator[Sequence[Entry | BadLine], None]:
        """Iterate, and close a generator at the end, so that its `finally` runs then."""
        try:
            if isinstance(self._items, AsyncIterable):
                position = 0
                async for item in self._items:
                    position += 1
                    yield (self._entry(item, position),)
            else:
                for position, item in enumerate(self._items, 1):
                    yield (self._entry(item, position),)
        finally:
            await self._close()

    def _entry(self, item: Any, position: int) -> Entry | BadLine:
        try:
            return as_entry(item, self._reading.defaults, None)
        except ValueError as error:
            message = f"item {position} of the source: {printable(str(error), 500)}"
        if self._reading.skip_bad_lines:
            return BadLine(position, message)
        raise SourceError(message)

    async def _close(self) -> None:
        if hasattr(self._items, "aclose"):
            await self._items.aclose()
        elif hasattr(self._items, "close") and hasattr(self._items, "send"):
            self._items.close()


async def in_own_thread(function: Callable[[], T]) -> T:
    """Call what may block without end in a thread that nobody waits for once its caller is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def hand_over(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # there is one where there is no error

    def work() -> None:
        result, problem = None, None
        try:
            result = function()
        except Exception as error:  # handed to the caller
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(hand_over, result, problem)

    threading.Thread(target=work, name="hinow-source", daemon=True).start()
    return await future
