"""How many calls may fly, and how fast they may go: found out by touching the limits, gently and rarely.

The service publishes no limits. There are two kinds of ceiling to discover, *slots* (calls in flight) and
*pace* (images per second; a chat counts as one), and one *gate* per account, which a refusal shuts for
everyone.

**Why a cubic curve** (after CUBIC, RFC 9438). Additive increase with multiplicative decrease would pay a
tenth of the ceiling for ever, and needs minutes after a change. A cubic starts a little below the place
where the ceiling was touched, is soon back, lies flat near that place, and then rises faster and faster
in case the ceiling has gone. Each time the ceiling is met again near the old place the period doubles:
unsure means quick, sure means rare. A hold that was long makes touching dear, and the period longer
still. A curve ages only while *it* is what keeps callers waiting, so that an idle client, or one limited
by something else, never drifts upward.

**Whom a refusal is blamed on.** Calls refused within one flight are one *episode*, which is laid at the
door of one ceiling. Slots, if no more calls than this were ever seen in flight together (``proved``;
``doubt`` allows for the calls that ended while the refusal travelled). Pace, if more had been, for then
it can be no cap on calls in flight; or if the service names a time of some length; or if the one probe
that goes after the hold is refused although fewer are flying.

**What is measured.** A cut is no guess times a factor. For slots it is the number in flight that the
service held; for pace what it accepted in the last minute, or since pace was last cut, whichever is more:
a window of a minute is measured right by the minute and too low by a short cycle; a bucket is measured
too high by a minute that holds its burst, and right a minute later; a cap mistaken for a pace in the
first minute is measured right by the cycle.

**What latency says.** Pictures differ tenfold in latency by quality, size and luck; so latency is
compared only within one kind of call, and only ever stops growth: a swollen median means that the service
queues what we send.

A :class:`Controller` is told the time (seconds, any origin, never backwards); it never asks for it and
never waits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Literal, TypeAlias

# Seconds and shares. The choice is not delicate; `python -m benchmarks.simulation` is where it is judged.
BETA: Final = 0.9  # where the curve of slots starts after a cut, as a share of its top
PACE_BETA: Final = 0.95
ALPHA: Final = 0.5  # steepness below the top; above it, for pace: +50 % one period past the knee
RISE: Final = 2.0  # above the top slots grow by RISE * sqrt(top): the smaller process faster, which is fair
PACE_RISE: Final = 0.1  # above the top pace grows by at least so many images per second
PERIOD: Final = 15.0
PERIOD_MAX: Final = 60.0
NEAR: Final = 0.75  # a ceiling is met again within NEAR to 1/NEAR of its old top
COST: Final = 4.0  # the period of a ceiling met again is at least COST times the hold it caused ...
COST_MAX: Final = 300.0  # ... and at most this
START: Final = 8.0  # slow start: so many slots at first,
DOUBLING: Final = 2.0  # doubled in this time without waiting for answers,
BLIND: Final = 64.0  # up to so many
OPENING: Final = 4.0  # after a hold: so many more than are in flight,
OPEN_DOUBLING: Final = 0.25  # doubled in this time,
OPEN_FOR: Final = 10.0  # for so long
OPEN_TICK: Final = 0.1  # how soon a caller held by the opening asks again
BACKOFF: Final = 0.25  # hold without Retry-After, doubled with every refused probe
BACKOFF_MAX: Final = 15.0
JITTER: Final = 0.25  # share of the backoff that is added at most, by luck
PROBATION: Final = 1.0  # a probe not refused for so long counts as accepted
TIMED: Final = 2.0  # a Retry-After of this or more speaks of a rate
SWELL: Final = 1.5  # slots stop growing while a kind's median latency is over SWELL times its lowest
SAMPLE: Final = 32  # latencies in a median
MEDIAN_EVERY: Final = 8  # answers
DRIFT: Final = 1.002  # growth of the lowest median, each time it is looked at
KINDS: Final = 32  # kinds of call remembered
DEATHS: Final = 3  # calls in succession that fail after sending: an outage
OVERLOADED: Final = 0.7  # share of the calls in flight kept; below NEAR, so that the way back is quick
WINDOW: Final = 60  # seconds counted as the last minute
DECISIONS: Final = 8  # kept for those who ask why the limit is what it is
TICK: Final = 0.5  # how soon a caller held by slots asks again
RATE_MIN: Final = 1 / 60  # images per second

Holding: TypeAlias = Literal["gate", "probe", "opening", "slots", "pace"]
"""What keeps callers waiting, in the order in which it is asked."""

Ticket: TypeAlias = tuple[int, float, int, float, Hashable]
"""A call in flight: its number, when it was sent, how many others were in flight then, its weight, its kind.

