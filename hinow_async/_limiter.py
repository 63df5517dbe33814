"""The one admission point: who may send next, from which account, and when.

One queue per client, first in, first out; one `Admission` per account with everything that may delay a
call there: the gate and the adaptive limits (`_protocol/adaptive`), the user's exact limits
(`_protocol/pacing`), and parking after a refused key. All of it is arithmetic that is told the time; this
room waits around it. Only the head of the queue is ever asked about, by one timer in all.

A call that comes back (refused, or tried again) takes its place by its *first* arrival. A waiter costs one
future and one heap entry; one that is cancelled leaves its entry behind, dead, to be dropped when it comes
up, or when half of the queue is dead.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hinow_async._errors import APIError
from hinow_async._protocol.adaptive import Controller, Ticket
from hinow_async._protocol.outcome import Event
from hinow_async._protocol.pacing import Pacing

if TYPE_CHECKING:
    from hinow_async._models.stats import AccountStats

_log = logging.getLogger("hinow_async")

PARKED_FOR = 60.0
"""Seconds that an account gets no calls after it refused the key; then one call tries."""

CEILING_FOR = 60.0  # seconds at max_in_flight after which it is said

QUOTA_START = 20.0  # retries of 5xx that an account begins with, and may have
QUOTA_SHARE = 0.1  # of one that a success earns

COMPACT = 64  # dead entries that are let lie at least

_SUCCESS = Event.SUCCESS  # asked for with every call, and slow to look up in the enum before Python 3.12

Clock = Callable[[], float]


class Demand(Protocol):
    """What a call asks for; `_call.Call` is one."""

    weight: int
    kind: Hashable
    model: str
    arrival: int
    """Its number in the order of first arrivals."""
    arrived_at: float
    deadline: float | None
    """On the limiter's clock; None: it waits without end."""
    bound: Admission | None
    """The one account it may go to; None: any."""
    throttled_max: float


