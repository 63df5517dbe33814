"""Progress in a notebook's cell.

A display handle of IPython's own: it needs no widgets, and what it last showed stays in the saved file.
Nothing is imported unless a kernel is what runs us.
"""

from __future__ import annotations

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


def saving_bar() -> OnProgress | None:
    """Return what shows in a notebook how far pictures are saved; None where no notebook is."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return _Bar() if type(shell).__name__ == "ZMQInteractiveShell" else None


class _Bar:
    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._shown_at = 0.0
        self._handle: Any = None

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        is_last = done == total
        if self._handle is None and (is_last or not self._is_long(now, total)):
            return
        if is_last or now - self._shown_at >= PACE:
            self._shown_at = now
            self._show(_html(done, total))

    def _is_long(self, now: float, total: int | None) -> bool:
        return (total or 0) >= SHOWN_FROM or now - self._begun > PATIENCE

    def _show(self, html: str) -> None:
        shown: Any = importlib.import_module("IPython.display")  # the kernel has it
        if self._handle is None:
            self._handle = shown.display(shown.HTML(html), display_id=True)
        else:
            self._handle.update(shown.HTML(html))


def _html(done: int, total: int | None) -> str:
    if total is None:
        return f"<progress></progress> {done / 1e6:.2f} MB saved"
    return (
        f'<progress value="{done}" max="{total}"></progress> {done / 1e6:.2f} of {total / 1e6:.2f} MB saved'
    )
