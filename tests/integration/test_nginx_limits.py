"""Against a limiter that we did not write: nginx with `limit_conn` or `limit_req` before the sandbox."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager

from programs import skip_without

from benchmarks.nginx import binary, free_port, limiting_proxy
from hinow_async import AsyncHinow, RetryPolicy
from hinow_async.sandbox import Behaviour, Sandbox

pytestmark = skip_without(binary(), "nginx")


@asynccontextmanager
async def behind_nginx(rule, rate="10r/s", latency=0.3):
    """A sandbox without limits, and a client of it that must pass nginx."""
    port = free_port()
    behaviour = Behaviour(latency=latency, picture_size=32, hosts=(f"127.0.0.1:{port}",))
    async with Sandbox(behaviour) as sandbox:
        service = int(sandbox.origin.rpartition(":")[2])
        with limiting_proxy(port, service, rule, rate):
            base_url = f"http://127.0.0.1:{port}/v1"
            async with AsyncHinow(base_url=base_url, api_key=sandbox.api_key) as client:
                yield client, sandbox


async def make_all(client, count):
    """So many pictures, as fast as they are let through; how long that took, and what went wrong."""
    begun = time.monotonic()
    results = await asyncio.gather(
        *(client.images.generate(f"Lighthouse {number}") for number in range(count)), return_exceptions=True
    )
    errors = [result for result in results if isinstance(result, BaseException)]
    return time.monotonic() - begun, errors


def billed(sandbox, count):
    """Whether each call was billed exactly once."""
    return sandbox.billing.by_prompt == Counter(f"Lighthouse {number}" for number in range(count))


async def test_a_cap_on_connections_refuses_few_and_loses_nothing():
    """With `limit_conn` every call succeeds and is billed once; the sandbox never sees more than the cap."""
    async with behind_nginx("limit_conn calls 12;") as (client, sandbox):
        elapsed, errors = await make_all(client, 200)

        assert errors == []
        assert billed(sandbox, 200)
        assert sandbox.billing.peak_in_flight == 12
        assert 0 < client.stats().throttled <= 30
        assert elapsed < 200 * 0.3 / 12 * 2


async def test_a_rate_refuses_few_and_loses_nothing():
    """With `limit_req` (no Retry-After, refusals at once) every call succeeds and is billed once."""
    async with behind_nginx("limit_req zone=rate burst=10 nodelay;", rate="20r/s", latency=0.1) as (
        client,
        sandbox,
    ):
        elapsed, errors = await make_all(client, 150)

        assert errors == []
        assert billed(sandbox, 150)
        assert 0 < client.stats().throttled <= 30
        assert elapsed < (150 - 10) / 20 * 2


async def test_a_refusal_of_nginx_is_no_attempt():
    """A call goes through after more refusals than it has attempts; its record counts every try."""
    async with behind_nginx("limit_req zone=rate;", rate="30r/m", latency=0) as (client, sandbox):
        patient = client.with_options(retry=RetryPolicy(attempts=2))
        await patient.images.generate("First")
        second = await patient.images.generate("Second", timeout=20)

        assert second.call.attempts > 2
        assert sandbox.billing.requests == 2
