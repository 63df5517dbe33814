"""From the values of the asynchronous client to their synchronous twins, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs

from hinow_async._models import images as awaited
from hinow_async._models.display import remember, saved_of
from hinow_async._models.images import OnProgress, SavedImage
from hinow_async._notebook import is_notebook
from hinow_async.sync.portal import Portal
from hinow_async.sync.values import (
    TWINS,
    ChatCompletion,
    GeneratedImage,
    ImageComparison,
    ImageDoor,
    ImageResult,
)

T = TypeVar("T")

_PLAIN = {twin: awaited for awaited, twin in TWINS.items()}


class Door:
    """What twins hold on to: saving and reading pictures, and nothing that could send a request."""

    def __init__(self, portal: Portal, door: awaited.ImageDoor) -> None:
        """Make one of the asynchronous *door*, which `client.images` of that side is, too."""
        self._portal = portal
        self._door = door

    def save(
        self,
        result: ImageResult | ChatCompletion,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write every picture of *result*, side by side; see `ImageResult.save`."""
        value = plain(result)
        try:
            return self._portal.run(
                lambda: self._door.save(
                    value, directory, name=name, overwrite=overwrite, on_progress=on_progress
                )
            )
        finally:
            _remember_as(value, result)  # what was saved before an error, too

    def save_comparison(
        self,
        comparison: ImageComparison,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> ImageComparison:
        """Write the pictures of all cells, side by side; see `ImageComparison.save`."""
        value = plain(comparison)
        try:
            made = self._portal.run(
                lambda: self._door.save_comparison(value, directory, on_progress=on_progress)
            )
        finally:
            for cell, before in zip(value.outcomes, comparison.outcomes, strict=True):
                _remember_as(cell.result, before.result)
        pairs = zip(made.outcomes, comparison.outcomes, strict=True)  # what is here has its way to the client
        cells = (attrs.evolve(before, saved=cell.saved, error=cell.error) for cell, before in pairs)
        return attrs.evolve(comparison, outcomes=tuple(cells))

    def read(self, image: GeneratedImage) -> bytes:
        """Fetch one picture into memory, checked."""
        return self._portal.run(lambda: self._door.read(plain(image)))

    def stream(self, image: GeneratedImage) -> Iterator[bytes]:
        """Yield one picture in blocks."""
        return self._portal.iterate(lambda: self._door.stream(plain(image)))


def twin(kind: type[T], value: Any, portal: Portal) -> T:
    """Return the twin of *value*: the same fields, and a way to the client that does not wait for it.

    Args:
        kind: The twin's class, for the type checker.
        value: What the asynchronous client returned.
        portal: The way to it.
    """
    made: T = _converted(value, TWINS, lambda door: Door(portal, door))
    return made


def adapt(error: BaseException, portal: Portal) -> None:
    """Give an error twins of the values that it carries."""
    for name, value in vars(error).items():
        if type(value) in TWINS:
            setattr(error, name, twin(object, value, portal))


def plain(value: Any) -> Any:
    """Return what the asynchronous client understands: the same fields, without a client."""
    return _converted(value, _PLAIN, lambda door: None)


def _remember_as(value: Any, other: Any) -> None:
    """In a notebook: have *other* show what was saved of *value*."""
    if is_notebook() and value is not None and (saved := saved_of(value)):
        remember(other, saved)


def _converted(value: Any, kinds: dict[type, type], convert_door: Callable[[Any], ImageDoor | None]) -> Any:
    if isinstance(value, tuple):
        items = tuple(_converted(item, kinds, convert_door) for item in value)
        is_same = all(item is before for item, before in zip(items, value, strict=True))
        return value if is_same else items
    kind = kinds.get(type(value))
    if kind is None:
        return value
    given = {}
    for field in attrs.fields(type(value)):
        inner = getattr(value, field.name)
        if field.name != "_door":
            given[field.alias] = _converted(inner, kinds, convert_door)
        elif inner is not None:
            given[field.alias] = convert_door(inner)
    made = kind(**given)
    _remember_as(value, made)
    return made
