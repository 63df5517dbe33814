"""The folder's two files: `manifest.jsonl`, a line per saved picture, and `failures.jsonl`, what is open.

Both are appended to while the batch runs, and rewritten in one step at its end. What they say is checked
before it is believed: a line that cannot be read stops the batch, for to pass over it could mean to pay
again. Everything in here blocks, and runs in threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import attrs

from hinow_async._errors import ConfigurationError, LedgerCorruptError, SourceError
from hinow_async._protocol import json
from hinow_async._protocol.failures import printable
from hinow_async.batch.lock import STATE
from hinow_async.batch.plan import Item

MANIFEST: Final = "manifest.jsonl"
FAILURES: Final = "failures.jsonl"

RESERVE: Final = 1024 * 1024
"""Bytes kept free: a thousand failures."""

_GUARDS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_APPEND: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | _GUARDS
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _GUARDS


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the lines of a file that may not be there, with their numbers; half a last line is passed over.

    Raises:
        LedgerCorruptError: one of them is no JSON object.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            row = _row(line)
            if row is not None:
                yield number, row
            elif line.endswith(b"\n"):
                raise corrupt(path, number, "it is no JSON object")


def corrupt(path: Path, number: int, problem: str) -> LedgerCorruptError:
    """Make the error for a line that cannot be believed."""
    return LedgerCorruptError(
        f"{printable(str(path), 200)}, line {number}: {problem}. Nothing was sent; mend or remove the line,"
        " or choose another folder"
    )


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
        self._size = self._mend()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add lines.

        Raises:
            OSError: they could not be written; none of them is there.
        """
        data = b"".join(json.dumps(row) + b"\n" for row in rows)
        try:
            _write(self._fd, data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace the whole file, in one step."""
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        with contextlib.suppress(FileNotFoundError):  # of a process of that number that died here
            fresh.unlink()
        fd = os.open(fresh, _NEW, self._mode)
        try:
            try:
                for row in rows:
                    _write(fd, json.dumps(row) + b"\n")
                os.fsync(fd)
            finally:
                os.close(fd)
            self.close()
            fresh.replace(self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            raise
        finally:
            if self._fd < 0:
                self._fd = os.open(self.path, _APPEND, self._mode)
                self._size = os.fstat(self._fd).st_size

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
            _write(self._fd, b"\n")
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


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# -- the manifest ------------------------------------------------------------------------------------------


@attrs.define
class Made:
    """What the manifest says of one item."""

    fingerprint: str
    files: dict[int, tuple[str, int]]
    """Path and size of each picture, by its index."""

    def is_there(self, root: Path) -> bool:
        """Whether all its files are there, in their size."""
        return all(_has_size(root / file, size) for file, size in self.files.values())


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


class Manifest:
    """What was saved, in this run and before."""

    def __init__(self, root: Path, *, is_sandbox: bool) -> None:
        """Read it; nothing is opened to be written.

        Raises:
            LedgerCorruptError: a line cannot be believed.
            ConfigurationError: sandbox and service do not go into one folder.
        """
        self._root = root
        self._is_sandbox = is_sandbox
        self._lines: JsonLines | None = None
        self._made_anew: set[str] = set()
        self.made: dict[str, Made] = {}
        """By id: items whose pictures are all there."""
        self.broken: set[str] = set()
        """Ids of items of which a picture is gone."""
        for number, row in read_rows(root / MANIFEST):
            self._take(number, row)
        self.broken.update(item_id for item_id, made in self.made.items() if not made.is_there(root))
        for item_id in self.broken:
            del self.made[item_id]

    def open(self) -> None:
        """Make ready to add lines."""
        self._lines = JsonLines(self._root / MANIFEST, 0o666)

    def add(self, item_id: str, rows: list[dict[str, Any]]) -> None:
        """Add the lines of one item, all at once."""
        assert self._lines is not None  # noqa: S101 - it was opened
        self._lines.append([{**row, "sandbox": True} for row in rows] if self._is_sandbox else rows)
        if item_id in self.broken:
            self._made_anew.add(item_id)

    def finish(self) -> None:
        """Drop the lines of items that were made anew, except their last making."""
        if self._lines is not None and self._made_anew:
            self._lines.rewrite(self._without_superseded(self._lines.path))

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()

    def _take(self, number: int, row: dict[str, Any]) -> None:
        item_id, mark = row.get("id"), row.get("fingerprint")
        index, file, size = row.get("index"), row.get("file"), row.get("bytes")
        if not isinstance(item_id, str) or not isinstance(mark, str):
            raise corrupt(self._root / MANIFEST, number, "id or fingerprint is missing")
        if not isinstance(index, int) or not isinstance(size, int) or not _is_inside(file):
            raise corrupt(self._root / MANIFEST, number, "index, bytes or file cannot be")
        if (row.get("sandbox") is True) != self._is_sandbox:
            begun, now = (
                ("the sandbox", "the service") if row.get("sandbox") else ("the service", "a sandbox")
            )
            raise ConfigurationError(
                f"{printable(str(self._root), 200)} holds pictures of {begun}:"
                f" choose another folder for {now}"
            )
        made = self.made.get(item_id)
        if made is None or index in made.files or made.fingerprint != mark:
            # An index for the second time begins a making that supersedes the one before.
            made = self.made[item_id] = Made(mark, {})
        made.files[index] = (str(file), size)

    def _without_superseded(self, path: Path) -> Iterator[dict[str, Any]]:
        last: dict[str, tuple[int, set[int]]] = {}
        for number, row in read_rows(path):
            if row["id"] in self._made_anew:
                start, indexes = last.get(row["id"], (number, set()))
                if row["index"] in indexes:
                    start, indexes = number, set()
                last[row["id"]] = (start, indexes | {row["index"]})
        for number, row in read_rows(path):
            if row["id"] not in last or number >= last[row["id"]][0]:
                yield row


def _is_inside(file: Any) -> bool:
    """Whether a path of the manifest stays in the folder."""
    if not isinstance(file, str) or not file or "\0" in file or "\\" in file:
        return False
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts


# -- the failures ------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Answer:
    """A paid answer whose pictures could not all be kept: its links are asked again, which is free."""

    urls: dict[int, str]
    """Links by the picture's index. They may be signed: the file that holds them is its owner's alone."""
    images: int
    """Pictures that the answer had, those included that were kept."""
    model: str | None
    provider: str | None
    request_id: str | None
    estimated_usd: float | None
    account: str | None


@attrs.frozen(kw_only=True)
class Failure:
    """An item that is open, and why."""

    id: str
    error: str
    """Name of the error's class."""
    message: str
    code: str | None
    """The service's own code, where it gave one."""
    outcome: str
    """What it means for money: `not_sent`, `refused`, `unknown` (may have been billed), `lost` (paid)."""
    prompt: str
    at: str
    """ISO 8601, UTC."""
    fingerprint: str
    answer: Answer | None = None

    @property
    def is_maybe_paid(self) -> bool:
        """Whether it may have been billed without an answer."""
        return self.outcome == "unknown"

    @property
    def is_lost(self) -> bool:
        """Whether it was paid for, and pictures are missing."""
        return self.outcome == "lost"

    def row(self) -> dict[str, Any]:
        """Return its line."""
        row = attrs.asdict(self, filter=lambda field, _: field.name != "answer")
        if self.answer is not None:
            answer = attrs.asdict(self.answer)
            answer["urls"] = [{"index": index, "url": url} for index, url in self.answer.urls.items()]
            row.update(answer)
        return row


_TEXTS: Final = ("id", "error", "message", "outcome", "prompt", "at", "fingerprint")


class Failures:
    """What is open, from earlier runs and from this one."""

    def __init__(self, root: Path) -> None:
        """Read it; nothing is opened to be written.

        Raises:
            LedgerCorruptError: a line cannot be believed.
        """
        self._path = root / FAILURES
        self._lines: JsonLines | None = None
        self.earlier: dict[str, Failure] = {}
        """By id."""
        self._now: dict[str, Failure] = {}
        self._done: set[str] = set()
        for number, row in read_rows(self._path):
            failure = _failure(row)
            if failure is None:
                raise corrupt(self._path, number, "a field is missing or cannot be")
            self.earlier[failure.id] = failure

    def open(self) -> None:
        """Make ready to add lines."""
        self._lines = JsonLines(self._path, 0o600)

    def add(self, failure: Failure) -> None:
        """Record an item that is open; at once, so that a killed process leaves it behind."""
        assert self._lines is not None  # noqa: S101 - it was opened
        self._now[failure.id] = failure
        self._lines.append([failure.row()])

    def resolve(self, item_id: str) -> None:
        """An item that was open has its pictures."""
        self._done.add(item_id)

    def finish(self, *, is_whole_source: bool) -> None:
        """Write what is open now.

        Args:
            is_whole_source: Whether every item was met: then failures of items that are in it no more go,
                but never what is known of paid ones.
        """
        kept = {
            failure.id: failure
            for failure in self.earlier.values()
            if not is_whole_source or failure.is_lost or failure.is_maybe_paid
        }
        open_now = {**kept, **self._now}
        if self._lines is not None:
            self._lines.rewrite(open_now[name].row() for name in open_now if name not in self._done)

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()


def _failure(row: dict[str, Any]) -> Failure | None:
    texts = {name: row.get(name) for name in _TEXTS}
    code = row.get("code")
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(code, str | None):
        return None
    answer = None
    if "urls" in row:
        answer = _answer(row)
        if answer is None:
            return None
    return Failure(**texts, code=code, answer=answer)  # type: ignore[arg-type] # as was just asked


def _answer(row: dict[str, Any]) -> Answer | None:
    urls, images, usd = row["urls"], row.get("images"), row.get("estimated_usd")
    texts = {name: row.get(name) for name in ("model", "provider", "request_id", "account")}
    links = [
        (item["index"], item["url"])
        for item in (urls if isinstance(urls, list) else ())
        if isinstance(item, dict) and isinstance(item.get("index"), int) and isinstance(item.get("url"), str)
    ]
    are_texts = all(isinstance(text, str | None) for text in texts.values())
    is_usd = usd is None or (isinstance(usd, int | float) and not isinstance(usd, bool))
    if not isinstance(urls, list) or len(links) < len(urls) or not isinstance(images, int):
        return None
    if not are_texts or not is_usd:
        return None
    return Answer(urls=dict(links), images=images, estimated_usd=usd, **texts)


# -- both together -----------------------------------------------------------------------------------------


Verdict = Literal["make", "fetch", "reused", "maybe_paid", "lost"]
"""What is to be done with an item: have it made, fetch what is paid for, or leave it as it is."""


class Reserve:
    """Room on the disk for what must be written when the disk is full: the links of what is paid for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Occupy the room.

        Raises:
            OSError: there is less than that: no picture should be paid for.
        """
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | _GUARDS, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, RESERVE)
            else:
                _write(fd, bytes(RESERVE))
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


