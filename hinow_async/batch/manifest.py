"""The manifest, read a line at a time and believed in nothing: it may have come from a stranger."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from hinow_async._files import open_below
from hinow_async._protocol import json
from hinow_async.batch.reader import KeptFile, Placed, is_inside

LONGEST: Final = 16 * 1024 * 1024
"""Bytes of a line; a prompt and its parameters have their place in it many times over."""
_LARGEST: Final = (1 << 63) - 1
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_NUMBERS: Final = ("index", "bytes", "width", "height")
_NAMES: Final = (
    "id", "request", "fingerprint", "model", "provider", "request_id", "file", "sha256", "estimated_usd",
    "created",
)  # fmt: skip


class MalformedLineError(ValueError):
    """What a line of the manifest should be, and is not."""


@attrs.frozen
class Entry:
    """A line of the manifest."""

    number: int
    fields: dict[str, Any]
    """All of them."""
    placed: Placed
    """The picture that it is about."""

    @property
    def id(self) -> str:
        """Of the picture's item."""
        return self.placed.id or ""


def read_manifest(root: Path, name: str) -> Iterator[Entry | tuple[int, MalformedLineError]]:
    """Yield the lines of a manifest in their order; one that is malformed with its number and what it lacks.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is a link, or cannot be read.
    """
    with os.fdopen(open_below(root, name), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no regular file")
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            try:
                yield parse(line, number)
            except MalformedLineError as error:
                yield number, error
            if len(line) == LONGEST and not line.endswith(b"\n"):  # who knows where it ends
                return


def parse(line: bytes, number: int) -> Entry:
    """Read a line, its end included.

    Raises:
        MalformedLineError: it is none of a manifest.
    """
    if not line.endswith(b"\n"):
        is_long = len(line) == LONGEST
        raise MalformedLineError(
            "it is too long, and nothing behind it was read" if is_long else "it is torn: its end is missing"
        )
    try:
        fields = json.loads(line)
    except json.MalformedJSONError as error:
        raise MalformedLineError(f"it is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise MalformedLineError("it is no JSON object")
    wrong = [name for name in (*_NAMES, *_NUMBERS) if name not in fields or not _may_be(name, fields[name])]
    if wrong:
        raise MalformedLineError(
            f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing or impossible"
        )
    return Entry(number, fields, Placed(fields["id"], _kept(fields)))


def _may_be(name: str, value: Any) -> bool:
    if name in _NUMBERS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    if name == "id":
        return isinstance(value, str) and _is_text(value)
    if name == "file":
        return is_inside(value) and _is_text(value)
    if name == "sha256":
        return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
    return True


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _kept(fields: dict[str, Any]) -> KeptFile:
    return KeptFile(
        fields["index"],
        fields["file"],
        fields["sha256"],
        fields["bytes"],
        fields["width"],
        fields["height"],
        is_saved=True,
    )
