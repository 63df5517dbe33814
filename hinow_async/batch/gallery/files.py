"""Opening what lies in a folder that anybody may have put there: plain files alone, never through a link.

Everything in here blocks.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Final

_GUARDS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LOOK: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _GUARDS  # a pipe must not hold us
_HAS_DIR_FD: Final = os.open in os.supports_dir_fd

NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _GUARDS


def open_plain(path: Path) -> IO[bytes]:
    """Open a plain file for reading.

    Raises:
        OSError: it is not there, a link, or no plain file.
    """
    return _checked(os.open(path, _LOOK), path.name)


def open_inside(folder: Path, file: str) -> IO[bytes]:
    """Open a plain file for reading; no part of its path below *folder* may be a link.

    Raises:
        OSError: it is not there, a link, or no plain file.
        ValueError: the system does not take the name.
    """
    return _checked(_open_by_handles(folder, file) if _HAS_DIR_FD else _open_by_path(folder, file), file)


def _checked(fd: int, name: str) -> IO[bytes]:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{name} is no plain file")
    return os.fdopen(fd, "rb")


def _open_by_handles(folder: Path, file: str) -> int:
    *folders, name = file.split("/")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _GUARDS, dir_fd=handle)
            os.close(handle)
            handle = below
        return os.open(name, _LOOK, dir_fd=handle)
    finally:
        os.close(handle)


def _open_by_path(folder: Path, file: str) -> int:
    """Where folders have no handles (Windows)."""
    path = folder / file
    if any(part.is_symlink() for part in (path, *path.parents[: file.count("/")])):
        raise OSError(f"{file} is a link")
    return os.open(path, _LOOK)
