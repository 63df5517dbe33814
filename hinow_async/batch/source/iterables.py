"""Iterables of requests, prompts or mappings, synchronous or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any

from hinow_async._errors import SourceError
from hinow_async._protocol.failures import printable
from hinow_async.batch.source.entry import BadLine, Chunk, Entry, Reading, as_entry


class IterableSource:
    """Any iterable; a synchronous one is iterated on the loop."""

    name = "the source"
    is_rereadable = False

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], reading: Reading) -> None:
        self._items = items
        self._reading = reading

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
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
