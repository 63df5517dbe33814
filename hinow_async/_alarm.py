"""One timer for all calls that wait for an answer, and each for equally long.

With a timer of its own each call costs up to 6 % more: asyncio keeps those that were cancelled in its heap,
and compares them there in Python. Who waits equally long comes due in the order of asking, so the first
one's timer is enough; it rings early where he has been answered, and is then set anew.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Protocol

ASLEEP = 0.5
"""Seconds that a timer rings too late when the process was stopped, or something blocked its loop."""
AWAKE = 5.0
"""Seconds for an answer that came meanwhile to be read: it is paid for, and lies in the socket."""


def has_slept(now: float, due: float) -> bool:
    """Whether a timer rings so late that the process, or its loop, was held up meanwhile."""
    return now - due > ASLEEP


class Sleeper(Protocol):
    """Who waits; `_call.Call` is one."""

    def on_alarm(self) -> None:
        """Nothing came in time."""


class Alarm:
    """Tells whoever waits longer than so many seconds; None: nobody is told."""

    __slots__ = ("_loop", "_rings", "_seconds", "_sleepers", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleepers: dict[Sleeper, float] = {}  # and when they come due, which is in this order
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0

    def set(self, sleeper: Sleeper) -> float | None:
        """Begin to wait; return when that will have been long enough, on the running loop's clock."""
        if self._seconds is None:
            return None
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # who waited in another one is gone with it
            self._loop, self._timer, self._sleepers = loop, None, {}
        due = self._sleepers[sleeper] = loop.time() + self._seconds
        if self._timer is None:
            self._set_timer(loop, due)
        return due

    def clear(self, sleeper: Sleeper) -> None:
        """Wait no longer, where it was waiting."""
        self._sleepers.pop(sleeper, None)

    def close(self) -> None:
        """Leave no timer behind; nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, rings: float) -> None:
        # In a context of its own: it outlives the call that asked first, whose values it would keep.
        self._rings = rings
        self._timer = loop.call_at(rings, self._ring, loop, context=contextvars.Context())

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        if has_slept(now, self._rings):
            self._set_timer(loop, now + AWAKE)
            return
        for sleeper, due in list(self._sleepers.items()):
            if due > now:
                self._set_timer(loop, due)
                return
            del self._sleepers[sleeper]
            sleeper.on_alarm()