class NotAdmittedError(Exception):
    """A call was not let through, and never will be: the caller makes a public error of it."""

    def __init__(
        self, reason: Literal["deadline", "gate", "throttled", "parked", "stopped"], wait: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        """Seconds until the account would open; for `gate` and `throttled`."""


class Parking:
    """Why and until when an account gets no calls, as a whole (key None) or of one model."""

    __slots__ = ("_until", "reasons")

    def __init__(self) -> None:
        self._until: dict[str | None, float] = {}
        self.reasons: dict[str | None, APIError] = {}

    def park(self, model: str | None, now: float, reason: APIError) -> None:
        """Keep calls away for a while, all of them or those of *model*."""
        self._until[model] = now + PARKED_FOR
        self.reasons[model] = reason

    def rest(self, model: str, now: float) -> float:
        """Seconds until a call of *model* may try again; 0.0: now."""
        if not self._until:
            return 0.0
        until = max(self._until.get(None, 0.0), self._until.get(model, 0.0))
        return max(0.0, until - now)

    def on_try(self, model: str, now: float) -> None:
        """One call tries after the time is over; the others wait for what becomes of it."""
        for key in (None, model):
            if key in self._until:
                self._until[key] = now + PARKED_FOR

    def clear(self, model: str) -> None:
        """Forget it: a call went well."""
        for key in (None, model):
            self._until.pop(key, None)
            self.reasons.pop(key, None)


class Admission:
    """All that may delay a call of one account, and what was counted there."""

    __slots__ = (
        "_at_ceiling_since", "_has_said_ceiling", "bound", "controller", "index", "max_in_flight", "name",
        "pacing", "parking", "quota", "reserved", "retries", "spent", "throttled", "throttled_since",
        "unknown_outcomes",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        name: str,
        controller: Controller,
        pacing: Pacing | None,
        max_in_flight: int,
    ) -> None:
        self.index = index
        self.name = name
        self.controller = controller
        self.pacing = pacing
        self.max_in_flight = max_in_flight
        self.parking = Parking()
        self.bound: list[tuple[int, Waiter]] = []  # resends that may go nowhere else
        self.quota = QUOTA_START  # retries of 5xx that are left: an outage is not multiplied
        self.throttled = 0
        self.retries = 0
        self.unknown_outcomes = 0
        self.spent = Decimal(0)  # US dollars
        self.reserved = Decimal(0)  # of the calls in flight here
        self.throttled_since: float | None = None  # the first refusal since anything was accepted
        self._at_ceiling_since: float | None = None
        self._has_said_ceiling = False

    def fits(self, weight: int) -> bool:
        """Whether a call so heavy can ever go."""
        return self.pacing is None or self.pacing.fits(weight)

    def delay(self, weight: int, now: float) -> float:
        """Seconds until a call may go; 0.0: now. Whoever holds it is blamed, and only he."""
        wait = self.controller.delay(now, weight)
        if self.pacing is None:
            return wait
        exact = self.pacing.delay(now, weight)
        if exact > 0:
            # The user's limits hold the head, so no curve of the controller may grow meanwhile.
            self.controller.on_idle(now)
            return exact
        if wait > 0:
            self.pacing.on_held(now)
        return wait

    @property
    def is_shut(self) -> bool:
        """Whether the gate, or the probe behind it, is what holds the head."""
        return self.controller.holding in {"gate", "probe"}

    def watch_ceiling(self, now: float) -> None:
        """Say once that `max_in_flight` is what holds the callers: the account may allow more."""
        controller = self.controller
        is_searching = controller.holding == "slots" and controller.accepted(now) is not None
        if not is_searching or controller.limit < self.max_in_flight:
            self._at_ceiling_since = None
        elif self._at_ceiling_since is None:
            self._at_ceiling_since = now
        elif now - self._at_ceiling_since >= CEILING_FOR and not self._has_said_ceiling:
            self._has_said_ceiling = True
            _log.info(
                "account %s has had %d calls in flight for a minute without a refusal: it may allow more"
                " (Limits.max_in_flight)", self.name, self.max_in_flight,
            )  # fmt: skip

    def take_retry(self) -> bool:
        """Take one retry of a 5xx out of the quota; False: it is used up."""
        if self.quota < 1:
            return False
        self.quota -= 1
        return True

    def stats(self, now: float) -> AccountStats:
        """Return this account's numbers."""
        from hinow_async._models.stats import AccountStats  # noqa: PLC0415 - few processes ask for them

        requests, images = self.controller.accepted(now) or (None, None)
        return AccountStats(
            in_flight=self.controller.flying,
            waiting=sum(1 for _, waiter in self.bound if waiter.is_waiting),
            limit=self.controller.limit,
            throttled=self.throttled,
            retries=self.retries,
            unknown_outcomes=self.unknown_outcomes,
            spent_usd=float(self.spent),
            reserved_usd=float(self.reserved),
            pace_per_minute=self.controller.pace_per_minute,
            requests_last_minute=requests,
            images_last_minute=images,
            decisions=tuple(f"{now - at:.0f} s ago: {what}" for at, what in self.controller.decisions),
            gate=max(0.0, self.controller.gate - now),
            held_by=self.controller.holding,
            parked="; ".join(map(str, self.parking.reasons.values())) or None,
        )


class Grant:
    """The right to send one call now; it is given back exactly once, with what became of it.

    Filled in by the limiter: in Python 3.11 an `__init__` would be a tenth of a whole admission.
    """

    __slots__ = ("account", "ticket")

    account: Admission
    ticket: Ticket

    @property
    def at(self) -> float:
        """When it was given."""
        return self.ticket[1]


class Waiter:
    """A call in the queue."""

    __slots__ = ("demand", "future")

    def __init__(self, demand: Demand, future: asyncio.Future[Grant]) -> None:
        self.demand = demand
        self.future = future

    @property
    def is_waiting(self) -> bool:
        """False once it was granted, refused or cancelled."""
        return not self.future.done()


class Limiter:
    """Admits calls in the order of their arrival, as soon as any account lets them."""

    def __init__(self, accounts: Sequence[Admission], clock: Clock = time.monotonic) -> None:
        self.accounts = tuple(accounts)
        self._clock = clock
        # One account without exact limits: it is never parked, and nothing but its controller holds a call.
        is_simple = len(self.accounts) == 1 and self.accounts[0].pacing is None
        self._simple = self.accounts[0] if is_simple else None
        self._has_exact_limits = any(account.pacing is not None for account in self.accounts)
        self._queue: list[tuple[int, Waiter]] = []
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._dead = 0
        self._arrivals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._out: set[Grant] = set()

    # -- asking ------------------------------------------------------------------------------------

    def next_arrival(self) -> int:
        """Number a call by its arrival; it keeps the number over all its tries."""
        self._arrivals += 1
        return self._arrivals

    def check_weight(self, weight: int) -> None:
        """Refuse a call that is heavier than the whole limit of every account.

        Raises:
            ValueError: it would wait without end.
        """
        if self._has_exact_limits and not any(account.fits(weight) for account in self.accounts):
            raise ValueError(
                f"num_images={weight} is more than the limits per minute let through in a whole minute:"
                " raise images_per_minute, or split the request"
            )

    def acquire_nowait(self, demand: Demand) -> Grant | None:
        """Admit a call at once, if nobody waits and an account holds it by nothing; else None."""
        if self._queue or demand.bound is not None:
            return None
        now = self._clock()
        account = self._simple
        if account is not None and not account.bound:
            controller = account.controller
            ticket = controller.send_if_free(now, demand.weight, demand.kind)
            if ticket is None:
                controller.on_idle(now)
                return None
            grant = Grant()  # `_grant` without what cannot be here: this is the way of nearly every call
            grant.account = account
            grant.ticket = ticket
            self._out.add(grant)
            return grant
        account, _ = self._choose(demand, now)
        for other in self.accounts:
            if not other.bound:
                other.controller.on_idle(now)  # nobody waits for it, whatever it said just now
        return self._grant(account, demand, now) if account is not None else None

    async def acquire(self, demand: Demand) -> Grant:
        """Wait until an account lets the call through. Cancelling leaves nothing behind.

        Raises:
            NotAdmittedError: it is pointless to wait (any longer).
        """
        loop = asyncio.get_running_loop()
        self.bind(loop)
        self._check_hopeless(demand, self._clock())
        waiter = Waiter(demand, loop.create_future())
        queue = self._queue_of(demand)
        heapq.heappush(queue, (demand.arrival, waiter))
        if demand.deadline is not None:
            heapq.heappush(self._deadlines, (demand.deadline, demand.arrival, waiter))
        if queue[0][1] is waiter or (self._deadlines and self._deadlines[0][2] is waiter):
            self._pump()  # else it changes nothing: those in front go first, and the timer is theirs
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._on_left(waiter)
            raise

    def give_up(self, demand: Demand) -> None:
        """Let a call that waits leave the queue, by `NotAdmittedError`; one that does not wait goes on."""
        own = (w for _, w in self._queue_of(demand) if w.demand is demand and w.is_waiting)
        waiter = next(own, None)
        if waiter is not None:
            waiter.future.set_exception(NotAdmittedError("stopped"))
            self._on_left(waiter)

    def release(self, grant: Grant, event: Event, value: float | None = None) -> None:
        """Give a grant back.

        Args:
            grant: As it was given.
            event: What became of the call.
            value: Seconds of latency for SUCCESS; of Retry-After, if any, for REFUSED and OVERLOAD.
        """
        try:
            self._out.remove(grant)
        except KeyError:
            return  # it was given back before, or its loop was closed under it and the grant written off
        now = self._clock()
        account, controller = grant.account, grant.account.controller
        if event is _SUCCESS:
            controller.on_success(now, grant.ticket, value or 0.0)
            account.throttled_since = None
            if account.quota < QUOTA_START:
                account.quota = min(QUOTA_START, account.quota + QUOTA_SHARE)
        else:
            self._tell(account, grant, event, value, now)
        if self._queue or account.bound:
            self._pump()

    def park(self, account: Admission, model: str | None, reason: APIError) -> None:
        """Keep calls away from an account that refused the key (of one *model*, or of all)."""
        account.parking.park(model, self._clock(), reason)
        what = "no calls" if model is None else f"no calls of {model}"
        _log.warning("account %s gets %s for %.0f s: %s", account.name, what, PARKED_FOR, reason)
        self._fail_hopeless()
        self._pump()

    def count_request(self, account: Admission) -> None:
        """Enter a GET in the account's request log: it takes no slot and no place in the queue."""
        if account.pacing is not None:
            account.pacing.on_request(self._clock())

    def named(self, name: str | None) -> Admission | None:
        """Return the account of that name, if there is one."""
        return next((account for account in self.accounts if account.name == name), None) if name else None

    def usable(self, model: str, weight: int = 1) -> list[Admission]:
        """Return the accounts that are not parked for *model*, and that *weight* is not too heavy for."""
        now = self._clock()
        return [a for a in self.accounts if a.fits(weight) and not a.parking.rest(model, now)]

    @property
    def limit(self) -> int:
        """Calls allowed in flight now, over all accounts."""
        if self._simple is not None:
            return self._simple.controller.limit  # `generate_many` asks it for each of its items
        return sum(account.controller.limit for account in self.accounts)

    @property
    def in_flight(self) -> int:
        """Calls that hold a grant."""
        return sum(account.controller.flying for account in self.accounts)

    @property
    def waiting(self) -> int:
        """Calls in the queues."""
        queues = (self._queue, *(account.bound for account in self.accounts))
        return sum(1 for queue in queues for _, waiter in queue if waiter.is_waiting)

    @property
    def oldest_wait(self) -> float:
        """Seconds since the call at the head of the queue began; 0.0: nobody waits."""
        head = self._head(self._queue)
        return 0.0 if head is None else self._clock() - head.demand.arrived_at

    # -- the loop ----------------------------------------------------------------------------------

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Go on in another event loop: whatever waited or was in flight in the old one is gone with it."""
        if loop is self._loop:
            return
        if self._loop is not None:
            self._abandon()
        self._loop = loop

    def _abandon(self) -> None:
        self._timer = None  # it belongs to the old loop, which will not run it
        self._queue.clear()
        self._deadlines.clear()
        self._dead = 0
        now = self._clock()
        for account in self.accounts:
            account.bound.clear()
        for grant in self._out:
            grant.account.controller.on_lost(now, grant.ticket)
        self._out = set()

    # -- the queue ---------------------------------------------------------------------------------

    def _queue_of(self, demand: Demand) -> list[tuple[int, Waiter]]:
        return self._queue if demand.bound is None else demand.bound.bound

    def _head(self, queue: list[tuple[int, Waiter]]) -> Waiter | None:
        while queue:
            waiter = queue[0][1]
            if waiter.is_waiting:
                return waiter
            heapq.heappop(queue)
            if self._dead:
                self._dead -= 1
        return None

    def _on_left(self, waiter: Waiter) -> None:
        """A waiter was cancelled; if it had just been granted, the grant goes to the next."""
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result(), Event.CANCELLED)
            return
        future.cancel()
        self._dead += 1
        queue = self._queue_of(waiter.demand)
        if self._dead > COMPACT and self._dead * 2 > len(self._queue):
            self._compact()
        if not queue or not queue[0][1].is_waiting:
            self._pump()

    def _compact(self) -> None:
        for queue in (self._queue, *(account.bound for account in self.accounts)):
            queue[:] = [entry for entry in queue if entry[1].is_waiting]
            heapq.heapify(queue)
        self._deadlines[:] = [entry for entry in self._deadlines if entry[2].is_waiting]
        heapq.heapify(self._deadlines)
        self._dead = 0

    # -- granting ----------------------------------------------------------------------------------

    def _grant(self, account: Admission, demand: Demand, now: float) -> Grant:
        if account.parking.reasons:
            account.parking.on_try(demand.model, now)
        if account.pacing is not None:
            account.pacing.on_send(now, demand.weight)
        grant = Grant()
        grant.account = account
        grant.ticket = account.controller.on_send(now, demand.weight, demand.kind)
        self._out.add(grant)
        return grant

    def _choose(self, demand: Demand, now: float) -> tuple[Admission | None, float]:
        """Return the account with the most room that holds the call by nothing; else how long all hold it."""
        only = self._simple
        if only is not None and not only.bound:
            rest = only.controller.delay(now, demand.weight)
            return (None, rest) if rest > 0 else (only, 0.0)
        best: Admission | None = None
        most = 0
        wait = math.inf
        for account in self.accounts:
            rest = self._delay_at(account, demand, now)
            if rest > 0:
                wait = min(wait, rest)
                continue
            room = account.controller.limit - account.controller.flying
            if best is None or room > most:
                best, most = account, room
        return best, wait

    def _delay_at(self, account: Admission, demand: Demand, now: float) -> float:
        if account.bound:  # its own queue goes first
            return math.inf
        parked = account.parking.rest(demand.model, now)
        if parked > 0 or not account.fits(demand.weight):
            account.controller.on_idle(now)
            return parked or math.inf
        return account.delay(demand.weight, now)

    def _pump(self) -> None:
        """Let everybody through who may go, and set the one timer for the rest."""
        now = self._clock()
        self._fail_late(now)
        wait = min(self._serve_bound(now), self._serve_queue(now))
        if not self._queue:
            for account in self.accounts:
                if not account.bound:
                    account.controller.on_idle(now)
        self._arm(now, wait)

    def _serve_bound(self, now: float) -> float:
        wait = math.inf
        for account in self.accounts:
            while account.bound and (waiter := self._head(account.bound)) is not None:
                rest = account.delay(waiter.demand.weight, now)
                if rest > 0:
                    rest = self._patience((account,), waiter, now, rest)
                if rest > 0:
                    wait = min(wait, rest)
                    break
                self._let_through(account.bound, waiter, account, now)
        return wait

    def _serve_queue(self, now: float) -> float:
        while (waiter := self._head(self._queue)) is not None:
            account, wait = self._choose(waiter.demand, now)
            if account is None:
                wait = self._patience(self.accounts, waiter, now, wait)
                if wait > 0:
                    return wait
            self._let_through(self._queue, waiter, account, now)
        return math.inf

    def _let_through(
        self, queue: list[tuple[int, Waiter]], waiter: Waiter, account: Admission | None, now: float
    ) -> None:
        if account is not None and waiter.is_waiting:
            waiter.future.set_result(self._grant(account, waiter.demand, now))
        heapq.heappop(queue)

    def _patience(self, accounts: Sequence[Admission], waiter: Waiter, now: float, wait: float) -> float:
        """Bound the wait of a head that is held by shut gates alone; fail it when its time is over.

        Returns:
            Seconds until it is to be asked about again; 0.0: it was failed.
        """
        begun = waiter.demand.arrived_at
        for account in accounts:
            if account.throttled_since is None or not account.is_shut:
                return wait
            begun = max(begun, account.throttled_since)
        left = begun + waiter.demand.throttled_max - now
        if left > 0:
            return min(wait, left)
        waiter.future.set_exception(NotAdmittedError("throttled", self._opens_in(now)))
        return 0.0

    def _arm(self, now: float, wait: float) -> None:
        while self._deadlines and not self._deadlines[0][2].is_waiting:
            heapq.heappop(self._deadlines)
        if self._deadlines:
            wait = min(wait, self._deadlines[0][0] - now)
        due = now + wait
        if self._timer is not None:
            if self._timer_due <= due < math.inf:
                return  # it rings early, and is set anew then: cheaper than a new timer at every event
            self._timer.cancel()
            self._timer = None
        if due < math.inf and self._loop is not None:
            self._timer_due = due
            self._timer = self._loop.call_later(max(0.0, wait), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()
        now = self._clock()
        for account in self.accounts:
            account.watch_ceiling(now)

    # -- hopeless waits ----------------------------------------------------------------------------

    def _opens_in(self, now: float) -> float:
        """Seconds until the first gate opens; 0.0: one is open."""
        return max(0.0, min(account.controller.gate for account in self.accounts) - now)

    def _fail_late(self, now: float) -> None:
        """Fail who has run out of time, or will have before any gate opens."""
        if not self._deadlines:
            return
        shut = self._opens_in(now)
        while self._deadlines and self._deadlines[0][0] <= now + shut:
            deadline, _, waiter = heapq.heappop(self._deadlines)
            if waiter.is_waiting:
                reason: Literal["deadline", "gate"] = "deadline" if deadline <= now else "gate"
                waiter.future.set_exception(NotAdmittedError(reason, shut))
                self._dead += 1

    def _check_hopeless(self, demand: Demand, now: float) -> None:
        if demand.bound is None and self._is_parked_everywhere(demand, now):
            raise NotAdmittedError("parked")
        if demand.deadline is not None and demand.deadline <= now + (shut := self._opens_in(now)):
            raise NotAdmittedError("deadline" if demand.deadline <= now else "gate", shut)

    def _is_parked_everywhere(self, demand: Demand, now: float) -> bool:
        if self._simple is not None:
            return False
        for account in self.accounts:
            if account.parking.rest(demand.model, now) == 0 and account.fits(demand.weight):
                return False
        return True

    def _fail_hopeless(self) -> None:
        now = self._clock()
        for _, waiter in self._queue:
            if waiter.is_waiting and self._is_parked_everywhere(waiter.demand, now):
                waiter.future.set_exception(NotAdmittedError("parked"))
                self._dead += 1

    # -- what became of it -------------------------------------------------------------------------

    def _tell(self, account: Admission, grant: Grant, event: Event, value: float | None, now: float) -> None:
        controller, ticket = account.controller, grant.ticket
        if event is Event.REFUSED or event is Event.OVERLOAD:
            account.throttled += 1
            if account.throttled_since is None:
                account.throttled_since = now
            tell: Any = controller.on_refused if event is Event.REFUSED else controller.on_overload
            tell(now, ticket, value)
        elif event is Event.ANSWERED:
            account.throttled_since = None
            controller.on_answered(now, ticket)
        elif event is Event.FAILED:
            controller.on_failed(now, ticket)
        elif event is Event.LOST:
            controller.on_lost(now, ticket)
        else:
            if account.pacing is not None:
                account.pacing.on_cancelled(now, grant.at, ticket[3])
            controller.on_cancelled(now, ticket)

    def snapshot(self) -> Iterator[tuple[str, AccountStats]]:
        """Yield name and numbers of each account."""
        now = self._clock()
        for account in self.accounts:
            yield account.name, account.stats(now)
