"""What is to be done with each item of a source, by what the folder's ledger knows of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import attrs

from hinow_async._errors import SourceError
from hinow_async._protocol.failures import printable
from hinow_async.batch.plan import Item, Planner
from hinow_async.batch.reader import Known, Reader
from hinow_async.batch.source import BadLine, Entry

Verdict = Literal["make", "fetch", "reused", "maybe_paid"]
"""Have it made, fetch what is paid for, or leave it as it is."""
OnChange = Literal["error", "new"]


@attrs.frozen
class Work:
    """An item, and what is to be done with it."""

    item: Item
    verdict: Verdict
    known: Known | None = None
    """None: the ledger knows nothing of it."""
    is_superseding: bool = False
    """Whether the ledger knows its id with another request, which was paid for."""

    @property
    def is_resend(self) -> bool:
        """Whether it is made again though it may have been billed."""
        is_unknown = self.known is not None and self.known.state in {"maybe_paid", "sent"}
        return self.verdict == "make" and is_unknown and not self.is_superseding


@attrs.frozen
class Rules:
    """What the caller decided about items that the folder knows."""

    resend_unknown: bool = False
    on_change: OnChange = "error"
    skip_bad_lines: bool = False


class Judge:
    """Places the entries of one source, and says what is to be done with each; blocks, for threads."""

    def __init__(self, source_name: str, root: Path, reader: Reader | None, rules: Rules) -> None:
        """Begin a source; *reader* None: the folder is new."""
        self._planner = Planner(source_name)
        self._source_name = source_name
        self._root = root
        self._reader = reader
        self._rules = rules

    def judge(self, chunk: Sequence[Entry | BadLine]) -> tuple[list[Work | BadLine], SourceError | None]:
        """Judge the next entries; with an error, those before the entry that it is about.

        Raises:
            LedgerCorruptError: the ledger cannot be believed.
        """
        placed: list[Item | BadLine] = []
        error = None
        try:
            placed.extend(self._placed(chunk))
        except SourceError as problem:
            error = problem
        known = self._known(item.id for item in placed if isinstance(item, Item))
        works: list[Work | BadLine] = []
        try:
            works.extend(self._works(placed, known))
        except SourceError as problem:
            error = problem
        return works, error

    def _placed(self, chunk: Sequence[Entry | BadLine]) -> Iterator[Item | BadLine]:
        for entry in chunk:
            if isinstance(entry, BadLine):
                yield entry
                continue
            try:
                yield self._planner.place(entry)
            except SourceError as error:
                yield self._skipped(error)

    def _works(self, placed: Iterable[Item | BadLine], known: dict[str, Known]) -> Iterator[Work | BadLine]:
        for item in placed:
            if isinstance(item, BadLine):
                yield item
                continue
            try:
                yield self._work(item, known.get(item.id))
            except SourceError as error:
                yield self._skipped(error)

    def _skipped(self, error: SourceError) -> BadLine:
        if not self._rules.skip_bad_lines or error.line is None:
            raise error
        return BadLine(error.line, str(error))

    def _known(self, ids: Iterable[str]) -> dict[str, Known]:
        return {} if self._reader is None else self._reader.known(list(ids))

    def _work(self, item: Item, known: Known | None) -> Work:
        if known is None or known.state in {"planned", "failed"}:
            return Work(item, "make", known)
        if known.fingerprint != item.fingerprint:
            if self._rules.on_change == "error":
                raise self._changed(item)
            return Work(item, "make", known, is_superseding=True)
        if known.state in {"maybe_paid", "sent"}:
            return Work(item, "make" if self._rules.resend_unknown else "maybe_paid", known)
        if known.state == "saved" and self._is_there(known):
            return Work(item, "reused", known)
        return Work(item, "fetch", known)

    def _is_there(self, known: Known) -> bool:
        return all(_has_size(f"{self._root}/{kept.file}", kept.size) for kept in known.files)

    def _changed(self, item: Item) -> SourceError:
        where = "" if item.line is None else f", line {item.line}"
        return SourceError(
            f"{self._source_name}{where}: the request of {printable(repr(item.id), 200)} is not the one that"
            " was paid for in this folder: give it another id, or say that changed ones are new",
            line=item.line,
        )


def _has_size(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size  # noqa: PTH116 - a tenth of what a `Path` costs, per picture
    except OSError:
        return False
