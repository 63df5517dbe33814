"""One request of a source: what an item may be, and how it is checked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from hinow_async._errors import ConfigurationError, SourceError
from hinow_async._models.images import PARAMETERS, ImageRequest
from hinow_async._protocol.failures import printable
from hinow_async._protocol.wire import image_fingerprint

FIELDS: Final = ("prompt", "model", *PARAMETERS, "extra")
"""The fields of a request that a line may have, beside `id`."""

_DEEPEST: Final = 200
"""Levels of *extra*; what is deeper can be read, and then neither sent nor recorded at every place."""


@attrs.frozen
class Entry:
    """One request of a source, checked."""

    request: ImageRequest
    id: str | None
    """As the source says it; None: it has none."""
    line: int | None
    """Its line, from 1: the first of several, the row of a Parquet file; None: the source has neither."""
    fingerprint: str
    """SHA-256 of the request as it will be sent, 64 hex digits."""


@attrs.frozen
class BadLine:
    """A line that is no request, and is passed over."""

    line: int
    """From 1; of an iterable, the item's position."""
    message: str


Chunk = Sequence[Entry | BadLine]


class Source(Protocol):
    """Entries in chunks."""

    name: str
    is_rereadable: bool
    """Whether it can be read through before anything is sent."""

    def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Read from the beginning; a bad entry raises `SourceError` after those before it were handed on."""


@attrs.frozen
class Reading:
    """How the caller wants entries to be read."""

    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    """Checked fields for what entries leave out."""
    skip_bad_lines: bool = False

    @classmethod
    def checked(cls, defaults: Mapping[str, Any] | None, *, skip_bad_lines: bool) -> Reading:
        """Check the defaults.

        Raises:
            ConfigurationError: one of them is no field.
        """
        values = {name: value for name, value in (defaults or {}).items() if value is not None}
        for name in values:
            if name not in FIELDS[1:]:
                raise ConfigurationError(f"defaults: {name!r} is none of {', '.join(FIELDS[1:])}")
        if not isinstance(values.get("extra", {}), Mapping):
            raise ConfigurationError("defaults: extra must be a mapping")
        return cls(values, skip_bad_lines)


def line_error(name: str, line: int, problem: Exception) -> SourceError:
    """Say what is wrong with a line of the source *name*."""
    return SourceError(f"{name}, line {line}: {printable(str(problem), 500)}", line=line)


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
    if request.extra and _is_deeper(request.extra, _DEEPEST):
        raise ValueError(f"extra is nested more than {_DEEPEST} levels deep")
    try:
        return Entry(request, name, line, image_fingerprint(request))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"extra is not JSON: {error}") from None


def _is_deeper(value: Any, most: int) -> bool:
    """Whether objects and lists are nested more than *most* levels, asked without recursion."""
    level: list[Any] = [value]
    while level and most >= 0:
        most -= 1
        inner = [list(each.values()) if isinstance(each, Mapping) else each for each in level]
        level = [item for items in inner for item in items if isinstance(item, Mapping | list | tuple)]
    return bool(level)


def _id(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"id must be a text that is not empty, not {value!r}")
    text = str(value)
    # Half of an emoji, which no database keeps.
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
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
