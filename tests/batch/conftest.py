"""A sandbox with small pictures, a client for it, and a batch over both."""

import contextlib
import json

import pytest

from hinow_async import AsyncHinow, RetryPolicy
from hinow_async.batch import generate_batch
from hinow_async.sandbox import Behaviour, Sandbox


@pytest.fixture
async def sandbox():
    async with Sandbox(Behaviour(picture_size=64)) as server:
        yield server


@pytest.fixture
def connect(sandbox):
    """Make a client for the sandbox; retries are quick unless a policy is given."""

    @contextlib.asynccontextmanager
    async def make(**options):
        options.setdefault("retry", RetryPolicy(wait_initial=0.01, wait_max=0.02))
        options.setdefault("api_key", sandbox.api_key)
        options.setdefault("base_url", sandbox.base_url)
        async with AsyncHinow(**options) as client:
            yield client

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def rows():
    """Read a file of JSON lines."""

    def read(path):
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    return read


@pytest.fixture
def run(connect, out):
    """Run a batch with a client of its own."""

    async def go(source, *, client_options=None, **options):
        async with connect(**(client_options or {})) as client:
            return await generate_batch(client, source, out, **options)

    return go
