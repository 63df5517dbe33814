"""Clients with an endless supply of callers: the adaptive one, and callers that back off alone."""

import heapq
import random
from typing import Protocol

import attrs

from benchmarks.simulation.engine import Loop
from benchmarks.simulation.services import Call, Kind, Service
from hinow_async._protocol.adaptive import Controller

PATIENCE = 4  # tries


@attrs.define
class Record:
    """What happened to one client's calls."""

    answers: list[tuple[float, int]] = attrs.field(factory=list)
    """When, and how many images."""
    latencies: list[tuple[float, float]] = attrs.field(factory=list)
    """When the answer came, and seconds since the call was first tried."""
    refusals: list[float] = attrs.field(factory=list)
    """When."""
    lost: int = 0
    impatient: int = 0
    """Calls answered only after more than PATIENCE tries."""

    def answer(self, call: Call, now: float) -> None:
        self.answers.append((now, call.kind.weight))
        self.latencies.append((now, now - call.first_tried))
        self.impatient += call.tries > PATIENCE


class Simulated(Protocol):
    """A client that can be started, and what became of its calls."""

    record: Record

    def start(self) -> None: ...


@attrs.define(eq=False)
class Callers:
    """Endless new calls of the kinds that are asked for."""

    rng: random.Random
    kinds: tuple[Kind, ...]
    _count: int = 0

    def next(self, client: "AdaptiveClient | LonelyClient") -> Call:
        self._count += 1
        kind = self.kinds[0]
        if len(self.kinds) > 1:
            kind = self.rng.choices(self.kinds, [kind.share for kind in self.kinds])[0]
        return Call(client, kind, self._count)


class AdaptiveClient:
    """One strict queue and the controller: what the library does, without its waiting."""

    def __init__(self, loop: Loop, service: Service, callers: Callers, max_in_flight: int) -> None:
        self.record = Record()
        self.controller = Controller(max_in_flight, jitter=callers.rng.random)
        self._loop = loop
        self._service = service
        self._callers = callers
        self._head: Call | None = None
        self._again: list[tuple[int, Call]] = []  # refused calls, by their first arrival
        self._wakes: float | None = None

    def start(self) -> None:
        self._pump()

    def answered(self, call: Call) -> None:
        now = self._loop.now
        self.record.answer(call, now)
        self.controller.on_success(now, call.ticket, now - call.sent)
        self._pump()

    def refused(self, call: Call, status: int, retry_after: float | None) -> None:
        self.record.refusals.append(self._loop.now)
        event = self.controller.on_refused if status == 429 else self.controller.on_overload
        event(self._loop.now, call.ticket, retry_after)
        heapq.heappush(self._again, (call.number, call))
        self._pump()

    def failed(self, call: Call) -> None:
        self.record.lost += 1
        self.controller.on_failed(self._loop.now, call.ticket)
        self._pump()

    def _pump(self) -> None:
        now, controller = self._loop.now, self.controller
        while True:
            call = self._first()
            wait = controller.delay(now, call.kind.weight)
            if wait > 0:
                self._wake_in(wait)
                return
            self._take_first()
            call.ticket = controller.on_send(now, call.kind.weight, call.kind.name)
            self._service.send(call)

    def _first(self) -> Call:
        if self._again:
            return self._again[0][1]
        if self._head is None:
            self._head = self._callers.next(self)
        return self._head

    def _take_first(self) -> None:
        if self._again:
            heapq.heappop(self._again)
        else:
            self._head = None

    def _wake_in(self, wait: float) -> None:
        """Ask again then, unless that is to happen sooner anyhow: one timer, however often it is asked."""
        time = self._loop.now + wait
        if self._wakes is None or time < self._wakes:
            self._wakes = time
            self._loop.at(time, self._woken, time)

    def _woken(self, time: float) -> None:
        if time == self._wakes:
            self._wakes = None
            self._pump()


class LonelyClient:
    """A fixed semaphore whose callers back off alone, and hold their place meanwhile."""

    BACKOFF, BACKOFF_MAX, JITTER = 0.5, 8.0, 0.25

    def __init__(self, loop: Loop, service: Service, callers: Callers, max_in_flight: int) -> None:
        self.record = Record()
        self._loop = loop
        self._service = service
        self._callers = callers
        self._max_in_flight = max_in_flight

    def start(self) -> None:
        for _ in range(self._max_in_flight):
            self._service.send(self._callers.next(self))

    def answered(self, call: Call) -> None:
        self.record.answer(call, self._loop.now)
        self._service.send(self._callers.next(self))

    def refused(self, call: Call, status: int, retry_after: float | None) -> None:
        self.record.refusals.append(self._loop.now)
        backoff = min(self.BACKOFF_MAX, self.BACKOFF * 2 ** min(call.tries - 1, 10))
        wait = retry_after or backoff * (1 - self.JITTER * self._callers.rng.random())
        self._loop.at(self._loop.now + wait, self._service.send, call)

    def failed(self, call: Call) -> None:
        self.record.lost += 1
        self._service.send(self._callers.next(self))
