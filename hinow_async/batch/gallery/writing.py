"""The files of a gallery: what goes on which page, and all pages put in place once all of them are there.

Everything in here blocks, and runs in one thread beside those that make thumbnails.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs

from hinow_async._errors import ConfigurationError
from hinow_async._files import NEW, open_plain
from hinow_async._protocol.failures import printable
from hinow_async.batch.gallery import page
from hinow_async.batch.gallery.cards import Card, Thumbnail, of_failure, of_picture
from hinow_async.batch.gallery.page import MARK, Page, file_name
from hinow_async.batch.gallery.records import Failure, Lines, Picture, open_failures, open_manifest
from hinow_async.batch.gallery.thumbnails import thumbnail

A_PAGE: Final = 500
"""Pictures on a page; failures too."""
_MOST_THREADS: Final = 16
_HEAD: Final = 1024
"""Bytes in which the mark of a page of ours stands."""
_ABANDONED: Final = 3600.0
"""Seconds after which an unfinished file is taken for that of a dead process."""
_PAGE_NAME: Final = re.compile(r"gallery-([1-9][0-9]{0,8})\.html")
_PART_NAME: Final = re.compile(r"\.gallery(-[0-9]{1,9})?\.html\.[0-9a-f]{8}\.part")


@attrs.frozen(kw_only=True)
class GalleryReport:
    """What a gallery came to."""

    pages: tuple[Path, ...]
    """Its files, in their order."""
    pictures: int
    """Pictures on all pages."""
    failures: int
    """Items that are open, and shown with the reason."""
    unreadable: int
    """Of the pictures, those whose file is missing or broken: they are shown as such."""


class StoppedError(Exception):
    """The caller wants no gallery any more."""


@attrs.frozen
class Contents:
    """What there is to show, counted."""

    pictures: int
    failures: int
    is_sandbox: bool

    @property
    def picture_pages(self) -> int:
        """Pages with pictures; at least one."""
        return max(1, -(-self.pictures // A_PAGE))

    @property
    def pages(self) -> int:
        """All pages: failures begin on the last one with pictures, and go on by themselves."""
        return self.picture_pages - 1 + max(1, -(-self.failures // A_PAGE))


class Gallery:
    """Writes the gallery of one folder."""

    def __init__(self, folder: Path, tell: Callable[[int, int], None], stop: threading.Event) -> None:
        """Prepare to write.

        Args:
            folder: A batch's.
            tell: Told, in this thread, how many pictures are done, and of how many.
            stop: Once set, `write` ends with StoppedError, and everything is as before.
        """
        self._folder = folder
        self._tell = tell
        self._stop = stop
        self._run = secrets.token_hex(4)
        self._done = self._unreadable = 0

    def write(self) -> GalleryReport:
        """Write all pages.

        Raises:
            ConfigurationError: the folder is no batch's, or has a page that is not ours.
            SourceError: a line of its manifest or failures is not what a batch writes.
            OSError: a page cannot be written.
            StoppedError: see *stop*.
        """
        manifest = open_manifest(self._folder)
        with contextlib.closing(manifest), contextlib.closing(open_failures(self._folder)) as failures:
            contents = self._count(manifest, failures)
            paths = tuple(self._folder / file_name(number + 1) for number in range(contents.pages))
            for path in paths:
                _refuse_others(path)
            with contextlib.closing(self._pages(contents, manifest, failures)) as pages:
                self._place(paths, pages)
        _remove_left_over(self._folder, contents.pages)
        return GalleryReport(
            pages=paths,
            pictures=contents.pictures,
            failures=contents.failures,
            unreadable=self._unreadable,
        )

    def _count(self, manifest: Lines[Picture], failures: Lines[Failure]) -> Contents:
        """Read everything through once: a wrong line is found before anything is written."""
        pictures, is_sandbox = 0, False
        for picture in manifest:
            self._check_stop()
            pictures += 1
            is_sandbox |= picture.is_sandbox
        return Contents(pictures, sum(1 for _ in failures), is_sandbox)

    def _place(self, paths: Sequence[Path], pages: Iterator[Page]) -> None:
        parts = [path.with_name(f".{path.name}.{self._run}.part") for path in paths]
        try:
            for part, made in zip(parts, pages, strict=True):
                self._check_stop()
                write_file(part, page.html(made))
            for part, path in zip(parts, paths, strict=True):
                part.replace(path)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)

    def _pages(
        self, contents: Contents, manifest: Lines[Picture], failures: Lines[Failure]
    ) -> Generator[Page, None, None]:
        title = self._folder.resolve().name or str(self._folder)
        pictures = itertools.islice(manifest, contents.pictures)
        open_items = itertools.islice(failures, contents.failures)
        with ThreadPoolExecutor(threads(), "hinow-gallery") as pool:
            for number in range(1, contents.pages + 1):
                first = self._done + 1
                shown = self._cards(pool, list(itertools.islice(pictures, A_PAGE)), contents.pictures)
                has_failures = number >= contents.picture_pages
                yield Page(
                    title=title,
                    number=number,
                    count=contents.pages,
                    first=first,
                    pictures=shown,
                    failures=[*map(of_failure, itertools.islice(open_items, A_PAGE * has_failures))],
                    all_pictures=contents.pictures,
                    all_failures=contents.failures,
                    failures_page=contents.picture_pages,
                    is_sandbox=contents.is_sandbox,
                )

    def _cards(self, pool: ThreadPoolExecutor, pictures: Sequence[Picture], total: int) -> list[Card]:
        """Return the cards of a page; threads make their thumbnails."""
        cards = []
        for picture, small in zip(pictures, pool.map(self._small, pictures), strict=True):
            self._done += 1
            self._unreadable += small.uri is None
            self._tell(self._done, total)
            cards.append(of_picture(picture, small))
        return cards

    def _small(self, picture: Picture) -> Thumbnail:
        self._check_stop()
        return thumbnail(self._folder, picture.file)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError


def threads() -> int:
    """Return how many threads make thumbnails."""
    is_known = hasattr(os, "sched_getaffinity")
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)) if is_known else os.cpu_count() or 1)


def write_file(path: Path, pieces: Iterable[str]) -> None:
    """Write a new file, durably.

    Raises:
        OSError: it cannot be written, or is there.
    """
    with os.fdopen(os.open(path, NEW, 0o666), "wb") as file:
        file.writelines(piece.encode() for piece in pieces)
        file.flush()
        os.fsync(file.fileno())


# -- files of other galleries ----------------------------------------------------------------------------


def _refuse_others(path: Path) -> None:
    """Refuse to replace what is not ours.

    Raises:
        ConfigurationError: it is not.
    """
    if os.path.lexists(path) and not _is_ours(path):
        raise ConfigurationError(
            f"{printable(str(path), 200)} was not written by `hinow gallery`: rename it or move it away"
        )


def _is_ours(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return MARK.encode() in file.read(_HEAD)
    except OSError:  # a link, no file, or gone since
        return False


def _remove_left_over(folder: Path, pages: int) -> None:
    """Remove pages of a larger gallery that was here before, and what a dead process left."""
    for path in folder.iterdir():
        name = _PAGE_NAME.fullmatch(path.name)
        is_beyond = name is not None and int(name[1]) > pages
        is_abandoned = _PART_NAME.fullmatch(path.name) is not None and _is_old(path)
        if (is_beyond or is_abandoned) and _is_ours(path):
            path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > _ABANDONED
