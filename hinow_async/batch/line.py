"""A line of the manifest, and of the file of failures, as they are written."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from hinow_async._protocol import json
from hinow_async._protocol.json import quoted

_PICTURE: Final = (
    '{"id":%s,"index":%d,"request":%s,"fingerprint":%s,"model":%s,"provider":%s,"request_id":%s,"file":%s,'
    '"sha256":%s,"bytes":%d,"width":%d,"height":%d,"estimated_usd":%s,"created":%s%s}\n'
)
"""Put together as text: a dict that is then encoded costs three times as much, twice a picture."""


def picture_line(
    values: Sequence[Any], *, usd: Decimal | None, images: int | None, at: str, is_sandbox: bool
) -> bytes:
    """Return a picture's line of the manifest, its end included.

    Args:
        values: Those of its first fields, in their order; the request is JSON already.
        usd: US dollars that its answer is estimated to have cost.
        images: Pictures that the answer had.
        at: When it was saved.
        is_sandbox: Whether it is a test picture.

    Raises:
        TypeError: a value is no text or no number where it has to be one.
    """
    name, picture, request, mark, model, provider, request_id, file, digest, size, width, height = values
    line = _PICTURE % (
        quoted(name),
        picture,
        request,
        quoted(mark),
        "null" if model is None else quoted(model),
        "null" if provider is None else quoted(provider),
        "null" if request_id is None else quoted(request_id),
        quoted(file),
        quoted(digest),
        size,
        width,
        height,
        "null" if usd is None else _share(usd, images or 1),
        quoted(at),
        ',"sandbox":true' if is_sandbox else "",
    )
    return line.encode()


@functools.lru_cache(maxsize=64)
def _share(usd: Decimal, images: int) -> str:
    """Return what one of an answer's pictures cost; thousands cost the same."""
    return repr(round(float(usd / images), 6))


def failure_line(failure: Mapping[str, Any]) -> bytes:
    """Return a line of `failures.jsonl`, its end included."""
    return json.dumps(failure) + b"\n"


def skipped_line(line: int, message: str, at: str) -> bytes:
    """Return what `failures.jsonl` says of a line of the source that could not be read."""
    return failure_line({
        "id": None, "line": line, "error": "SourceError", "message": message, "code": None,
        "outcome": "not_sent", "at": at, "prompt": None,
    })  # fmt: skip
