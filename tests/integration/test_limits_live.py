"""Limits through the public interface, measured at the server: exact limits, the gate, what a 429 costs."""

import asyncio
import re
import time
from bisect import bisect_left
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from hinow_async import APITimeoutError, AsyncHinow, Limits, RateLimitError, RetryPolicy
from hinow_async.sandbox import Behaviour, Fault, Sandbox

ON_THE_WAY = 0.25  # seconds that a request sent before the gate shut may take to arrive


@asynccontextmanager
async def joined(limits=None, retry=None, **behaviour):
    """A sandbox that behaves so, and a client of it."""
    async with (
        Sandbox(Behaviour(picture_size=32, **behaviour)) as sandbox,
        AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key, limits=limits, retry=retry) as client,
    ):
        yield client, sandbox


async def ask(client, count, **options):
    """So many pictures at once: their results and errors."""
    calls = (client.images.generate(f"Lighthouse {number}", **options) for number in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def arrivals(sandbox):
    """When the requests for pictures came to the server."""
    return [entry.at for entry in sandbox.log if entry.method == "POST"]


def most_within(times, seconds):
    """The most arrivals in any *seconds*."""
    return max(bisect_left(times, at + seconds) - number for number, at in enumerate(times))


async def test_requests_per_minute_are_never_passed():
    """With no spreading all that the minute allows goes at once, and not one more."""
    limits = Limits(requests_per_minute=7, burst=None)
    async with joined(limits) as (client, sandbox):
        results = await ask(client, 20, timeout=1.2)

        errors = [result for result in results if isinstance(result, BaseException)]
        assert sandbox.billing.requests == 7
        assert len(errors) == 13
        assert all(isinstance(error, APITimeoutError) and error.outcome == "not_sent" for error in errors)


async def test_images_per_minute_weigh_each_request_by_its_images():
    """Of ten images a minute three requests of three go; the next, though one image fits, would be twelve."""
    limits = Limits(images_per_minute=10, burst=None)
    async with joined(limits) as (client, sandbox):
        results = await ask(client, 5, num_images=3, timeout=1.2)

        assert sandbox.billing.images == 9
        assert sum(isinstance(result, APITimeoutError) for result in results) == 2


async def test_a_light_call_does_not_overtake_a_heavy_one():
    """The head that is too heavy for what is left of the minute holds those behind it."""
    limits = Limits(images_per_minute=10, burst=None)
    async with joined(limits) as (client, sandbox):
        await client.images.generate("First", num_images=4)
        heavy = asyncio.create_task(client.images.generate("Heavy", num_images=7, timeout=1.2))
        await asyncio.sleep(0.1)
        light = asyncio.create_task(client.images.generate("Light", num_images=1, timeout=20))
        with pytest.raises(APITimeoutError):
            await heavy
        assert sandbox.billing.by_prompt == Counter(First=1)
        assert (await light).request.prompt == "Light"


async def test_limits_per_minute_are_spread():
    """Without a burst 1,200 a minute never come as more than 20 a second, nor as far fewer."""
    limits = Limits(requests_per_minute=1200, burst=0)
    async with joined(limits, latency=0.2) as (client, sandbox):
        results = await ask(client, 60)

        times = arrivals(sandbox)
        assert not any(isinstance(result, BaseException) for result in results)
        assert most_within(times, 1.0) <= 20 + 2  # two: one request may have been long on its way
        assert times[-1] - times[0] < 2 * 60 / 20


async def test_the_gate_holds_everybody_and_opens_slowly():
    """After a 429 nobody sends for Retry-After; then one probe goes, then a few at a time."""
    refused = Fault(status=429, headers={"Retry-After": "2"}, when=[40], billed=False)
    limits = Limits(max_in_flight=64, adaptive=False)
    async with joined(limits, latency=0.4, faults=[refused]) as (client, sandbox):
        results = await ask(client, 150)

        assert not any(isinstance(result, BaseException) for result in results)
        assert sandbox.billing.by_prompt == Counter(f"Lighthouse {number}" for number in range(150))
        times = arrivals(sandbox)
        shut = times[40]
        after = [at for at in times if at > shut + ON_THE_WAY]
        assert len(times) == 151
        assert after[0] - shut >= 2.0
        assert after[1] - after[0] >= 0.4  # the probe goes alone, until it is answered
        assert bisect_left(after, after[1] + 0.1) - 1 <= 8  # of 64 that could
        assert client.stats().throttled == 1


async def test_a_refusal_costs_no_attempt():
    """With two attempts a call is refused three times and made at the fourth, and billed once."""
    refused = Fault(status=429, times=3, billed=False)
    async with joined(retry=RetryPolicy(attempts=2), faults=[refused]) as (client, sandbox):
        result = await client.images.generate("A lighthouse", timeout=20)

        assert result.call.attempts == 4
        assert sandbox.billing.requests == 1


async def test_a_retry_after_beyond_the_deadline_fails_at_once():
    """The refused call and all that wait behind it say at once how long the account will be shut."""
    refused = Fault(status=429, headers={"Retry-After": "30"}, times=1, billed=False)
    async with joined(Limits(max_in_flight=1), faults=[refused]) as (client, sandbox):
        begun = time.monotonic()
        errors = await ask(client, 20, timeout=5)

        assert time.monotonic() - begun < 2
        assert isinstance(errors[0], RateLimitError)
        assert errors[0].retry_after == 30
        for error in errors[1:]:
            assert isinstance(error, APITimeoutError)
            assert error.outcome == "not_sent"
            said = re.search(r"throttled for another (\d+\.\d) s", str(error))
            assert said is not None
            assert 29 < float(said[1]) < 31
        assert sandbox.billing.requests == 0
