"""JSON in one place: what goes out is valid JSON, what comes in may be anything and raises one error."""

from __future__ import annotations

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_canonical = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":")).encode

quoted = encode_basestring
"""Writes a text as JSON; what UTF-8 does not have stays in it. `TypeError`: it is no text."""
quoted_ascii = encode_basestring_ascii
"""Writes a text as JSON in ASCII, as `canonical` does."""

_decode = json.JSONDecoder().decode
_decode_begin = json.JSONDecoder().raw_decode
_BOM = "\ufeff"


class MalformedJSONError(ValueError):
    """Bytes that are not one JSON document."""


def dumps(value: Any) -> bytes:
    """Write compact UTF-8 JSON.

    Raises:
        ValueError: *value* holds NaN, an infinity, a cycle or a type that JSON does not have.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, e.g. of a prompt cut in the middle of an emoji
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def canonical(value: Any) -> bytes:
    """Write JSON that is the same for equal values: sorted keys, ASCII, no spaces (for fingerprints)."""
    return _encode_canonical(value).encode()


def loads(data: bytes) -> Any:
    """Read one JSON document.

    Raises:
        MalformedJSONError: it is none, or is nested too deeply, or holds a number of too many digits.
    """
    try:
        # UTF-8, as RFC 8259 wants it; `json.loads` would guess the encoding anew for each answer.
        text = data.decode()
    except ValueError as error:
        reason = str(error)[:200]
    else:
        return parse(text.removeprefix(_BOM))
    # Raised outside of the handler: the context would keep the whole body alive in its frames.
    raise MalformedJSONError(reason)


def parse(text: str) -> Any:
    """Read one JSON document that is text already; see `loads`."""
    try:
        value, end = _decode_begin(text)
        # Only where there is space around it: looking for that takes as long as reading a chunk of a stream.
        return value if end == len(text) else _decode(text)
    except (ValueError, RecursionError):
        pass  # it is said below what is wrong with it
    try:
        return _decode(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
    raise MalformedJSONError(reason)
