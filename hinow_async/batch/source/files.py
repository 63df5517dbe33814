"""Files: read in threads, and twice: once to check them and once to work on them."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from hinow_async._errors import SourceError
from hinow_async.batch.aside import own_thread
from hinow_async.batch.source.entry import Chunk
from hinow_async.batch.source.parser import Parser

BLOCK: Final = 64 * 1024


class FileSource:
    """A file, which stays as it was checked or is read no further."""

    is_rereadable = True

    def __init__(self, path: Path, name: str, read: Callable[[BinaryIO], Iterator[Chunk]]) -> None:
        """Name a file.

        Args:
            path: Where it is.
            name: How messages call it.
            read: Yields the entries of the open file as it reads on, and raises `SourceError` after those
                before a bad one. It runs in threads; each step is short, though it may yield nothing.
        """
        self.name = name
        self._path = path
        self._read = read
        self._state: tuple[int, ...] | None = None

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Read from the beginning."""
        steps = self._steps()
        try:
            with own_thread() as call:
                while (chunk := await call(next, steps, None)) is not None:
                    if chunk:
                        yield chunk
        finally:
            # Cancelled while a thread is in it, it cannot be closed: it is when the thread lets go of it.
            with contextlib.suppress(ValueError):
                steps.close()

    def _steps(self) -> Generator[Chunk, None, None]:
        with self._open() as file:
            yield from self._read(file)

    def _open(self) -> BinaryIO:
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read: {reason(error)}") from None
        now = os.fstat(file.fileno())
        state = (now.st_ino, now.st_size, now.st_mtime_ns)
        if self._state is not None and state != self._state:
            file.close()
            raise SourceError(f"{self.name} changed after it was checked: start again")
        self._state = state
        return file


def read_text(file: BinaryIO, new_parser: Callable[[], Parser], *, is_packed: bool) -> Iterator[Chunk]:
    """Read the entries of a text file; *is_packed*: what gzip made of one."""
    parser = new_parser()
    text = gzip.GzipFile(fileobj=file) if is_packed else file
    block = b"-"
    while block:
        try:
            block = text.read(BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{parser.name} cannot be read: {reason(error)}") from None
        yield parser.feed(block)
        if parser.error is not None:
            raise parser.error


def reason(error: Exception) -> str:
    """Say why something cannot be read."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
