"""The first pictures of a batch, which a notebook shows below its report; remembered while that lives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from hinow_async._figures import Figure, figures

if TYPE_CHECKING:
    from hinow_async.batch.report import BatchReport

_first: WeakKeyDictionary[BatchReport, Sequence[Figure]] = WeakKeyDictionary()


def remember(report: BatchReport, first: Sequence[Figure]) -> None:
    """Have *report* show the *first* of its pictures."""
    _first[report] = first


def first_pictures(report: BatchReport) -> str:
    """Return them as HTML; nothing, if this is no notebook."""
    first = _first.get(report)
    return figures(first, report.images_there) if first else ""
