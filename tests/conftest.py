"""What all tests share: a sandbox with small pictures, a client of it, and the leak guard."""

import asyncio
import contextlib
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hinow_async import AsyncHinow
from hinow_async.sandbox import Behaviour, Sandbox

_FDS = Path("/proc/self/fd")
_PATIENCE = 100  # turns of 10 ms that transports and threads get to close


def pytest_collection_finish() -> None:
    """Take what was imported out of the collector's sight: the guard collects after every test."""
    gc.collect()
    gc.freeze()


def _open_files() -> dict[str, str]:
    found = {}
    for descriptor in _FDS.iterdir() if _FDS.exists() else ():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[descriptor.name] = str(descriptor.readlink())
    return found


def _left_open(before: dict[str, str]) -> list[str]:
    return [target for name, target in _open_files().items() if before.get(name) != target]


@pytest.fixture(autouse=True)
def guard_async_tests(request: pytest.FixtureRequest) -> None:
    """Put every asynchronous test under the leak guard."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("leak_guard")


@pytest.fixture
async def leak_guard() -> AsyncIterator[None]:
    """After the test no task, no socket and no file is left, and nothing was forgotten unclosed.

    A session or socket that is collected unclosed raises a ResourceWarning, which is an error here.
    """
    tasks = weakref.WeakSet(asyncio.all_tasks())
    files = _open_files()
    yield
    for _ in range(_PATIENCE):
        left = [
            task for task in asyncio.all_tasks() if task not in tasks and task is not asyncio.current_task()
        ]
        if not left and not _left_open(files):
            break
        await asyncio.sleep(0.01)
    gc.collect()
    assert not left, f"tasks are left: {left}"
    assert not _left_open(files), f"files or sockets are left open: {_left_open(files)}"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox without limits, latency or faults; its pictures are small."""
    async with Sandbox(Behaviour(picture_size=32)) as made:
        yield made


@pytest.fixture
async def connect(sandbox: Sandbox) -> AsyncIterator[Callable[..., AsyncHinow]]:
    """`connect(retry=...)`: a client of the sandbox with these options, closed after the test."""
    clients: list[AsyncHinow] = []

    def make(**options: object) -> AsyncHinow:
        if "accounts" not in options:
            options = {"api_key": sandbox.api_key, **options}
        clients.append(AsyncHinow(**{"base_url": sandbox.base_url, **options}))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(connect: Callable[..., AsyncHinow]) -> AsyncHinow:
    """A client of the sandbox with the options that everybody has."""
    return connect()
