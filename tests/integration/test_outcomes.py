"""What a failure means for money: the outcome table, against a service that fails to the letter."""

import asyncio
import socket
import time

import attrs
import pytest
from rawserver import (
    KEY,
    OK,
    RawServer,
    answer,
    close_after_request,
    close_unread,
    http,
    in_pieces,
    pictures,
    reset_after,
    reset_after_request,
    stall,
)

from hinow_async import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AsyncHinow,
    AuthenticationError,
    BadRequestError,
    Budget,
    ConflictError,
    InsufficientBalanceError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    Timeouts,
)
from hinow_async._limiter import QUOTA_SHARE
from hinow_async.sandbox import Behaviour, Fault, Sandbox

QUICK = RetryPolicy(wait_initial=0)
PRICE = 0.25


def connect(server, **options):
    options = {"retry": QUICK, "budget": Budget(10, usd_per_image=PRICE), **options}
    return AsyncHinow(api_key=KEY, base_url=server.base_url, **options)


async def fail(client, kind=APIError, **options):
    with pytest.raises(kind) as caught:
        await client.images.generate("A lighthouse", **options)
    return caught.value


def books(client):
    stats = client.stats()
    return stats.spent_usd, stats.reserved_usd, stats.in_flight


FINAL = [
    (400, BadRequestError),
    (401, AuthenticationError),
    (402, InsufficientBalanceError),
    (403, PermissionDeniedError),
    (404, NotFoundError),
    (405, APIStatusError),
    (413, APIStatusError),
    (418, APIStatusError),
    (422, BadRequestError),
    (501, InternalServerError),
    (505, InternalServerError),
]


@pytest.mark.parametrize(("status", "kind"), FINAL)
async def test_a_final_refusal_is_raised_at_once_and_costs_nothing(status, kind):
    """It is sent once; the money and the slot come back; the next call goes through."""
    body = {"error": {"message": "No such thing", "code": "nope", "type": "bad"}}
    async with (
        RawServer(answer(http(status, body, {"x-request-id": "r-1"}), OK)) as server,
        connect(server) as client,
    ):
        error = await fail(client)

        assert type(error) is kind
        assert (error.outcome, error.status, error.code, error.type) == ("refused", status, "nope", "bad")
        assert (error.request_id, error.call.request_id) == ("r-1", "r-1")
        assert "No such thing" in str(error)
        assert (error.call.attempts, error.call.unknown_outcomes) == (1, 0)
        assert error.request.prompt == "A lighthouse"
        assert books(client) == (0, 0, 0)
        assert (await client.images.generate("Another")).images
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "kind"), [(408, APIStatusError), (409, ConflictError), (425, APIStatusError)]
)
async def test_an_unbilled_status_is_tried_again_and_then_raised(status, kind):
    """Four tries with one key; nothing was billed."""
    async with RawServer(answer(http(status))) as server, connect(server) as client:
        error = await fail(client)

        assert type(error) is kind
        assert (error.outcome, error.call.attempts, error.call.unknown_outcomes) == ("refused", 4, 0)
        assert len({sent.headers["idempotency-key"] for sent in server.requests}) == 1
        assert len(server.requests) == 4
        assert books(client) == (0, 0, 0)


@pytest.mark.parametrize("status", [503, 529])
async def test_an_overload_is_tried_again(status):
    """The account waits, the call goes again and is paid once."""
    async with RawServer(answer(http(status), OK)) as server, connect(server) as client:
        result = await client.images.generate("A lighthouse")

        assert result.call.attempts == len(server.requests) == 2
        assert books(client) == (PRICE, 0, 0)
        assert (client.stats().throttled, client.stats().retries) == (1, 1)


async def test_an_overload_that_lasts_is_raised_after_four_tries():
    """503 counts as an attempt."""
    async with RawServer(answer(http(503))) as server, connect(server) as client:
        error = await fail(client, InternalServerError)

        assert (error.outcome, error.call.attempts, len(server.requests)) == ("refused", 4, 4)
        assert books(client) == (0, 0, 0)


