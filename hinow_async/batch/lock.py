"""One process per folder: a lock of the operating system, which a dead process does not hold."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hinow_async._errors import LedgerLockedError
from hinow_async._protocol import json
from hinow_async._protocol.failures import printable

STATE: Final = ".hinow"
"""The folder for what is ours and not the user's."""

_GUARDS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS: Final = os.O_RDWR | os.O_CREAT | _GUARDS
_LOOK: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _GUARDS

if sys.platform == "win32":
    import msvcrt

    _FAR: Final = 1 << 30  # Windows' locks forbid reading: lock a byte that nobody reads

    def _lock(fd: int, *, is_shared: bool = False) -> None:
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int, *, is_shared: bool = False) -> None:
        fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


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
        if state.is_symlink():  # not even the lock is written through it
            raise OSError(errno.ELOOP, f"{STATE} is a link", str(state))
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
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)  # whoever holds it next may only look, and leaves no name
            os.close(self._fd)
            self._fd = None

    def _take(self, fd: int) -> None:
        try:
            _lock(fd)
        except (BlockingIOError, PermissionError):
            raise _locked(self._folder, fd) from None
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + b"\n")


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Keep batches from working in a folder that is looked at. Nothing is written; several may look at once.

    Raises:
        LedgerLockedError: a batch works in the folder; the message names its process.
    """
    fd = None
    # Without the file, or where the system knows no locks (read-only shares), there is nothing to hold.
    with contextlib.suppress(OSError):
        fd = os.open(folder / STATE / "lock", _LOOK)
    try:
        if fd is not None:
            _share(folder, fd)
        yield
    finally:
        if fd is not None:
            os.close(fd)


def _share(folder: Path, fd: int) -> None:
    try:
        _lock(fd, is_shared=True)
    except (BlockingIOError, PermissionError):
        raise _locked(folder, fd) from None
    except OSError:
        return


def _locked(folder: Path, fd: int) -> LedgerLockedError:
    return LedgerLockedError(
        f"{printable(str(folder), 200)} is being worked on by {_owner(fd)}:"
        " wait for it, or choose another folder"
    )


def _owner(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        said: Any = json.loads(os.read(fd, 1000))
        return f"process {int(said['pid'])} on {printable(str(said['host']), 100)}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process"
