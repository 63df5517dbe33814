"""Laws of the adaptive limits, whatever happens and whenever it happens."""

import itertools
import math
import random
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinow_async._protocol.adaptive import (
    BETA,
    DEATHS,
    KINDS,
    OVERLOADED,
    PROBATION,
    Controller,
    Curve,
    Tally,
    Ticket,
)

MAX_IN_FLIGHT = 64


Judgement = Callable[["World", Ticket], None]


@attrs.define
class Model:
    """What an onlooker knows of gate, episode and probe, from the rules alone."""

    sent: int = 0
    cut_seq: int = 0
    half_open: bool = False
    probe: Ticket | None = None
    not_before: float = -math.inf
    deaths: int = 0

    def send(self, now: float, ticket: Ticket) -> None:
        assert now >= self.not_before, "sent before the Retry-After was over"
        self.sent += 1
        if self.half_open:
            if self.probe is None:
                self.probe = ticket
            else:
                assert now >= self.probe[1] + PROBATION, "a second probe"
                self.reopen()

    def reopen(self) -> None:
        self.half_open, self.probe = False, None

    def refuse(self, now: float, ticket: Ticket, retry_after: float) -> None:
        if retry_after > 0:
            self.not_before = max(self.not_before, now + retry_after)
        if ticket[0] > self.cut_seq:
            self.cut_seq = self.sent
            self.half_open, self.probe = True, None

    def end(self, ticket: Ticket) -> None:
        if ticket is self.probe:
            self.reopen()


class World:
    """A controller, the calls in flight, and an onlooker who checks every step."""

    def __init__(self, *, adaptive: bool = True, max_in_flight: int = MAX_IN_FLIGHT, seed: int = 0) -> None:
        self.now = 1000.0
        self.controller = Controller(max_in_flight, adaptive=adaptive, jitter=random.Random(seed).random)
        self.max_in_flight = max_in_flight
        self.flying: list[Ticket] = []
        self.model = Model()

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def try_to_send(self, calls: int, weight: int = 1, kind: str = "picture") -> None:
        for _ in range(calls):
            delay = self.controller.delay(self.now, weight)
            assert delay >= 0
            assert (delay > 0) == (self.controller.holding is not None)
            if delay:
                return
            assert self.now >= self.controller.gate
            self.send(weight, kind)
        self.controller.on_idle(self.now)

    def send(self, weight: int = 1, kind: str = "picture") -> None:
        ticket = self.controller.on_send(self.now, weight, kind)
        self.model.send(self.now, ticket)
        self.flying.append(ticket)

    def take(self, place: float) -> Ticket:
        return self.flying.pop(int(place * len(self.flying)))

    def check(self) -> None:
        assert 1 <= self.controller.limit <= self.max_in_flight
        assert len(self.flying) == self.controller.flying

    def succeed(self, ticket: Ticket, latency: float | None = None) -> None:
        self.model.deaths = 0
        self.controller.on_success(self.now, ticket, self.now - ticket[1] if latency is None else latency)
        self.model.end(ticket)

    def answer(self, ticket: Ticket) -> None:
        self.model.deaths = 0
        self.controller.on_answered(self.now, ticket)
        self.model.end(ticket)

    def lose(self, ticket: Ticket) -> None:
        self.controller.on_lost(self.now, ticket)
        self.model.end(ticket)

    def cancel(self, ticket: Ticket) -> None:
        self.controller.on_cancelled(self.now, ticket)
        if ticket is self.model.probe:
            self.model.probe = None

    def fail(self, ticket: Ticket) -> None:
        model = self.model
        deaths = model.deaths + 1
        self.controller.on_failed(self.now, ticket)
        if deaths >= DEATHS or ticket is model.probe:
            if not model.half_open:
                model.cut_seq = 0
            model.refuse(self.now, ticket, 0)
        else:
            model.end(ticket)
        model.deaths = deaths


def refuse(retry_after: float | None, *, overload: bool) -> Judgement:
    def judge(world: World, ticket: Ticket) -> None:
        world.model.deaths = 0
        event = world.controller.on_overload if overload else world.controller.on_refused
        event(world.now, ticket, retry_after)
        world.model.refuse(world.now, ticket, retry_after or 0)

    return judge


