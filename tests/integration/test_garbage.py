"""What has ended is freed at once: what lies in a cycle waits for the garbage collector, which walks all."""

import gc
from collections.abc import Awaitable, Callable

import pytest

from hinow_async import AsyncHinow
from hinow_async.batch import generate_batch
from hinow_async.sandbox import Behaviour, Sandbox

Do = Callable[[AsyncHinow, int, object], Awaitable[object]]


async def many(client: AsyncHinow, count: int, out) -> None:
    """So many pictures."""
    async with client.images.generate_many([f"Lighthouse {n}" for n in range(count)]) as outcomes:
        assert [await outcome.unwrap().images[0].read() async for outcome in outcomes]


async def saved(client: AsyncHinow, count: int, out) -> None:
    """So many pictures, on disk."""
    requests = [f"Lighthouse {n}" for n in range(count)]
    async with client.images.generate_many(requests, save_to=out / f"many-{count}") as outcomes:
        assert all([outcome.saved async for outcome in outcomes])


async def chats(client: AsyncHinow, count: int, out) -> None:
    """So many chats, whole and streamed."""
    for _ in range(count):
        await client.chat.completions.create("Name three lighthouses", model="hinow/himax")
        async with client.chat.completions.stream("Name three", model="hinow/himax") as stream:
            await stream.completion()


async def batch(client: AsyncHinow, count: int, out) -> None:
    """A batch of so many."""
    report = await generate_batch(client, [f"Lighthouse {n}" for n in range(count)], out / f"batch-{count}")
    assert report.saved == count


@pytest.mark.parametrize("do", [many, saved, chats, batch])
async def test_what_has_ended_leaves_nothing_to_the_garbage_collector(do, tmp_path):
    """A longer run leaves no more than a short one."""
    left = {}
    async with (
        Sandbox(Behaviour(picture_size=16)) as sandbox,
        AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client,
    ):
        await do(client, 5, tmp_path)
        for count in (20, 60):
            gc.collect()
            gc.disable()
            try:
                await do(client, count, tmp_path)
                left[count] = gc.collect()
            finally:
                gc.enable()
    assert left[60] - left[20] < 40, left
