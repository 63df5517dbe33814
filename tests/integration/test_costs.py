"""What a call costs, counted and not timed: a machine that is busy fails nothing.

Counted are calls of functions (in Python and C, resumed coroutines included) and the most bytes held at a
time, beyond what bare aiohttp needs for the same request in the same run, so that another aiohttp changes
little.

A bound is what was counted when it was last set, and room for less than the smallest value that is read by
cattrs takes (3; an extra task takes 48). Who makes a call cheaper lowers its bound; who raises one says why
in the commit. Something else is guarded by a row in a table here, if it can be awaited.
"""

import contextlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from benchmarks.clients import open_client
from benchmarks.counting import bytes_allocated, function_calls
from benchmarks.stub import stub
from hinow_async._limiter import Admission, Limiter
from hinow_async._protocol.adaptive import Controller
from hinow_async._protocol.chat_stream import ChatReader
from hinow_async._protocol.outcome import Event

pytestmark = pytest.mark.skipif(sys.gettrace() is not None, reason="coverage and debuggers count along")

Do = Callable[[], Awaitable[object]]

COUNTED_ON = (3, 11)
ROOM = 2 if sys.version_info[:2] == COUNTED_ON else 40
"""Calls of functions; other versions of Python count some things otherwise, e.g. comprehensions."""

CALLS = {"images": 60, "chat/completions": 210}
"""Calls of functions beyond bare aiohttp's."""

TASK = 0 if sys.version_info[:2] == COUNTED_ON else 43
"""What aiohttp's task for the body takes: from Python 3.12 on it is cheap, and used as it is."""

BYTES = {"images": 2562, "chat/completions": 3370}
ROOM_IN_BYTES = 512

ADMISSION = {True: 16, False: 11}
"""Calls of functions for one acquire and release where there is room, adaptive and not."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """A server in another process, whose work is not counted; it answers once the client is asleep."""
    with stub(0.01) as root:
        yield root


@contextlib.asynccontextmanager
async def warm(client: str, base: str, path: str) -> AsyncIterator[Do]:
    """What sends one request, and has sent a few."""
    async with contextlib.AsyncExitStack() as stack:
        send = await open_client(client, stack, base, path)
        for _ in range(5):
            await send()
        yield send


@pytest.mark.parametrize("path", CALLS)
async def test_a_call_takes_no_more_function_calls(base, path):
    """A call's way through the library is as short as it was."""
    async with warm("ours", base, path) as send:
        ours = await function_calls(send)
    async with warm("aiohttp", base, path) as send:
        bare = await function_calls(send)
    assert ours - bare <= CALLS[path] + TASK + ROOM, f"{ours - bare} calls of functions beyond bare aiohttp's"


@pytest.mark.parametrize("path", BYTES)
async def test_a_call_takes_no_more_memory(base, path):
    """A call holds no more at its peak than it did."""
    async with warm("ours", base, path) as send:
        ours = await bytes_allocated(send)
    async with warm("aiohttp", base, path) as send:
        bare = await bytes_allocated(send)
    assert ours - bare <= BYTES[path] + ROOM_IN_BYTES, f"{ours - bare} bytes beyond bare aiohttp's"


class Demand:
    """A call as the limiter sees it."""

    def __init__(self, arrival: int) -> None:
        self.arrival = arrival
        self.deadline = None
        self.arrived_at = 0.0
        self.weight = 1
        self.kind = ("images", "model")
        self.model = "model"
        self.bound = None
        self.throttled_max = 600.0


@pytest.mark.parametrize("is_adaptive", ADMISSION)
async def test_an_admission_takes_no_more_function_calls(is_adaptive):
    """Passing a free limiter is as short as it was."""
    controller = Controller(256, adaptive=is_adaptive, jitter=random.random)
    limiter = Limiter([Admission(0, "default", controller, None, 256)])
    demand = Demand(limiter.next_arrival())

    async def pass_through() -> None:
        limiter.release(limiter.acquire_nowait(demand), Event.SUCCESS, 0.3)

    counted = await function_calls(pass_through)
    assert counted <= ADMISSION[is_adaptive] + ROOM // 2, f"{counted} calls of functions"


STREAM = 37
"""Calls of functions for one chunk of a stream, from its bytes to the value that is handed out."""


async def test_a_chunk_of_a_stream_takes_no_more_function_calls():
    """The decoder, JSON and the chunk, over a thousand of them that come together."""
    event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'

    async def read() -> None:
        assert len(ChatReader(is_json=False).feed(1000 * event)) == 1000

    counted = await function_calls(read, times=3) / 1000
    assert counted <= STREAM + ROOM / 10, f"{counted} calls of functions"
