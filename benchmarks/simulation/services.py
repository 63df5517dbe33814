"""Image services in small: what they accept, how long they take, what they say when they refuse."""

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from benchmarks.simulation.engine import Loop

WAY = 0.02  # seconds to the service, and as many back
REFUSAL = 0.05  # seconds that a refusal takes in all
SIGMA = 0.4  # of the lognormal latencies
CHANGE, RETURN = 400.0, 800.0  # when limits are halved, and doubled back
DEATH = 0.005  # a connection is reset within this time


@attrs.frozen
class Kind:
    """A kind of call: how many images, how long it takes in the mean, how often it is drawn."""

    name: str | int
    latency: float
    weight: int = 1
    share: float = 1.0


@attrs.define(eq=False)
class Call:
    """One call of one caller, through all its tries."""

    client: "Client"
    kind: Kind
    number: int
    first_tried: float = 0.0
    sent: float = 0.0
    tries: int = 0
    ticket: Any = None  # the client's own
    alive: bool = False  # its connection stands


class Client(Protocol):
    """Whoever makes the calls is told what became of them."""

    def answered(self, call: Call) -> None: ...

    def refused(self, call: Call, status: int, retry_after: float | None) -> None: ...

    def failed(self, call: Call) -> None: ...


class Limit(Protocol):
    """One rule by which a service refuses."""

    def wait(self, now: float, weight: int) -> float:
        """Seconds until a call of *weight* would be accepted; 0: it is; nan: nobody knows."""

    def take(self, now: float, weight: int) -> None:
        """A call was accepted."""

    def end(self) -> None:
        """A call that was accepted is over."""


Level = Callable[[float], float]
"""A limit's height over time."""


def steady(height: float) -> Level:
    return lambda _: height


def halved(height: float) -> Level:
    """Half the height from CHANGE to RETURN."""
    return lambda now: height / 2 if CHANGE <= now < RETURN else height


class InFlight:
    """So many calls at a time."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._flying = 0

    def wait(self, now: float, weight: int) -> float:
        return 0.0 if self._flying < self._level(now) else math.nan

    def take(self, now: float, weight: int) -> None:
        self._flying += 1

    def end(self) -> None:
        self._flying -= 1


class Bucket:
    """Tokens that come at a steady rate and are kept up to *burst* seconds' worth."""

    def __init__(self, per_minute: Level, burst: float = 60.0) -> None:
        self._per_minute = per_minute
        self._burst = burst
        self._tokens = per_minute(0) / 60 * burst
        self._at = 0.0

    def wait(self, now: float, weight: int) -> float:
        rate = self._per_minute(now) / 60
        self._tokens = min(self._burst * rate, self._tokens + (now - self._at) * rate)
        self._at = now
        return max(0.0, (weight - self._tokens) / rate)

    def take(self, now: float, weight: int) -> None:
        self._tokens -= weight

    def end(self) -> None:
        pass


class FixedWindow:
    """So many in each minute of the service's clock, whose first minute ends at 43 s."""

    def __init__(self, per_minute: Level) -> None:
        self._per_minute = per_minute
        self._ends = 43.0
        self._used = 0

    def wait(self, now: float, weight: int) -> float:
        while now >= self._ends:
            self._ends += 60
            self._used = 0
        return 0.0 if self._used + weight <= self._per_minute(now) else self._ends - now

    def take(self, now: float, weight: int) -> None:
        self._used += weight

    def end(self) -> None:
        pass


class SlidingLog:
    """So many in any 60 seconds."""

    def __init__(self, per_minute: Level) -> None:
        self._per_minute = per_minute
        self._log: deque[tuple[float, int]] = deque()
        self._used = 0

    def wait(self, now: float, weight: int) -> float:
        while self._log and self._log[0][0] <= now - 60:
            self._used -= self._log.popleft()[1]
        excess = self._used + weight - self._per_minute(now)
        if excess <= 0:
            return 0.0
        for time, used in self._log:
            excess -= used
            if excess <= 0:
                return time + 60 - now
        return 60.0

    def take(self, now: float, weight: int) -> None:
        self._log.append((now, weight))
        self._used += weight

    def end(self) -> None:
        pass


def no_hint(right: float) -> float | None:
    """No Retry-After."""
    return None


