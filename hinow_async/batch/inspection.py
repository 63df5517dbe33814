"""One picture on disk, held against what is recorded of it. Everything in here blocks, in threads."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hinow_async._download.checkpoint import is_temporary
from hinow_async._download.decode import decode_fully
from hinow_async._errors import IntegrityError
from hinow_async._files import open_below
from hinow_async._protocol.names import extension
from hinow_async._protocol.pictures import PictureCheck, PictureFacts
from hinow_async.batch.expected import Expected, Wanted
from hinow_async.batch.findings import Difference, Kind

_BLOCK: Final = 1024 * 1024
_LINKS: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.ENXIO})
"""What opening says of a link, of one on the way, and of a socket."""


def inspect(root: Path, wanted: Wanted, stop: threading.Event, *, is_deep: bool) -> list[Difference]:
    """Return what of a file differs from what is recorded.

    Args:
        root: The batch's folder.
        wanted: What is recorded.
        stop: Once set, nothing more is read, and what is returned means nothing.
        is_deep: Decode it, too.
    """
    try:
        fd = open_below(root, wanted.kept.file)
    except OSError as error:
        return [_unopened(wanted, error)]
    try:
        return [_difference(wanted, kind, said) for kind, said in _judged(fd, wanted, stop, is_deep)]
    except OSError as error:
        return [_difference(wanted, "unreadable", f"cannot be read: {error.strerror or error}")]
    finally:
        os.close(fd)


def _judged(fd: int, wanted: Wanted, stop: threading.Event, is_deep: bool) -> Iterator[tuple[Kind, str]]:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        yield "not_regular", "is no regular file"
        return
    if found.st_size != wanted.kept.size:
        # Not read: whatever lies there, it is not the picture, and may have no end.
        yield "size", f"has {found.st_size:,} bytes instead of {wanted.kept.size:,}"
        return
    digest, facts = _read(fd, stop)
    if stop.is_set():
        return
    if digest != wanted.kept.sha256:
        yield "sha256", f"has other bytes: its sha256 is {digest} instead of {wanted.kept.sha256}"
    try:
        _check_picture(fd, wanted, facts, is_deep)
    except IntegrityError as error:
        yield "picture", f"is not the picture that is recorded: {error}"


def _read(fd: int, stop: threading.Event) -> tuple[str, PictureFacts | IntegrityError]:
    """Hash a file and walk through its picture, in one reading."""
    hashed, check = hashlib.sha256(), PictureCheck()
    problem: IntegrityError | None = None
    while not stop.is_set() and (block := os.read(fd, _BLOCK)):
        hashed.update(block)
        try:
            if problem is None:
                check.feed(block)
        except IntegrityError as error:
            problem = error
    try:
        facts = problem or check.finish()
    except IntegrityError as error:
        facts = error
    return hashed.hexdigest(), facts


def _check_picture(fd: int, wanted: Wanted, facts: PictureFacts | IntegrityError, is_deep: bool) -> None:
    if isinstance(facts, IntegrityError):
        raise facts
    kept = wanted.kept
    if (facts.width, facts.height) != (kept.width, kept.height):
        raise IntegrityError(
            f"it is {facts.width} x {facts.height} pixels instead of {kept.width} x {kept.height}"
        )
    if not kept.file.endswith(f".{extension(facts.format)}"):
        raise IntegrityError(f"it is a {facts.format} picture, and its name says otherwise")
    if is_deep:
        os.lseek(fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(fd), "rb") as file:
            decode_fully(file, facts)


def _unopened(wanted: Wanted, error: OSError) -> Difference:
    if error.errno == errno.ENOENT:
        return _difference(wanted, "missing", "is missing")
    if error.errno in _LINKS:
        return _difference(wanted, "not_regular", "is a link or no file, or lies behind one")
    return _difference(wanted, "unreadable", f"cannot be read: {error.strerror or error}")


def _difference(wanted: Wanted, kind: Kind, message: str) -> Difference:
    return Difference(kind=kind, file=wanted.kept.file, id=wanted.id, message=message)


# -- what lies beside the pictures -------------------------------------------------------------------------


def surplus(root: Path, folder: str, expected: Expected) -> Iterator[Difference]:
    """Yield what lies in a folder of pictures and below it, and is not known; no link is followed."""
    folders = [folder]
    if (root / folder).is_symlink():
        yield Difference(kind="not_regular", file=folder, message="is a link; it was not followed")
        return
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(root / folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Difference(
                kind="unreadable", file=folder, message=f"cannot be read: {error.strerror or error}"
            )
            continue
        with entries:
            for entry in entries:
                file = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(file)
                elif (found := _beside(file, entry.name, expected)) is not None:
                    yield found


def _beside(file: str, name: str, expected: Expected) -> Difference | None:
    role = expected.role(file)
    if role in {"saved", "superseded"}:
        return None
    if role == "placing":
        message = "was about to be recorded when a process ended: the next run takes it over"
        return Difference(kind="leftover", file=file, message=message)
    if is_temporary(name):
        message = "is a temporary file that a process left: the next run removes it"
        return Difference(kind="leftover", file=file, message=message)
    return Difference(kind="surplus", file=file, message="is none that manifest or ledger know")
