"""Progress in a notebook's cell.

A display handle of IPython's own: it needs no widgets, and what it last showed stays in the saved file.
Nothing is imported unless a kernel is what runs us.
"""

from __future__ import annotations

import html
import importlib
import sys
import time
from typing import Any, Final

from hinow_async._models.images import OnProgress

SHOWN_FROM: Final = 4_000_000
"""Bytes from which on saving is shown at once."""
PATIENCE: Final = 1.0
"""Seconds after which it is shown whatever the size."""
PACE: Final = 0.25
"""Seconds between two changes of what is shown."""


def is_notebook() -> bool:
    """Whether a notebook's kernel is what runs us."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


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
        content = shown.HTML(f"<progress{fill}></progress> {html.escape(text)}")
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
