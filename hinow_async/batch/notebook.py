"""How far a batch is, in the cell of a notebook that runs it."""

from __future__ import annotations

from hinow_async._notebook import Bar, is_notebook
from hinow_async.batch.progress import OnProgress
from hinow_async.batch.report import BatchProgress
from hinow_async.batch.words import progress_line


def batch_bar() -> OnProgress | None:
    """Return what shows in a notebook how far a batch is; None where no notebook is."""
    return _BatchBar() if is_notebook() else None


class _BatchBar:
    def __init__(self) -> None:
        self._bar = Bar()

    def __call__(self, now: BatchProgress) -> None:
        self._bar.show(progress_line(now), now.done + now.failed, now.total)
