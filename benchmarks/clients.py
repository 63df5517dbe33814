"""The clients that are compared over the same calls: ours, bare aiohttp, httpx, the openai package."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

Send = Callable[[], Awaitable[object]]

KEY = "hi_bench"
PROMPT = "A lighthouse at dawn"
BODIES = {
    "images": {"model": "openai/gpt-image-2-2026-04-21", "prompt": PROMPT, "parameters": {"num_images": 1}},
    "chat/completions": {"model": "hinow/himax", "messages": [{"role": "user", "content": PROMPT}]},
}
SLOWNESS = {"httpx": 5, "openai": 8}
"""Calls of the others for one of theirs: they take so much longer."""


async def open_client(name: str, stack: AsyncExitStack, base: str, path: str, **how: Any) -> Send:
    """Make a client that lives as long as *stack*; returns what makes one call.

    Args:
        name: One of CLIENTS.
        base: Root of the API.
        path: Of BODIES: which kind of call.
        how: For our client, and `slots` for a semaphore before bare aiohttp.
    """
    return await CLIENTS[name](stack, base, path, **how)


async def open_ours(stack: AsyncExitStack, base: str, path: str, **how: Any) -> Send:
    client = await stack.enter_async_context(our_client(base, **how))
    if path == "images":
        return lambda: client.images.generate(PROMPT, num_images=1)
    return lambda: client.chat.completions.create(PROMPT, model="hinow/himax")


def our_client(base: str, *, slots: int = 256) -> Any:
    """Our client with all features on, its slow start over.

    Slow start finds 512 slots within 12 seconds of full work; it begins there, lest each run take so long.
    """
    from hinow_async import AsyncHinow, Limits
    from hinow_async._protocol import adaptive

    start = adaptive.START
    adaptive.START = float(slots)  # type: ignore[misc]
    try:
        return AsyncHinow(base_url=base, api_key=KEY, limits=Limits(max_in_flight=slots))
    finally:
        adaptive.START = start  # type: ignore[misc]


async def open_aiohttp(stack: AsyncExitStack, base: str, path: str, *, slots: int = 0) -> Send:
    import aiohttp

    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Authorization": f"Bearer {KEY}"}
        )
    )
    url, body = f"{base}/{path}", BODIES[path]

    async def send() -> object:
        async with session.post(url, json=body) as response:
            return await response.json()

    if not slots:
        return send
    gate = asyncio.Semaphore(slots)

    async def send_in_turn() -> object:
        async with gate:
            return await send()

    return send_in_turn


async def open_httpx(stack: AsyncExitStack, base: str, path: str, **_: Any) -> Send:
    client = await stack.enter_async_context(_unlimited_httpx(headers={"Authorization": f"Bearer {KEY}"}))
    url, body = f"{base}/{path}", BODIES[path]

    async def send() -> object:
        response = await client.post(url, json=body)
        response.raise_for_status()
        return response.json()

    return send


def _unlimited_httpx(**how: Any) -> Any:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(limits=limits, timeout=600, **how)


async def open_openai(stack: AsyncExitStack, base: str, path: str, **_: Any) -> Send:
    import openai

    # Its own HTTP client, as a user has it, allows 1,000 connections.
    client = await stack.enter_async_context(openai.AsyncOpenAI(base_url=base, api_key=KEY))
    if path == "images":
        return lambda: client.images.generate(prompt=PROMPT, model="gpt-image-2", n=1)
    messages: Any = [{"role": "user", "content": PROMPT}]
    return lambda: client.chat.completions.create(messages=messages, model="hinow/himax")


CLIENTS = {"ours": open_ours, "aiohttp": open_aiohttp, "httpx": open_httpx, "openai": open_openai}


async def run_calls(send: Send, calls: int, in_flight: int) -> None:
    """Make so many calls, so many at a time."""
    left = calls

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await send()

    await asyncio.gather(*(work() for _ in range(in_flight)))
