"""Folders to write to, and opening what anybody may have put there: plain files alone, through no link.

Everything in here blocks.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

# What not every system has; each is 0 where it is missing.
GUARDS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
LOOK: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
"""For a file that somebody else may have put there: a pipe must not hold us."""
NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | GUARDS

_HAS_DIR_FD: Final = os.open in os.supports_dir_fd


def writable_folder(directory: str | os.PathLike[str]) -> Path:
    """Make the folder if need be, and find out whether files can be put into it.

    Raises:
        OSError: it is a file, or cannot be written to.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def open_plain(path: Path) -> IO[bytes]:
    """Open a plain file for reading.

    Raises:
        OSError: it is not there, a link, or no plain file.
    """
    return _checked(os.open(path, LOOK | GUARDS), path.name)


def open_inside(folder: Path, file: str) -> IO[bytes]:
    """Open a plain file for reading; no part of its path below *folder* may be a link.

    Raises:
        OSError: it is not there, a link, or no plain file.
        ValueError: the system does not take the name.
    """
    return _checked(open_below(folder, file), file)


def _checked(fd: int, name: str) -> IO[bytes]:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{name} is no plain file")
    return os.fdopen(fd, "rb")


def open_below(root: Path, file: str, flags: int = LOOK) -> int:
    """Open a file or a folder below *root*, through no link.

    Args:
        root: A folder; it may be a link itself.
        file: Relative to it, with `/`, without `..`.
        flags: How; by default to look at it.
    """
    *above, name = file.split("/")
    if not _HAS_DIR_FD:
        return _open_without_handles(root, above, name, flags)
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in above:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | GUARDS, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, flags | GUARDS, dir_fd=at)
    finally:
        os.close(at)


def _open_without_handles(root: Path, above: Sequence[str], name: str, flags: int) -> int:
    path = root
    for part in (*above, name):
        path = path / part
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return os.open(path, flags | GUARDS)
