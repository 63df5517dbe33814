"""The event loop of one command, and its signals.

The first Ctrl-C (or SIGTERM) asks to end: nothing more is sent, and what is paid for is finished. The second
cancels, and a third ends the process as if nobody listened.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Final

from hinow_async.cli import exits
from hinow_async.cli.screen import Screen

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """The user's wish to stop."""

    def __init__(self, task: asyncio.Task[int], screen: Screen) -> None:
        self.event = asyncio.Event()
        """Set by the first signal."""
        self.number: int | None = None
        """The first signal; None: there was none."""
        self._task = task
        self._screen = screen
        self._first: Callable[[], str | None] | None = None
        self._is_second = False

    @property
    def code(self) -> int:
        """The exit code of a command that was interrupted."""
        return exits.INTERRUPTED if self.number is None else exits.code_of_signal(self.number)

    def on_first(self, react: Callable[[], str | None] | None) -> None:
        """Choose what the first signal does: it returns what is being finished; None: stop at once.

        Without a choice (None) the first signal cancels.
        """
        self._first = react

    def receive(self, number: int) -> None:
        """Take a signal."""
        if self.number is None:
            self.number = number
            self.event.set()
            finishing = self._first() if self._first is not None else None
            if finishing is not None:
                self._screen.say(
                    f"\nStopping: nothing more is sent; {finishing}. Ctrl-C again stops at once."
                )
                return
        if not self._is_second:
            self._is_second = True
            self._task.cancel()
            return
        os._exit(self.code)


def run(work: Callable[[Stop], Awaitable[int]], screen: Screen) -> int:
    """Run a command's work in an event loop of its own; return the exit code."""
    return asyncio.run(_main(work, screen))


async def _main(work: Callable[[Stop], Awaitable[int]], screen: Screen) -> int:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run makes one
    stop = Stop(task, screen)
    _listen(stop)
    try:
        return await work(stop)
    except asyncio.CancelledError:
        if stop.number is None:
            raise
        screen.say("Stopped.")
        return stop.code


def _listen(stop: Stop) -> None:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        if sys.platform == "win32":

            def handle(received: int, _: FrameType | None) -> None:
                loop.call_soon_threadsafe(stop.receive, received)

            signal.signal(number, handle)
        else:
            loop.add_signal_handler(number, stop.receive, number)
