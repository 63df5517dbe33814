"""Who an item is and where its pictures lie.

Without an id, the first 16 hex digits of the request's fingerprint stand for it; repeats get `-2`, `-3`, ...
File names are distinct whatever the case. Only hashes are kept of what was seen, so that a million items
cost some ten megabytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from hinow_async._errors import SourceError
from hinow_async._models.images import ImageRequest
from hinow_async._protocol.failures import printable
from hinow_async._protocol.names import fold, safe_name
from hinow_async.batch.seen import Seen
from hinow_async.batch.source import Entry

IMAGES: Final = "images"
PER_FOLDER: Final = 1000
_DIGITS: Final = 16


@attrs.frozen
class Item:
    """One item of a batch: its identity and its place."""

    id: str
    request: ImageRequest
    fingerprint: str
    line: int | None
    folder: str
    """Relative to the batch's folder, with `/`."""
    stem: str
    """Of its file names."""


class Planner:
    """Gives the entries of one source their identity and their place, in their order."""

    def __init__(self, source_name: str) -> None:
        self._source_name = source_name
        self._position = 0
        self._seen = Seen()
        """`=id` where the id is its own file name, as a file system sees it that knows no case; else `#id`,
        and `~name` for the file name that it was the first to have."""
        self._has_folded = False
        """Whether any of them is a `~name`."""
        self._repeats: dict[str, int] = {}

    def place(self, entry: Entry) -> Item:
        """Place the next entry.

        Raises:
            SourceError: its id was there before.
        """
        position = self._position
        self._position += 1
        if entry.id is None:
            name = entry.fingerprint[:_DIGITS]
            stem = self._free_own(name)
            if stem is None:
                name, stem = self._next_repeat(name)
        else:
            name, stem = entry.id, self._free_stem(entry.id)
            if stem is None:
                raise self._repeated(entry, position)
        return Item(name, entry.request, entry.fingerprint, entry.line, folder_of(position), stem)

    def _next_repeat(self, base: str) -> tuple[str, str]:
        """Return the next of the names for items of the same request, and its file name."""
        while True:
            number = self._repeats[base] = self._repeats.get(base, 1) + 1
            stem = self._free_stem(f"{base}-{number}")
            if stem is not None:
                return f"{base}-{number}", stem

    def _free_stem(self, name: str) -> str | None:
        """Return a file name that no other item has; None: the item itself was there before."""
        stem = safe_name(name)
        folded = fold(stem)
        if folded == name:
            return self._free_own(name)
        if not self._seen.add(f"#{name}"):
            return None
        if f"={folded}" in self._seen or not self._seen.add(f"~{folded}"):
            return safe_name(name, has_twin=True)
        self._has_folded = True
        return stem

    def _free_own(self, name: str) -> str | None:
        """Like `_free_stem`, for a name that is its own file name, as nearly every one: it needs one mark."""
        if self._has_folded and f"~{name}" in self._seen:
            return safe_name(name, has_twin=True) if self._seen.add(f"#{name}") else None
        return name if self._seen.add(f"={name}") else None

    def _repeated(self, entry: Entry, position: int) -> SourceError:
        where = f"line {entry.line}" if entry.line is not None else f"item {position + 1}"
        return SourceError(
            f"{self._source_name}, {where}: the id {printable(repr(entry.id), 200)} was there before",
            line=entry.line,
        )


def folder_of(position: int) -> str:
    """Return the folder of the item at *position*: 1,000 items to each."""
    number = position // PER_FOLDER
    return IMAGES if number == 0 else f"{IMAGES}/{number:04d}"


def folders_of_pictures(root: Path) -> set[Path]:
    """Return the folders of pictures that are there; blocks."""
    images = root / IMAGES
    inner = (path for path in images.glob("[0-9]*") if path.is_dir() and not path.is_symlink())
    return {images, *inner} if images.is_dir() else set()
