"""`compare`: prompts as rows, variants as columns, and for each cell a call as `generate_many` makes it."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from hinow_async._call import CallOptions
from hinow_async._errors import APIError, DownloadError
from hinow_async._files import writable_folder
from hinow_async._models.comparison import ImageComparison
from hinow_async._models.display import make_small
from hinow_async._models.images import PARAMETERS, ImageOutcome, ImageRequest, ImageResult, OnProgress
from hinow_async._models.side_by_side import first_pictures
from hinow_async._notebook import is_notebook
from hinow_async._protocol import json, wire
from hinow_async._protocol.names import fold, slug
from hinow_async._resources.base import Runtime
from hinow_async._resources.many import Outcomes
from hinow_async._resources.outcomes import Keeper, KeepingDoor, OutcomeMaker, as_request, outcomes

Prompts = str | ImageRequest | Iterable[str | ImageRequest]
Variants = Iterable[str] | Mapping[str, str | Mapping[str, Any]]

_log = logging.getLogger("hinow_async")

_FIELDS: Final = ("model", *PARAMETERS, "extra")
_NAME: Final = "client.images.compare"
_LETTERS: Final = 60
"""Of a label that stand in names: an id, a field and its value have room."""
_BYTES: Final = 160


# -- what is to be made ----------------------------------------------------------------------------------


@attrs.frozen
class Grid:
    """A comparison to be made, all of it checked."""

    rows: tuple[str, ...]
    """Prompts."""
    labels: tuple[str, ...]
    requests: tuple[ImageRequest, ...]
    """Row by row."""

    def stem(self, index: int) -> str:
        """Begin the names of a cell's pictures: its row, three digits, and its label."""
        row, column = divmod(index, len(self.labels))
        return f"{row:03d}-{stems(self.labels)[column]}"


def grid(prompts: Prompts, variants: Variants) -> Grid:
    """Return what is to be made.

    Raises:
        ValueError: a prompt, a label or a value cannot be; the message names it.
    """
    rows, columns = _rows(prompts), _columns(variants)
    requests = tuple(
        _request(row, fields, f"prompts[{number}] as {label!r}")
        for number, row in enumerate(rows)
        for label, fields in columns.items()
    )
    return Grid(tuple(row.prompt for row in rows), tuple(columns), requests)


def _rows(prompts: Any) -> list[ImageRequest]:
    if isinstance(prompts, str | ImageRequest):
        prompts = (prompts,)
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes | Mapping):
        raise ValueError(
            f"prompts must be a prompt, an ImageRequest or a sequence of them, not {type(prompts).__name__}"
        )
    rows = [_row(item, f"prompts[{number}]") for number, item in enumerate(prompts)]
    if not rows:
        raise ValueError("prompts is empty: name at least one")
    return rows


def _row(item: Any, where: str) -> ImageRequest:
    try:
        return as_request(item)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _columns(variants: Any) -> dict[str, Mapping[str, Any]]:
    if isinstance(variants, Mapping):
        columns = {_label(label): _fields(label, value) for label, value in variants.items()}
    elif isinstance(variants, Iterable) and not isinstance(variants, str | bytes):
        columns = _models(variants)
    else:
        raise ValueError(
            "variants must be a sequence of model ids, or a mapping of labels to model ids or to fields of"
            f" ImageRequest, not {variants!r:.200}"
        )
    if not columns:
        raise ValueError("variants is empty: name at least one model")
    return columns


def _models(ids: Iterable[Any]) -> dict[str, Mapping[str, Any]]:
    columns: dict[str, Mapping[str, Any]] = {}
    for number, model in enumerate(ids):
        if not isinstance(model, str):
            raise ValueError(
                f"variants[{number}] must be a model id, not {model!r:.200}: what differs in more than its"
                " model needs a label, variants={label: fields}"
            )
        if model in columns:
            raise ValueError(f"variants names {model!r} twice: give each a label, variants={{label: fields}}")
        columns[model] = {"model": model}
    return columns


def _label(label: Any) -> str:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"variants: a label must be a text that is not empty, not {label!r:.200}")
    return label


