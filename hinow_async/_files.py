"""Opening what lies in a folder that anybody may have put there: plain files alone, never through a link.

Everything in here blocks.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, Final

from hinow_async._download.folder import LOOK, open_below

_GUARDS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _GUARDS


def open_plain(path: Path) -> IO[bytes]:
    """Open a plain file for reading.

    Raises:
        OSError: it is not there, a link, or no plain file.
    """
    return _checked(os.open(path, LOOK | _GUARDS), path.name)


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
