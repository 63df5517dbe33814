"""Ways to be let through: `asyncio.Semaphore`, anyio's, and our limiter, each as an acquire and a release."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs

from hinow_async._limiter import Admission, Limiter
from hinow_async._protocol.adaptive import Controller
from hinow_async._protocol.outcome import Event

LATENCY = 0.3  # seconds, as told to the limiter
SUCCESS = Event.SUCCESS  # before Python 3.12 looking it up costs the caller a tenth of an admission

Acquire = Callable[[], Awaitable[Any]]
Release = Callable[[Any], None]


@attrs.define(eq=False)
class Demand:
    """A call as the limiter sees it."""

    arrival: int
    deadline: float | None = None
    arrived_at: float = 0.0
    weight: int = 1
    kind: tuple[str, str] = ("images", "model")
    model: str = "model"
    bound: Admission | None = None
    throttled_max: float = 600.0


def make_limiter(max_in_flight: int, *, adaptive: bool) -> Limiter:
    controller = Controller(max_in_flight, adaptive=adaptive, jitter=random.random)
    return Limiter([Admission(0, "default", controller, None, max_in_flight)])


def of_semaphore(slots: int) -> tuple[Acquire, Release]:
    semaphore = asyncio.Semaphore(slots)
    return semaphore.acquire, lambda _: semaphore.release()


def of_capacity(slots: int) -> tuple[Acquire, Release]:
    limiter = anyio.CapacityLimiter(slots)
    return limiter.acquire, lambda _: limiter.release()


def of_limiter(slots: int, *, adaptive: bool) -> tuple[Acquire, Release]:
    limiter = make_limiter(slots, adaptive=adaptive)

    async def acquire() -> Any:
        demand = Demand(limiter.next_arrival())
        return limiter.acquire_nowait(demand) or await limiter.acquire(demand)

    return acquire, lambda grant: limiter.release(grant, SUCCESS, LATENCY)
