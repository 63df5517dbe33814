"""Retry-After, deadlines and timeouts: who waits, how long, and who is told at once that it is pointless."""

import asyncio
import email.utils
import socket
import time

import attrs
import pytest
from rawserver import KEY, OK, RawServer, answer, http, stall

from hinow_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncHinow,
    Budget,
    InternalServerError,
    Limits,
    RateLimitError,
    RetryPolicy,
    Timeouts,
)

QUICK = RetryPolicy(wait_initial=0)


def connect(server, **options):
    options = {"retry": QUICK, "budget": Budget(10, usd_per_image=1), **options}
    return AsyncHinow(api_key=KEY, base_url=server.base_url, **options)


def date(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


NONSENSE = ["-1", "NaN", "inf", "-inf", "", "soon", "0x10", date(-3600), "Mon, 99 Foo 2020", "1e400"]


@pytest.mark.parametrize("value", NONSENSE)
async def test_a_retry_after_that_is_nonsense_is_ignored(value):
    """The usual pause is made, and the call goes again."""
    async with (
        RawServer(answer(http(429, b"", {"Retry-After": value}), OK)) as server,
        connect(server) as client,
    ):
        result = await client.images.generate("A lighthouse", timeout=5)

        assert result.call.attempts == 2
        assert result.call.elapsed < 1.5


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry-After": "0.4"}, 0.4),
        ({"retry-after-ms": "400"}, 0.4),
        ({"retry-after-ms": "400", "Retry-After": "100"}, 0.4),
        ({"retry-after-ms": "soon", "Retry-After": "0.4"}, 0.4),
        ({"Date": "Mon, 01 Jan 2024 00:00:00 GMT", "Retry-After": "Mon, 01 Jan 2024 00:00:01 GMT"}, 1.0),
    ],
)
@pytest.mark.parametrize("status", [429, 409])
async def test_retry_after_is_obeyed_in_all_forms(status, headers, least):
    """Jitter is added to what was asked, never taken from it."""
    async with (
        RawServer(answer(http(status, b"", headers), OK)) as server,
        connect(server) as client,
    ):
        result = await client.images.generate("A lighthouse")

        assert least <= result.call.elapsed < least + 0.8
        assert result.call.attempts == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("asked", ["1000", "1e9", date(400 * 86400)])
async def test_a_retry_after_beyond_throttled_max_raises_at_once(status, asked):
    """The error says how long the service asked for."""
    async with (
        RawServer(answer(http(status, b"", {"Retry-After": asked}))) as server,
        connect(server) as client,
    ):
        with pytest.raises(RateLimitError if status == 429 else InternalServerError) as caught:
            await client.images.generate("A lighthouse")

        assert caught.value.retry_after > 600
        assert (caught.value.outcome, caught.value.call.attempts) == ("refused", 1)
        assert caught.value.call.elapsed < 1
        assert client.stats().spent_usd == client.stats().reserved_usd == 0


@pytest.mark.parametrize("status", [429, 503, 409])
async def test_a_retry_after_beyond_the_deadline_raises_at_once(status):
    """Nobody waits for what cannot come in time."""
    async with (
        RawServer(answer(http(status, b"", {"Retry-After": "30"}))) as server,
        connect(server) as client,
    ):
        with pytest.raises(APIStatusError) as caught:
            await client.images.generate("A lighthouse", timeout=5)

        assert (caught.value.status, caught.value.retry_after) == (status, 30)
        assert "it asks to wait 30 s" in str(caught.value)
        assert caught.value.call.elapsed < 1


async def test_whoever_cannot_live_to_see_the_gate_open_is_told_at_once():
    """A waiter whose deadline lies before the gate opens is refused: not sent; the patient one waits on."""
    async with (
        RawServer(answer(http(429, b"", {"Retry-After": "30"}))) as server,
        connect(server, limits=Limits(max_in_flight=1)) as client,
    ):
        first = asyncio.create_task(client.images.generate("First"))
        patient = asyncio.create_task(client.images.generate("Patient"))
        await asyncio.sleep(0)
        hasty = asyncio.create_task(client.images.generate("Hasty", timeout=5))
        with pytest.raises(APITimeoutError) as caught:
            await hasty
        with pytest.raises(APITimeoutError) as late:
            await client.images.generate("Late", timeout=5)

        for error in (caught.value, late.value):
            assert (error.outcome, error.call.attempts) == ("not_sent", 0)
            assert error.call.elapsed < 1
        assert (len(server.requests), client.stats().waiting) == (1, 2)
        first.cancel()
        patient.cancel()
        await asyncio.gather(first, patient, return_exceptions=True)
        assert (client.stats().waiting, client.stats().reserved_usd) == (0, 0)


async def test_throttled_max_ends_the_wait_for_an_account_that_accepts_nothing():
    """The refused call raises its refusal, the one that was never sent a RateLimitError of its own."""
    retry = attrs.evolve(QUICK, throttled_max=0.6)
    async with (
        RawServer(answer(http(429))) as server,
        connect(server, retry=retry, limits=Limits(max_in_flight=1)) as client,
    ):
        refused, waiting = await asyncio.gather(
            client.images.generate("First"), client.images.generate("Second"), return_exceptions=True
        )

        assert isinstance(refused, RateLimitError)
        assert isinstance(waiting, RateLimitError)
        assert (refused.outcome, waiting.outcome) == ("refused", "not_sent")
        assert waiting.call.attempts == 0
        assert 0.5 < refused.call.elapsed < 2
        assert client.stats().reserved_usd == 0


