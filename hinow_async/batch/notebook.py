"""A batch in the cell of a notebook that runs it: how far it is, and its first pictures."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread

from hinow_async._errors import HinowError
from hinow_async._figures import MOST, Figure
from hinow_async._notebook import Bar, is_notebook
from hinow_async._pillow import has_pillow
from hinow_async.batch.gallery.records import Picture, open_manifest
from hinow_async.batch.gallery.thumbnails import thumbnail
from hinow_async.batch.progress import OnProgress
from hinow_async.batch.report import BatchProgress, BatchReport
from hinow_async.batch.shown import remember
from hinow_async.batch.words import progress_line


def batch_bar() -> OnProgress | None:
    """Return what shows in a notebook how far a batch is; None where no notebook is."""
    return _BatchBar() if is_notebook() else None


async def with_pictures(report: BatchReport) -> BatchReport:
    """Have the report of a batch in a notebook show its first pictures, which a thread makes small."""
    if is_notebook() and has_pillow():
        remember(report, await anyio.to_thread.run_sync(lambda: [*_first_pictures(Path(report.out))]))
    return report


def _first_pictures(folder: Path) -> Iterator[Figure]:
    # A manifest that cannot be read is for `verify` to tell of: the batch itself went well.
    with contextlib.suppress(OSError, HinowError), contextlib.closing(open_manifest(folder)) as lines:
        for picture in itertools.islice(lines, MOST):
            yield _figure(folder, picture)


def _figure(folder: Path, picture: Picture) -> Figure:
    small = thumbnail(folder, picture.file)
    why = f": {small.problem or 'not there'}" if small.uri is None else ""
    return Figure(small.uri, f"{picture.file}{why}", picture.prompt)


class _BatchBar:
    def __init__(self) -> None:
        self._bar = Bar()

    def __call__(self, now: BatchProgress) -> None:
        self._bar.show(progress_line(now), now.done + now.failed, now.total)