def _fields(label: Any, value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {"model": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"variants[{label!r}] must be a model id or a mapping of fields, not {value!r:.200}")
    for name in value:
        if name not in _FIELDS:
            raise ValueError(
                f"variants[{label!r}]: {name!r:.200} is none of {', '.join(_FIELDS)};"
                " what only the model knows belongs into extra"
            )
    return dict(value)


def _request(row: ImageRequest, fields: Mapping[str, Any], where: str) -> ImageRequest:
    try:
        request = attrs.evolve(row, **fields)
        json.dumps(wire.image_request_to_wire(request))  # what only the body would show: extra is no JSON
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return request


@functools.lru_cache(maxsize=16)
def stems(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name of its own for each label, on any file system."""
    found: dict[str, str] = {}
    for label in labels:
        stem = short = slug(label, _LETTERS).encode()[:_BYTES].decode("utf-8", "ignore")
        number = 1
        while fold(stem) in found:
            number += 1
            stem = f"{short}-{number}"
        found[fold(stem)] = stem
    return tuple(found.values())


# -- the making ------------------------------------------------------------------------------------------


class Comparing:
    """A comparison under way."""

    def __init__(
        self,
        wanted: Grid,
        run: Callable[[ImageRequest, CallOptions], Awaitable[ImageResult]],
        options: CallOptions,
        *,
        runtime: Runtime,
        door: KeepingDoor,
        save_to: str | os.PathLike[str] | None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            wanted: What is to be made.
            run: Makes one call.
            options: For each call.
            runtime: The client's parts.
            door: Saves pictures.
            save_to: A folder for the pictures; None: they are not saved.
        """
        self._grid = wanted
        self._door = door
        self._done: dict[int, ImageOutcome] = {}
        self._problem: OSError | None = None
        self._is_saving = save_to is not None
        self._is_entered = self._is_stopped = False
        keeper = Keeper(door, save_to, wanted.stem)
        self._outcomes: Outcomes[ImageOutcome] = outcomes(
            runtime,
            wanted.requests,
            OutcomeMaker(run, keeper, options).make,
            keeper,
            ordered=False,
            name=_NAME,
            has_bar=True,  # nobody sees one outcome before the last
        )

    @property
    def done(self) -> int:
        """Cells that have their outcome."""
        return len(self._done)

    @property
    def total(self) -> int:
        """All cells."""
        return len(self._grid.requests)

    async def run(self) -> ImageComparison:
        """Make all calls.

        Raises:
            OSError: the folder cannot be written to; nothing was sent.
        """
        try:
            async with self._outcomes:
                self._is_entered = True
                if self._is_stopped:
                    self._outcomes.stop()
                await self._take()
            made = self._comparison()
            await make_first_small(made)
        except BaseException:
            self._tell_what_is_lost()
            raise
        return made

    def stop(self) -> None:
        """Send nothing more; what is in flight is finished, and the cells that were not sent say so."""
        self._is_stopped = True
        if self._is_entered:
            self._outcomes.stop()

    async def _take(self) -> None:
        try:
            async for outcome in self._outcomes:
                self._done[outcome.index] = outcome
        except OSError as error:
            # The disk took no more, as a cell says, so nothing more was sent. Of any other nothing is known.
            if not any(outcome.error is error for outcome in self._done.values()):
                raise
            self._problem = error

    def _comparison(self) -> ImageComparison:
        cells = tuple(self._done.get(index) or self._unsent(index) for index in range(self.total))
        wanted = self._grid
        return ImageComparison(prompts=wanted.rows, labels=wanted.labels, outcomes=cells, door=self._door)

    def _unsent(self, index: int) -> ImageOutcome:
        request = self._grid.requests[index]
        why = f"pictures cannot be kept: {self._problem}" if self._problem else "it was stopped before"
        return ImageOutcome(index=index, request=request, error=APIError(f"not sent: {why}", request=request))

    def _tell_what_is_lost(self) -> None:
        """Results that a cancelled caller never gets, where their pictures are on no disk."""
        lost = sum(outcome.result is not None for outcome in self._done.values())
        if lost and not self._is_saving:
            _log.warning("a comparison was left early: %d results that were ready are lost", lost)


async def make_first_small(comparison: ImageComparison) -> None:
    """In a notebook: make those pictures small, in threads, that it will show."""
    if not is_notebook():
        return
    try:
        async with anyio.create_task_group() as tasks:
            for _, _, picture in first_pictures(comparison):
                tasks.start_soon(anyio.to_thread.run_sync, make_small, picture)
    except Exception:  # it stands between what is paid for and its reader: it must not fail
        _log.exception("pictures could not be made small")


# -- saving afterwards -----------------------------------------------------------------------------------


async def save_comparison(
    door: KeepingDoor,
    comparison: ImageComparison,
    directory: str | os.PathLike[str],
    progress_of: Callable[[int], OnProgress | None],
) -> ImageComparison:
    """Write the pictures of all cells side by side; see `ImageComparison.save`.

    Args:
        door: Saves.
        comparison: What was made.
        directory: The folder.
        progress_of: Returns what the saving of a cell reports to.
    """
    folder = await anyio.to_thread.run_sync(writable_folder, directory)
    cells = list(comparison.outcomes)
    failed: list[Exception] = []
    wanted = Grid(comparison.prompts, comparison.labels, ())

    async def save(index: int) -> None:
        try:
            cells[index] = await _saved(door, cells[index], folder, wanted.stem(index), progress_of(index))
        except Exception as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        for index in _with_results(cells):
            tasks.start_soon(save, index)
    if failed:
        raise failed[0]
    made = attrs.evolve(comparison, outcomes=tuple(cells))
    await make_first_small(made)
    return made


def _with_results(cells: Sequence[ImageOutcome]) -> list[int]:
    return [index for index, outcome in enumerate(cells) if outcome.result is not None]


async def _saved(
    door: KeepingDoor, outcome: ImageOutcome, folder: Path, stem: str, on_progress: OnProgress | None
) -> ImageOutcome:
    """Return a cell with its files; what it had for an error was one of saving, for there is a result."""
    assert outcome.result is not None  # noqa: S101 - asked before
    try:
        saved = await door.keep(outcome.result, folder, stem, on_progress=on_progress)
    except DownloadError as error:
        return attrs.evolve(outcome, saved=tuple(error.saved), error=error)
    return attrs.evolve(outcome, saved=saved, error=None)
