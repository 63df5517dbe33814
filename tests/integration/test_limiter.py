"""The admission point: order, fairness, and nothing left behind by those who leave."""

import asyncio
import contextlib
import itertools
import random
import time

import attrs
import pytest

from hinow_async._limiter import Admission, Grant, Limiter, NotAdmittedError
from hinow_async._protocol.adaptive import Controller
from hinow_async._protocol.outcome import Event
from hinow_async._protocol.pacing import Pacing


@attrs.define(eq=False)
class Demand:
    arrival: int
    weight: int = 1
    kind: str = "k"
    model: str = "m"
    arrived_at: float = attrs.field(factory=time.monotonic)
    deadline: float | None = None
    bound: Admission | None = None
    throttled_max: float = 600.0


def admission(index=0, limit=1, pacing=None, adaptive=False):
    controller = Controller(limit, adaptive=adaptive, jitter=lambda: 0.0)
    return Admission(index, f"a{index}", controller, pacing, limit)


def limiter_of(*accounts):
    limiter = Limiter(accounts)
    limiter.bind(asyncio.get_running_loop())
    return limiter


def ask(limiter, **options):
    return asyncio.create_task(acquire(limiter, Demand(limiter.next_arrival(), **options)))


async def acquire(limiter, demand) -> Grant:
    return limiter.acquire_nowait(demand) or await limiter.acquire(demand)


def timers():
    return [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]


async def drain(limiter, tasks):
    """Serve one after the other; return the order in which they were let through."""
    order = []
    waiting = {task: number for number, task in enumerate(tasks)}
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
        for task in sorted(done, key=waiting.__getitem__):
            order.append(waiting.pop(task))
            limiter.release(task.result(), Event.ANSWERED)
    return order


@pytest.mark.parametrize("accounts", [1, 3])
async def test_first_come_first_served(accounts):
    """With one place or one of each account, calls go in the order of their arrival."""
    limiter = limiter_of(*(admission(index) for index in range(accounts)))

    order = await drain(limiter, [ask(limiter) for _ in range(50)])

    assert order == list(range(50))
    assert limiter.in_flight == limiter.waiting == 0
    assert timers() == []


async def test_the_account_with_the_most_room_gets_the_head():
    """Four places and two: the first four grants leave each with equal room."""
    limiter = limiter_of(admission(0, 2), admission(1, 4))

    grants = [await ask(limiter) for _ in range(6)]

    assert [grant.account.index for grant in grants[:2]] == [1, 1]
    assert sorted(grant.account.index for grant in grants) == [0, 0, 1, 1, 1, 1]
    for grant in grants:
        limiter.release(grant, Event.ANSWERED)


async def test_a_call_that_comes_back_takes_its_place_by_first_arrival():
    """It gave its slot back meanwhile, and stands in front of those who came later."""
    limiter = limiter_of(admission())
    first = Demand(limiter.next_arrival())
    grant = await acquire(limiter, first)
    others = [ask(limiter) for _ in range(3)]
    await asyncio.sleep(0)

    limiter.release(grant, Event.REFUSED)
    again = asyncio.create_task(limiter.acquire(first))

    assert await drain(limiter, [*others, again]) == [3, 0, 1, 2]


async def test_half_of_ten_thousand_leave_and_the_limit_is_whole():
    """Cancelled at random, some in the moment of their grant; then every place can be had."""
    limiter = limiter_of(admission(limit=7))
    chance = random.Random(5)
    tasks = [ask(limiter) for _ in range(10_000)]
    leaving = set(chance.sample(range(10_000), 5_000))
    await asyncio.sleep(0)
    served = 0
    for number, task in enumerate(tasks):
        if number in leaving:
            task.cancel()
        if number % 3 == 0:
            await asyncio.sleep(0)
        for done in [t for t in tasks[max(0, number - 30) : number] if t.done() and not t.cancelled()]:
            grant = done.result()
            if grant in limiter._out:
                limiter.release(grant, chance.choice([Event.ANSWERED, Event.LOST, Event.CANCELLED]))
                served += 1
    while limiter.in_flight or limiter.waiting:
        for grant in list(limiter._out):
            limiter.release(grant, Event.ANSWERED)
            served += 1
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert served >= 5_000
    assert timers() == []
    assert not limiter._queue
    grants = [limiter.acquire_nowait(Demand(limiter.next_arrival())) for _ in range(8)]
    assert [grant is not None for grant in grants] == [True] * 7 + [False]


async def test_a_heavy_call_is_not_overtaken():
    """Ten images wait for the log's room; a light call behind them waits too."""
    pacing = Pacing(None, 10.0, burst=None)
    limiter = limiter_of(admission(limit=100, pacing=pacing))
    await ask(limiter, weight=5)
    heavy, light = ask(limiter, weight=10), ask(limiter)
    await asyncio.sleep(0.02)

    assert not heavy.done()
    assert not light.done()
    assert len(timers()) == 1
    heavy.cancel()
    await asyncio.wait([heavy])
    assert (await light).account.index == 0
    assert timers() == []


async def test_a_call_heavier_than_every_limit_is_refused():
    """Never a wait without end; an account for which it is not too heavy is asked."""
    small, large = (admission(i, 9, Pacing(None, limit, 1.0)) for i, limit in ((0, 4.0), (1, 8.0)))
    limiter = limiter_of(small, large)

    with pytest.raises(ValueError, match="num_images=9"):
        limiter.check_weight(9)
    limiter.check_weight(8)
    assert (await ask(limiter, weight=8)).account is large


