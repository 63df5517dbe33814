"""The arithmetic of a service's limits. Everything is told the time, in seconds; nothing asks for it."""

import math
from collections import deque
from typing import Protocol

from hinow_async.sandbox.behaviour import Behaviour, LimitKind

MINUTE = 60.0
_NOISE = 1e-9  # of summed floats: a token must not be missing for a rounding error


class RateLimit(Protocol):
    """At most so much weight per minute, by one way of counting.

    A weight above the whole limit would never fit: it passes when the limit is untouched.
    """

    def wait(self, now: float, weight: float) -> float:
        """Seconds until *weight* fits; 0.0 if it fits now."""

    def take(self, now: float, weight: float) -> None:
        """Count *weight*, for which ``wait`` has just said 0.0."""


class Bucket:
    """A token bucket, full at first: it refills evenly and holds at most its capacity."""

    def __init__(self, per_minute: float, burst: float, now: float) -> None:
        self._rate = per_minute / MINUTE
        self._capacity = max(1.0, self._rate * burst)
        self._level = self._capacity
        self._at = now

    def wait(self, now: float, weight: float) -> float:
        """Seconds until the bucket holds *weight*, or is full."""
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        missing = min(weight, self._capacity) - self._level
        return 0.0 if missing <= _NOISE else missing / self._rate

    def take(self, now: float, weight: float) -> None:
        """Take *weight* out; a weight above the capacity leaves a debt."""
        self._level -= weight


class FixedWindow:
    """A count that falls to zero at each full minute since the start."""

    def __init__(self, per_minute: float, start: float) -> None:
        self._limit = per_minute
        self._start = start
        self._window = 0
        self._count = 0.0

    def wait(self, now: float, weight: float) -> float:
        """Seconds until the window in which *weight* fits: this one, or the next."""
        window = int((now - self._start) // MINUTE)
        if window != self._window:
            self._window, self._count = window, 0.0
        if self._count == 0 or self._count + weight <= self._limit:
            return 0.0
        return self._start + (window + 1) * MINUTE - now

    def take(self, now: float, weight: float) -> None:
        """Count *weight* in the window of the last ``wait``."""
        self._count += weight


class SlidingLog:
    """A log of the last minute: in no 60 seconds more than the limit."""

    def __init__(self, per_minute: float) -> None:
        self._limit = per_minute
        self._log: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def wait(self, now: float, weight: float) -> float:
        """Seconds until enough entries are a minute old."""
        while self._log and self._log[0][0] <= now - MINUTE:
            self._total -= self._log.popleft()[1]
        excess = min(self._total, self._total + weight - self._limit)
        if excess <= 0:
            return 0.0
        for at, entry in self._log:
            excess -= entry
            if excess <= 0:
                return at + MINUTE - now
        raise AssertionError("the log sums up to its total")

    def take(self, now: float, weight: float) -> None:
        """Write *weight* down."""
        self._log.append((now, weight))
        self._total += weight


def _rate_limit(kind: LimitKind, per_minute: float, burst: float, now: float) -> RateLimit:
    if kind == "fixed":
        return FixedWindow(per_minute, now)
    return SlidingLog(per_minute) if kind == "sliding" else Bucket(per_minute, burst, now)


class Limits:
    """The limits per minute of one account: of requests and of images, both or neither are charged."""

    def __init__(self, behaviour: Behaviour, now: float) -> None:
        def limit(per_minute: float | None) -> RateLimit | None:
            if per_minute is None:
                return None
            return _rate_limit(behaviour.limit_kind, per_minute, behaviour.burst, now)

        self._requests = limit(behaviour.requests_per_minute)
        self._images = limit(behaviour.images_per_minute)

    def admit(self, now: float, images: int) -> float:
        """Charge one request for so many *images* and return 0.0, or return the seconds until it fits."""
        charges = [
            (limit, weight)
            for limit, weight in ((self._requests, 1), (self._images, images))
            if limit is not None and weight
        ]
        wait = max((limit.wait(now, weight) for limit, weight in charges), default=0.0)
        if wait == 0.0:
            for limit, weight in charges:
                limit.take(now, weight)
        return wait


def retry_after(behaviour: Behaviour, wait: float | None) -> str | None:
    """The ``Retry-After`` of a refusal, or None for none; a *wait* of None is one that nobody knows."""
    if behaviour.retry_after == "none":
        return None
    if behaviour.retry_after == "right":
        return None if wait is None else str(math.ceil(round(wait, 6)))  # RFC 9110, section 10.2.3
    return str(behaviour.retry_after)
