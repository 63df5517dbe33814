"""Room on the disk that is kept free for what must be written when the disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from hinow_async.batch.jsonl import write_all

RESERVE: Final = 1024 * 1024
"""Bytes kept free: hundreds of answers that are on their way."""

_FLAGS: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe of that name would keep us waiting
    | getattr(os, "O_BINARY", 0)
)


class Reserve:
    """Room on the disk for what must be written when the disk is full: the links of what is paid for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Occupy the room.

        Raises:
            OSError: there is less than that: no picture should be paid for.
        """
        fd = os.open(self._path, _FLAGS, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, RESERVE)
            else:
                write_all(fd, bytes(RESERVE))
                os.fsync(fd)
        except OSError:
            self.give_back()
            raise
        finally:
            os.close(fd)

    def give_back(self) -> None:
        """Free the room."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
