"""A file in the making: hidden while it is, whole and durable under its name afterwards, or gone.

Everything in here blocks, and runs in threads. All that is done in the folder goes through one handle on it
(`dir_fd`), so that exchanging the folder for a link leads nothing elsewhere; no link is ever written through.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hinow_async._download.transfer import Piece
from hinow_async._models.images import SavedImage
from hinow_async._protocol.names import extension, numbered
from hinow_async._protocol.pictures import PictureCheck

_READ: Final = 1024 * 1024
_MOST_VECTORS: Final = 512  # below every system's IOV_MAX
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# What not every system has; each is 0 where it is missing.
_GUARDS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LOOK: Final = os.O_RDONLY | _GUARDS | getattr(os, "O_NONBLOCK", 0)
_HAS_DIR_FD: Final = {os.open, os.link, os.unlink, os.rename, os.stat} <= os.supports_dir_fd


class NotDurableError(Exception):
    """`fsync` failed: the file has to be written anew.

    A second one would say nothing, for the system may have dropped the pages that it could not write.
    """


class Folder:
    """A handle on the folder that the files go to; it is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        try:
            self._fd = _open_folder(path)
        except FileNotFoundError:
            _make_folders(path)
            self._fd = _open_folder(path)

    def open(self, name: str, flags: int) -> int:
        """Open a file of this folder, never through a link."""
        return os.open(self._name(name), flags | _GUARDS, 0o666, **self._at("dir_fd"))

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, unless that is occupied."""
        where = self._at("src_dir_fd", "dst_dir_fd")
        if os.link in os.supports_follow_symlinks:
            where["follow_symlinks"] = False
        os.link(self._name(source), self._name(target), **where)

    def replace(self, source: str, target: str) -> None:
        """Rename a file, in place of whatever has that name."""
        where = self._at("src_dir_fd", "dst_dir_fd")
        os.replace(self._name(source), self._name(target), **where)  # noqa: PTH105 - paths know no handle

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name(name), **self._at("dir_fd"))

    def sync(self) -> None:
        """Make names durable. Where a folder has no handle (Windows), the system does so by itself."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _name(self, name: str) -> str:
        return name if self._fd is not None else str(self.path / name)

    def _at(self, *parameters: str) -> dict[str, Any]:
        return {} if self._fd is None else dict.fromkeys(parameters, self._fd)


