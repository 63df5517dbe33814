"""What `generate_many`, `create_many` and `compare` share: outcomes as they come, and their pictures kept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio.to_thread

from hinow_async._call import CallOptions
from hinow_async._errors import DownloadError, HinowError
from hinow_async._files import writable_folder
from hinow_async._models.images import (
    ImageDoor,
    ImageOutcome,
    ImageRequest,
    ImageResult,
    OnProgress,
    SavedImage,
)
from hinow_async._notebook import many_bar
from hinow_async._resources.many import Item, Outcomes, Stream

if TYPE_CHECKING:
    from hinow_async._models.chat import ChatCompletion
    from hinow_async._resources.base import Runtime

O = TypeVar("O")  # noqa: E741 - an outcome


class KeepingDoor(ImageDoor, Protocol):
    """What can also put pictures into a folder that is there."""

    async def keep(
        self,
        result: ImageResult | ChatCompletion,
        folder: Path,
        stem: str,
        *,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write every picture of *result* to `<stem>-<index>.<ext>`."""


def by_position(index: int) -> str:
    """Name pictures by the position of their request: six digits."""
    return f"{index:06d}"


class Keeper:
    """Keeps the pictures of results in a folder, where one was named."""

    def __init__(
        self,
        door: KeepingDoor,
        save_to: str | os.PathLike[str] | None,
        stem_of: Callable[[int], str] = by_position,
    ) -> None:
        """Prepare; nothing is made yet.

        Args:
            door: Saves.
            save_to: The folder; None: nothing is kept.
            stem_of: Begins the names of a result's pictures, by its position.
        """
        self._door = door
        self._save_to = save_to
        self._stem_of = stem_of
        self._folder: Path | None = None

    @property
    def keeps(self) -> bool:
        """Whether a folder was named."""
        return self._save_to is not None

    async def open(self, runtime: Runtime) -> None:
        """Make the folder, and what fetches pictures: what could go wrong comes before the money.

        Raises:
            OSError: it cannot be written to.
        """
        if self._save_to is not None:
            self._folder = await anyio.to_thread.run_sync(writable_folder, self._save_to)
            _ = runtime.downloader

    async def keep(
        self, index: int, result: ImageResult | ChatCompletion, state: Item
    ) -> tuple[tuple[SavedImage, ...], DownloadError | OSError | None]:
        """Save what was paid for; return the files, and what went wrong."""
        if self._folder is None:
            return (), None
        try:
            return await self._door.keep(result, self._folder, self._stem_of(index)), None
        except DownloadError as error:
            return tuple(error.saved), error
        except OSError as error:
            # The disk will take the next picture no more than this one: pay for no more.
            state.stop(error)
            return (), error


class OutcomeMaker:
    """Makes the outcome of one request for pictures."""

    def __init__(
        self,
        run: Callable[[ImageRequest, CallOptions], Awaitable[ImageResult]],
        keeper: Keeper,
        options: CallOptions,
    ) -> None:
        self._run = run
        self._keeper = keeper
        self._options = options

    async def make(self, index: int, item: Any, state: Item) -> ImageOutcome:
        """Make the call and save its pictures; a failure is an outcome.

        Raises:
            ValueError: the item is no request: the source is wrong.
        """
        request = as_request(item)
        try:
            result = await self._run(request, self._options.watched_by(state))
        except (HinowError, ValueError) as error:
            return ImageOutcome(index=index, request=request, error=error)
        saved, problem = await self._keeper.keep(index, result, state)
        return ImageOutcome(index=index, request=request, result=result, saved=saved, error=problem)


def as_request(item: Any) -> ImageRequest:
    """Take a prompt for a request."""
    return item if isinstance(item, ImageRequest) else ImageRequest(item)


def outcomes(
    runtime: Runtime,
    items: Iterable[Any] | AsyncIterable[Any],
    make: Callable[[int, Any, Item], Awaitable[O]],
    keeper: Keeper,
    *,
    ordered: bool,
    name: str,
    has_bar: bool = False,
) -> Outcomes[O]:
    """Return the outcomes that *make* makes of *items*, in a notebook with a bar where pictures are kept."""
    bar = many_bar(items, is_saving=keeper.keeps) if keeper.keeps or has_bar else None

    async def open_stream() -> Stream[O]:
        await runtime.enter()
        await keeper.open(runtime)
        limiter = runtime.engine.limiter
        return Stream(
            items,
            make if bar is None else bar.watch(make),
            lambda: limiter.limit,
            sum(account.max_in_flight for account in limiter.accounts),
            ordered=ordered,
        )

    return Outcomes(open_stream, name, on_left=None if bar is None else bar.end)