A plain tuple: it is made for every call, at a third of the price of a class.
"""


def _rise_of_slots(top: float) -> float:
    return RISE * math.sqrt(top)


def _rise_of_pace(top: float) -> float:
    return max(ALPHA * top, PACE_RISE)


class Curve:
    """A ceiling as a cubic over the time in which it kept callers waiting (``age``, seconds)."""

    __slots__ = ("_calm", "_knee", "_rise_of", "age", "period", "top")

    def __init__(self, top: float, beta: float, rise_of: Callable[[float], float]) -> None:
        self.top = top
        self.age = 0.0
        self.period = PERIOD
        self._calm = PERIOD
        self._knee = math.cbrt((1 - beta) / ALPHA)
        self._rise_of = rise_of

    @property
    def value(self) -> float:
        """Where the curve is now: ``beta * top`` at first, ``top`` at the knee, then above it."""
        x = self.age / self.period - self._knee
        rise = ALPHA * self.top if x < 0 else self._rise_of(self.top)
        return self.top + rise * x * x * x

    def cut(self, top: float, hold: float) -> None:
        """Start again below *top*, where the ceiling was touched at the price of *hold* seconds."""
        if self.top * NEAR <= top <= self.top / NEAR:
            self._calm = min(PERIOD_MAX, 2 * self._calm)
            self.period = max(self._calm, min(COST_MAX, COST * hold))
        else:
            self._calm = self.period = PERIOD
        self.top = top
        self.age = 0.0


class Tally:
    """What was sent in the last minute and not refused, in bins of one second."""

    __slots__ = ("_bin", "_bin_ends", "_images", "_requests", "_second", "born")

    def __init__(self) -> None:
        self.born = math.inf
        """When the first call was sent."""
        self._second = -1
        self._bin = 0
        self._bin_ends = -math.inf
        self._requests = [0] * WINDOW
        self._images = [0.0] * WINDOW

    def add(self, now: float, weight: float) -> None:
        """Count a call of *weight* images."""
        if now >= self._bin_ends:
            self._advance(now)
        self._requests[self._bin] += 1
        self._images[self._bin] += weight

    def remove(self, now: float, sent: float, weight: float) -> None:
        """Take a call out of the bin that it was sent in, if that is still there."""
        self._advance(now)
        second = int(sent - self.born)
        if self._second - second < WINDOW:
            self._requests[second % WINDOW] -= 1
            self._images[second % WINDOW] -= weight

    def requests(self, now: float) -> int:
        """Count the calls of the last minute."""
        self._advance(now)
        return sum(self._requests)

    def images(self, now: float) -> float:
        """Count the images of the last minute."""
        self._advance(now)
        return sum(self._images)

    def _advance(self, now: float) -> None:
        if self._second < 0:
            self.born = now
        second = int(now - self.born)
        for stale in range(max(self._second + 1, second - WINDOW + 1), second + 1):
            self._requests[stale % WINDOW] = 0
            self._images[stale % WINDOW] = 0.0
        self._second = second
        self._bin = second % WINDOW
        self._bin_ends = self.born + second + 1


class _Kind:
    """The latencies of one kind of call."""

    __slots__ = ("_base", "_recent", "answered_at", "answers", "swelling")

    def __init__(self) -> None:
        self.answers = 0
        self.answered_at = 0.0
        self.swelling = 1.0
        """The median of the last SAMPLE latencies over the lowest such median."""
        self._base = math.inf
        self._recent: deque[float] = deque(maxlen=SAMPLE)

    def note(self, latency: float, swelling: float) -> None:
        """Note a latency; *swelling* is what other kinds last said of the service."""
        self._recent.append(latency)
        self.answers += 1
        if self.answers % MEDIAN_EVERY or self.answers < SAMPLE:
            return
        ordered = sorted(self._recent)
        # A median of zero (a clock too coarse for the answers) would leave nothing to compare with.
        median = max(1e-9, (ordered[SAMPLE // 2 - 1] + ordered[SAMPLE // 2]) / 2)
        # A kind first met while the service queues would otherwise take the queue for its nature.
        known = self.answers > SAMPLE
        self._base = min(self._base * DRIFT, median) if known else median / swelling
        self.swelling = median / self._base


class Controller:
    """Decides when an account's next call may go, and learns from what becomes of each.

    Ask :meth:`delay`; when it says 0, call :meth:`on_send`, and later exactly one other event with the
    ticket: which one, is the judgement of the caller. When nobody waits any more, or something else holds
    the next caller, call :meth:`on_idle`, lest a curve grow for nothing. Times are seconds of one clock that
    never goes back.

    Args:
        max_in_flight: The ceiling of the search; with ``adaptive=False``, the limit.
        adaptive: Whether slots and pace are learned. Gate, probe and opening are in force either way.
        jitter: A number from 0 to 1, drawn anew at each call (``random.random``).
    """

    __slots__ = (
        "_accepted", "_adaptive", "_cut_seq", "_cycle", "_cycle_at", "_cycle_seq", "_deaths",
        "_decisions", "_episode", "_fails", "_flying", "_full", "_gate", "_half_open", "_holding",
        "_interval", "_jitter", "_kinds", "_last", "_limit", "_max_in_flight", "_minute", "_opened",
        "_opened_at", "_pace",
        "_paced", "_probe", "_proved", "_seq", "_settled_at", "_shut_at", "_slots", "_slow",
        "_swelling", "_tat",
    )  # fmt: skip

    def __init__(self, max_in_flight: int, *, adaptive: bool = True, jitter: Callable[[], float]) -> None:
        self._max_in_flight = max_in_flight
        self._adaptive = adaptive
        self._jitter = jitter
        self._flying = 0
        self._seq = 0
        self._last = 0.0  # the last event, while something holds callers
        self._holding: Holding | None = None
        self._slots = Curve(START, BETA, _rise_of_slots)
        self._slow = True
        self._limit = max_in_flight
        self._resize()
        self._pace: Curve | None = None
        self._interval = 0.0  # seconds per image; 0: no pace is known
        self._tat = -math.inf  # when pace lets the next call go
        self._accepted = Tally()
        self._cycle = 0.0  # images accepted since pace was last cut
        self._cycle_at = -math.inf
        self._cycle_seq = 0
        self._proved = 0  # in flight at the last cut, or more accepted since
        self._cut_seq = 0  # calls up to this one belong to the last episode
        self._episode = 0  # how many calls it refused
        self._full = False  # the episode is blamed on slots ...
        self._paced = False  # ... or on pace
        self._minute = 0.0  # images per second accepted in the minute before the episode
        self._shut_at = 0.0
        self._gate = -math.inf
        self._half_open = False
        self._probe: Ticket | None = None
        self._fails = 0
        self._opened = 0
        self._opened_at = -math.inf
        self._settled_at = -math.inf  # from then on neither gate nor probe nor opening holds anyone
        self._deaths = 0
        self._kinds: dict[Hashable, _Kind] = {}
        self._swelling = 1.0
        self._decisions: deque[tuple[float, str]] = deque(maxlen=DECISIONS)

    @property
    def limit(self) -> int:
        """How many calls may be in flight now, from 1 to ``max_in_flight``."""
        return self._limit

    @property
    def flying(self) -> int:
        """How many calls are in flight."""
        return self._flying

    @property
    def gate(self) -> float:
        """The time until which nothing is sent; minus infinity before the first refusal."""
        return self._gate

    @property
    def pace_per_minute(self) -> float | None:
        """Images per minute that the account was found to allow; None while no such limit was met."""
        return None if self._pace is None else 60 * self._pace.value

    @property
    def holding(self) -> Holding | None:
        """What made the last :meth:`delay` more than 0; None if nothing did, or nobody waits."""
        return self._holding

    @property
    def decisions(self) -> tuple[tuple[float, str], ...]:
        """The last few decisions, oldest first: when, and what was learned of the account."""
        return tuple(self._decisions)

    def accepted(self, now: float) -> tuple[int, float] | None:
        """Requests and images accepted in the last minute; None with ``adaptive=False``: not counted."""
        return (self._accepted.requests(now), self._accepted.images(now)) if self._adaptive else None

    def delay(self, now: float, weight: float) -> float:
        """Seconds until the next call may go, 0 for now; ask again then, or at the next event.

        *weight* delays nothing here: it is paid afterwards, so that a heavy call waits no longer than a
        light one in its place.
        """
        if self._holding is not None:
            self._pass(now)
            self._holding = None
        if now < self._settled_at:
            wait = self._unsettled(now)
            if wait > 0:
                return wait
        if self._flying >= self._limit:
            return self._hold("slots", now, TICK)
        if self._tat > now:
            return self._hold("pace", now, self._tat - now)
        return 0.0

    def on_idle(self, now: float) -> None:
        """Nobody waits, or what holds the next caller is none of the ceilings in here."""
        if self._holding is not None:
            self._pass(now)
            self._holding = None

    def on_send(self, now: float, weight: float, kind: Hashable) -> Ticket:
        """A call goes out; *kind* tells calls of one usual latency from others."""
        if self._holding is not None:
            self._pass(now)
        self._seq += 1
        ticket = (self._seq, now, self._flying, weight, kind)
        self._flying += 1
        if self._half_open:
            self._probe = ticket
        if self._adaptive:
            self._count(now, weight)
        return ticket

    def send_if_free(self, now: float, weight: float, kind: Hashable) -> Ticket | None:
        """Let a call out that nothing holds: :meth:`delay` and :meth:`on_send` in one; None: something does.

        This is the way of nearly every call; a second function would be a tenth of it.
        """
        is_settled = self._holding is None and now >= self._settled_at
        if not is_settled or self._flying >= self._limit or self._tat > now:
            return None if self.delay(now, weight) > 0 else self.on_send(now, weight, kind)
        self._seq += 1
        ticket = (self._seq, now, self._flying, weight, kind)
        self._flying += 1
        if self._adaptive:
            self._count(now, weight)
        return ticket

    def on_answered(self, now: float, ticket: Ticket) -> None:
        """The service took the call and answered, in a time that says nothing (an error, say)."""
        if self._holding is not None:
            self._pass(now)
            if self._holding == "slots" and self._slow:
                self._grow_by_answer()
        self._flying -= 1
        self._deaths = 0
        if ticket[2] >= self._proved:
            self._prove(ticket)
        if ticket is self._probe:
            self._reopen(now)

    def on_success(self, now: float, ticket: Ticket, latency: float) -> None:
        """The service did what was asked, in *latency* seconds (for a stream: to its first byte)."""
        self.on_answered(now, ticket)
        if not self._adaptive:
            return
        kind = self._kinds.get(ticket[4])
        if kind is None:
            kind = self._new_kind(ticket[4])
        kind.answered_at = now
        kind.note(latency, self._swelling)
        if kind.answers >= SAMPLE:
            self._swelling = kind.swelling

    def on_refused(self, now: float, ticket: Ticket, retry_after: float | None) -> None:
        """The service refused the call for its limits (429), and named a time in seconds, or none."""
        self._refused(now, ticket, ticket[2], retry_after or 0.0, overload=False)

    def on_overload(self, now: float, ticket: Ticket, retry_after: float | None) -> None:
        """The service refused the call because it is overloaded (503, 529): that measures no ceiling."""
        self._refused(now, ticket, ticket[2], retry_after or 0.0, overload=True)

    def on_failed(self, now: float, ticket: Ticket) -> None:
        """The service, or the way to it, failed after the call was sent; some in succession are an outage."""
        deaths = self._deaths + 1
        if deaths < DEATHS and ticket is not self._probe:
            self.on_lost(now, ticket)
        else:
            if not self._half_open:
                self._cut_seq = 0  # a new episode, however old the call is
            # A call that dies may be old: what flew beside it once says nothing of what flies now.
            self._refused(now, ticket, self._flying, 0.0, overload=True)
        self._deaths = deaths

    def on_lost(self, now: float, ticket: Ticket) -> None:
        """The caller gave up after sending: nothing is learned, and the call stays counted as accepted."""
        if self._holding is not None:
            self._pass(now)
        self._flying -= 1
        if ticket is self._probe:
            self._reopen(now)

    def on_cancelled(self, now: float, ticket: Ticket) -> None:
        """The call was granted but never sent."""
        if self._holding is not None:
            self._pass(now)
        self._flying -= 1
        self._uncount(now, ticket)
        if ticket is self._probe:
            self._probe = None  # so that the next one is

    # -- waiting -----------------------------------------------------------------------------------

    def _hold(self, holding: Holding, now: float, wait: float) -> float:
        self._holding = holding
        self._last = now
        return wait

    def _unsettled(self, now: float) -> float:
        """How long gate, probe or opening hold the next call."""
        if now < self._gate:
            return self._hold("gate", now, self._gate - now)
        if self._probe is not None:
            rest = self._probe[1] + PROBATION - now
            if rest > 0:
                return self._hold("probe", now, rest)
            self._reopen(now)
        since = now - self._opened_at
        if since < OPEN_FOR and self._flying >= self._opened + OPENING * 2 ** (since / OPEN_DOUBLING):
            return self._hold("opening", now, OPEN_TICK)
        return 0.0

    def _pass(self, now: float) -> None:
        """Let the curve that kept callers waiting age by the time since the last event."""
        spent = now - self._last
        self._last = now
        if self._holding == "slots":
            self._pass_slots(spent)
        elif self._holding == "pace" and self._pace is not None:
            self._pace.age += spent
            self._interval = 1 / self._pace.value

    def _pass_slots(self, spent: float) -> None:
        slots = self._slots
        if not self._slow:
            if self._swelling > SWELL:
                return
            slots.age += spent
        elif slots.top < BLIND:
            # The exponent is bounded, so that a long silence cannot overflow; 6 doublings of 1 are BLIND.
            slots.top = min(BLIND, slots.top * 2 ** min(spent / DOUBLING, 6))
        self._resize()

    def _grow_by_answer(self) -> None:
        """Slow start goes on beyond what is sent blindly, by as many as are answered."""
        if self._slots.top >= BLIND and self._swelling <= SWELL:
            self._slots.top += 1
            self._resize()

    def _resize(self) -> None:
        if self._adaptive:
            size = int(self._slots.top) if self._slow else round(self._slots.value)
            self._limit = max(1, min(size, self._max_in_flight))

    # -- refusals ----------------------------------------------------------------------------------

    def _refused(
        self, now: float, ticket: Ticket, others: int, retry_after: float, *, overload: bool
    ) -> None:
        """Judge a refusal; *others* is how many calls the service held beside the refused one, at most."""
        if self._holding is not None:
            self._pass(now)
        self._flying -= 1
        self._deaths = 0
        self._uncount(now, ticket)
        seq, sent, _, weight, _ = ticket
        others = min(others, self._flying)
        if seq <= self._cut_seq:
            self._refused_again(now, others, weight, retry_after, overload=overload)
            return
        self._cut_seq = self._seq
        timed = retry_after >= TIMED
        roomy = others < self._proved - self._doubt(now, sent)
        if self._half_open:
            self._paced = self._paced or (not overload and (timed or roomy))
            self._probe = None
            self._fails += 1
            self._decisions.append((now, f"probe refused with {others} others in flight"))
        else:
            self._full = overload or (others > 0 and not roomy)
            self._paced = self._adaptive and not overload and (timed or not self._full)
            self._begin_episode(now, OVERLOADED * others if overload else others, retry_after)
            self._proved = others  # older proof may be stale
        self._shut(now, retry_after)

    def _refused_again(
        self, now: float, others: int, weight: float, retry_after: float, *, overload: bool
    ) -> None:
        """Another refusal of the last episode: no second cut, but it tells more of what the service held."""
        self._episode += 1
        self._minute -= weight / WINDOW
        if self._full and not overload:  # in an outage everything may fail at once, which measures no ceiling
            self._slots.top = max(1.0, min(self._slots.top, others))
            self._resize()
        if retry_after > 0:
            self._shut(now, retry_after)

    def _prove(self, ticket: Ticket) -> None:
        """The service held this call beside those in flight when it was sent, save those that it refused.

        Without that a slow start that overshoots a cap of quick calls (200 of 0.3 s) seems to prove more than
        the cap, which then is taken for a pace: 90 % after 45 s instead of 5.
        """
        seq, _, others, _, _ = ticket
        held = others + 1 - (self._episode if seq <= self._cut_seq else 0)
        self._proved = max(self._proved, held)

    def _begin_episode(self, now: float, held: float, retry_after: float) -> None:
        """The first refusal after a peace; *held* is how many calls the service went on holding."""
        before = self._limit
        if self._full:
            self._slow = False
            self._slots.cut(max(1.0, held), retry_after)
            self._resize()
        learned = f": slots cut from {before} to {self._limit}" if self._limit != before else ""
        self._decisions.append((now, f"refused with {self._flying} others in flight{learned}"))
        self._episode = 1
        self._fails = 0
        self._half_open = True
        self._probe = None
        self._settled_at = math.inf
        self._shut_at = now
        self._minute = self._accepted.images(now) / WINDOW

    def _doubt(self, now: float, sent: float) -> float:
        """How many calls may have ended while the refusal of a call sent at *sent* travelled.

        Divided by a whole minute in the first seconds it would be far too small, and a cap taken for a pace.
        """
        known = max(1.0, min(WINDOW, now - self._accepted.born))
        return 1 + 1.5 * (now - sent) * self._accepted.requests(now) / known

    def _shut(self, now: float, retry_after: float) -> None:
        """Close the gate as long as the service asks, at least the backoff; jitter is added, never taken."""
        wait = min(BACKOFF_MAX, BACKOFF * 2 ** min(self._fails, 16))  # bounded: a probe may fail for weeks
        self._gate = max(self._gate, now + max(wait, retry_after) + JITTER * wait * self._jitter())
        self._settled_at = max(self._settled_at, self._gate)

    def _reopen(self, now: float) -> None:
        """The probe was not refused: the account opens again, a few calls at first."""
        self._half_open = False
        self._probe = None
        self._opened = self._flying
        self._opened_at = now
        self._settled_at = max(self._gate, now + OPEN_FOR)
        if self._paced:
            self._learn_pace(now)

    def _learn_pace(self, now: float) -> None:
        """Cut pace to what was accepted; the first time too, which makes the first period 30 s."""
        since = max(self._cycle_at, self._accepted.born)
        rate = max(RATE_MIN, self._minute, self._cycle / max(1e-3, now - since))
        if self._pace is None:
            self._pace = Curve(rate, PACE_BETA, _rise_of_pace)
            self._tat = now
        self._pace.cut(rate, now - self._shut_at)
        self._decisions.append((now, f"pace cut to {60 * self._pace.value:.1f} images per minute"))
        self._interval = 1 / self._pace.value
        self._cycle = 0.0
        self._cycle_at = now
        self._cycle_seq = self._seq

    # -- what is counted ---------------------------------------------------------------------------

    def _count(self, now: float, weight: float) -> None:
        self._accepted.add(now, weight)
        self._cycle += weight
        if self._interval:
            self._tat = max(self._tat, now) + weight * self._interval

    def _uncount(self, now: float, ticket: Ticket) -> None:
        if self._adaptive:
            seq, sent, _, weight, _ = ticket
            self._accepted.remove(now, sent, weight)
            if seq > self._cycle_seq:
                self._cycle -= weight

    def _new_kind(self, name: Hashable) -> _Kind:
        if len(self._kinds) >= KINDS:
            longest_silent = min(self._kinds, key=lambda other: self._kinds[other].answered_at)
            del self._kinds[longest_silent]
        kind = self._kinds[name] = _Kind()
        return kind
