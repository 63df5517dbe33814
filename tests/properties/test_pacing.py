"""Laws of the limits that the user sets."""

import random
from itertools import pairwise

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hinow_async._protocol.pacing import COMPACT, HORIZON, Pacing

MIXED = (1, 1, 2, 4, 4, 8, 10)
bursts = st.none() | st.sampled_from([0.0, 1.0, 5.0, 30.0])


@attrs.frozen
class Sent:
    at: float
    weight: float


def run(pacing: Pacing, weights: list[float], seconds: float, start: float = 1000.0) -> list[Sent]:
    """Callers without end and a service without limits: the next goes as soon as it may."""
    now, sent = start, []
    while now < start + seconds:
        weight = weights[len(sent) % len(weights)]
        delay = pacing.delay(now, weight)
        if delay == 0:
            pacing.on_send(now, weight)
            sent.append(Sent(now, weight))
        now += delay
    return sent


def worst(sent: list[Sent], window: float = 60.0) -> tuple[int, float]:
    """Most requests and most images in any *window* seconds."""
    requests, images, first, held = 0, 0.0, 0, 0.0
    for number, last in enumerate(sent):
        held += last.weight
        while sent[first].at <= last.at - window:
            held -= sent[first].weight
            first += 1
        requests, images = max(requests, number - first + 1), max(images, held)
    return requests, images


@settings(max_examples=60, deadline=None)
@given(
    st.none() | st.integers(1, 2000),
    st.none() | st.integers(10, 2000),
    bursts,
    st.lists(st.sampled_from(MIXED), min_size=1, max_size=30),
)
def test_no_minute_sees_more_than_the_limit(
    requests: int | None, images: int | None, burst: float | None, weights: list[float]
) -> None:
    """In no 60 seconds do more requests or images go out than allowed, however heavy single calls are."""
    assume(requests is not None or images is not None)
    pacing = Pacing(requests, images, burst)

    most_requests, most_images = worst(run(pacing, weights, 200))

    assert most_requests <= (requests or most_requests)
    assert most_images <= (images or most_images)


@pytest.mark.parametrize("burst", [None, 0.0, 1.0, 30.0])
@pytest.mark.parametrize("limit", [5, 60, 600, 1200])
def test_the_limit_is_used(limit: int, burst: float | None) -> None:
    """With callers without end at least 0.97 of the limit is used over ten minutes."""
    sent = run(Pacing(limit, None, burst), [1], 600)

    assert 0.97 * 10 * limit <= len(sent) <= 10 * limit


@pytest.mark.parametrize("burst", [None, 1.0, 30.0])
def test_the_limit_is_used_by_mixed_weights(burst: float | None) -> None:
    """Nor do heavy calls among light ones cost more than 0.03 of 300 images a minute."""
    luck = random.Random(1)
    used = []
    for _ in range(8):
        weights = [luck.choice(MIXED) for _ in range(1000)]
        used.append(sum(call.weight for call in run(Pacing(None, 300, burst), weights, 600)))

    assert sum(used) / len(used) >= 0.97 * 3000
    assert max(used) <= 3000


@settings(max_examples=60, deadline=None)
@given(st.integers(60, 6000), st.floats(0, 30), st.lists(st.floats(0, 200), max_size=20))
def test_no_more_than_the_burst_goes_at_once(limit: int, burst: float, silences: list[float]) -> None:
    """However long nobody came: `burst` seconds' worth of the limit, and the call let through then."""
    pacing, now = Pacing(limit, None, burst), 0.0
    for silence in silences:
        now += silence
        at_once = 0
        while pacing.delay(now, 1) == 0:
            pacing.on_send(now, 1)
            at_once += 1

        assert at_once <= burst * limit / HORIZON + 1.001


def test_credit_starts_empty() -> None:
    """The first call of a client goes alone, and the second after its interval."""
    pacing = Pacing(600, None)
    pacing.on_send(0.0, 1)

    assert pacing.delay(0.0, 1) == pytest.approx(HORIZON / 600)


def test_the_first_seconds_are_spread() -> None:
    """1,200 a minute never send more than a second's share in any second: services count so too."""
    assert worst(run(Pacing(1200, None), [1], 30), 1.0)[0] <= 20


def test_a_heavy_call_waits_no_longer_than_a_light_one() -> None:
    """The spread is paid after: those behind a heavy call wait for it."""
    light, heavy = Pacing(None, 60), Pacing(None, 60)
    for pacing in (light, heavy):
        pacing.on_send(0.0, 1)
    assert light.delay(0.5, 1) == heavy.delay(0.5, 10)

    heavy.on_send(2.0, 10)
    light.on_send(2.0, 1)

    assert heavy.delay(2.0, 1) == pytest.approx(light.delay(2.0, 1) + 9 * HORIZON / 60)


def test_the_log_wants_room_for_the_whole_weight() -> None:
    """With 8 of 10 images used, a call of 4 waits until two of the old ones are out of the log."""
    pacing = Pacing(None, 10, burst=None)
    for second in range(8):
        pacing.on_send(float(second), 1)

    assert pacing.delay(8.0, 2) == 0
    assert pacing.delay(8.0, 4) == 1 + HORIZON - 8.0


