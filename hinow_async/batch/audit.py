"""A folder held against its records: manifest against ledger, every file against both. Nothing is written.

Hashing and decoding give the lock of the interpreter back, so that threads use all cores (2,000 pictures of
1.5 MB on two busy cores: 1.8 s, against 3.2 s in one thread and 3.3 s in two processes). Everything in here
blocks, in a thread of its own.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from hinow_async._errors import ConfigurationError
from hinow_async._protocol.failures import printable
from hinow_async.batch import ledger
from hinow_async.batch.expected import Expected, Wanted
from hinow_async.batch.findings import Difference, Kind, VerifyProgress, VerifyReport
from hinow_async.batch.inspection import inspect, surplus
from hinow_async.batch.ledger import FAILURES, MANIFEST
from hinow_async.batch.lock import STATE, undisturbed
from hinow_async.batch.manifest import Entry, read_manifest
from hinow_async.batch.reader import Placed, Reader
from hinow_async.batch.schema import path_of, untrusted

T = TypeVar("T")

IMAGES: Final = "images"
_TOGETHER: Final = 16
"""Files that go to a core together: for small ones the way there costs as much as looking at them."""
_AHEAD: Final = 4
"""Such groups that wait for each core."""


class Audit:
    """One look at a folder; `run` is called once, in a thread, and `progress` from any."""

    def __init__(self, root: Path, *, is_deep: bool) -> None:
        self._root = root
        self._is_deep = is_deep
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._begun = time.monotonic()
        self._found: list[Difference] = []
        self._total: int | None = None
        self._bytes_total = self._done = self._bytes = 0

    def stop(self) -> None:
        """End `run` soon; what it returns then means nothing."""
        self._stop.set()

    def progress(self) -> VerifyProgress:
        """Return how far it is."""
        return VerifyProgress(
            total=self._total,
            done=self._done,
            bytes=self._bytes,
            differences=len(self._found),
            elapsed=time.monotonic() - self._begun,
        )

    def run(self) -> VerifyReport:
        """Look at everything.

        Raises:
            ConfigurationError: it is no folder of a batch, or cannot be read.
            LedgerLockedError: a batch works in it.
            LedgerCorruptError: its ledger cannot be believed.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_translated(self._root))
            _check_folder(self._root)
            stack.enter_context(undisturbed(self._root))
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="hinow-"))
            expected = stack.enter_context(contextlib.closing(Expected()))
            has_ledger = self._read_ledger(expected, Path(scratch))
            self._read_manifest(expected, has_ledger=has_ledger)
            self._total, self._bytes_total = expected.measure()
            self._check_files(expected)
            self._look_beside(expected)
        return VerifyReport(
            pictures=self._total,
            bytes=self._bytes_total,
            is_deep=self._is_deep,
            elapsed=time.monotonic() - self._begun,
            differences=tuple(self._found),
        )

    # -- the records -------------------------------------------------------------------------------

    def _read_ledger(self, expected: Expected, scratch: Path) -> bool:
        """Take over what the ledger says; False: there is none."""
        if not ledger.exists(self._root):
            message = "is missing: only the manifest was there to check against, and the batch cannot go on"
            self._add("ledger_missing", path_of(Path(STATE)).as_posix(), None, message)
            return False
        reader = ledger.look_into(self._root, scratch=scratch)
        if reader is None:
            raise untrusted(path_of(self._root / STATE), "it is a link that leads nowhere")
        with contextlib.closing(reader):
            self._take_over(reader, expected)
        return True

    def _take_over(self, reader: Reader, expected: Expected) -> None:
        for line in self._going(reader.manifest()):
            expected.add_line(line)
        for placed in self._going(reader.placed()):
            self._expect(expected, placed)
        for gap in self._going(reader.gaps()):
            answered = 1 if gap.answered is None else gap.answered
            message = f"counts as done with {gap.pictures} of {answered} pictures"
            self._add("no_pictures", path_of(Path(STATE)).as_posix(), gap.id, message)

    def _expect(self, expected: Expected, placed: Placed) -> None:
        other = expected.add_file(placed)
        if other is None or not (placed.kept.is_saved and other.kept.is_saved):
            return
        # A request that took the place of another under its id may have brought the same bytes.
        is_adopted = None in {placed.id, other.id} and placed.kept.sha256 == other.kept.sha256
        if not is_adopted:
            message = f"belongs to two pictures: of {_named(other.id)} and of {_named(placed.id)}"
            self._add("shared", placed.kept.file, placed.id, message)

    def _read_manifest(self, expected: Expected, *, has_ledger: bool) -> None:
        try:
            for entry in self._going(read_manifest(self._root, MANIFEST)):
                if isinstance(entry, Entry):
                    self._compare(entry, expected, has_ledger=has_ledger)
                else:
                    number, error = entry
                    self._add("malformed_line", MANIFEST, None, f"line {number} is malformed: {error}")
        except FileNotFoundError:
            self._add("manifest_missing", MANIFEST, None, "is missing")
            return
        except OSError as error:
            self._add("not_regular", MANIFEST, None, f"cannot be read: {error.strerror or error}")
            return
        for name, file in self._going(expected.unmet()):
            self._add("not_in_manifest", file, name, f"is in the ledger, and in no line of {MANIFEST}")

    def _compare(self, entry: Entry, expected: Expected, *, has_ledger: bool) -> None:
        kept = entry.placed.kept
        known = expected.line(entry.id, kept.picture)
        if known is not None and known.at is not None:
            message = f"line {entry.number} of {MANIFEST} is about the same picture as line {known.at}"
            self._add("duplicate_line", kept.file, entry.id, message)
            return
        expected.meet(entry.id, kept.picture, kept.file, entry.number)
        if known is None:
            if has_ledger:
                message = f"is in line {entry.number} of {MANIFEST}, and not in the ledger"
                self._add("not_in_ledger", kept.file, entry.id, message)
            self._expect(expected, entry.placed)
            return
        differing = _differing(known.fields, entry.fields)
        if differing:
            message = f"line {entry.number} of {MANIFEST} differs from the ledger in {', '.join(differing)}"
            self._add("fields", kept.file, entry.id, message)

    # -- the files ---------------------------------------------------------------------------------

    def _check_files(self, expected: Expected) -> None:
        """Look at every file, on all cores, and take the findings in the order of the files."""
        cores = _cores()
        files = self._going(expected.files())
        pending: deque[Future[list[Difference]]] = deque()
        with ThreadPoolExecutor(cores, thread_name_prefix="hinow-verify") as pool:
            while group := list(itertools.islice(files, _TOGETHER)):
                pending.append(pool.submit(self._inspect, group))
                if len(pending) > _AHEAD * cores:
                    self._found += pending.popleft().result()
            for task in pending:
                self._found += task.result()

    def _inspect(self, group: Sequence[Wanted]) -> list[Difference]:
        found: list[Difference] = []
        for wanted in self._going(iter(group)):
            found += inspect(self._root, wanted, self._stop, is_deep=self._is_deep)
            with self._counting:
                self._done += 1
                self._bytes += wanted.kept.size
        return found

    def _look_beside(self, expected: Expected) -> None:
        for name in (MANIFEST, FAILURES):
            part = f".{name}.part"
            if os.path.lexists(self._root / part):
                self._add("leftover", part, None, "is a temporary file that a process left")
        beside = self._going(surplus(self._root, IMAGES, expected))
        self._found += sorted(beside, key=lambda found: found.file)

    # -- findings ----------------------------------------------------------------------------------

    def _add(self, kind: Kind, file: str, name: str | None, message: str) -> None:
        self._found.append(Difference(kind=kind, file=file, id=name, message=message))

    def _going(self, things: Iterator[T]) -> Iterator[T]:
        """Yield things until somebody stops it."""
        for thing in things:
            if self._stop.is_set():
                return
            yield thing


def _check_folder(root: Path) -> None:
    said = printable(str(root), 200)
    if not root.is_dir():
        raise ConfigurationError(f"{said} is no folder")
    if not ledger.exists(root) and not os.path.lexists(root / MANIFEST):
        raise ConfigurationError(
            f"{said} is no folder of a batch: it has neither {MANIFEST} nor {path_of(Path(STATE)).as_posix()}"
        )


@contextlib.contextmanager
def _translated(root: Path) -> Iterator[None]:
    """Say in the user's words what was in the way."""
    try:
        yield
    except sqlite3.Error as error:  # the ledger's are translated where it is read
        raise OSError(errno.ENOSPC, f"no room for temporary files: {error}") from None
    except PermissionError as error:
        raise ConfigurationError(f"{printable(str(root), 200)} cannot be read: {error.strerror}") from None


def _differing(recorded: dict[str, object], found: dict[str, object]) -> list[str]:
    names = dict.fromkeys((*recorded, *found))
    missing = object()
    return [printable(name, 100) for name in names if recorded.get(name, missing) != found.get(name, missing)]


def _named(name: str | None) -> str:
    return "a superseded item" if name is None else printable(repr(name), 200)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
