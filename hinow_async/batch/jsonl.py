"""A file of JSON objects, one a line: appended to on the way, and replaced in one step at the end.

Everything in here blocks, and runs in threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from hinow_async._download.folder import sync
from hinow_async._files import GUARDS, NEW
from hinow_async._protocol import json

_APPEND: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | GUARDS


class JsonLines:
    """A file of JSON objects, one a line; a line is in it whole or not at all."""

    def __init__(self, path: Path, mode: int) -> None:
        """Open the file, and cut off a last line that was torn.

        Args:
            path: It is made if it is not there, and never followed if it is a link.
            mode: Its permissions.
        """
        self.path = path
        self._mode = mode
        self._fd = os.open(path, _APPEND, mode)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self.close()
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        self._size = self._mend()
        self._added: list[bytes] = []

    def add(self, lines: Iterable[bytes]) -> None:
        """Add lines with their ends, which `flush` writes."""
        self._added += lines

    def flush(self) -> None:
        """Write the lines that were added.

        Raises:
            OSError: they could not be written; none of them is there.
        """
        if not self._added:
            return
        data = b"".join(self._added)
        self._added.clear()
        try:
            write_all(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace the whole file, in one step, durably."""
        fresh = self.path.with_name(f".{self.path.name}.part")
        with contextlib.suppress(FileNotFoundError):  # of a process that died here
            fresh.unlink()
        fd = os.open(fresh, NEW, self._mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(fd)
            self.close()
            fresh.replace(self.path)
            sync(self.path.parent)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            raise
        finally:
            if self._fd < 0:
                self._fd = os.open(self.path, _APPEND, self._mode)
                self._size = os.fstat(self._fd).st_size

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _mend(self) -> int:
        """End the last line, or cut it off where a dead process left half of it; return the size."""
        size = os.fstat(self._fd).st_size
        with self.path.open("rb") as file:
            keep = _after_last_newline(file, size)
            if keep == size:
                return size
            file.seek(keep)
            is_whole = _row(file.read()) is not None
        if is_whole:
            write_all(self._fd, b"\n")
            return size + 1
        os.ftruncate(self._fd, keep)
        return keep


def _after_last_newline(file: Any, size: int) -> int:
    """Return where the last line begins; *size*, if the file ends with a newline or is empty."""
    end = size
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.MalformedJSONError:
        return None
    return row if isinstance(row, dict) else None


def write_all(fd: int, data: bytes) -> None:
    """Write all of it: the system may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
