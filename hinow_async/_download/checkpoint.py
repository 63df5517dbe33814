"""What survives a crash of a download: a small state file beside the temporary one.

It names the temporary file and says how many of its bytes are from which version of which URL, with their
SHA-256. A later run believes none of it: it reads those bytes, and goes on only if the hash agrees. So
nothing has to be synced, and power loss, torn writes and exchanged files all mean: from the beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import attrs

from hinow_async._download.folder import NEW, Folder
from hinow_async._download.transfer import Version
from hinow_async._errors import IntegrityError
from hinow_async._files import LOOK
from hinow_async._protocol.pictures import PictureCheck

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows: nothing tells whose a temporary file is, so none is gone on with
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

_READ: Final = 1024 * 1024
_MOST_STATE: Final = 16 * 1024
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.DOTALL)
_STATE: Final = re.compile(r"\..+\.resume", re.DOTALL)


@attrs.frozen
class Resumed:
    """A temporary file that an earlier run left, ready to be appended to."""

    name: str
    fd: int
    offset: int
    version: Version
    hash: Any
    check: PictureCheck


@attrs.frozen
class _State:
    part: str
    url: str
    sha256: str
    size: int
    version: Version


def lock(fd: int) -> bool:
    """Mark a file as in use by this process until it is closed; False if another one has it."""
    if not _HAS_LOCKS:
        return False
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except OSError:  # another's, or a file system without locks
        return False
    return True


def note(folder: Folder, name: str, state: dict[str, Any], *, is_first: bool) -> bool:
    """Write the state file; False if somebody else has one of that name."""
    try:
        fd = folder.open(name, NEW if is_first else os.O_WRONLY | os.O_TRUNC, 0o600)
    except OSError:
        return False
    with os.fdopen(fd, "wb") as file:
        file.write(json.dumps(state).encode())
    return True


def state_of(part: str, url: str, version: Version, hashed: Any, size: int) -> dict[str, Any]:
    """Return what the state file says. Of the URL it holds a hash only: the query may be a secret."""
    return {
        "part": part,
        "url": hashlib.sha256(url.encode()).hexdigest(),
        "sha256": hashed.hexdigest(),
        "size": size,
        "etag": version.etag,
        "modified": version.modified,
        "total": version.total,
    }


def resume(folder: Folder, name: str, prefix: str, url: str) -> Resumed | None:
    """Find what an earlier run left of *url*; what cannot be gone on with is removed."""
    state = _read_state(folder, name)
    if state is None:
        return None
    found = None
    if re.fullmatch(re.escape(prefix) + r"\.[0-9a-f]{8}\.part", state.part):
        found = _reopen(folder, state, hashlib.sha256(url.encode()).hexdigest())
        if found is None and not _is_free(folder, state.part):
            return None  # its process is alive
        if found is None:
            folder.unlink(state.part)
    if found is None:
        folder.unlink(name)
    return found


def state_name(stem: str, index: int) -> str:
    """Return the name of the state file of a picture."""
    return f".{stem}-{index}.resume"


def states_in(directory: Path) -> frozenset[str]:
    """Return the names of the state files in a folder; blocks."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        return frozenset(entry.name for entry in entries if _STATE.fullmatch(entry.name))
    return frozenset()


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that files in the making, and the notes of them, have."""
    return _TEMPORARY.fullmatch(name) is not None or _STATE.fullmatch(name) is not None


def sweep(directory: Path, *, resumable: bool = False, root: Path | None = None) -> int:
    """Remove the temporary files of processes that are gone; return how many.

    Args:
        directory: Where pictures were saved to.
        resumable: Remove those, too, that a later run could go on with.
        root: A folder above it, below which no part of its path may be a link.

    Raises:
        OSError: it cannot be opened, or is a link that it may not be.
    """
    try:
        folder = Folder(directory, is_made=False, root=root)
    except FileNotFoundError:
        return 0
    try:
        names = [entry.name for entry in os.scandir(directory)]
        states = {name: _read_state(folder, name) for name in names if _STATE.fullmatch(name)}
        kept = set() if resumable else {state.part for state in states.values() if state is not None}
        strays = [name for name in names if _TEMPORARY.fullmatch(name) and name not in kept]
        removed = [name for name in strays if _is_free(folder, name)]
        for name, state in states.items():
            if state is None or state.part in removed or state.part not in names:
                folder.unlink(name)
        for name in removed:
            folder.unlink(name)
        return len(removed)
    finally:
        folder.close()


def _is_free(folder: Folder, name: str) -> bool:
    try:
        fd = folder.open(name, LOOK)
    except OSError:
        return True
    try:
        return lock(fd)
    finally:
        os.close(fd)


def _read_state(folder: Folder, name: str) -> _State | None:
    """Read a state file; anything odd in it makes it None, and useless."""
    try:
        fd = folder.open(name, LOOK)
    except OSError:
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError), os.fdopen(fd, "rb") as file:
        raw = json.loads(file.read(_MOST_STATE))
        version = Version(_header(raw["etag"]), _header(raw["modified"]), _size(raw["total"]))
        return _State(str(raw["part"]), str(raw["url"]), str(raw["sha256"]), _size(raw["size"]) or 0, version)
    return None


def _header(value: object) -> str | None:
    """A validator goes into a header: nothing but printable ASCII does."""
    if value is not None and not (isinstance(value, str) and value.isascii() and value.isprintable()):
        raise ValueError("not a validator")
    return value


def _size(value: object) -> int | None:
    if value is not None and not (isinstance(value, int) and value >= 0):
        raise ValueError("not a size")
    return value


def _reopen(folder: Folder, state: _State, url: str) -> Resumed | None:
    """Open the temporary file for appending, if it holds what the state says, and is nobody's."""
    if state.url != url or state.version.validator is None or not state.size:
        return None
    try:
        fd = folder.open(state.part, os.O_RDWR)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        # More than one name: it was placed already, or is a link to what is not ours to write to.
        is_ours = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size >= state.size
        if is_ours and lock(fd) and os.fstat(fd).st_nlink == 1:
            hashed, check = _reread(fd, state.size)
            if hashed.hexdigest() == state.sha256:
                os.ftruncate(fd, state.size)
                return Resumed(state.part, fd, state.size, state.version, hashed, check)
    except (OSError, IntegrityError):
        pass
    os.close(fd)
    return None


def _reread(fd: int, size: int) -> tuple[Any, PictureCheck]:
    hashed, check, left = hashlib.sha256(), PictureCheck(), size
    while left and (block := os.read(fd, min(_READ, left))):
        hashed.update(block)
        check.feed(block)
        left -= len(block)
    return hashed, check
