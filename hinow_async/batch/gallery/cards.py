"""What a card of a gallery says: a picture, or an item that is open. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from hinow_async.batch.gallery.records import Failure, Picture

_OUTCOMES: Final = {"unknown": "maybe paid", "lost": "lost"}
"""Statuses of what is open; with any other outcome it failed and cost nothing."""


@attrs.frozen
class Thumbnail:
    """A small picture, or why there is none."""

    uri: str | None
    """`data:image/webp;base64,...`"""
    width: int = 0
    height: int = 0
    problem: str | None = None
    is_missing: bool = False
    """Whether there is no such file; else it is there and cannot be shown."""


@attrs.frozen(kw_only=True)
class Card:
    """One card: all of it text from anywhere, but *status* and the names in *facts*."""

    status: str
    """`saved`, `missing`, `broken`, `failed`, `maybe paid`, `lost`."""
    prompt: str | None
    title: str | None = None
    """What stands in place of a picture."""
    message: str | None = None
    facets: Mapping[str, str]
    """What can be chosen by, where it differs: model and parameters."""
    facts: Mapping[str, str]
    """What else there is to know."""
    file: str | None = None
    """The picture, where it can be opened."""
    thumbnail: Thumbnail | None = None


def of_picture(picture: Picture, thumbnail: Thumbnail) -> Card:
    """Say what is known of a picture."""
    status, title = _state(thumbnail)
    facts = {
        "id": picture.id,
        "picture": f"{picture.index}",
        "size": _size(picture),
        "estimated": None if picture.estimated_usd is None else f"${picture.estimated_usd:.3f}",
        "saved": picture.created,
        "file": picture.file,
    }
    return Card(
        status=status,
        prompt=picture.prompt,
        title=title,
        message=thumbnail.problem,
        facets=_known({**picture.parameters, "model": picture.model}),
        facts=_known(facts),
        file=None if thumbnail.is_missing else picture.file,
        thumbnail=thumbnail,
    )


def of_failure(failure: Failure) -> Card:
    """Say why an item is open."""
    facts = {
        "id": failure.id,
        "line": None if failure.line is None else f"{failure.line} of the source",
        "outcome": failure.outcome,
        "code": failure.code,
        "at": failure.at,
    }
    return Card(
        status=_OUTCOMES.get(failure.outcome, "failed"),
        prompt=failure.prompt,
        title=failure.error,
        message=failure.message,
        facets={},
        facts=_known(facts),
    )


def _state(thumbnail: Thumbnail) -> tuple[str, str | None]:
    if thumbnail.uri is not None:
        return "saved", None
    if thumbnail.is_missing:
        return "missing", "The file is not there"
    return "broken", "The picture cannot be shown"


def _size(picture: Picture) -> str | None:
    parts = []
    if picture.width and picture.height:
        parts.append(f"{picture.width} × {picture.height}")  # noqa: RUF001 - the sign for it
    if picture.size:
        parts.append(
            f"{picture.size / 1e6:,.2f} MB" if picture.size >= 1e5 else f"{picture.size / 1e3:,.1f} kB"
        )
    return ", ".join(parts) or None


def _known(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