def right_hint(right: float) -> float | None:
    """The right Retry-After, rounded up to whole seconds."""
    return None if math.isnan(right) else max(1.0, math.ceil(right))


def long_hint(right: float) -> float | None:
    """Four times too long, and at least a minute."""
    return None if math.isnan(right) else max(60.0, 4 * math.ceil(right))


def short_hint(right: float) -> float | None:
    """Always one second."""
    return 1.0


Hint = Callable[[float], float | None]


@attrs.frozen(kw_only=True)
class Model:
    """What a service is like; :class:`Service` is one that runs."""

    limits: Sequence[Callable[[], Limit]] = ()
    hint: Hint = no_hint
    servers: int | None = None
    """So many calls are worked on, the others queue; None: all are."""
    queue: float = math.inf
    """A call that finds so many waiting is refused with a 503."""
    outage: tuple[float, float] | None = None
    """From when to when every connection is reset (of services that do not queue)."""


class Service:
    """Judges calls when they arrive, and answers them when their time has come."""

    def __init__(self, loop: Loop, rng: random.Random, model: Model) -> None:
        self._loop = loop
        self._rng = rng
        self._model = model
        self._limits = [make() for make in model.limits]
        self._working = 0
        self._waiting: deque[Call] = deque()
        self._held: set[Call] = set()  # accepted, not yet over
        self._connected: dict[Call, None] = {}  # an ordered set: runs of one seed are equal
        if model.outage:
            loop.at(model.outage[0], self._reset_all)

    def send(self, call: Call) -> None:
        """A client sends *call* now."""
        now = self._loop.now
        if not call.tries:
            call.first_tried = now
        call.tries += 1
        call.sent = now
        call.alive = True
        outage = self._model.outage
        if outage and outage[0] <= now < outage[1]:
            self._reset(call)
            return
        if outage:
            self._connected[call] = None
        self._loop.at(now + WAY, self._arrive, call, call.tries)

    def _arrive(self, call: Call, attempt: int) -> None:
        if not call.alive or call.tries != attempt:
            return
        now, weight = self._loop.now, call.kind.weight
        wait = next(filter(None, (limit.wait(now, weight) for limit in self._limits)), 0.0)
        if wait:  # nan is true
            self._refuse(call, 429, self._model.hint(wait))
        elif len(self._waiting) >= self._model.queue:
            self._refuse(call, 503, None)
        else:
            self._accept(call)

    def _refuse(self, call: Call, status: int, retry_after: float | None) -> None:
        self._loop.at(self._loop.now + REFUSAL - WAY, self._tell_refused, call, status, retry_after)

    def _tell_refused(self, call: Call, status: int, retry_after: float | None) -> None:
        if call.alive:
            self._disconnect(call)
            call.client.refused(call, status, retry_after)

    def _accept(self, call: Call) -> None:
        for limit in self._limits:
            limit.take(self._loop.now, call.kind.weight)
        self._held.add(call)
        if self._model.servers is None or self._working < self._model.servers:
            self._begin(call)
        else:
            self._waiting.append(call)

    def _begin(self, call: Call) -> None:
        self._working += 1
        latency = self._rng.lognormvariate(math.log(call.kind.latency) - SIGMA**2 / 2, SIGMA)
        self._loop.at(self._loop.now + latency, self._finish, call)

    def _finish(self, call: Call) -> None:
        if call not in self._held:
            return  # its connection had been reset
        self._end(call)
        self._working -= 1
        if self._waiting:
            self._begin(self._waiting.popleft())
        self._loop.at(self._loop.now + WAY, self._tell_answered, call)

    def _tell_answered(self, call: Call) -> None:
        if call.alive:
            self._disconnect(call)
            call.client.answered(call)

    def _end(self, call: Call) -> None:
        self._held.discard(call)
        for limit in self._limits:
            limit.end()

    def _disconnect(self, call: Call) -> None:
        call.alive = False
        self._connected.pop(call, None)

    def _reset_all(self) -> None:
        for call in list(self._connected):
            if call in self._held:
                self._end(call)
                self._working -= 1
            self._reset(call)

    def _reset(self, call: Call) -> None:
        self._disconnect(call)
        self._loop.at(self._loop.now + self._rng.uniform(0, DEATH), call.client.failed, call)
