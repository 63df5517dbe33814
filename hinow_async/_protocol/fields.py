"""What an answer's JSON holds, field by field: hostile until it was checked.

What cannot be what it should be is a `WireError`; a field of a wrong kind is None, or kept in `.extra`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hinow_async._protocol import json


class WireError(ValueError):
    """An answer that cannot be what it should be."""

    def __init__(self, message: str, *, code: str | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.type = type


class UnsuccessfulError(WireError):
    """A 2xx whose envelope says `success: false`."""


def text(value: Any) -> str | None:
    """Take a text; None: it is none."""
    return value if isinstance(value, str) else None


def rest(raw: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """Return the fields beside the *known* ones."""
    return {key: value for key, value in raw.items() if key not in known}


def kind_of(value: Any) -> str:
    """Say what a value is, for messages."""
    return (
        "null"
        if value is None
        else {"dict": "an object", "list": "a list"}.get(type(value).__name__, f"a {type(value).__name__}")
    )


def object_of(raw: Any, what: str) -> dict[str, Any]:
    """Take an object.

    Raises:
        WireError: it is none; the message says *what* should be one.
    """
    if not isinstance(raw, dict):
        raise WireError(f"{what} should be an object, but is {kind_of(raw)}")
    return raw


def finite(value: Any) -> float | None:
    """Take a finite number; None: it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """Take a whole number; None: it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_fields(raw: dict[str, Any], readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Read known fields; one of an impossible type stays in *extra*, like an unknown one."""
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in raw.items():
        read = readers.get(key)
        known = read(value) if read is not None else None
        if known is None and not (read is not None and value is None):
            extra[key] = value
        else:
            fields[key] = known
    return {**fields, "extra": extra}


def strings(value: Any) -> tuple[str, ...] | None:
    """Take a text or a list of texts; None: it is neither."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None


def open_envelope(raw: Any) -> tuple[Any, dict[str, Any]]:
    """Return the data and the envelope's other fields; the envelope may be missing.

    Raises:
        WireError: it is no object.
        UnsuccessfulError: it says that it failed.
    """
    if not isinstance(raw, dict):
        raise WireError(f"the answer is no JSON object but {kind_of(raw)}")
    if raw.get("success") is False:
        message, code, kind = error_fields(raw)
        raise UnsuccessfulError(message or "success is false", code=code, type=kind)
    if "data" not in raw:
        return raw, {}
    outer = dict(raw)
    data = outer.pop("data")
    outer.pop("success", None)
    return data, outer


def error_fields(raw: Any) -> tuple[str | None, str | None, str | None]:
    """Return message, code and type of an error body, with or without its `error` wrapper."""
    if not isinstance(raw, dict):
        return None, None, None
    inner = raw.get("error")
    if isinstance(inner, str):
        return inner, _code(raw.get("code")), text(raw.get("type"))
    entry = inner if isinstance(inner, dict) else raw
    message_text = entry.get("message", entry.get("detail"))
    if message_text is not None and not isinstance(message_text, str):
        message_text = _shown(message_text)
    return message_text, _code(entry.get("code")), text(entry.get("type"))


def _shown(value: Any) -> str | None:
    """Write a message that is no text; None, where it is no JSON either (NaN) or nested too deeply."""
    try:
        return json.canonical(value).decode()
    except (ValueError, RecursionError):
        return None


def _code(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
