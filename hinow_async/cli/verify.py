"""`hinow verify`: whether a folder still holds what was paid for."""

from __future__ import annotations

import os
from pathlib import Path

from hinow_async.batch.findings import VerifyProgress, VerifyReport
from hinow_async.batch.verify import verify_batch
from hinow_async.batch.words import count, duration, size
from hinow_async.cli import exits, running
from hinow_async.cli.progress import Sight, shown
from hinow_async.cli.screen import Screen, safe


def run(out: Path, *, is_deep: bool, screen: Screen) -> int:
    """Run the command; return its exit code."""
    sight = _Sight()

    async def work(_: running.Stop) -> int:
        async with shown(sight.look, screen):
            report = await verify_batch(out, deep=is_deep, on_progress=sight.take)
        _tell(out, report, screen)
        return exits.OK if report.is_clean else exits.FAILED

    return running.run(work, screen)


class _Sight:
    """How far it is."""

    def __init__(self) -> None:
        self._now: VerifyProgress | None = None

    def take(self, now: VerifyProgress) -> None:
        """Take over how far it is."""
        self._now = now

    def look(self) -> Sight:
        """Say it."""
        now = self._now
        if now is None or now.total is None:
            return Sight("reading manifest and ledger")
        line = f"{now.done:,} of {count(now.total, 'picture')} looked at, {size(now.bytes)}"
        line = f"{line}, {now.differences:,} differ" if now.differences else line
        return Sight(line, now.done / now.total if now.total else None)


def _tell(out: Path, report: VerifyReport, screen: Screen) -> None:
    if screen.is_json:
        screen.json({**report.to_dict(), "out": os.fspath(out)})
    for difference in report.differences:
        screen.answer(safe(str(difference), lines=False))
    how = "decoded to the last pixel, " if report.is_deep else ""
    looked = f"{count(report.pictures, 'picture')}, {size(report.bytes)}, {how}in {duration(report.elapsed)}"
    if report.is_clean:
        screen.answer(f"All as it should be in {out} ({looked})")
    else:
        screen.answer(f"{count(len(report.differences), 'difference')} in {out} ({looked})")
