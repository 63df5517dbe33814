"""Counts what running something takes, instead of timing it: the same on a machine that is busy."""

from __future__ import annotations

import gc
import statistics
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

Do = Callable[[], Awaitable[object]]


class _Counter:
    """Hears of every call of a function, in Python or in C, and of every resumed coroutine."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in {"call", "c_call"}:
            self.count += 1


async def function_calls(do: Do, times: int = 25) -> float:
    """Calls of functions for doing it once, the event loop's own included: the median of *times*."""
    counts = []
    for _ in range(times):
        counter = _Counter()
        sys.setprofile(counter)
        try:
            await do()
        finally:
            sys.setprofile(None)
        counts.append(counter.count)
    return statistics.median(counts)


async def bytes_allocated(do: Do, times: int = 15) -> float:
    """The most that doing it once holds at a time, in bytes: the median of *times*."""
    peaks = []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(times):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            await do()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
        gc.enable()
    return statistics.median(peaks)