class Part:
    """The hidden temporary file, its hash and the judgement of its bytes.

    Any thread may call; calls exclude each other. After `discard` nothing is opened or written any more, also
    not by a call that was under way to a thread when its caller was cancelled.
    """

    def __init__(self, directory: Path, stem: str, index: int) -> None:
        if set(stem) & set("/\\\0") or not stem.strip("."):
            raise ValueError(f"not the stem of a file name: {stem!r}")
        self._check = PictureCheck()
        self._directory = directory
        self._stem = stem
        self._index = index
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._folder: Folder | None = None
        self._name = ""
        self._fd: int | None = None
        self._is_done = False

    def write(self, piece: Piece) -> None:
        """Append the bytes of *piece*; one at offset 0 begins the file anew.

        Raises:
            IntegrityError: they cannot become a picture.
            OSError: they cannot be written.
        """
        with self._lock:
            self._append(piece)

    def finish(self, last: Piece | None, *, overwrite: bool) -> SavedImage:
        """Append the *last* bytes, judge the whole, make it durable and give it its name.

        An occupied name is left alone: a file with the same bytes is adopted, else the next number is tried.
        With *overwrite* whatever has the name is replaced.

        Raises:
            IntegrityError: it is no whole picture (as yet: more may be written).
            NotDurableError: the file could not be made durable; it is gone.
            OSError: it cannot be written or named, or its name not be made durable.
        """
        with self._lock:
            if last is not None:
                self._append(last)
            facts = self._check.finish()
            folder, digest = self._folder, self._hash.hexdigest()
            if folder is None:
                raise FileNotFoundError(errno.ENOENT, "the download was given up", str(self._directory))
            size = self._seal()
            name = self._settle(folder, extension(facts.format), digest, size, overwrite=overwrite)
            folder.sync()
            self._give_up()
            path = self._directory / name
            return SavedImage(path, self._index, digest, size, facts.format, facts.width, facts.height)

    def discard(self) -> None:
        """Remove the temporary file, if it is there."""
        with self._lock:
            self._give_up()

    def _append(self, piece: Piece) -> None:
        if self._is_done:
            return
        if piece.offset == 0:
            self._begin()
        for block in piece.blocks:
            self._check.feed(block)
            self._hash.update(block)
        _write_all(self._opened(), piece.blocks)

    def _opened(self) -> int:
        if self._fd is None:
            raise FileNotFoundError(errno.ENOENT, "the file was not begun", str(self._directory))
        return self._fd

    def _begin(self) -> None:
        """Open a fresh file; what was written before is void."""
        self._check, self._hash = PictureCheck(), hashlib.sha256()
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            return
        self._folder = Folder(self._directory)
        self._name = f".{self._stem}-{self._index}.{secrets.token_hex(4)}.part"
        self._fd = self._folder.open(self._name, _NEW)

    def _seal(self) -> int:
        """Make the bytes durable and close the file; return its size."""
        fd = self._opened()
        size = os.fstat(fd).st_size
        try:
            os.fsync(fd)
            self._fd = None
            os.close(fd)  # before it is renamed: Windows renames no open file
        except OSError as error:
            self._give_up()
            raise NotDurableError from error
        return size

    def _settle(self, folder: Folder, ext: str, digest: str, size: int, *, overwrite: bool) -> str:
        for name in _names(self._stem, self._index, ext):
            if overwrite:
                folder.replace(self._name, name)
                return name
            if _claim(folder, self._name, name) or _is_same(folder, name, digest, size):
                return name
        raise AssertionError("names never end")

    def _give_up(self) -> None:
        self._is_done = True
        fd, self._fd = self._fd, None
        folder, self._folder = self._folder, None
        if fd is not None:
            with contextlib.suppress(OSError):  # of a disk that failed; what mattered was synced before
                os.close(fd)
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.unlink(self._name)
            folder.close()


def _names(stem: str, index: int, ext: str) -> Iterator[str]:
    return (numbered(stem, index, ext, n) for n in itertools.count(1))


def _claim(folder: Folder, source: str, target: str) -> bool:
    """Name a file *target*, in one step; False if that name is occupied."""
    try:
        folder.link(source, target)
    except FileExistsError:
        return False
    except OSError:
        # No links on this file system (FAT, some networks and FUSE): reserve the name, then rename over it.
        # Should links have failed for another reason, so will this.
        return _reserve(folder, source, target)
    return True


def _reserve(folder: Folder, source: str, target: str) -> bool:
    try:
        os.close(folder.open(target, _NEW))
    except FileExistsError:
        return False
    try:
        folder.replace(source, target)
    except BaseException:
        folder.unlink(target)
        raise
    return True


def _is_same(folder: Folder, name: str, digest: str, size: int) -> bool:
    """Whether *name* is a regular file with these very bytes; if so, it is made durable."""
    try:
        fd = folder.open(name, _LOOK)
    except OSError:  # a link, a folder without access, or gone since
        return False
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        hashed = hashlib.sha256()
        while block := os.read(fd, _READ):
            hashed.update(block)
        if hashed.hexdigest() != digest:
            return False
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


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


def _open_folder(path: Path) -> int | None:
    if not _HAS_DIR_FD:
        path.stat()  # raises as opening would
        return None
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _make_folders(path: Path) -> None:
    """Make a folder and those above it, and make their names durable."""
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        above = Folder(folder.parent)
        try:
            above.sync()
        finally:
            above.close()
