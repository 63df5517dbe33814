"""Whether a notebook runs us, interrupts that reach us, and progress in a cell.

A display handle of IPython's own: it needs no widgets, and what it last showed stays in the saved file.
Nothing is imported unless a kernel is what runs us.
"""

from __future__ import annotations

import asyncio
import html
import importlib
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sized
from typing import Any, Final, TypeVar

from hinow_async._markup import output
from hinow_async._models.images import OnProgress

O = TypeVar("O")  # noqa: E741 - an outcome

_log = logging.getLogger("hinow_async")

SHOWN_FROM: Final = 4_000_000
"""Bytes from which on saving is shown at once."""
PATIENCE: Final = 1.0
"""Seconds after which it is shown whatever the size."""
PACE: Final = 0.25
"""Seconds between two changes of what is shown, and between two looks at interrupts."""


def is_notebook() -> bool:
    """Whether a notebook's kernel is what runs us."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    # Colab's shell is a subclass.
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def keep_awake(is_open: Callable[[], bool]) -> None:
    """In a notebook: wake the running loop four times a second, as long as *is_open*.

    A kernel notes an interrupt when its loop has something else to do (ipython/ipykernel#881). A cell that
    waits for an answer, and for nothing else, would be interrupted by that very answer, and it would be lost.
    """
    if not is_notebook():
        return
    loop = asyncio.get_running_loop()

    def wake() -> None:
        if is_open():
            loop.call_later(PACE, wake)

    wake()


def many_bar(requests: object, *, is_saving: bool) -> ManyBar | None:
    """Return what shows in a notebook how far many requests are; None where no notebook is."""
    if not is_notebook():
        return None
    return ManyBar(len(requests) if isinstance(requests, Sized) else None, is_saving=is_saving)


def saving_bar() -> OnProgress | None:
    """Return what shows in a notebook how far pictures are saved; None where no notebook is."""
    return _SavingBar() if is_notebook() else None


class Bar:
    """A bar and a line of text in the output of a cell, each taking the place of the one before."""

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def is_shown(self) -> bool:
        """Whether it was ever shown."""
        return self._handle is not None

    def show(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Show *text* beside a bar of which *done* of *total* is full; without a total it only moves."""
        shown: Any = importlib.import_module("IPython.display")  # the kernel has it
        fill = "" if total is None else f' value="{done}" max="{total}"'
        content = shown.HTML(output(f"<progress{fill}></progress> {html.escape(text)}"))
        if self._handle is None:
            self._handle = shown.display(content, display_id=True)
        else:
            self._handle.update(content)


class _SavingBar:
    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown_at = 0.0
        self._bar = Bar()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        is_last = done == total
        if not self._bar.is_shown and (is_last or not self._is_long(now, total)):
            return
        if is_last or now - self._shown_at >= PACE:
            self._shown_at = now
            self._bar.show(_saved(done, total), done, total)

    def _is_long(self, now: float, total: int | None) -> bool:
        return (total or 0) >= SHOWN_FROM or now - self._begun > PATIENCE


def _saved(done: int, total: int | None) -> str:
    of_total = "" if total is None else f" of {total / 1e6:.2f}"
    return f"{done / 1e6:.2f}{of_total} MB saved"


class ManyBar:
    """How far many requests are: one bar, and what it last shows is what became of them."""

    def __init__(self, total: int | None, *, is_saving: bool) -> None:
        self._total = total
        self._is_saving = is_saving
        self._done = self._failed = self._pictures = 0
        self._shown_at = 0.0
        self._bar: Bar | None = Bar()

    def watch(self, make: Callable[[int, Any, Any], Awaitable[O]]) -> Callable[[int, Any, Any], Awaitable[O]]:
        """Begin to show; return *make* with its outcomes counted."""
        self._show()

        async def counted(index: int, item: Any, state: Any) -> O:
            outcome = await make(index, item, state)
            self._count(outcome)
            return outcome

        return counted

    def end(self) -> None:
        """Show what became of them: nothing moves in a notebook that was saved."""
        self._total = self._done if self._total is None else self._total
        self._show()

    def _count(self, outcome: Any) -> None:
        self._done += 1
        self._failed += outcome.error is not None
        self._pictures += len(outcome.saved)
        if time.monotonic() - self._shown_at >= PACE:
            self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        try:
            if self._bar is not None:
                self._bar.show(self._line(), self._done, self._total)
        except Exception:
            self._bar = None  # it stands between a paid answer and its reader: it must not fail
            _log.exception("showing progress failed, and is not tried again")

    def _line(self) -> str:
        total = "" if self._total is None else f" of {self._total:,}"
        pictures = f", {self._pictures:,} picture{'' if self._pictures == 1 else 's'} saved"
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{self._done:,}{total} done{pictures if self._is_saving else ''}{failed}"
