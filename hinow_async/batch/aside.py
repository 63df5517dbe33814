"""A thread of one's own for what blocks and comes in turn: reading a source, asking the ledger, the folder.

The loop's own pool would do it in many threads by turns, and each keeps freed memory that the others cannot
use (glibc gives threads arenas of their own): some 15 MB more at 100,000 prompts than at 10,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Aside = Callable[..., asyncio.Future[Any]]
"""Calls a function, given with its arguments, in the thread."""


@contextlib.contextmanager
def own_thread() -> Iterator[Aside]:
    """Give a way to call functions in one thread, which ends when it has nothing left to do."""
    pool = ThreadPoolExecutor(1, "hinow-batch")
    run = asyncio.get_running_loop().run_in_executor

    def call(function: Callable[..., Any], *args: Any, **named: Any) -> asyncio.Future[Any]:
        return run(pool, functools.partial(function, *args, **named))

    try:
        yield call
    finally:
        pool.shutdown(wait=False)