retry_afters = st.none() | st.floats(0, 90)
refusals = st.builds(refuse, retry_afters, overload=st.booleans())
verdicts = (
    st.sampled_from([World.succeed, World.succeed, World.answer, World.lose, World.cancel, World.fail])
    | refusals
)
# What happens next: calls that want to go, time that passes, or a call that ends.
steps = (
    st.tuples(st.just("send"), st.integers(1, 40), st.sampled_from([1, 4, 10]))
    | st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.1, 1.0]) | st.floats(0, 120), st.just(0))
    | st.tuples(st.just("end"), st.floats(0, 1, exclude_max=True), verdicts)
)
histories = st.lists(steps, min_size=1, max_size=120)


def play(world: World, history: list[tuple], after: Callable[[str], None] = lambda step: None) -> None:
    for step, much, what in history:
        if step == "send":
            world.try_to_send(much, what)
        elif step == "wait":
            world.wait(much)
        elif world.flying:
            what(world, world.take(much))
        world.check()
        after(step)


@settings(max_examples=250, deadline=None)
@given(histories, st.integers(0, 9), st.booleans())
def test_gate_probe_and_limit_hold_whatever_happens(history: list[tuple], seed: int, adaptive: bool) -> None:
    """Nothing goes through a shut gate or before a Retry-After is over, and one probe at a time.

    That holds whatever the jitter, late refusals, shorter later hints, failures and cancellations; and the
    limit stays from 1 to ``max_in_flight``, and what flies is what was sent less what ended.
    """
    world = World(seed=seed, adaptive=adaptive)

    play(world, history)

    assert world.controller.flying == len(world.flying)
    if not adaptive:
        assert world.controller.limit == MAX_IN_FLIGHT
        assert world.controller.pace_per_minute is None


@settings(max_examples=150, deadline=None)
@given(histories, st.integers(0, 9))
def test_curves_fall_by_cuts_alone(history: list[tuple], seed: int) -> None:
    """Slots never shrink but at a refusal, pace never falls but when the account opens again after one."""
    world = World(seed=seed)
    controller = world.controller
    before = controller.limit, controller.pace_per_minute or math.inf
    reopening = False

    def after(step: str) -> None:
        nonlocal before, reopening
        limit, pace = controller.limit, controller.pace_per_minute or math.inf
        assert step == "end" or limit >= before[0]
        # The first pace is no fall, but it too is learned on opening only.
        assert reopening or pace >= before[1] * (1 - 1e-12)
        before, reopening = (limit, pace), world.model.half_open

    play(world, history, after)

    assert controller.limit == before[0]


leavings = st.sampled_from(["granted", "gave up", "cancelled", "taken elsewhere"])


@settings(max_examples=150, deadline=None)
@given(histories, st.floats(0, 30), st.booleans())
def test_a_call_is_let_out_in_one_step_as_in_two(
    history: list[tuple], silence: float, is_adaptive: bool
) -> None:
    """`send_if_free` is `delay` and `on_send`, whatever happened before."""
    one, two = World(adaptive=is_adaptive), World(adaptive=is_adaptive)
    for world in (one, two):
        play(world, history)
        world.wait(silence)
    for _ in range(5):
        together = one.controller.send_if_free(one.now, 2, "picture")
        is_free = two.controller.delay(two.now, 2) == 0
        apart = two.controller.on_send(two.now, 2, "picture") if is_free else None
        assert together == apart
        assert state_of(one.controller) == state_of(two.controller)


def state_of(controller: Controller) -> dict[str, object]:
    """What a controller remembers, but for the objects that compare by identity."""
    names = [name for name in Controller.__slots__ if name not in {"_jitter", "_kinds"}]
    values = {name: getattr(controller, name) for name in names}
    return {
        name: [getattr(value, part) for part in type(value).__slots__]
        if isinstance(value, Curve | Tally)
        else value
        for name, value in values.items()
    }


@settings(max_examples=150, deadline=None)
@given(histories, leavings, st.floats(1, 100_000), st.lists(verdicts, max_size=5))
def test_time_without_waiters_changes_no_curve(
    history: list[tuple], leaving: str, silence: float, endings: list[Judgement]
) -> None:
    """However the last waiter left, the hours after him raise nothing, whoever is answered in them."""
    world = World()
    controller = world.controller
    play(world, history)
    world.wait(200)
    # The last waiter is held by whatever there is, or granted at once.
    delay = controller.delay(world.now, 1)
    if delay == 0 and leaving in {"granted", "cancelled"}:
        ticket = controller.on_send(world.now, 1, "picture")
        if leaving == "cancelled":
            controller.on_cancelled(world.now, ticket)
        else:
            world.flying.append(ticket)
    controller.on_idle(world.now)
    limit, pace = controller.limit, controller.pace_per_minute

    for _ in endings:
        world.wait(silence)
        if world.flying:
            controller.on_success(world.now, world.take(0.5), 1.0)
    world.wait(silence)
    controller.on_idle(world.now)

    assert controller.limit == limit
    if controller.gate < world.now and not world.model.half_open:
        assert controller.pace_per_minute == pace


