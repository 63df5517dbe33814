"""Cancelled at every step of the loop, once and twice: nothing is lost, nothing is left, the books agree."""

import asyncio

import pytest

from hinow_async import APITimeoutError, AsyncHinow, Budget, Limits, RetryPolicy
from hinow_async.sandbox import Behaviour, Fault, Sandbox

PRICE = 0.25
MANY = 400  # more steps than any call takes


class Steps:
    """Counts the turns of the loop, each of which may run anything."""

    def __init__(self, until):
        self._left = until
        self.task = None
        self.was_early = False

    def start(self, task):
        self.task = task
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self):
        if self.task.done():
            return
        if self._left <= 0:
            self.was_early = True
            self.task.cancel()
            return
        self._left -= 1
        asyncio.get_running_loop().call_soon(self._turn)


async def cancelled_at(step, make, *, twice=False):
    """Run *make()* and cancel it after *step* turns; return the task, and whether that was in time."""
    task = asyncio.create_task(make())
    steps = Steps(step)
    steps.start(task)
    if twice:
        again = Steps(step + 1)
        again.start(task)
    await asyncio.wait([task])
    return task, steps.was_early


async def sweep(connect, sandbox, *, twice=False, **options):
    seen = set()
    for step in range(MANY):
        client = connect(budget=Budget(10, usd_per_image=PRICE), **options)
        before = sandbox.billing.requests
        task, was_early = await cancelled_at(
            step, lambda client=client: client.images.generate("A lighthouse"), twice=twice
        )
        stats = client.stats()
        billed = sandbox.billing.requests - before

        assert task.cancelled() or task.exception() is None, task
        assert (stats.in_flight, stats.waiting, stats.reserved_usd) == (0, 0, 0), step
        assert stats.spent_usd in {0, PRICE}
        assert billed * PRICE <= stats.spent_usd, f"billed, but given back, at step {step}"
        if task.cancelled():
            assert stats.unknown_outcomes == stats.spent_usd / PRICE
        seen.add((task.cancelled(), stats.spent_usd))
        assert (await client.images.generate("Another")).images
        await client.aclose()
        if not was_early:
            return seen
    raise AssertionError("the call never ended")


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
async def test_a_call_cancelled_at_any_step_keeps_its_books(connect, sandbox, twice):
    """Nothing sent: the money comes back. Sent: it stays spent. The slot always comes back."""
    seen = await sweep(connect, sandbox, twice=twice)

    assert {(True, 0.0), (True, PRICE), (False, PRICE)} <= seen


async def test_a_call_with_user_limits_cancelled_at_any_step(connect, sandbox):
    """The log of the limits per minute takes back what was never sent."""
    limits = Limits(max_in_flight=1, requests_per_minute=6000, burst=None)

    assert (True, PRICE) in await sweep(connect, sandbox, limits=limits)


async def test_cancelled_after_a_refusal_at_any_step():
    """Between two tries nothing is in flight, and the money comes back."""
    async with Sandbox(Behaviour(picture_size=32)) as sandbox:
        for step in range(MANY):
            sandbox.change(faults=[Fault(status=409, times=1)])
            before = sandbox.billing.requests
            async with AsyncHinow(
                api_key=sandbox.api_key,
                base_url=sandbox.base_url,
                retry=RetryPolicy(wait_initial=0),
                budget=Budget(10, usd_per_image=PRICE),
            ) as client:
                task, was_early = await cancelled_at(
                    step, lambda client=client: client.images.generate("A lighthouse")
                )
                stats = client.stats()

                assert (stats.in_flight, stats.waiting, stats.reserved_usd) == (0, 0, 0)
                assert (sandbox.billing.requests - before) * PRICE <= stats.spent_usd
            if not was_early:
                assert task.result().call.attempts == 2
                return
    raise AssertionError("the call never ended")


async def test_a_waiter_cancelled_in_the_queue_leaves_no_trace(connect, sandbox):
    """It is not sent, its money is free at once, and the next one gets the slot."""
    sandbox.change(latency=0.05)
    client = connect(limits=Limits(max_in_flight=1), budget=Budget(1, usd_per_image=PRICE))
    first, second, third = (
        asyncio.create_task(client.images.generate(name)) for name in ("First", "Second", "Third")
    )
    await asyncio.sleep(0.01)
    assert client.stats().reserved_usd == 3 * PRICE

    second.cancel()
    await asyncio.wait([second])
    assert client.stats().reserved_usd == 2 * PRICE
    await asyncio.gather(first, third)

    assert set(sandbox.billing.by_prompt) == {"First", "Third"}
    assert client.stats().spent_usd == 2 * PRICE


async def test_a_cancel_is_never_turned_into_an_error_of_ours(connect, sandbox):
    """Whoever cancels gets his cancel."""
    sandbox.change(latency=1)
    client = connect()
    task = asyncio.create_task(client.images.generate("A lighthouse", timeout=5))
    await asyncio.sleep(0.05)
    task.cancel("mine")

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_around_a_call_is_the_callers(connect, sandbox):
    """`asyncio.timeout` of the caller raises his TimeoutError, not our APITimeoutError."""
    sandbox.change(latency=30)
    client = connect()

    async def end(scope):
        while sandbox.billing.requests < 1:
            await asyncio.sleep(0.005)
        scope.reschedule(asyncio.get_running_loop().time())

    async def call():
        async with asyncio.timeout(None) as patience:
            ending = asyncio.create_task(end(patience))
            try:
                await client.images.generate("A lighthouse")
            finally:
                await ending

    with pytest.raises(TimeoutError) as caught:
        await call()

    assert not isinstance(caught.value, APITimeoutError)
    assert client.stats().unknown_outcomes == 1