async def test_a_429_costs_no_attempt():
    """More refusals than attempts, and still the picture comes."""
    refusal = http(429, b"", {"retry-after-ms": "1"})
    retry = RetryPolicy(attempts=2, wait_initial=0)
    async with (
        RawServer(answer(refusal, refusal, OK)) as server,
        connect(server, retry=retry) as client,
    ):
        result = await client.images.generate("A lighthouse")

        assert result.call.attempts == len(server.requests) == 3
        assert books(client) == (PRICE, 0, 0)


UNKNOWN = [500, 502, 504, 506, 507, 511, 520, 521, 522, 523, 524, 599]


@pytest.mark.parametrize("status", UNKNOWN)
async def test_a_failure_of_the_service_may_have_been_billed(status):
    """It is not sent again, and the budget keeps what it may have cost."""
    page = b"<html>\x1b[31mBad gateway" + b"x" * 5000
    async with RawServer(answer(http(status, page), OK)) as server, connect(server) as client:
        error = await fail(client, InternalServerError)

        assert (error.outcome, error.call.attempts, error.call.unknown_outcomes) == ("unknown", 1, 1)
        assert "may have been billed" in str(error)
        assert "\x1b" not in error.body
        assert len(error.body) < 2100
        assert books(client) == (PRICE, 0, 0)
        assert client.stats().unknown_outcomes == 1
        await client.images.generate("Another")
        assert books(client) == (2 * PRICE, 0, 0)


async def test_who_knows_that_a_500_is_never_billed_says_so():
    """`unbilled_statuses` makes it a refusal, which is tried again."""
    retry = attrs.evolve(QUICK, unbilled_statuses={500, *QUICK.unbilled_statuses})
    async with RawServer(answer(http(500), OK)) as server, connect(server, retry=retry) as client:
        result = await client.images.generate("A lighthouse")

        assert (result.call.attempts, result.call.unknown_outcomes) == (2, 0)
        assert books(client) == (PRICE, 0, 0)


async def test_a_429_that_is_not_known_to_be_unbilled_is_final():
    """The caller's word holds in the other direction too."""
    retry = attrs.evolve(QUICK, unbilled_statuses={503})
    async with RawServer(answer(http(429))) as server, connect(server, retry=retry) as client:
        error = await fail(client, RateLimitError)

        assert (error.outcome, len(server.requests)) == ("refused", 1)


OUT_OF_CREDIT = [
    {"error": {"message": "no", "code": "insufficient_quota"}},
    {"error": {"message": "no", "type": "billing_error"}},
    {"error": {"message": "no", "code": "billing_hard_limit_reached"}},
    {"message": "Insufficient credits, please top up"},
    {"detail": "You exceeded your current quota"},
]


@pytest.mark.parametrize("status", [429, 200])
@pytest.mark.parametrize("body", OUT_OF_CREDIT)
async def test_credit_that_is_gone_is_final(status, body):
    """A 429, or a 200 with success false, that says so is raised at once and bills nothing."""
    raw = http(status, {"success": False, **body})
    async with RawServer(answer(raw)) as server, connect(server) as client:
        error = await fail(client, InsufficientBalanceError)

        assert (error.outcome, error.status, len(server.requests)) == ("refused", status, 1)
        assert books(client) == (0, 0, 0)
        assert client.stats().throttled == 0


UNREADABLE = [
    b"",
    b"not json",
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"1",
    b'{"success": true, "data": null}',
    b'{"success": true, "data": {}}',
    b'{"data": {"urls": null}}',
    b'{"data": {"urls": 7}}',
    b'{"data": {"urls": []}}',
    b'{"data": {"urls": "https://x/a.png"}}',
    b'{"data": {"urls": [null]}}',
    b'{"data": {"urls": [{"b64_json": 5}]}}',
    b'{"success": false}',
    b'{"success": false, "message": NaN}',
    b'{"success": false, "error": {"message": {"a": [1e999, -1e999]}}}',
    b'{"success": false, "message": {"\\ud800": "\\ud800"}}',
    b'{"success": false, "error": ["x"]}',
    b'{"success": false, "error": {"code": ["x"], "type": {"a": 1}}}',
    b'{"data": {"urls": ["https://x/a.png"',
    b"\xff\xfe\x00",
    b"\x00" * 100,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"success": false, "message": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"data": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body[:40]))