def hold_and_answer(world: World, seconds: float, latency: float, until: Callable[[], bool]) -> None:
    """An unlimited service that answers in *latency*, and callers without end."""
    controller, end = world.controller, world.now + seconds
    while world.now < end and not until():
        wait = controller.delay(world.now, 1)
        if wait == 0:
            world.send()
            continue
        answer_at = world.flying[0][1] + latency if world.flying else math.inf
        world.now = max(world.now, min(world.now + wait, answer_at))
        if answer_at <= world.now:
            world.succeed(world.take(0), latency)


@settings(max_examples=25, deadline=None)
@given(histories, st.integers(0, 9))
def test_the_limit_comes_back_within_an_hour(history: list[tuple], seed: int) -> None:
    """Whatever was refused before, an hour without limits finds all that may be used."""
    world = World(seed=seed)
    controller = world.controller
    hold_and_answer(world, 5, 2.0, lambda: False)
    play(world, [step for step in history if step[2] not in {World.succeed, World.answer}])
    while world.flying:
        world.succeed(world.take(0), 2.0)
    world.now = max(world.now, controller.gate)

    hold_and_answer(world, 3600, 2.0, lambda: controller.limit == MAX_IN_FLIGHT)

    assert controller.limit == MAX_IN_FLIGHT


def fly(world: World, calls: int) -> None:
    """Have *calls* in flight, as slow start lets them go."""
    controller = world.controller
    while controller.flying < calls:
        wait = controller.delay(world.now, 1)
        world.wait(wait)
        if wait == 0:
            world.send()


@settings(max_examples=50, deadline=None)
@given(st.integers(8, 40), st.randoms(use_true_random=False), retry_afters)
def test_one_burst_of_refusals_is_one_cut(cap: int, luck: random.Random, retry_after: float | None) -> None:
    """Calls refused together cut the slots once: to a share of what was held, not to a share of a share."""
    world = World(max_in_flight=256)
    fly(world, 60)
    refused = world.flying[cap:]
    luck.shuffle(refused)
    world.wait(0.05)

    for ticket in refused:
        world.controller.on_refused(world.now, ticket, retry_after)

    assert world.controller.flying == cap
    assert world.controller.limit == round(BETA * cap)


def test_one_burst_of_200_refusals_cuts_pace_once() -> None:
    """While the account holds still no pace is learned, and then one, however many were refused."""
    world = World(max_in_flight=512)
    fly(world, 64)
    for _ in range(64):
        world.succeed(world.take(0))
        world.try_to_send(1000)
    fly(world, 100)
    while len(world.flying) > 20:  # more had been held, so what refuses now is a rate
        world.wait(0.1)
        world.succeed(world.take(0))
    world.wait(1)
    start = len(world.flying)
    while len(world.flying) < start + 50:
        world.try_to_send(1)
    paces = set()
    for ticket in world.flying[start:]:
        refuse(3.0, overload=False)(world, ticket)
        paces.add(world.controller.pace_per_minute)
    del world.flying[start:]
    world.wait(4)
    world.try_to_send(1)

    assert paces == {None}

    world.succeed(world.take(0.999))
    first = world.controller.pace_per_minute
    world.wait(5)
    assert first is not None
    assert world.controller.pace_per_minute == first


def test_an_idle_client_does_not_drift() -> None:
    """A limit of 6 whose only waiter gives up is still 6 after an hour without callers."""
    world = World(max_in_flight=512)
    world.try_to_send(8)
    for ticket in world.flying[6:]:
        refuse(None, overload=False)(world, ticket)
    del world.flying[6:]
    limit = world.controller.limit
    assert limit <= 6
    world.wait(1)
    assert world.controller.delay(world.now, 1) > 0
    world.controller.on_idle(world.now)

    world.wait(3600)
    world.controller.delay(world.now, 1)

    assert world.controller.limit == limit


def test_slow_start_doubles_without_waiting_for_answers() -> None:
    """Eight at once, and twice as many every two seconds up to 64: a picture takes longer than a refusal."""
    world = World(max_in_flight=512)
    seen = []
    for _ in range(17):
        world.try_to_send(1000)
        seen.append(world.controller.flying)
        world.wait(0.5)

    # A power of two that is reached in pieces may be short by the last bit, and the limit is rounded down.
    assert seen[0] == 8
    assert seen[4] in {15, 16}
    assert seen[8] in {31, 32}
    assert seen[12] in {63, 64}
    assert seen[16] == 64


