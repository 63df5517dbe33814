"""Within scopes of anyio, whose cancellation cuts every wait short that is not shielded."""

import subprocess
import sys
import textwrap

import anyio

from hinow_async import AsyncHinow
from hinow_async.sandbox import Behaviour, Sandbox


async def test_a_client_that_is_left_by_a_cancelled_scope_is_closed():
    """Its sessions are closed, and its call stays counted as one that may have been billed."""
    async with Sandbox(Behaviour(picture_size=64, latency=30)) as sandbox:
        with anyio.move_on_after(0.3) as scope:
            async with AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client:
                await client.images.generate("A lighthouse")
        session_pool = client._runtime.engine.pool

        assert scope.cancelled_caught
        assert session_pool._sessions is None
        assert client.stats().unknown_outcomes == sandbox.billing.requests == 1


async def test_every_session_is_closed_within_a_cancelled_scope(tmp_path):
    """Closing one waits for its connections: that must not be cut short, or the others stay open."""
    async with Sandbox(Behaviour(picture_size=64)) as sandbox:
        with anyio.CancelScope() as scope:
            async with AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client:
                result = await client.images.generate("A lighthouse")
                await result.save(tmp_path)
                sessions = list(client._runtime.engine.pool._sessions.made.values())
                scope.cancel()

        assert [session.closed for session in sessions] == [True, True]


async def test_many_that_are_left_by_a_cancelled_scope_have_ended(caplog):
    """No worker goes on, no slot is held, and what may have been billed is said."""
    async with (
        Sandbox(Behaviour(picture_size=64, latency=30)) as sandbox,
        AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client,
    ):
        with anyio.move_on_after(0.3):
            async with client.images.generate_many(f"Lighthouse {n}" for n in range(50)) as outcomes:
                async for _ in outcomes:
                    raise AssertionError("nothing is answered in so short a time")

        assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
        assert client.stats().unknown_outcomes == sandbox.billing.requests > 0
        assert f"{sandbox.billing.requests} calls in flight were cancelled" in caplog.text


async def test_results_are_made_and_saved_in_a_task_group(tmp_path):
    """A deadline of anyio around a call, and several calls in one group, are nothing special."""
    async with (
        Sandbox(Behaviour(picture_size=64)) as sandbox,
        AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client,
    ):

        async def make(number):
            result = await client.images.generate(f"Lighthouse {number}", num_images=2)
            await result.save(tmp_path, name=f"{number}")

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(make, number)

    assert len(list(tmp_path.iterdir())) == 10


def test_a_single_call_does_not_start_anyio():
    """Its machinery takes 15 ms to import: a process that makes a call and closes its client does without."""
    code = """
        import asyncio, sys
        from hinow_async import AsyncHinow
        from hinow_async.sandbox import Sandbox

        async def main():
            async with Sandbox() as sandbox:
                async with AsyncHinow(api_key=sandbox.api_key, base_url=sandbox.base_url) as client:
                    await client.chat.completions.create("Hello", model="hinow/himax")

        asyncio.run(main())
        print([name for name in sys.modules if name.startswith("anyio._backends")])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
