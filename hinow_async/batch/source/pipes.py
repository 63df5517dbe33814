"""Standard input and other pipes: read once, by a thread that nobody waits for.

Reading from a terminal cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

from hinow_async._errors import SourceError
from hinow_async.batch.source.entry import Chunk
from hinow_async.batch.source.files import BLOCK, reason
from hinow_async.batch.source.parser import Parser

T = TypeVar("T")


class PipeSource:
    """Standard input, or another pipe: read once, line by line as they come."""

    is_rereadable = False

    def __init__(self, name: str, open_fd: Callable[[], int], parser: Parser) -> None:
        self.name = name
        self._open_fd = open_fd
        self._parser = parser

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Read what comes."""
        fd = -1
        is_reading = False
        try:
            # Opening may block as well: a named pipe waits for its writer.
            fd = await in_own_thread(self._open_fd)
            block = b"-"
            while block:
                is_reading = True
                block = await in_own_thread(partial(os.read, fd, BLOCK))
                is_reading = False
                entries = self._parser.feed(block)
                if entries:
                    yield entries
                if self._parser.error is not None:
                    raise self._parser.error
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read: {reason(error)}") from None
        finally:
            # While a thread still reads, its number must not become that of another file.
            if fd > 0 and not is_reading:
                os.close(fd)


def standard_input() -> int:
    """Return a descriptor of it: a thread in the middle of `sys.stdin.read` would spoil the program's end."""
    try:
        return os.dup(sys.stdin.fileno())
    except (AttributeError, ValueError) as error:
        raise OSError("there is none") from error


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