async def test_a_success_that_cannot_be_read_may_have_been_billed(body):
    """It is an APIResponseError with the raw answer; the slot comes back, the money stays spent."""
    async with RawServer(answer(http(200, body), OK)) as server, connect(server) as client:
        error = await fail(client, APIResponseError)

        assert (error.outcome, error.status, error.raw) == ("unknown", 200, body)
        assert (error.call.attempts, error.call.unknown_outcomes) == (1, 1)
        assert len(str(error)) < 800
        assert books(client) == (PRICE, 0, 0)
        assert (await client.images.generate("Another")).images


HOSTILE_ERRORS = [
    b'{"message": NaN}',
    b'{"error": {"message": [Infinity], "code": NaN}}',
    b'{"detail": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"error": {"message": "\\ud800\\u202e\\u001b[2J", "code": "\\u001b]8;;"}}',
    b'{"error": {"code": ' + b"9" * 4000 + b"}}",
    b'{"error": null, "message": null}',
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("body", HOSTILE_ERRORS, ids=lambda body: repr(body[:40]))
async def test_a_hostile_error_body_is_still_the_status_it_came_with(status, body):
    """Whatever the body says, the error has its class, its text can be shown, and the slot comes back."""
    async with RawServer(answer(http(status, body), OK)) as server, connect(server) as client:
        error = await fail(client, APIStatusError)

        assert error.status == status
        assert not set(str(error) + error.body + str(error.code)) & {"\x1b", "\u202e", "\ud800"}
        assert client.stats().in_flight == 0
        assert (await client.images.generate("Another")).images


WHOLE = http(200, pictures())
CUT = {
    "by length": WHOLE[:-10],
    "by chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + b'{"data": {"urls"',
    "by close": b"HTTP/1.1 200 OK\r\n\r\n" + b'{"data": {"urls"',
    "before the body": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
}


@pytest.mark.parametrize("raw", CUT.values(), ids=CUT)
async def test_a_success_that_is_cut_is_unknown(raw):
    """It was paid for, and is never taken for an empty answer."""
    async with RawServer(in_pieces(raw)) as server, connect(server) as client:
        error = await fail(client, APIResponseError)

        assert (error.outcome, len(server.requests)) == ("unknown", 1)
        assert books(client) == (PRICE, 0, 0)


BAD_HEADS = {
    "no status line": b"hello\r\n\r\n",
    "a bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n123456",
    "a long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1_000_0 + b"\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a head that is cut": b"HTTP/1.1 200 OK\r\nContent-",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("raw", BAD_HEADS.values(), ids=BAD_HEADS)
async def test_an_answer_that_is_no_http_is_unknown(raw):
    """The request was read, so it may have been billed; nothing hangs."""
    async with RawServer(in_pieces(raw)) as server, connect(server) as client:
        error = await fail(client, timeout=5)

        assert not isinstance(error, APITimeoutError)
        assert (error.outcome, len(server.requests)) == ("unknown", 1)
        assert books(client) == (PRICE, 0, 0)


@pytest.mark.parametrize("hint", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"])
async def test_informational_answers_are_skipped(hint):
    """100 and 103 are no answers."""
    async with RawServer(in_pieces(hint, hint, OK)) as server, connect(server) as client:
        assert (await client.images.generate("A lighthouse")).images


async def test_an_answer_of_http_1_0_is_read():
    """The connection's end is the body's."""
    raw = OK.replace(b"HTTP/1.1", b"HTTP/1.0")
    async with RawServer(in_pieces(raw)) as server, connect(server) as client:
        assert (await client.images.generate("A lighthouse")).images


async def test_an_answer_in_single_bytes_is_read():
    """However the packets are cut."""
    async with (
        RawServer(in_pieces(*(OK[i : i + 1] for i in range(len(OK))))) as server,
        connect(server) as client,
    ):
        assert (await client.images.generate("A lighthouse")).images


@pytest.mark.parametrize("script", [close_after_request, reset_after_request, reset_after(10)])
async def test_a_connection_that_dies_after_sending_is_unknown(script):
    """Closed or reset, with all or a little of the request read: it is not sent again."""
    async with RawServer(script, answer(OK)) as server, connect(server) as client:
        error = await fail(client, APIConnectionError)

        assert (error.outcome, error.call.attempts, error.call.unknown_outcomes) == ("unknown", 1, 1)
        assert server.connections == 1
        assert "may have been billed" in str(error)
        assert books(client) == (PRICE, 0, 0)
        assert (await client.images.generate("Another")).images


async def test_a_connection_that_dies_while_much_is_written_is_unknown():
    """A megabyte of request, of which the server reads ten bytes."""
    async with RawServer(reset_after(10)) as server, connect(server) as client:
        error = await fail(client, APIConnectionError, extra={"image": "x" * 2**20})

        assert (error.outcome, server.connections) == ("unknown", 1)
        assert books(client) == (PRICE, 0, 0)


async def test_a_connection_refused_was_not_sent():
    """It is tried again; nothing was spent."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    async with AsyncHinow(
        api_key=KEY,
        base_url=f"http://127.0.0.1:{port}",
        retry=QUICK,
        budget=Budget(1, usd_per_image=PRICE),
    ) as client:
        error = await fail(client, APIConnectionError)

        assert (error.outcome, error.call.attempts, error.call.unknown_outcomes) == ("not_sent", 4, 0)
        assert books(client) == (0, 0, 0)
        assert str(port) in str(error)


async def test_a_service_that_comes_up_between_two_tries_is_reached():
    """Not sent, and then sent: one picture, one payment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    retry = RetryPolicy(attempts=10, wait_initial=0.05, wait_max=0.05)
    async with AsyncHinow(api_key=KEY, base_url=f"http://127.0.0.1:{port}", retry=retry) as client:
        call = asyncio.create_task(client.images.generate("A lighthouse"))
        await asyncio.sleep(0.08)

        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", port)
        result = await call
        listener.close()

        assert result.call.attempts > 1
        assert result.call.unknown_outcomes == 0


async def test_a_connection_closed_before_the_request_is_judged_by_what_was_written():
    """A server that closes at once: what was not written is tried again, what was is unknown; never lost."""
    async with RawServer(close_unread, close_unread, answer(OK)) as server, connect(server) as client:
        (result,) = await asyncio.gather(client.images.generate("A lighthouse"), return_exceptions=True)

        if isinstance(result, APIConnectionError):
            assert (result.outcome, books(client)[0]) == ("unknown", PRICE)
        else:
            assert (result.call.attempts, books(client)[0]) == (server.connections, PRICE)


async def test_kept_connections_that_the_server_closed_are_never_written_to():
    """The server closes after each answer: 200 calls in a row, none unknown."""

    async def once(talk):
        await talk.request()
        await talk.send(OK)

    async with RawServer(once) as server, connect(server, budget=None) as client:
        for _ in range(200):
            await client.images.generate("A lighthouse")
            await asyncio.sleep(0.001)

        assert client.stats().unknown_outcomes == 0
        assert len(server.requests) == 200


async def test_no_answer_within_the_response_timeout_is_unknown():
    """It is a TimeoutError too, says how long, and closes the connection."""
    async with (
        RawServer(stall) as server,
        connect(server, timeouts=Timeouts(response=0.1)) as client,
    ):
        error = await fail(client, APITimeoutError)

        assert isinstance(error, TimeoutError)
        assert "0.1 s" in str(error)
        assert (error.outcome, error.call.attempts) == ("unknown", 1)
        assert books(client) == (PRICE, 0, 0)


async def test_each_call_has_the_whole_response_timeout():
    """One timer watches all of them: it rings for the first, and the others have their time all the same."""
    timeouts = Timeouts(response=0.3)
    async with (
        RawServer(in_pieces(OK), stall) as server,
        connect(server, timeouts=timeouts) as client,
    ):
        assert (await client.images.generate("A lighthouse")).images
        await asyncio.sleep(0.15)  # half of the time for which the timer was set
        errors = await asyncio.gather(*(fail(client, APITimeoutError) for _ in range(3)))

        assert [error.outcome for error in errors] == ["unknown"] * 3
        assert all(0.3 <= error.call.elapsed < 1 for error in errors)


@pytest.mark.parametrize("stale", [OK, http(408)], ids=["a success", "a timeout"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(stale):
    """It lies in an idle connection: the next call is neither answered by it nor sent after it, but anew."""
    is_idle, is_said = asyncio.Event(), asyncio.Event()

    async def say_more(talk):
        await talk.request()
        await talk.send(OK)
        await is_idle.wait()
        await talk.send(stale)
        is_said.set()
        await talk.request()

    async with RawServer(say_more, answer(http(200, pictures(2)))) as server, connect(server) as client:
        await client.images.generate("A lighthouse")
        is_idle.set()
        await is_said.wait()
        await asyncio.sleep(0.05)  # turns in which the loop, which is the client's too, reads what lies there
        result = await client.images.generate("A lighthouse")

        assert (len(result.images), result.call.attempts) == (2, 2)
        assert (len(server.requests), server.connections) == (2, 2)
        assert books(client) == (3 * PRICE, 0, 0)  # one picture, and two


async def test_a_large_request_that_is_answered_before_it_was_read():
    """The answer is taken although most of the request still waits to be written."""

    async def refuse(talk):
        await talk.head()
        await talk.send(http(413))
        await talk.until_gone()

    async with RawServer(refuse) as server, connect(server) as client:
        error = await fail(client, APIStatusError, extra={"image": "x" * 2**24}, timeout=5)

        assert (error.status, error.outcome) == (413, "refused")
        assert books(client) == (0, 0, 0)


async def test_a_body_that_drips_for_ever_is_ended_by_the_response_timeout():
    """Every byte is on time, the whole is not."""

    async def drip(talk):
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        await talk.send(*[b" "] * 1000, pause=0.02)

    async with (
        RawServer(drip) as server,
        connect(server, timeouts=Timeouts(response=0.2, idle=5)) as client,
    ):
        error = await fail(client, APITimeoutError)

        assert error.outcome == "unknown"
        assert 0.2 <= error.call.elapsed < 1


async def test_idle_never_ends_a_json_answer():
    """`timeouts.idle` is for streams and downloads."""

    async def slow(talk):
        await talk.request()
        await asyncio.sleep(0.15)
        await talk.send(OK[:50], OK[50:], pause=0.15)

    async with RawServer(slow) as server, connect(server, timeouts=Timeouts(idle=0.05)) as client:
        assert (await client.images.generate("A lighthouse")).images


@pytest.mark.parametrize("fault", [http(429), http(503), http(408)])
async def test_one_attempt_never_sends_twice(fault):
    """`attempts=1` holds for refusals too."""
    retry = RetryPolicy(attempts=1)
    async with RawServer(answer(fault)) as server, connect(server, retry=retry) as client:
        error = await fail(client, APIStatusError)

        assert (error.outcome, error.call.attempts, len(server.requests)) == ("refused", 1, 1)
        assert books(client) == (0, 0, 0)


async def test_one_attempt_holds_for_connections_too():
    """A connection that fails is a try."""
    retry = RetryPolicy(attempts=1)
    async with AsyncHinow(api_key=KEY, base_url="http://127.0.0.1:1", retry=retry) as client:
        error = await fail(client, APIConnectionError)

    assert (error.outcome, error.call.attempts) == ("not_sent", 1)


RESEND = RetryPolicy(wait_initial=0, unknown_outcome="resend")


async def test_a_resend_carries_the_same_key_and_is_paid_twice():
    """Who asks for it gets his picture, and both payments are counted."""
    async with (
        RawServer(close_after_request, answer(OK)) as server,
        connect(server, retry=RESEND) as client,
    ):
        result = await client.images.generate("A lighthouse")

        assert (result.call.attempts, result.call.unknown_outcomes) == (2, 1)
        assert len({sent.headers["idempotency-key"] for sent in server.requests}) == 1
        assert books(client) == (2 * PRICE, 0, 0)


async def test_a_resend_that_fails_stays_unknown():
    """A call is unknown if any of its tries was, whatever came after."""
    async with (
        RawServer(answer(http(500), http(400))) as server,
        connect(server, retry=RESEND) as client,
    ):
        error = await fail(client, BadRequestError)

        assert (error.outcome, error.call.attempts, error.call.unknown_outcomes) == ("unknown", 2, 1)
        assert books(client) == (PRICE, 0, 0)


async def test_resends_end_with_the_attempts():
    """Each unknown try is an attempt, and each may have been billed."""
    async with RawServer(close_after_request) as server, connect(server, retry=RESEND) as client:
        error = await fail(client, APIConnectionError)

        assert (error.outcome, error.call.attempts, error.call.unknown_outcomes) == ("unknown", 4, 4)
        assert books(client) == (4 * PRICE, 0, 0)


async def test_a_resend_that_the_budget_refuses_raises_the_earlier_error_with_a_note():
    """The note says why it was not sent again."""
    async with (
        RawServer(close_after_request) as server,
        connect(server, retry=RESEND, budget=Budget(0.4, usd_per_image=PRICE)) as client,
    ):
        error = await fail(client, APIConnectionError)

        assert (error.outcome, error.call.attempts, server.connections) == ("unknown", 1, 1)
        assert any("budget" in note for note in error.__notes__)
        assert books(client) == (PRICE, 0, 0)


async def test_retries_of_5xx_have_a_quota():
    """In an outage the load is not multiplied: when the quota is used up, a 5xx is raised at once."""
    retry = RetryPolicy(wait_initial=0, unbilled_statuses={500})
    async with RawServer(answer(http(500), http(500), OK)) as server, connect(server, retry=retry) as client:
        (account,) = client._runtime.engine.limiter.accounts
        while account.quota > 1:
            account.take_retry()

        error = await fail(client, InternalServerError)
        result = await client.images.generate("Another")

        assert (error.call.attempts, result.call.attempts, len(server.requests)) == (2, 1, 3)
        assert account.quota == QUOTA_SHARE


async def test_an_outage_and_its_end_in_the_sandbox(connect, sandbox):
    """Dropped after the work was done: billed there, spent here, picture lost; and said so."""
    sandbox.change(faults=[Fault(drop="after", when=[0])])
    client = connect(budget=Budget(1, usd_per_image=PRICE))

    error = await fail(client, APIConnectionError)

    assert error.outcome == "unknown"
    assert sandbox.billing.requests == 1
    assert client.stats().spent_usd == PRICE


async def test_more_pictures_than_asked_for_cost_more():
    """Settling takes the larger of asked and delivered."""
    async with RawServer(answer(http(200, pictures(3)))) as server, connect(server) as client:
        result = await client.images.generate("A lighthouse", num_images=2)

        assert books(client) == (3 * PRICE, 0, 0)
        assert result.call.estimated_usd == 3 * PRICE


async def test_fewer_pictures_than_asked_for_cost_what_was_asked():
    """The price of the request is the safe side."""
    async with RawServer(answer(OK)) as server, connect(server) as client:
        await client.images.generate("A lighthouse", num_images=2)

        assert books(client) == (2 * PRICE, 0, 0)


async def test_a_price_that_breaks_after_the_answer_loses_no_picture(caplog):
    """What was paid for is returned, and at least what was reserved is spent."""
    calls = []

    def price(request):
        calls.append(request)
        return PRICE if len(calls) == 1 else 1 / 0

    async with (
        RawServer(answer(http(200, pictures(3)))) as server,
        connect(server, budget=Budget(10, usd_per_image=price)) as client,
    ):
        result = await client.images.generate("A lighthouse")

        assert len(result.images) == 3
        assert books(client) == (PRICE, 0, 0)
        assert "could not be priced" in caplog.text


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_that_came_while_the_process_slept_is_read(is_stream):
    """It is paid for and lies in the socket: a timeout that ran out meanwhile throws nothing away."""
    with Sandbox.in_thread(Behaviour(latency=0.05, picture_size=32)) as sandbox:
        async with AsyncHinow(
            base_url=sandbox.base_url, api_key=sandbox.api_key, timeouts=Timeouts(response=0.2)
        ) as client:
            chats = client.chat.completions
            if is_stream:
                work = chats.create("Hello", model="hinow/himax", stream=True)
            else:
                work = client.images.generate("A lighthouse")
            task = asyncio.create_task(work)
            while not sandbox.billing.received:
                await asyncio.sleep(0)
            time.sleep(1)  # as a process does that was stopped, or whose loop is blocked
            result = await task
            if is_stream:
                assert "".join([chunk.text async for chunk in result]) == "The sandbox heard: Hello"
            else:
                assert len(result.images) == 1
            assert client.stats().unknown_outcomes == 0
