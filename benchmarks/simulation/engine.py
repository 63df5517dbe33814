"""Virtual time: a heap of things to come."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Loop:
    """Calls functions at their times, which pass at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()  # events of one time happen in the order in which they were asked for
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, time: float, function: Callable[..., None], *args: Any) -> None:
        """Call *function* at *time*, in seconds."""
        heapq.heappush(self._events, (time, next(self._order), function, args))

    def run(self, until: float) -> None:
        """Let everything happen that is due before *until*."""
        events = self._events
        while events and events[0][0] < until:
            self.now, _, function, args = heapq.heappop(events)
            function(*args)
        self.now = until
