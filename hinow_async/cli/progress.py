"""Progress on standard error: one live line on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import attrs

from hinow_async.batch.report import BatchProgress
from hinow_async.batch.words import duration, progress_line, progress_share
from hinow_async.cli.screen import Screen

_LIVE: Final = 0.25
"""Seconds between two looks at a terminal."""
_FIRST: Final = 1.0
_PLAIN: Final = 5.0
"""Seconds between two plain lines."""
_BAR: Final = 20


@attrs.frozen
class Sight:
    """What is seen of work under way: a line, and how much of it is done."""

    line: str
    share: float | None = None
    """From 0 to 1; None where nobody knows."""


@contextlib.asynccontextmanager
async def shown(look: Callable[[], Sight], screen: Screen) -> AsyncIterator[None]:
    """Show how far the work is for as long as it runs."""
    if screen.is_quiet:
        yield
        return
    show = _live if _is_terminal() else _plain
    task = asyncio.create_task(show(look, screen))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


async def _plain(look: Callable[[], Sight], screen: Screen) -> None:
    wait = _FIRST
    while True:
        await asyncio.sleep(wait)
        screen.say(look().line)
        wait = _PLAIN


async def _live(look: Callable[[], Sight], screen: Screen) -> None:
    try:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
        from rich.live import Live  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        await _plain(look, screen)
        return

    def picture() -> Any:
        now = look()
        text = Text(_bar(now.share), style="green", no_wrap=True, overflow="ellipsis")
        return text.append(f" {now.line}", style="default")

    console = Console(stderr=True, no_color=True if not screen.has_color else None)
    with Live(picture(), console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            await asyncio.sleep(_LIVE)
            live.update(picture(), refresh=True)


def of_batch(now: BatchProgress) -> Sight:
    """Say how far a batch is."""
    return Sight(progress_line(now), progress_share(now))


class OnePrompt:
    """How far one call and its pictures are."""

    def __init__(self, pictures: int) -> None:
        self._began = time.monotonic()
        self._asked = pictures
        self._bytes: tuple[int, int | None] | None = None

    def on_progress(self, done: int, total: int | None) -> None:
        """Take over how many bytes are there, and how many there will be."""
        self._bytes = done, total

    def look(self) -> Sight:
        """Say how far it is."""
        if self._bytes is None:
            pictures = "1 picture" if self._asked == 1 else f"{self._asked} pictures"
            return Sight(f"{pictures} in the making, {duration(time.monotonic() - self._began)}")
        done, total = self._bytes
        of_total = "" if total is None else f" of {total / 1e6:.2f}"
        return Sight(f"saving, {done / 1e6:.2f}{of_total} MB", done / total if total else None)


def _bar(share: float | None) -> str:
    full = int(_BAR * min(1.0, share or 0.0))
    return "[" + "#" * full + "." * (_BAR - full) + "]"