def test_beyond_64_slow_start_needs_answers() -> None:
    """Each answer then makes room for one more, besides its own."""
    world = World(max_in_flight=512)
    fly(world, 64)
    world.try_to_send(1)

    for _ in range(10):
        world.wait(0.1)
        world.succeed(world.take(0))
        world.try_to_send(1000)

    assert world.controller.flying == 74


def test_quick_errors_of_the_caller_say_nothing_about_latency() -> None:
    """A hundred 400s that come at once do not make pictures look slow: growth goes on."""
    world = World(max_in_flight=512)
    fly(world, 64)
    for _ in range(100):
        world.wait(0.01)
        world.answer(world.take(0))
        world.try_to_send(1000)
    limit = world.controller.limit
    world.wait(20)
    for _ in range(100):
        world.succeed(world.take(0))
        world.try_to_send(1000)

    assert world.controller.limit >= limit + 100


def test_a_swollen_latency_stops_growth_and_no_more() -> None:
    """Answers twice as slow as the same kind used to be: slots neither grow nor shrink."""
    world = World(max_in_flight=512)
    fly(world, 64)
    for _ in range(64):
        world.wait(0.01)
        world.controller.on_success(world.now, world.take(0), 10.0)
        world.try_to_send(1000)
    for _ in range(64):
        world.wait(0.01)
        world.controller.on_success(world.now, world.take(0), 20.0)
        world.try_to_send(1000)
    limit = world.controller.limit
    for _ in range(64):
        world.wait(0.01)
        world.controller.on_success(world.now, world.take(0), 20.0)
        world.try_to_send(1000)

    assert world.controller.limit == limit


def test_three_deaths_in_succession_are_an_outage() -> None:
    """Two broken connections may be chance; the third shuts the gate and keeps 0.7 of what flies."""
    world = World(max_in_flight=512)
    fly(world, 43)
    world.fail(world.take(0))
    world.fail(world.take(0))
    assert world.controller.gate < world.now

    world.fail(world.take(0))

    assert world.controller.gate > world.now
    assert world.controller.limit == round(BETA * OVERLOADED * 40)


def test_one_answer_between_deaths_is_no_outage() -> None:
    """Only failures in succession count."""
    world = World(max_in_flight=512)
    fly(world, 43)
    for _ in range(5):
        world.fail(world.take(0))
        world.fail(world.take(0))
        world.succeed(world.take(0))

    assert world.controller.gate == -math.inf


def test_a_cancelled_probe_is_replaced() -> None:
    """A probe that was never sent proves nothing: the next call is the probe."""
    world = World()
    world.try_to_send(1)
    refuse(None, overload=False)(world, world.take(0))
    world.wait(1)
    world.try_to_send(5)
    assert len(world.flying) == 1
    assert world.controller.holding is None or world.controller.holding == "probe"

    world.cancel(world.take(0))
    world.try_to_send(5)

    assert len(world.flying) == 1


def test_a_probe_that_is_silent_for_a_second_counts_as_accepted() -> None:
    """A picture takes long, a refusal does not: nobody waits for the probe's answer."""
    world = World()
    world.try_to_send(1)
    refuse(None, overload=False)(world, world.take(0))
    world.wait(1)
    world.try_to_send(1)
    assert 0 < world.controller.delay(world.now, 1) <= PROBATION

    world.wait(PROBATION)

    assert world.controller.delay(world.now, 1) != PROBATION
    assert world.controller.holding != "probe"


def test_a_long_refused_account_asks_every_quarter_of_a_minute() -> None:
    """The backoff doubles with every refused probe, up to 15 s and its jitter."""
    world = World()
    gaps = []
    for _ in range(12):
        world.try_to_send(1)
        refuse(None, overload=False)(world, world.take(0))
        gaps.append(world.controller.gate - world.now)
        world.now = world.controller.gate

    assert all(0.25 <= gap <= 0.3125 for gap in gaps[:1])
    assert all(a < b for a, b in itertools.pairwise(gaps[:7]))
    assert all(15 <= gap <= 18.75 for gap in gaps[6:])