async def test_the_gate_holds_all_callers():
    """A refusal with Retry-After stops everybody, and after it one probe goes."""
    limiter = limiter_of(admission(limit=10))
    refused = await ask(limiter)
    limiter.release(refused, Event.REFUSED, 0.3)
    begun = time.monotonic()
    tasks = [ask(limiter) for _ in range(5)]
    await asyncio.sleep(0.15)
    assert not any(task.done() for task in tasks)

    done, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")

    assert time.monotonic() - begun >= 0.3
    assert done == {tasks[0]}
    limiter.release(tasks[0].result(), Event.SUCCESS, 0.01)
    grants = await asyncio.gather(*tasks[1:])
    for grant in grants:
        limiter.release(grant, Event.SUCCESS, 0.01)
    assert timers() == []


async def test_a_hundred_thousand_waiters_cost_one_timer():
    """With deadlines of their own, too."""
    limiter = limiter_of(admission(pacing=Pacing(1.0, None, burst=None)))
    await ask(limiter)
    now = time.monotonic()
    waiters = [
        limiter.acquire(Demand(limiter.next_arrival(), deadline=now + 100 + number))
        for number in range(100_000)
    ]
    for waiter in waiters:
        waiter.send(None)  # as a task does, at a tenth of its cost

    assert limiter.waiting == 100_000
    assert len(timers()) == 1
    for waiter in waiters:
        with contextlib.suppress(asyncio.CancelledError):
            waiter.throw(asyncio.CancelledError())
    assert limiter.waiting == 0
    assert timers() == []
    assert len(limiter._queue) + len(limiter._deadlines) <= 200


async def test_a_deadline_in_the_queue_is_kept_to_the_moment():
    """Whoever runs out of time is told then, wherever he stands."""
    limiter = limiter_of(admission())
    held = await ask(limiter)
    patient = ask(limiter)
    begun = time.monotonic()
    with pytest.raises(NotAdmittedError) as caught:
        await ask(limiter, deadline=begun + 0.1)

    assert caught.value.reason == "deadline"
    assert 0.09 <= time.monotonic() - begun < 0.5
    limiter.release(held, Event.ANSWERED)
    limiter.release(await patient, Event.ANSWERED)
    assert timers() == []


async def test_a_resend_waits_for_its_account_alone():
    """It stands in the account's own queue, which is served first, and holds nobody else."""
    one, two = admission(0), admission(1)
    limiter = limiter_of(one, two)
    grants = {grant.account.index: grant for grant in [await ask(limiter), await ask(limiter)]}
    common = ask(limiter)
    await asyncio.sleep(0)
    bound = ask(limiter, bound=one)
    await asyncio.sleep(0)

    limiter.release(grants[0], Event.ANSWERED)
    assert (await bound).account is one
    assert not common.done()
    limiter.release(grants[1], Event.ANSWERED)
    assert (await common).account is two
    for task in (bound, common):
        limiter.release(task.result(), Event.ANSWERED)
    assert timers() == []


async def test_a_grant_given_back_twice_counts_once():
    """The number in flight never falls below what flies."""
    limiter = limiter_of(admission(limit=2))
    grant, other = await ask(limiter), await ask(limiter)
    limiter.release(grant, Event.ANSWERED)
    limiter.release(grant, Event.ANSWERED)

    assert limiter.in_flight == 1
    limiter.release(other, Event.ANSWERED)


async def test_an_account_that_was_passed_over_is_held_by_nobody():
    """A call that went to another account leaves no curve growing behind it."""
    accounts = [admission(index, 1, adaptive=True) for index in range(2)]
    limiter = limiter_of(*accounts)
    grants = [limiter.acquire_nowait(Demand(limiter.next_arrival())) for _ in range(2)]

    assert {grant.account for grant in grants} == set(accounts)
    assert [account.controller.holding for account in accounts] == [None, None]
    for grant in grants:
        limiter.release(grant, Event.ANSWERED)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_limit_holds_and_nothing_is_lost(seed):
    """Random arrivals, answers, refusals, cancels and resends: flying is what was granted, to the end."""
    chance = random.Random(seed)
    accounts = [admission(index, 3, adaptive=bool(seed % 2)) for index in range(1 + seed % 3)]
    limiter = limiter_of(*accounts)
    tasks = set()
    for _ in itertools.repeat(None, 1500):
        if chance.random() < 0.5:
            bound = chance.choice([None, None, None, chance.choice(accounts)])
            tasks.add(ask(limiter, weight=chance.randint(1, 4), bound=bound))
        if tasks and chance.random() < 0.2:
            chance.choice(sorted(tasks, key=id)).cancel()
        for task in [task for task in tasks if task.done()]:
            if task.cancelled():
                tasks.discard(task)
            elif chance.random() < 0.4:
                tasks.discard(task)
                limiter.release(task.result(), chance.choice(list(Event)[:2] + list(Event)[5:]), 0.001)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        flying = sum(1 for task in tasks if task.done() and not task.cancelled())
        assert limiter.in_flight >= flying
        assert all(account.controller.flying <= 3 for account in accounts)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            limiter.release(task.result(), Event.ANSWERED)

    assert (limiter.in_flight, limiter.waiting) == (0, 0)
    assert timers() == []
    assert all(account.controller.holding is None for account in accounts)
