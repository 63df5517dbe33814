"""Progress on standard error: one live line on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from hinow_async.batch.report import BatchProgress
from hinow_async.cli.screen import Screen

_LIVE: Final = 0.25
"""Seconds between two looks at a terminal."""
_FIRST: Final = 1.0
_PLAIN: Final = 5.0
"""Seconds between two plain lines."""
_BAR: Final = 20


@contextlib.asynccontextmanager
async def shown(look: Callable[[], BatchProgress], screen: Screen) -> AsyncIterator[None]:
    """Show how far a batch is for as long as it runs."""
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


async def _plain(look: Callable[[], BatchProgress], screen: Screen) -> None:
    wait = _FIRST
    while True:
        await asyncio.sleep(wait)
        screen.say(line_of(look()))
        wait = _PLAIN


async def _live(look: Callable[[], BatchProgress], screen: Screen) -> None:
    try:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
        from rich.live import Live  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        await _plain(look, screen)
        return

    def picture() -> Any:
        now = look()
        text = Text(_bar(now), style="green", no_wrap=True, overflow="ellipsis")
        return text.append(f" {line_of(now)}", style="default")

    console = Console(stderr=True, no_color=True if not screen.has_color else None)
    with Live(picture(), console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            await asyncio.sleep(_LIVE)
            live.update(picture(), refresh=True)


def line_of(now: BatchProgress) -> str:
    """Say how far a batch is, in one line."""
    total = "" if now.total is None else f" of {now.total:,}"
    parts = [
        f"{now.done:,}{total} done",
        f"{now.in_flight} in flight (limit {now.limit})",
        f"{now.failed:,} failed",
        f"{now.rate:.1f}/s",
    ]
    if now.remaining is not None:
        parts.append(f"{duration(now.remaining)} left")
    if now.estimated_usd is not None:
        parts.append(f"estimated ${now.estimated_usd:,.2f}")
    return ", ".join(parts)


def _bar(now: BatchProgress) -> str:
    if not now.total:
        return "[" + "." * _BAR + "]"
    full = int(_BAR * min(1.0, (now.done + now.failed) / now.total))
    return "[" + "#" * full + "." * (_BAR - full) + "]"


def duration(seconds: float) -> str:
    """Say how long, roughly: 9 s, 4 min, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours / 24:.1f} days"