def test_both_limits_hold_a_call() -> None:
    """The later of requests and images decides."""
    pacing = Pacing(60, 60, burst=None)
    pacing.on_send(0.0, 60)

    assert pacing.delay(1.0, 1) == HORIZON - 1

    requests_alone = Pacing(60, None, burst=None)
    requests_alone.on_send(0.0, 60)
    assert requests_alone.delay(1.0, 1) == 0


@pytest.mark.parametrize(
    ("requests", "images", "weight", "fits"),
    [(None, 10, 10, True), (None, 10, 11, False), (1, None, 1000, True), (60, 4, 8, False)],
)
def test_a_call_heavier_than_the_limit_never_fits(
    requests: float | None, images: float | None, weight: float, fits: bool
) -> None:
    """It would wait for ever, and so it is told apart."""
    pacing = Pacing(requests, images)

    assert pacing.fits(weight) is fits
    assert (pacing.delay(0.0, weight) == 0) is fits
    assert (pacing.delay(0.0, weight) == float("inf")) is not fits


def test_a_get_counts_as_a_request_and_no_image() -> None:
    """It waits for nothing, and those behind it do."""
    pacing = Pacing(2, 10, burst=None)
    pacing.on_request(0.0)
    assert pacing.delay(0.0, 10) == 0

    pacing.on_request(0.0)
    assert pacing.delay(0.0, 1) == HORIZON


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from(MIXED), st.booleans()), min_size=1, max_size=80),
    st.integers(10, 60),
    bursts,
)
def test_a_call_that_was_never_sent_costs_nothing(
    steps: list[tuple[float, float, bool]], limit: int, burst: float | None
) -> None:
    """Granted and cancelled before its first byte, it leaves room, and what was sent keeps the limit."""
    pacing, now, sent = Pacing(None, limit, burst), 0.0, []
    granted: list[Sent] = []
    for wait, weight, cancelled in steps:
        now += wait
        now += pacing.delay(now, weight)
        now += pacing.delay(now, weight)  # the sum may have been rounded down
        pacing.on_send(now, weight)
        (granted if cancelled else sent).append(Sent(now, weight))
        if len(granted) > 2:
            call = granted.pop(0)
            pacing.on_cancelled(now, call.at, call.weight)

    assert worst(sent)[1] <= limit


def test_cancelling_is_undoing() -> None:
    """When a grant is taken back the next caller finds what he would have found without it."""
    for burst in (None, 1.0):
        pacing, untouched = Pacing(60, 60, burst), Pacing(60, 60, burst)
        for each in (pacing, untouched):
            each.on_send(0.0, 4)
        for _ in range(100):
            pacing.on_send(30.0, 8)
            pacing.on_cancelled(30.0, 30.0, 8)
        assert pacing.delay(30.0, 56) == untouched.delay(30.0, 56) == 0

        for each in (pacing, untouched):
            each.on_send(30.0, 8)
        assert pacing.delay(30.0, 1) == pytest.approx(untouched.delay(30.0, 1))


def test_a_cancellation_after_the_log_forgot_the_call_changes_nothing() -> None:
    """Whatever a late cancellation gives back, it gives back once, and not after its minute."""
    pacing = Pacing(2, None, burst=None)
    pacing.on_send(0.0, 1)
    pacing.on_send(HORIZON, 1)
    pacing.on_send(HORIZON, 1)

    pacing.on_cancelled(HORIZON, 0.0, 1)
    assert pacing.delay(HORIZON, 1) == HORIZON

    pacing.on_cancelled(HORIZON, HORIZON, 1)
    assert pacing.delay(HORIZON, 1) == 0


def test_the_log_keeps_61_seconds() -> None:
    """Memory is a minute's worth of calls, however long the client lives."""
    pacing = Pacing(6000, None)
    most = 0
    for number in range(50_000):
        pacing.on_send(number * 0.0102, 1)
        most = max(most, len(pacing._requests._log._times))

    assert len(pacing._requests._log) == pytest.approx(HORIZON / 0.0102, abs=1)
    assert most <= 2 * HORIZON / 0.0102 + COMPACT


def test_time_told_is_time_kept() -> None:
    """Whoever waits as long as told goes then, and never finds another moment to wait."""
    for limit in (7, 60, 61, 600, 999):
        sent = run(Pacing(limit, None), [1], 300, start=1e9 + 0.1)
        again = [b.at - a.at for a, b in pairwise(sent) if b.at - a.at < 1e-3]

        assert again == []


def test_no_credit_is_earned_by_waiting_for_something_else():
    """After a silence a second's worth goes at once; after as long a wait at a shut gate, one call does."""
    silent, held = Pacing(600, None), Pacing(600, None)
    for pacing in (silent, held):
        pacing.on_send(0.0, 1)
    held.on_held(30.0)

    def at_once(pacing):
        count = 0
        while pacing.delay(30.0, 1) == 0:
            pacing.on_send(30.0, 1)
            count += 1
        return count

    assert at_once(held) == 1
    assert at_once(silent) > 9