async def test_the_deadline_ends_a_wait_for_a_slot():
    """It is not sent, leaves no trace at the service, and its money is free again."""
    async with (
        RawServer(stall) as server,
        connect(server, limits=Limits(max_in_flight=1, adaptive=False)) as client,
    ):
        first = asyncio.create_task(client.images.generate("First"))
        await asyncio.sleep(0.05)
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("Second", timeout=0.1)

        assert (caught.value.outcome, caught.value.call.attempts) == ("not_sent", 0)
        assert caught.value.call.account is None
        assert len(server.requests) == 1
        assert client.stats().reserved_usd == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_the_deadline_ends_a_call_that_was_sent():
    """Then it may have been billed, and stays spent."""
    async with RawServer(stall) as server, connect(server) as client:
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("A lighthouse", timeout=0.1)

        assert (caught.value.outcome, caught.value.call.unknown_outcomes) == ("unknown", 1)
        assert 0.1 <= caught.value.call.elapsed < 1
        stats = client.stats()
        assert (stats.spent_usd, stats.reserved_usd, stats.in_flight) == (1, 0, 0)


async def test_the_deadline_ends_a_backoff():
    """APITimeoutError with the call's outcome, when the time is up and no sooner."""
    retry = RetryPolicy(wait_initial=20)
    async with RawServer(answer(http(408))) as server, connect(server, retry=retry) as client:
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("A lighthouse", timeout=0.2)

        assert caught.value.outcome == "refused"
        assert 0.19 <= caught.value.call.elapsed < 1
        assert client.stats().reserved_usd == 0


async def test_the_clients_own_deadline_holds_for_every_call_that_names_none():
    """And `with_options` changes it for a view; None switches it off."""
    async with RawServer(stall) as server, connect(server, timeout=0.1) as client:
        with pytest.raises(APITimeoutError):
            await client.images.generate("A lighthouse")
        with pytest.raises(APITimeoutError) as caught:
            await client.with_options(timeout=0.2).images.generate("A lighthouse")
        assert caught.value.call.elapsed >= 0.2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.images.generate("A lighthouse", timeout=None)


async def test_a_catalogue_that_does_not_answer_is_within_the_deadline():
    """With a budget and no price the catalogue is read first: that counts too."""
    async with RawServer(stall) as server, connect(server, budget=Budget(10)) as client:
        begun = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("A lighthouse", timeout=0.2)

        assert caught.value.outcome == "not_sent"
        assert time.monotonic() - begun < 1
        assert [sent.line for sent in server.requests] == ["GET /v1/models HTTP/1.1"]


@pytest.fixture
def black_hole():
    """A port whose listener never accepts and whose queue is full: nothing answers a SYN."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()[1]
    for sock in (*fillers, listener):
        sock.close()


async def test_a_black_hole_ends_with_the_connect_timeout(black_hole):
    """Not sent, a timeout, tried again; the response timeout plays no part."""
    async with AsyncHinow(
        api_key=KEY,
        base_url=f"http://127.0.0.1:{black_hole}",
        retry=attrs.evolve(QUICK, attempts=2),
        timeouts=Timeouts(connect=0.2, response=0.05),
        budget=Budget(1, usd_per_image=1),
    ) as client:
        with pytest.raises(APITimeoutError, match="connecting") as caught:
            await client.images.generate("A lighthouse")

        assert (caught.value.outcome, caught.value.call.attempts) == ("not_sent", 2)
        assert 0.4 <= caught.value.call.elapsed < 1.5
        assert (client.stats().spent_usd, client.stats().reserved_usd) == (0, 0)


async def test_the_deadline_ends_connecting(black_hole):
    """Nothing was sent."""
    async with AsyncHinow(api_key=KEY, base_url=f"http://127.0.0.1:{black_hole}") as client:
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("A lighthouse", timeout=0.15)

    assert (caught.value.outcome, caught.value.call.attempts) == ("not_sent", 1)


def resolving(monkeypatch, answer):
    """Have the event loop resolve names by *answer*; numbers are resolved as ever."""
    loop = asyncio.get_running_loop()
    true = loop.getaddrinfo

    async def getaddrinfo(host, port, **how):
        if host == "api.example.com":
            return await answer(port)
        return await true(host, port, **how)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def test_a_name_that_does_not_resolve_was_not_sent(monkeypatch):
    """Tried again with backoff, each a try; the message names the host."""
    asked = []

    async def nothing(port):
        asked.append(port)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolving(monkeypatch, nothing)
    async with AsyncHinow(api_key=KEY, base_url="https://api.example.com", retry=QUICK) as client:
        with pytest.raises(APIConnectionError, match=r"api\.example\.com") as caught:
            await client.images.generate("A lighthouse")

    assert (caught.value.outcome, caught.value.call.attempts) == ("not_sent", 4)
    assert len(asked) == 4


async def test_a_resolver_that_hangs_ends_with_the_connect_timeout(monkeypatch):
    """Looking up the name is a part of connecting."""

    async def hang(port):
        await asyncio.Event().wait()

    resolving(monkeypatch, hang)
    async with AsyncHinow(
        api_key=KEY,
        base_url="https://api.example.com",
        retry=attrs.evolve(QUICK, attempts=1),
        timeouts=Timeouts(connect=0.1),
    ) as client:
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("A lighthouse")

    assert caught.value.outcome == "not_sent"


async def test_a_dead_address_before_a_live_one_is_no_error(monkeypatch):
    """The next address is dialled in the same try."""
    async with RawServer(answer(OK)) as server:

        async def two(port):
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.9", port)), (*kind, ("127.0.0.1", port))]

        loop = asyncio.get_running_loop()
        true = loop.getaddrinfo

        async def getaddrinfo(host, port, **how):
            return await (two(port) if host == "localhost" else true(host, port, **how))

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        async with AsyncHinow(api_key=KEY, base_url=f"http://localhost:{server.port}") as client:
            result = await client.images.generate("A lighthouse")

        assert result.call.attempts == 1
