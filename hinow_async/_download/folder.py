"""A folder that files are placed in: durable, never overwriting by itself, never through a link.

Everything in here blocks, and runs in threads. All that is done in a folder goes through one handle on it
(`dir_fd`), so that exchanging the folder for a link leads nothing elsewhere. Downloads into one folder share
its handle, and an fsync of it: the one that begins after their files have their names serves all of them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any, Final

from hinow_async._files import GUARDS, LOOK, open_below

_READ: Final = 1024 * 1024
_HAS_DIR_FD: Final = {os.open, os.link, os.unlink, os.rename, os.stat} <= os.supports_dir_fd

_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
NEW: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR


def sync_file(fd: int) -> None:
    """Make a file's bytes durable.

    Raises:
        OSError: that failed; its pages may be dropped, so a second try would say nothing.
    """
    if sys.platform == "darwin":  # there fsync leaves them in the drive's cache
        import fcntl  # noqa: PLC0415 - not everywhere

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.ENOTTY, errno.EINVAL}:
                raise
        else:
            return
        # The file system has no such order.
    os.fsync(fd)


class Folder:
    """A handle on the folder that the files go to."""

    def __init__(self, path: Path, *, is_made: bool = True, root: Path | None = None) -> None:
        """Open the folder, and make it where it is not there unless *is_made* is False.

        Args:
            path: The folder.
            is_made: Whether it is made.
            root: A folder above it, below which no part of *path* may be a link; None: links are followed.
        """
        self.path = path
        self._fd: int | None = None
        self._turns = itertools.count()
        self._syncing = threading.Lock()
        self._synced = self._unsynced = -1
        try:
            self._fd = _open_folder(path, root)
        except FileNotFoundError:
            if not is_made:
                raise
            _make_folders(path)
            self._fd = _open_folder(path, root)
        self._facts = None if self._fd is None else os.fstat(self._fd)

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """Open a file of this folder, never through a link."""
        return os.open(self._name(name), flags | GUARDS, mode, **self._at("dir_fd"))

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
        """Make the names that files have by now durable; with others who wait, at the price of one.

        Where a folder has no handle (Windows), the system does so by itself.

        Raises:
            OSError: it failed, for one of those who waited together and so for all: a second one that is
                content would say nothing.
        """
        if self._fd is None:
            return
        asked = next(self._turns)
        with self._syncing:
            if self._unsynced > asked:
                raise OSError(errno.EIO, "the folder could not be synced", str(self.path))
            if self._synced > asked:
                return
            began = next(self._turns)
            try:
                os.fsync(self._fd)
            except OSError:
                self._unsynced = began
                raise
            self._synced = began

    def is_at(self, path: Path) -> bool:
        """Whether *path* still leads to this folder, and not to one that was made in its place."""
        if self._facts is None:
            return True
        try:
            return os.path.samestat(os.stat(path), self._facts)  # noqa: PTH116 - quicker than a `Path`
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _name(self, name: str) -> str:
        return name if self._fd is not None else str(self.path / name)

    def _at(self, *parameters: str) -> dict[str, Any]:
        return {} if self._fd is None else dict.fromkeys(parameters, self._fd)


class Folders:
    """Folders with one handle each, for as long as anybody has them; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, Folder] = {}
        self._users: dict[Folder, int] = {}

    def take(self, path: Path, *, is_made: bool = True, root: Path | None = None) -> Folder:
        """Return the folder, as `Folder` opens it; `give_back` follows.

        Raises:
            OSError: it cannot be made or opened.
        """
        with self._lock:
            folder = self._folders.get(path)
            if folder is not None and folder.is_at(path):
                self._users[folder] += 1
                return folder
        # Not under the lock: a disk that hangs must not hold those of another one.
        folder = Folder(path, is_made=is_made, root=root)
        with self._lock:
            self._folders[path] = folder
            self._users[folder] = 1
        return folder

    def give_back(self, folder: Folder) -> None:
        """Let go of a folder; the last one closes it."""
        with self._lock:
            self._users[folder] -= 1
            if self._users[folder]:
                return
            del self._users[folder]
            if self._folders.get(folder.path) is folder:
                del self._folders[folder.path]
        folder.close()


def claim(folder: Folder, source: str, target: str) -> bool:
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


def make_durable(path: Path) -> None:
    """Make the name of a folder durable, and those above it on its file system, whoever made them and when.

    Raises:
        OSError: it cannot be done.
    """
    path = path.resolve()
    device = path.stat().st_dev
    for above in itertools.takewhile(lambda above: above.stat().st_dev == device, path.parents):
        with contextlib.suppress(PermissionError):  # who may not look into a folder made nothing in it
            sync(above)


def sync(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = Folder(path)
    try:
        folder.sync()
    finally:
        folder.close()


def is_same(folder: Folder, name: str, digest: str, size: int) -> bool:
    """Whether *name* is a regular file with these very bytes; if so, it is made durable."""
    try:
        fd = folder.open(name, LOOK)
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
        sync_file(fd)
    finally:
        os.close(fd)
    return True


def _reserve(folder: Folder, source: str, target: str) -> bool:
    try:
        os.close(folder.open(target, NEW))
    except FileExistsError:
        return False
    try:
        folder.replace(source, target)
    except BaseException:
        folder.unlink(target)
        raise
    return True


def _open_folder(path: Path, root: Path | None) -> int | None:
    if not _HAS_DIR_FD:
        path.stat()  # raises as opening would
        return None
    if root is not None:
        return open_below(root, path.relative_to(root).as_posix(), _FOLDER)
    return os.open(path, _FOLDER)


def _make_folders(path: Path) -> None:
    """Make a folder and those above it, and make their names durable."""
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync(folder.parent)