def test_the_learned_pace_is_paid_after_by_weight() -> None:
    """With a pace known a call of ten images goes as soon as one of one, and those behind it wait."""
    world = World()
    for _ in range(60):
        world.try_to_send(1)
        world.wait(1)
        world.succeed(world.take(0))
    world.try_to_send(1)
    refuse(5.0, overload=False)(world, world.take(0))
    world.wait(7)
    world.try_to_send(1)
    world.succeed(world.take(0))
    pace = world.controller.pace_per_minute
    assert pace is not None
    world.wait(60)

    assert world.controller.delay(world.now, 10) == world.controller.delay(world.now, 1) == 0

    world.controller.on_send(world.now, 10, "picture")
    assert world.controller.delay(world.now, 1) == pytest.approx(10 * 60 / pace)
    assert world.controller.holding == "pace"


def test_memory_does_not_grow_with_kinds_or_calls() -> None:
    """A million kinds of call are remembered as the last 32, and a day of calls as its last minute."""
    world = World(max_in_flight=8)
    controller = world.controller
    for number in range(5000):
        world.wait(20)
        controller.on_success(world.now, controller.on_send(world.now, 1, number), 1.0)

    assert len(controller._kinds) == KINDS
    assert controller._accepted.requests(world.now) <= 4


def test_any_origin_of_time_will_do() -> None:
    """The clock need not start at 0: the same history gives the same limits at any origin."""
    seen = []
    for origin in (-1e6, 0.0, 1e9):
        world = World()
        world.now = origin
        hold_and_answer(world, 30, 2.0, lambda: False)
        refuse(4.0, overload=False)(world, world.take(0.9))
        hold_and_answer(world, 60, 2.0, lambda: False)
        seen.append((world.controller.limit, round(world.controller.pace_per_minute or 0)))

    assert seen[0] == seen[1] == seen[2]


def test_a_second_shorter_hint_opens_nothing() -> None:
    """Of all the times that a burst of refusals names, the latest counts."""
    world = World()
    world.try_to_send(8)
    refuse(30.0, overload=False)(world, world.take(0.999))
    refuse(2.0, overload=False)(world, world.take(0.999))
    refuse(None, overload=False)(world, world.take(0.999))
    world.wait(29.9)

    assert world.controller.delay(world.now, 1) > 0
    assert world.controller.holding == "gate"


def test_a_late_refusal_of_an_old_episode_shuts_the_opened_account() -> None:
    """A call of the last burst that is refused after the probe passed still tells when to come back."""
    world = World()
    world.try_to_send(8)
    refuse(None, overload=False)(world, world.take(0.999))
    world.wait(1)
    world.succeed(world.take(0))
    world.succeed(world.take(0))
    world.try_to_send(1)
    world.succeed(world.take(0.999))
    assert world.controller.delay(world.now, 1) == 0
    limit = world.controller.limit

    refuse(60.0, overload=False)(world, world.take(0.999))
    world.wait(59.9)
    world.try_to_send(1)

    assert world.controller.holding == "gate"
    assert world.controller.limit >= limit - 2  # no second cut, only what the service held is known better


def test_old_calls_that_die_are_an_outage_too() -> None:
    """Calls that were sent before the last refusal belong to its episode, their deaths do not."""
    world = World(max_in_flight=512)
    fly(world, 40)
    refuse(None, overload=False)(world, world.take(0.999))
    world.wait(1)
    for _ in range(6):  # room for the probe
        world.succeed(world.take(0.5))
    world.try_to_send(1)
    world.succeed(world.take(0.999))
    limit = world.controller.limit

    for _ in range(DEATHS):
        world.fail(world.take(0))

    assert world.controller.gate > world.now
    assert world.controller.limit < limit


def test_a_swollen_latency_stops_a_curve() -> None:
    """After a cut too: a service that queues is not pressed further, however long callers wait."""
    world = World(max_in_flight=512)
    fly(world, 40)
    for latency in (10.0, 20.0):
        for _ in range(40):
            world.wait(0.01)
            world.succeed(world.take(0), latency)
            world.try_to_send(1000)
    refuse(None, overload=True)(world, world.take(0.999))
    world.wait(1)
    while world.controller.flying >= world.controller.limit:
        world.succeed(world.take(0), 20.0)
    world.try_to_send(1000)
    world.wait(PROBATION)
    fly(world, world.controller.limit)
    limit = world.controller.limit

    for _ in range(1000):
        world.wait(0.5)
        world.try_to_send(1)

    assert world.controller.limit == limit


def test_a_caller_may_wait_for_years() -> None:
    """A caller who was held and is asked about a year later finds the limit that slow start has reached."""
    world = World(max_in_flight=512)
    world.try_to_send(1000)

    world.wait(365 * 86_400)
    world.try_to_send(1000)

    assert world.controller.limit == 64
