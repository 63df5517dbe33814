"""The client of a command: against the service, or against a sandbox in the same process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from hinow_async._client import AsyncHinow
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings

_LATENCY: Final = 0.2
"""Seconds that the sandbox takes for an answer, once or twice: enough to see something in flight."""


@contextlib.asynccontextmanager
async def connect(settings: Settings, screen: Screen) -> AsyncIterator[AsyncHinow]:
    """Give a client for as long as a command needs it."""
    if not settings.sandbox:
        async with AsyncHinow(limits=settings.limits, budget=settings.budget) as client:
            yield client
        return
    from hinow_async.sandbox import Behaviour, Sandbox  # noqa: PLC0415 - only here is a server needed

    screen.say("Sandbox: these are test pictures and test answers; nothing is billed.")
    async with (
        Sandbox(Behaviour(latency=_LATENCY, latency_jitter=_LATENCY)) as sandbox,
        AsyncHinow(
            api_key=sandbox.api_key,
            base_url=sandbox.base_url,
            limits=settings.limits,
            budget=settings.budget,
        ) as client,
    ):
        yield client
