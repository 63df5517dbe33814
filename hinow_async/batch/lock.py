"""One process per folder: a lock of the operating system, which a dead process does not hold."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hinow_async._errors import LedgerLockedError
from hinow_async._protocol import json
from hinow_async._protocol.failures import printable

STATE: Final = ".hinow"
"""The folder for what is ours and not the user's."""

_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

if sys.platform == "win32":
    import msvcrt

    _FAR: Final = 1 << 30  # Windows' locks forbid reading: lock a byte that nobody reads

    def _lock(fd: int) -> None:
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """Held while it is entered. The file stays: to remove it would let two processes hold two locks.

    Raises:
        LedgerLockedError: another process works in the folder; the message names it.
        OSError: the folder cannot be written to, or its file system knows no locks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None

    def __enter__(self) -> Self:
        state = self._folder / STATE
        state.mkdir(exist_ok=True)
        fd = os.open(state / "lock", _FLAGS, 0o600)
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _take(self, fd: int) -> None:
        try:
            _lock(fd)
        except (BlockingIOError, PermissionError):
            raise LedgerLockedError(
                f"{printable(str(self._folder), 200)} is being worked on by {_owner(fd)}:"
                " wait for it, or choose another folder"
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + b"\n")


def _owner(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        said: Any = json.loads(os.read(fd, 1000))
        return f"process {int(said['pid'])} on {printable(str(said['host']), 100)}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
