"""Answers that are too large for the ledger, for they have pictures in them: files beside it.

Such a file is whole and durable before the ledger names it. Everything in here blocks.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from hinow_async._download.folder import NEW, Folder, sync_file
from hinow_async._files import LOOK
from hinow_async.batch.jsonl import write_all

FOLDER: Final = "answers"


def name_of(attempt: int) -> str:
    """Return the file name of a try's answer."""
    return f"{attempt}.json"


def write(directory: Path, name: str, data: bytes) -> None:
    """Write a file, whole and durable, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    folder = Folder(directory)
    part = f"{name}.part"
    try:
        folder.unlink(part)
        fd = folder.open(part, NEW, 0o600)
        try:
            write_all(fd, data)
            sync_file(fd)
        finally:
            os.close(fd)
        folder.replace(part, name)
        folder.sync()
    except OSError:
        with contextlib.suppress(OSError):
            folder.unlink(part)
        raise
    finally:
        folder.close()


def read(directory: Path, name: str) -> bytes | None:
    """Return a file's bytes; None: it is not there, or no file of ours."""
    if not name.removesuffix(".json").isdecimal() or not directory.is_dir():
        return None
    folder = Folder(directory)
    try:
        with os.fdopen(folder.open(name, LOOK), "rb") as file:
            return file.read()
    except OSError:
        return None
    finally:
        folder.close()


def remove(directory: Path, name: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(OSError):
        (directory / name).unlink()
