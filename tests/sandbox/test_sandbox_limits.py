"""The limits are exact: in flight, per minute, and what a refusal says."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async.sandbox import Behaviour
from hinow_async.sandbox.limits import Bucket, FixedWindow, Limits, SlidingLog, retry_after

GAPS = st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 4)), max_size=60)  # milliseconds, weight
LIMIT = 6


def accepted(limit, gaps):
    """(time, weight) of what passes when each arrival comes so long after the one before."""
    now, passed = 0.0, []
    for gap, weight in gaps:
        now += gap / 1000
        if limit.wait(now, weight) == 0:
            limit.take(now, weight)
            passed.append((now, weight))
    return passed


def in_window(passed, start, stop):
    return sum(weight for at, weight in passed if start <= at < stop)


@given(GAPS)
def test_a_sliding_log_holds_in_any_minute(gaps):
    """In no 60 seconds does more pass than the limit."""
    passed = accepted(SlidingLog(LIMIT), gaps)

    assert all(in_window(passed, at, at + 60) <= LIMIT for at, _ in passed)


@given(GAPS)
def test_a_fixed_window_holds_from_minute_to_minute(gaps):
    """In each minute since the start at most the limit passes."""
    passed = accepted(FixedWindow(LIMIT, 0.0), gaps)

    assert all(in_window(passed, at // 60 * 60, at // 60 * 60 + 60) <= LIMIT for at, _ in passed)


@given(GAPS, st.sampled_from([10.0, 60.0]))
def test_a_bucket_holds_burst_and_rate(gaps, burst):
    """From any moment on, at most the capacity and what was refilled passes, and one overdraft."""
    capacity = max(1.0, LIMIT * burst / 60)
    passed = accepted(Bucket(LIMIT, burst, 0.0), gaps)

    for start, _ in passed:
        for stop, weight in passed:
            if stop >= start:
                most = capacity + LIMIT / 60 * (stop - start) + max(0.0, weight - capacity)
                assert in_window(passed, start, stop + 1e-9) <= most + 1e-6


@given(GAPS, st.integers(1, 4), st.sampled_from(["bucket", "fixed", "sliding"]))
def test_the_wait_is_right(gaps, weight, kind):
    """What is refused fits after exactly the wait, and not half-way before."""
    limit = {
        "bucket": Bucket(LIMIT, 60, 0.0),
        "fixed": FixedWindow(LIMIT, 0.0),
        "sliding": SlidingLog(LIMIT),
    }[kind]
    accepted(limit, gaps)
    now = sum(gap for gap, _ in gaps) / 1000
    wait = limit.wait(now, weight)

    assert 0 <= wait <= 60 + 1e-6
    if wait > 1e-6:
        assert limit.wait(now + wait / 2, weight) > 0
        assert limit.wait(now + wait + 1e-6, weight) == 0


@pytest.mark.parametrize("kind", ["bucket", "fixed", "sliding"])
def test_a_weight_above_the_limit_passes_when_nothing_else_did(kind):
    """A request for more pictures than a whole minute's does not wait for ever."""
    limits = Limits(Behaviour(images_per_minute=4, limit_kind=kind), 0.0)

    assert limits.admit(0.0, 10) == 0
    assert limits.admit(1.0, 1) > 0
    assert limits.admit(200.0, 10) == 0


def test_a_refused_request_is_charged_nowhere():
    """When the images do not fit, the limit of requests is not charged either."""
    limits = Limits(Behaviour(requests_per_minute=2, images_per_minute=4, limit_kind="sliding"), 0.0)
    limits.admit(0.0, 4)

    assert limits.admit(1.0, 4) == 59
    assert limits.admit(1.0, 0) == 0
    assert limits.admit(1.0, 0) == 59