class Records:
    """What the folder knows of each item."""

    def __init__(self, root: Path, *, is_sandbox: bool) -> None:
        """Read what is there; see `Manifest` and `Failures` for what it raises."""
        self._reserve = Reserve(root / STATE / "reserve")
        self.manifest = Manifest(root, is_sandbox=is_sandbox)
        self.failures = Failures(root)

    def open(self) -> None:
        """Make ready to record; the folder's lock is held."""
        self._reserve.take()
        self.manifest.open()
        self.failures.open()

    def add_failure(self, failure: Failure) -> None:
        """Record an item that is open, on a full disk too."""
        try:
            self.failures.add(failure)
        except OSError:
            self._reserve.give_back()
            self.failures.add(failure)

    def finish(self, *, is_whole_source: bool) -> None:
        """Write both files as they are to be left, and close them."""
        try:
            self.failures.finish(is_whole_source=is_whole_source)
            self.manifest.finish()
        finally:
            self.close()

    def close(self) -> None:
        """Close both files."""
        self.manifest.close()
        self.failures.close()
        self._reserve.give_back()

    def verdict(self, item: Item, *, resend_unknown: bool) -> Verdict:
        """Say what is to be done with an item.

        Raises:
            SourceError: its request is another one than that which was paid for.
        """
        made = self.manifest.made.get(item.id)
        failure = self.failures.earlier.get(item.id)
        paid = failure if failure is not None and (failure.is_lost or failure.is_maybe_paid) else None
        known = made or paid
        if known is not None and known.fingerprint != item.fingerprint:
            raise _changed(item)
        if failure is not None and failure.is_lost:
            if self.links(item):
                return "fetch"
            return "reused" if made is not None and _is_whole(made, failure) else "lost"
        if made is not None:
            return "reused"
        if paid is not None and not resend_unknown:
            return "maybe_paid"
        return "make"

    def images_of(self, item: Item) -> int:
        """Return how many pictures of an item earlier runs left in the folder."""
        made = self.manifest.made.get(item.id)
        return 0 if made is None else len(made.files)

    def links(self, item: Item) -> dict[int, str]:
        """Return the links of paid pictures that are not there, by index."""
        failure = self.failures.earlier.get(item.id)
        if failure is None or failure.answer is None:
            return {}
        made = self.manifest.made.get(item.id)
        there = made.files if made is not None else {}
        return {index: url for index, url in failure.answer.urls.items() if index not in there}


def _is_whole(made: Made, failure: Failure) -> bool:
    return failure.answer is not None and len(made.files) >= failure.answer.images


def _changed(item: Item) -> SourceError:
    where = "" if item.line is None else f"line {item.line}: "
    return SourceError(
        f"{where}the request of {printable(repr(item.id), 200)} is not the one that was paid for in this"
        " folder: give it another id, or choose another folder",
        line=item.line,
    )
