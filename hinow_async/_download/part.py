"""A file in the making: hidden while it is, whole and durable under its name afterwards, or gone.

Everything in here blocks, and runs in threads. Of a slow download a state file is kept (`checkpoint`), with
which a later run goes on should this process die.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import attrs

from hinow_async._download import checkpoint
from hinow_async._download.folder import NEW, Folder, Folders, claim, is_same, sync_file
from hinow_async._download.threads import Wait
from hinow_async._download.transfer import Piece, Version
from hinow_async._models.images import ImageFormat
from hinow_async._protocol.names import extension, numbered
from hinow_async._protocol.pictures import PictureCheck, PictureFacts

CHECKPOINT: Final = 1.0
"""Seconds between two state files. Most pictures are there sooner, and never get one."""


@attrs.frozen
class Kept:
    """A picture in its folder.

    Not a `SavedImage` with its path: `pathlib` interns each name, and the table of all interned strings,
    copied now and then in whichever thread, is most of what a long batch's memory would grow by.
    """

    name: str
    """Of the file."""
    index: int
    sha256: str
    size_bytes: int
    format: ImageFormat
    width: int
    height: int


Placing = Callable[[Kept, Callable[[Exception | None], None]], None]
"""Is told, in a thread, what a file that is whole and durable is about to be called, and what to call, in any
thread, once it may be called that, or with what stands against it."""

Judge = Callable[[IO[bytes], PictureFacts], None]
"""Is given the whole file, in a thread; raises `IntegrityError` if it is no good."""

_MOST_VECTORS: Final = 512  # below every system's IOV_MAX


class NotDurableError(Exception):
    """`fsync` failed: the file has to be written anew.

    A second one would say nothing, for the system may have dropped the pages that it could not write.
    """


class Part:
    """The hidden temporary file, its hash and the judgement of its bytes.

    Any thread may call; calls exclude each other. After `discard` nothing is opened or written any more, also
    not by a call that was under way to a thread when its caller was cancelled.
    """

    def __init__(
        self,
        folders: Folders,
        directory: Path,
        stem: str,
        index: int,
        url: str = "",
        *,
        judge: Judge | None = None,
        root: Path | None = None,
    ) -> None:
        if set(stem) & set("/\\\0") or not stem.strip("."):
            raise ValueError(f"not the stem of a file name: {stem!r}")
        self._check = PictureCheck()
        self._judge = judge
        self._folders = folders
        self._directory = directory
        self._root = root
        self._stem = stem
        self._index = index
        self._url = url
        self._prefix = f".{stem}-{index}"
        self._state = checkpoint.state_name(stem, index)
        self._has_state = False
        self._noted = 0.0
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._folder: Folder | None = None
        self._name = ""
        self._fd: int | None = None
        self._size = 0
        self._is_done = False
        self._is_named_soon = False
        """Whether it is whole and durable, and waits for nothing but its name."""
        self._told: list[Callable[[Exception | None], None]] = []
        """What is called when it has its name, or gets none."""

    def resume(self) -> tuple[int, Version] | None:
        """Go on with what an earlier run left, if that can be trusted; return its size and version."""
        with self._lock:
            if self._is_done:
                return None
            try:
                folder = self._folder = self._folders.take(self._directory, is_made=False, root=self._root)
            except (FileNotFoundError, NotADirectoryError):
                return None
            left = checkpoint.resume(folder, self._state, self._prefix, self._url)
            if left is None:
                return None
            self._name, self._fd, self._has_state = left.name, left.fd, True
            self._size = left.offset
            self._hash, self._check, self._noted = left.hash, left.check, time.monotonic()
            return left.offset, left.version

    def write(self, piece: Piece, version: Version) -> None:
        """Append the bytes of *piece*; one at offset 0 begins the file anew.

        Raises:
            IntegrityError: they cannot become a picture.
            OSError: they cannot be written.
        """
        with self._lock:
            self._append(piece)
            self._note(version)

    def finish(
        self, last: Piece | None, *, overwrite: bool, placing: Placing | None = None
    ) -> Generator[Wait, None, Kept]:
        """Append the *last* bytes, judge the whole, make it durable and give it its name; in steps.

        An occupied name is left alone: a file with the same bytes is adopted, else the next number is tried.
        With *overwrite* whatever has the name is replaced. *placing* is told before each name that is tried.

        Raises:
            IntegrityError: it is no whole picture (as yet: more may be written).
            NotDurableError: the file could not be made durable; it is gone.
            OSError: it cannot be written or named, or its name not be made durable.
        """
        with self._lock:
            facts = self._finish(last)
            self._is_named_soon = True
        try:
            digest, size = self._hash.hexdigest(), self._size
            for name in _names(self._stem, self._index, extension(facts.format)):
                kept = Kept(name, self._index, digest, size, facts.format, facts.width, facts.height)
                if placing is not None:
                    yield functools.partial(placing, kept)
                with self._lock:
                    if self._has_taken(kept, overwrite=overwrite):
                        return kept
            raise AssertionError("names never end")
        finally:
            with self._lock:
                self._is_named_soon = False
                self._give_up()
                told, self._told = self._told, []
            for tell in told:
                tell(None)

    def discard(self) -> Generator[Wait, None, None]:
        """Remove the temporary file, if it is there; one that is about to get its name gets it; in steps."""
        yield self._wait_until_named
        with self._lock:
            self._give_up()

    def _wait_until_named(self, tell: Callable[[Exception | None], None]) -> None:
        with self._lock:
            if self._is_named_soon:
                self._told.append(tell)
                return
        tell(None)

    def _append(self, piece: Piece) -> None:
        if self._is_done:
            return
        if piece.offset == 0:
            self._begin()
        for block in piece.blocks:
            self._check.feed(block)
            self._hash.update(block)
        _write_all(self._opened(), piece.blocks)
        self._size += piece.size

    def _opened(self) -> int:
        if self._fd is None:
            raise FileNotFoundError(errno.ENOENT, "the file was not begun", str(self._directory))
        return self._fd

    def _begin(self) -> None:
        """Open a fresh file; what was written before is void."""
        self._check, self._hash = PictureCheck(), hashlib.sha256()
        self._noted, self._size = time.monotonic(), 0
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            return
        self._folder = self._folder or self._folders.take(self._directory, root=self._root)
        self._name = f"{self._prefix}.{secrets.token_hex(4)}.part"
        self._fd = self._folder.open(self._name, NEW)
        checkpoint.lock(self._fd)

    def _note(self, version: Version) -> None:
        """Write the state file, now and then. One that is no longer true is harmless: its hash tells."""
        now = time.monotonic()
        if self._folder is None or version.validator is None or now - self._noted < CHECKPOINT:
            return
        self._noted = now
        state = checkpoint.state_of(self._name, self._url, version, self._hash, self._size)
        if checkpoint.note(self._folder, self._state, state, is_first=not self._has_state):
            self._has_state = True

    def _finish(self, last: Piece | None) -> PictureFacts:
        """Make the file whole and durable."""
        if last is not None:
            self._append(last)
        facts = self._check.finish()
        self._taken()
        if self._judge is not None:
            with os.fdopen(os.dup(self._opened()), "rb") as file:
                file.seek(0)
                self._judge(file, facts)
        self._seal()
        return facts

    def _taken(self) -> Folder:
        if self._folder is None:
            raise FileNotFoundError(errno.ENOENT, "the download was given up", str(self._directory))
        return self._folder

    def _seal(self) -> None:
        """Make the bytes durable and close the file."""
        fd = self._opened()
        try:
            sync_file(fd)
            self._fd = None
            os.close(fd)  # before it is renamed: Windows renames no open file
        except OSError as error:
            self._give_up()
            raise NotDurableError from error

    def _has_taken(self, kept: Kept, *, overwrite: bool) -> bool:
        """Give the file its name, durably; False: another file has it."""
        folder = self._taken()
        if overwrite:
            folder.replace(self._name, kept.name)
        elif not (
            claim(folder, self._name, kept.name) or is_same(folder, kept.name, kept.sha256, kept.size_bytes)
        ):
            return False
        folder.sync()
        return True

    def _give_up(self) -> None:
        self._is_done = True
        fd, self._fd = self._fd, None
        folder, self._folder = self._folder, None
        if fd is not None:
            with contextlib.suppress(OSError):  # of a disk that failed; what mattered was synced before
                os.close(fd)
        if folder is not None:
            with contextlib.suppress(OSError):
                if self._name:
                    folder.unlink(self._name)
                if self._has_state:
                    folder.unlink(self._state)
            self._folders.give_back(folder)


def _names(stem: str, index: int, ext: str) -> Iterator[str]:
    return (numbered(stem, index, ext, n) for n in itertools.count(1))


def _write_all(fd: int, blocks: Sequence[bytes]) -> None:
    """Write all blocks with as few calls as the system allows; it may take less than it is given."""
    if not hasattr(os, "writev"):
        for block in blocks:
            _write(fd, memoryview(block))
        return
    for start in range(0, len(blocks), _MOST_VECTORS):
        vector = blocks[start : start + _MOST_VECTORS]
        written = os.writev(fd, vector)
        if written < sum(map(len, vector)):
            _write(fd, memoryview(b"".join(vector))[written:])


def _write(fd: int, left: memoryview) -> None:
    while left:
        left = left[os.write(fd, left) :]