@pytest.mark.parametrize(
    ("said", "wait", "header"),
    [
        ("right", 2.01, "3"),
        ("right", None, None),
        ("none", 2.0, None),
        (0.05, 2.0, "0.05"),
        (7, None, "7"),
        (0, 3.0, "0"),
        ("right", 60.000000000000014, "60"),
        (1e9, None, "1000000000.0"),
    ],
)
def test_what_a_refusal_says(said, wait, header):
    """The seconds rounded up, nothing, or the number that was set."""
    assert retry_after(Behaviour(retry_after=said), wait) == header


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency", -1),
        ("latency", float("nan")),
        ("max_in_flight", 0),
        ("max_in_flight", 1.5),
        ("requests_per_minute", 0),
        ("limit_kind", "leaky"),
        ("burst", 0),
        ("retry_after", "soon"),
        ("retry_after", float("inf")),
        ("status", 404),
        ("answer_form", "xml"),
        ("balance", -1),
        ("price_per_image", "a lot"),
        ("price_per_chat", None),
        ("price_per_image", float("nan")),
        ("picture_size", 8),
        ("bandwidth", 0),
        ("models", "hinow/himax"),
    ],
)
def test_impossible_options_are_named(name, value):
    """A ValueError that says which option it was."""
    with pytest.raises(ValueError, match=name):
        Behaviour(**{name: value})


async def test_in_flight_is_exact(behave):
    """Of 30 at once exactly 7 are let in, the others get 429 and are not billed; afterwards there is room."""
    async with behave(latency=0.1, max_in_flight=7) as caller:
        replies = await asyncio.gather(
            *(caller.draw() for _ in range(20)), *(caller.chat("x") for _ in range(10))
        )
        again = await caller.draw()
        billing = caller.sandbox.billing

    statuses = [reply.status for reply in replies]
    assert (statuses.count(200), statuses.count(429)) == (7, 23)
    assert "Retry-After" not in replies[statuses.index(429)].headers
    assert replies[statuses.index(429)].error["type"] == "rate_limit_error"
    assert again.status == 200
    assert (billing.peak_in_flight, billing.in_flight, billing.requests, billing.refused) == (7, 0, 8, 23)


@pytest.mark.parametrize("kind", ["bucket", "fixed", "sliding"])
async def test_requests_per_minute(behave, kind):
    """So many pass at once, pictures and chats together; the rest is told when to come again."""
    async with behave(requests_per_minute=5, limit_kind=kind) as caller:
        replies = [await (caller.chat("x") if index % 2 else caller.draw()) for index in range(8)]

    assert [reply.status for reply in replies] == [200] * 5 + [429] * 3
    assert 0 < int(replies[-1].headers["Retry-After"]) <= (12 if kind == "bucket" else 60)


async def test_images_per_minute(behave):
    """Pictures weigh, not requests; chats in words weigh nothing."""
    async with behave(images_per_minute=10, limit_kind="sliding") as caller:
        statuses = [(await caller.draw(num_images=4)).status for _ in range(3)]
        statuses += [(await caller.draw(num_images=2)).status, (await caller.chat("x")).status]

    assert statuses == [200, 200, 429, 200, 200]
    assert caller.sandbox.billing.images == 10


async def test_a_small_bucket(behave):
    """A burst of a second's worth lets no more than that through at once."""
    async with behave(requests_per_minute=180, burst=1) as caller:
        replies = await asyncio.gather(*(caller.draw() for _ in range(10)))

    assert [reply.status for reply in replies].count(200) == 3


async def test_downloads_and_lists_are_not_limited(behave):
    """Limits are for what costs money."""
    async with behave(requests_per_minute=1) as caller:
        (url,) = await caller.urls()
        replies = [
            await caller.ask("GET", "/balance"),
            await caller.ask("GET", "/models"),
            await caller.fetch(url),
        ]

    assert [reply.status for reply in replies] == [200] * 3


async def test_changed_limits_start_anew(behave):
    """Naming a limit in `change` starts it afresh; other changes let it go on counting."""
    async with behave(requests_per_minute=1) as caller:
        statuses = [(await caller.draw()).status]
        caller.sandbox.change(latency=0.001)
        statuses.append((await caller.draw()).status)
        caller.sandbox.change(requests_per_minute=1)
        statuses.append((await caller.draw()).status)

    assert statuses == [200, 429, 200]
