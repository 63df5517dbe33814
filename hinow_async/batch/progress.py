"""Counting what a batch does, and telling whoever wants to see it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import attrs

from hinow_async._budget import exact
from hinow_async.batch.report import BatchProgress

_log = logging.getLogger("hinow_async")

OnProgress = Callable[[BatchProgress], Any]

INTERVAL: Final = 0.1
"""Seconds between two calls of `on_progress`, at least."""
TICK: Final = 1.0
"""Seconds after which it is called though nothing came to an end."""
_WINDOW: Final = 30.0
"""Seconds that "lately" means."""


@attrs.define
class Tally:
    """The counts of one run."""

    total: int | None = None
    met: int = 0
    """Items read so far."""
    saved: int = 0
    reused: int = 0
    failed: int = 0
    maybe_paid: int = 0
    lost: int = 0
    images: int = 0
    bytes: int = 0
    model_mismatches: int = 0
    to_come: Decimal | None = None
    """US dollars that the items left will cost, estimated; None: not known."""
    _spent: Decimal = Decimal(0)
    _has_unpriced: bool = False

    @property
    def worked(self) -> int:
        """Items that came to an end in this run."""
        return self.saved + self.failed + self.maybe_paid + self.lost

    def spend(self, usd: float | None, times: int = 1) -> None:
        """Add what calls are estimated to have cost."""
        if usd is not None:
            self._spent += exact(usd) * times
        elif times:
            self._has_unpriced = True

    def settle(self, usd: Decimal | None) -> None:
        """Take what an item was planned to cost off what is to come."""
        if self.to_come is not None and usd is not None:
            self.to_come = max(Decimal(0), self.to_come - usd)

    @property
    def estimated_usd(self) -> float | None:
        """US dollars, estimated; None: something was bought, and nobody knows a price."""
        return None if self._has_unpriced and not self._spent else float(self._spent)


class Meter:
    """How fast items come to an end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._marks: deque[tuple[float, int]] = deque([(self._begun, 0)])

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._begun

    def rate(self, worked: int) -> float:
        """Return items per second, lately; *worked* is their number so far."""
        now = self._clock()
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, worked))
        while len(self._marks) > 1 and now - self._marks[1][0] >= _WINDOW:
            self._marks.popleft()
        at, count = self._marks[0]
        return (worked - count) / (now - at) if now > at else 0.0


class Teller:
    """Calls `on_progress`, not too often; one that fails is logged once and called no more."""

    def __init__(self, tell: OnProgress | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._told_at = float("-inf")

    def tell(self, look: Callable[[], BatchProgress], *, is_last: bool = False) -> None:
        """Tell how far it is, unless that was told a moment ago."""
        now = self._clock()
        if self._tell is None or (now - self._told_at < INTERVAL and not is_last):
            return
        self._told_at = now
        tell, self._tell = self._tell, None if is_last else self._tell
        try:
            tell(look())
        except Exception:
            self._tell = None
            _log.exception("on_progress failed, and is not called again")

    async def tick(self, look: Callable[[], BatchProgress]) -> None:
        """Tell how far it is for ever, also while calls take long and nothing comes to an end."""
        while self._tell is not None:
            await asyncio.sleep(TICK)
            self.tell(look)
