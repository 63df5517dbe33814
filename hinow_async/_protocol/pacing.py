"""The limits that the user set, kept exactly: requests and images per minute, for one account.

Two rules hold a call. The *log* is the promise: in no 60 seconds does more go out than the limit,
whatever was cancelled, and however heavy single calls are; so a call waits until the log has room for its
whole weight. The log reaches back one second further than a minute, for calls do not take equally long to
reach the service. The *spread* is a courtesy, for a service may count in shorter windows than a minute:
the generic cell rate algorithm (GCRA; ITU-T I.371, annex A) at an interval of 61 s / limit, the log's own
margin, so that the two never quarrel. Its credit starts empty, because a client that begins with a burst
is refused by a service that counts seconds; it is earned by silence and bounded by ``burst``. The spread
is paid afterwards: a heavy call waits no longer than a light one in its place, those behind it do.

Told the time (seconds of any clock that never goes back); nothing in here waits.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Final

HORIZON: Final = 61.0  # a minute, and a margin for the way to the service
GRACE: Final = 1.0  # a call that was held goes so soon after it may, unless its caller has left
COMPACT: Final = 1024  # entries that have left the log, and are then dropped together


class _Log:
    """What was sent in the last HORIZON seconds.

    Two lists with a moving head rather than a deque, in which times are found by bisection.
    """

    __slots__ = ("_head", "_times", "_weights", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self._times: list[float] = []
        self._weights: list[float] = []
        self._head = 0

    def __len__(self) -> int:
        return len(self._times) - self._head

    def add(self, now: float, weight: float) -> None:
        self._times.append(now)
        self._weights.append(weight)
        self.total += weight

    def expire(self, now: float) -> None:
        """Forget what went out HORIZON seconds ago or earlier."""
        times, head = self._times, self._head
        if head == len(times) or times[head] + HORIZON > now:
            return
        self.total -= self._weights[head]
        self._head = head + 1
        if self._head < len(times) and times[self._head] + HORIZON <= now:
            self._expire_many(now)
        if self._head == len(times):
            self.total = 0.0  # no rounding of fractional weights outlives the log
        if self._head == len(times) or self._head > max(COMPACT, len(times) // 2):
            del times[: self._head], self._weights[: self._head]
            self._head = 0

    def _expire_many(self, now: float) -> None:
        # The key is the very sum that `frees` tells: a difference could round to the other side of *now*.
        end = bisect_right(self._times, now, self._head, key=lambda sent_at: sent_at + HORIZON)
        self.total -= sum(self._weights[self._head : end])
        self._head = end

    def frees(self, weight: float) -> float:
        """When so much *weight* will have left the log, at the latest when all has."""
        freed, index = 0.0, self._head
        while freed < weight and index < len(self._times):
            freed += self._weights[index]
            index += 1
        return self._times[index - 1] + HORIZON

    def remove(self, sent_at: float, weight: float) -> bool:
        """Take back a call of *weight* sent at *sent_at*; False if it has left the log."""
        index = bisect_left(self._times, sent_at, self._head)
        while index < len(self._times) and self._times[index] == sent_at:
            if self._weights[index] == weight:
                self._weights[index] = 0.0  # its place stays, so that nothing need move
                self.total -= weight
                return True
            index += 1
        return False


class _Limit:
    """One limit per minute."""

    __slots__ = ("_burst", "_due", "_held_from", "_held_to", "_interval", "_log", "per_minute")

    def __init__(self, per_minute: float, burst: float | None) -> None:
        self.per_minute = per_minute
        self._burst = burst
        self._interval = HORIZON / per_minute
        self._due = -math.inf  # when the spread lets the next call go
        self._log = _Log()
        self._held_from = math.inf  # the time in which the log alone held the next call
        self._held_to = -math.inf

    def due(self, now: float, weight: float) -> float:
        """When a call of *weight* may go: a time not after *now* means now, infinity never."""
        if weight > self.per_minute:
            return math.inf
        log = self._log
        log.expire(now)
        excess = log.total + weight - self.per_minute
        if excess <= 0:
            return self._due
        self._held_from = min(self._held_from, max(now, self._due))
        self._held_to = log.frees(excess)
        return max(self._due, self._held_to)

    def add(self, now: float, weight: float) -> None:
        """Count a call of *weight*."""
        log = self._log
        log.expire(now)
        log.add(now, weight)
        if self._burst is not None:
            self._due = max(self._due, now - self._credit(now, self._burst)) + weight * self._interval

    def forfeit(self, now: float) -> None:
        """Let no credit stand at *now*: somebody waits, so this is no silence."""
        if self._burst is not None and self._due > -math.inf:
            self._due = max(self._due, now)

    def remove(self, sent_at: float, weight: float) -> None:
        """Take back a call of *weight* that was counted at *sent_at*."""
        if self._log.remove(sent_at, weight) and self._burst is not None:
            # Whatever credit this makes is bounded by the burst when the next call goes.
            self._due -= weight * self._interval

    def _credit(self, now: float, burst: float) -> float:
        """How many seconds of silence count as earned, at most.

        A call that the log holds was no silence: without this the spread would charge heavy calls of mixed
        weights for the holes that they leave in the log (300 images a minute: 0.968 instead of 0.972 of it).
        """
        held = min(now, self._held_to) - self._held_from if now - self._held_to < GRACE else 0.0
        self._held_from, self._held_to = math.inf, -math.inf
        return (burst if self._due > -math.inf else 0.0) + max(0.0, held)


class Pacing:
    """When the limits that the user set for an account let the next call go.

    Args:
        requests_per_minute: No more requests than this in any 60 seconds; None: no limit.
        images_per_minute: No more images (the weight of a call) in any 60 seconds; None: no limit.
        burst: So many seconds' worth of each limit may go at once after as long a silence, and the call that
            is let through then; None: nothing is spread.
    """

    __slots__ = ("_images", "_requests")

    def __init__(
        self, requests_per_minute: float | None, images_per_minute: float | None, burst: float | None = 1.0
    ) -> None:
        self._requests = None if requests_per_minute is None else _Limit(requests_per_minute, burst)
        self._images = None if images_per_minute is None else _Limit(images_per_minute, burst)

    def fits(self, weight: float) -> bool:
        """Whether a call of *weight* images can ever go: one heavier than a whole limit cannot."""
        requests, images = self._requests, self._images
        return (requests is None or requests.per_minute >= 1) and (
            images is None or images.per_minute >= weight
        )

    def delay(self, now: float, weight: float) -> float:
        """Seconds until a call of *weight* images may go: 0 for now, infinite if it does not fit at all."""
        due = -math.inf
        if self._requests is not None:
            due = self._requests.due(now, 1)
        if self._images is not None:
            due = max(due, self._images.due(now, weight))
        return max(0.0, due - now)

    def on_held(self, now: float) -> None:
        """Something else holds the next caller: credit is for silence, and is not earned by waiting.

        Else a gate that opens would let two batches into one second of a service that counts seconds.
        """
        for limit in (self._requests, self._images):
            if limit is not None:
                limit.forfeit(now)

    def on_send(self, now: float, weight: float) -> None:
        """Count a call of *weight* images."""
        if self._requests is not None:
            self._requests.add(now, 1)
        if self._images is not None:
            self._images.add(now, weight)

    def on_request(self, now: float) -> None:
        """Count a request that makes no image and waits for nothing (a GET)."""
        if self._requests is not None:
            self._requests.add(now, 1)

    def on_cancelled(self, now: float, sent_at: float, weight: float) -> None:
        """Take back a call that was counted at *sent_at*, and of which no byte was sent.

        That is safe only because the service never saw it: a call of which anything was sent stays counted.
        """
        if self._requests is not None:
            self._requests.remove(sent_at, 1)
        if self._images is not None:
            self._images.remove(sent_at, weight)
