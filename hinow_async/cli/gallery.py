"""`hinow gallery`: a batch's folder as pages to look at."""

from __future__ import annotations

import os
from pathlib import Path

from hinow_async.batch.gallery import GalleryReport, write_gallery
from hinow_async.cli import exits, running
from hinow_async.cli.progress import Sight, shown
from hinow_async.cli.screen import Screen


def run(out: Path, screen: Screen) -> int:
    """Run the command; return its exit code."""
    sight = Sight("reading what there is")

    def on_progress(done: int, total: int) -> None:
        nonlocal sight
        sight = Sight(f"{done:,} of {total:,} pictures", done / total)

    async def work(_: running.Stop) -> int:
        async with shown(lambda: sight, screen):
            report = await write_gallery(out, on_progress=on_progress)
        _tell(report, screen)
        return exits.OK

    return running.run(work, screen)


def _tell(report: GalleryReport, screen: Screen) -> None:
    if screen.is_json:
        screen.json(
            {
                "pages": [os.fspath(path) for path in report.pages],
                "pictures": report.pictures,
                "failures": report.failures,
                "unreadable": report.unreadable,
            }
        )
    else:
        for path in report.pages:
            screen.path(path)
    screen.say(_summary(report))


def _summary(report: GalleryReport) -> str:
    pictures = "1 picture" if report.pictures == 1 else f"{report.pictures:,} pictures"
    pages = "1 page" if len(report.pages) == 1 else f"{len(report.pages):,} pages"
    parts = [f"{pictures} on {pages}"]
    if report.unreadable:
        parts.append(f"{report.unreadable:,} of them missing or broken")
    if report.failures:
        parts.append(f"{report.failures:,} failed or open")
    return ", ".join(parts)
