"""Fetching the pictures of one answer, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from hinow_async._models.images import GeneratedImage
from hinow_async.batch.reader import KeptFile


class Haul:
    """What came of an answer's pictures."""

    def __init__(self, pictures: Sequence[GeneratedImage]) -> None:
        """Begin; *pictures* are those to be fetched."""
        self._pictures = pictures
        self._error: Exception | None = None
        self.files: list[KeptFile] = []
        """Those that are there, in the order in which they came."""

    async def fetch(self, keep: Callable[[GeneratedImage], Awaitable[KeptFile]]) -> None:
        """Have each picture kept, all at once."""
        if len(self._pictures) == 1:  # as mostly: that takes no task
            await self._add(keep, self._pictures[0])
        else:
            await _side_by_side([self._add(keep, picture) for picture in self._pictures])

    @property
    def problem(self) -> BaseException | None:
        """Why pictures are missing, the first reason; None: all are there."""
        if len(self.files) == len(self._pictures):
            return None
        return self._error or asyncio.CancelledError("it was cancelled")

    async def _add(
        self, keep: Callable[[GeneratedImage], Awaitable[KeptFile]], picture: GeneratedImage
    ) -> None:
        try:
            self.files.append(await keep(picture))
        except Exception as error:  # whatever it is, the picture is paid for, and another may be there
            self._error = self._error or error


async def _side_by_side(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all of *works* at once. Cancelling this cancels and awaits them."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        if tasks:
            await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
