"""Streamed chats: whole, left early, cut, silent, hostile; the slot, the money and what had come."""

import asyncio
import contextlib
import gc
import gzip
import json
import pickle
import resource
from contextlib import asynccontextmanager

import pytest
from rawserver import KEY, RawServer, answer, close_after_request, http, in_pieces, stall

from hinow_async import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APITimeoutError,
    AsyncHinow,
    Budget,
    ChatCompletion,
    ChatRequest,
    ConfigurationError,
    InsufficientBalanceError,
    Limits,
    RetryPolicy,
    Timeouts,
)
from hinow_async.sandbox import Behaviour, Fault, Sandbox

QUICK = RetryPolicy(wait_initial=0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSING = HEAD + b"Connection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
PRICE = 0.25
HIMAX = {"model": "hinow/himax"}


def event(content=None, finish=None, **more):
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice], **more}).encode()


def chunked(*pieces):
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def closing(*events):
    """An answer whose end is that of its connection."""
    return in_pieces(CLOSING + b"".join(events))


@asynccontextmanager
async def serving(*scripts, **options):
    async with (
        RawServer(*scripts) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url, **options) as client,
    ):
        yield client, server


async def read_all(client, **options):
    async with client.chat.completions.stream("Hello", **{**HIMAX, **options}) as stream:
        return await stream.completion()


class Leaving:
    """Sends two words, then says when the client has gone."""

    def __init__(self, *events):
        self.events = events or (event("One"), event(" two"))
        self.left = asyncio.Event()

    async def __call__(self, talk):
        await talk.request()
        await talk.send(CHUNKED + chunked(*self.events))
        await talk.until_gone()
        self.left.set()

    async def is_left(self):
        await asyncio.wait_for(self.left.wait(), 1)


# -- what comes --------------------------------------------------------------------------------------------


async def test_a_stream_says_what_the_whole_answer_says(client, sandbox):
    """By its text, by its chunks, and put together."""
    whole = await client.chat.completions.create("Name three", **HIMAX)

    async with client.chat.completions.stream("Name three", **HIMAX) as stream:
        texts = [text async for text in stream.text]
        final = await stream.completion()
    async with client.chat.completions.stream("Name three", **HIMAX) as stream:
        chunks = [chunk async for chunk in stream]

    assert len(texts) > 2
    assert "".join(texts) == "".join(chunk.text for chunk in chunks) == final.text == whole.text
    assert (final.choices, final.usage) == (whole.choices, whole.usage)
    assert final.finish_reason == "stop"
    assert final.request.messages[0].content == "Name three"
    assert (final.call.attempts, final.call.account) == (1, "default")
    assert sandbox.log[-1].body["stream"] is True
    assert sandbox.log[-1].headers["accept"] == "text/event-stream"
    assert pickle.loads(pickle.dumps(final)) == final


async def test_the_habit_of_openais_sdk(client):
    """`async for chunk in await create(..., stream=True)`, with what a request can say."""
    request = ChatRequest("Name three", **HIMAX)

    texts = [chunk.text async for chunk in await client.chat.completions.create(request, stream=True)]

    assert "".join(texts) == "The sandbox heard: Name three"


async def test_tool_calls_are_put_together(client):
    """Fragments are joined by their index, and are those of the whole answer."""
    function = {
        "name": "weather",
        "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    options = {**HIMAX, "tools": [{"type": "function", "function": function}]}

    whole = await client.chat.completions.create("Rain?", **options)
    streamed = await read_all(client, **options)

    assert streamed.choices[0].message.tool_calls == whole.choices[0].message.tool_calls
    assert streamed.finish_reason == "tool_calls"


async def test_a_picture_of_a_stream_is_saved(client, tmp_path):
    """By the same downloader, with the same checks, under a name made of the question."""
    async with client.chat.completions.stream("A fox", model="openai/gpt-image-2-2026-04-21") as stream:
        reply = await stream.completion()
    (saved,) = await reply.save(tmp_path)

    assert saved.path.name.startswith("a-fox-")
    assert saved.path.read_bytes().startswith(b"\x89PNG")
    lost = pickle.loads(pickle.dumps(reply))
    with pytest.raises(ConfigurationError, match=r"client\.images\.save"):
        await lost.save(tmp_path)
    assert (await client.images.save(lost, tmp_path))[0].path == saved.path


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_a_stream_is_read_however_it_is_cut(step, end):
    """Any line ends, a byte order mark, comments, and bytes that come one by one."""
    raw = (
        b"\xef\xbb\xbf: hi\n\n" + event("Grüße 🦊") + b": ping\n\nevent: x\n\n" + event(finish="stop") + DONE
    )
    raw = raw.replace(b"\n", end)
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    async with serving(in_pieces(CHUNKED, *(chunked(piece) for piece in pieces), b"0\r\n\r\n")) as (
        client,
        _,
    ):
        assert (await read_all(client)).text == "Grüße 🦊"


@pytest.mark.parametrize("end", [DONE, b""], ids=["done", "finish reason alone"])
async def test_a_stream_is_whole_by_done_or_by_its_finish_reason(end):
    """What comes after [DONE] is no part of it; events without data say nothing."""
    events = (
        event("Hi"),
        b"data:\n\n",
        b"data:  \n\n",
        event(finish="length"),
        end,
        end and b"data: junk\n\n",
    )
    async with serving(closing(*events)) as (client, _):
        reply = await read_all(client)

    assert (reply.text, reply.finish_reason) == ("Hi", "length")


async def test_a_break_after_the_finish_reason_loses_nothing():
    """All was said."""
    async with serving(in_pieces(CHUNKED + chunked(event("Hi"), event(finish="stop")))) as (client, _):
        assert (await read_all(client)).text == "Hi"
        assert client.stats().unknown_outcomes == 0


async def test_a_connection_is_used_again_after_a_stream():
    """Whether its end comes with [DONE] or a little later."""

    async def script(talk):
        for pause in (0, 0.01, 0):
            await talk.request()
            await talk.send(CHUNKED + chunked(event("Hi"), DONE), b"0\r\n\r\n", pause=pause)

    async with serving(script) as (client, server):
        for _ in range(3):
            await read_all(client)

        assert (len(server.requests), server.connections) == (3, 1)


async def test_a_service_that_does_not_stream_answers_all_the_same():
    """Its whole answer is one chunk."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hi", "mood": "calm"},
        "finish_reason": "stop",
    }
    async with serving(answer(http(200, {"id": "c", "choices": [choice], "usage": {"total_tokens": 3}}))) as (
        client,
        _,
    ):
        chunks = [
            chunk async for chunk in await client.chat.completions.create("Hello", stream=True, **HIMAX)
        ]
        reply = await read_all(client)

    assert [chunk.text for chunk in chunks] == ["Hi"]
    assert (reply.text, reply.choices[0].message.extra, reply.usage.total_tokens) == (
        "Hi",
        {"mood": "calm"},
        3,
    )


async def test_a_line_of_many_mebibytes_is_read():
    """Pictures come as base64."""
    async with serving(closing(event("A" * 9 * 2**20), DONE)) as (client, _):
        assert len((await read_all(client)).text) == 9 * 2**20


# -- left early --------------------------------------------------------------------------------------------


async def by_break(client):
    async for _ in await client.chat.completions.create("Hello", stream=True, **HIMAX):
        break


async def by_break_while_held(client):
    by_break_while_held.stream = await client.chat.completions.create("Hello", stream=True, **HIMAX)
    async for _ in by_break_while_held.stream:
        break


async def by_error(client):
    with contextlib.suppress(KeyError):
        async with client.chat.completions.stream("Hello", **HIMAX) as stream:
            async for _ in stream.text:
                raise KeyError("mine")


async def by_error_in_the_loop(client):
    with contextlib.suppress(KeyError):
        async for _ in await client.chat.completions.create("Hello", stream=True, **HIMAX):
            raise KeyError("mine")


async def by_the_end_of_the_block(client):
    async with client.chat.completions.stream("Hello", **HIMAX) as stream:
        async for _ in stream:
            break


async def by_aclose(client):
    stream = await client.chat.completions.create("Hello", stream=True, **HIMAX)
    await stream.aclose()
    await stream.aclose()


async def by_forgetting(client):
    await client.chat.completions.create("Hello", stream=True, **HIMAX)


async def by_cancel(client):
    has_begun = asyncio.Event()

    async def read():
        async with client.chat.completions.stream("Hello", **HIMAX) as stream:
            async for _ in stream:
                has_begun.set()

    task = asyncio.create_task(read())
    await has_begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "leave",
    [by_break, by_break_while_held, by_error, by_error_in_the_loop, by_the_end_of_the_block, by_aclose,
     by_forgetting, by_cancel],
)  # fmt: skip
async def test_leaving_closes_the_connection_at_once(leave):
    """The server sees it, the slot is free, and what was sent stays spent."""
    script = Leaving()
    async with serving(script, budget=Budget(1, usd_per_chat=PRICE)) as (client, _):
        await leave(client)
        gc.collect()
        await script.is_left()

        stats = client.stats()
        assert (stats.in_flight, stats.reserved_usd, stats.spent_usd) == (0, 0, PRICE)
        assert stats.accounts["default"].reserved_usd == 0


async def test_within_its_block_a_stream_can_be_read_on_after_a_break():
    """The block's end is what leaves it; no chunk is lost in between."""
    async with (
        serving(closing(event("One"), event(" two"), event(" three"), DONE)) as (client, _),
        client.chat.completions.stream("Hello", **HIMAX) as stream,
    ):
        async for text in stream.text:
            first = text
            break
        rest = [text async for text in stream.text]
        final = await stream.completion()

    assert (first, rest, final.text) == ("One", [" two", " three"], "One two three")


async def test_what_is_unpacked_gives_others_their_turn():
    """One packet may hold a gigabyte, none of which is waited for: a cancel is heard all the same."""
    packed = gzip.compress((b":" + b" " * 1000 + b"\n") * 8_000 + event("One") + DONE)
    script = in_pieces(HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + packed)
    async with serving(script) as (client, _), client.chat.completions.stream("Hello", **HIMAX) as stream:
        reading = asyncio.create_task(stream.completion())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    assert stream.partial.choices == ()


async def test_what_had_come_is_there_after_leaving():
    """In `.partial`; there is no whole."""
    async with serving(Leaving()) as (client, _):
        stream = await client.chat.completions.create("Hello", stream=True, **HIMAX)
        async for _ in stream:
            break
        await asyncio.sleep(0.01)

        assert stream.partial.text.startswith("One")
        with pytest.raises(ConfigurationError, match="left before its end"):
            await stream.completion()


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_many_streams_open_at_once_leave_nothing(count):
    """All of them are let go; the guard of the tests finds no socket."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * count + 100:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * count + 100, most))
    async with serving(Leaving(), limits=Limits(max_in_flight=count, adaptive=False)) as (client, server):
        create = client.chat.completions.create
        streams = await asyncio.gather(*(create("Hello", stream=True, **HIMAX) for _ in range(count)))
        for stream in streams:
            await anext(aiter(stream))
        assert server.connections == count

        del streams, stream
        await asyncio.sleep(0.05)
        gc.collect()
        await asyncio.sleep(0.05)
        assert client.stats().in_flight == 0


async def test_closing_the_client_ends_its_streams():
    """With an error, not with silence."""
    async with serving(Leaving()) as (client, _):
        stream = await client.chat.completions.create("Hello", stream=True, **HIMAX)
        await client.aclose()
        with pytest.raises(APIConnectionError):
            await stream.completion()


async def test_a_stream_has_one_reader():
    """Two would share the words between them."""
    async with serving(Leaving()) as (client, _):
        stream = await client.chat.completions.create("Hello", stream=True, **HIMAX)
        first = asyncio.create_task(stream.completion())
        await asyncio.sleep(0.05)
        with pytest.raises(ConfigurationError, match="another task"):
            await stream.completion()
        first.cancel()
        await asyncio.wait([first])


async def test_a_stream_cancelled_at_any_step_keeps_its_books():
    """Nothing sent: the money comes back. Sent: it stays spent. The slot always comes back."""
    async with Sandbox(Behaviour()) as sandbox:
        for step in range(200):
            async with AsyncHinow(
                api_key=sandbox.api_key, base_url=sandbox.base_url, budget=Budget(9, usd_per_chat=PRICE)
            ) as client:
                before = sandbox.billing.requests
                task = asyncio.create_task(read_all(client))
                for _ in range(step):
                    await asyncio.sleep(0)
                was_early = task.cancel()
                await asyncio.wait([task])

                stats = client.stats()
                assert (stats.in_flight, stats.reserved_usd) == (0, 0), step
                assert stats.spent_usd in {0, PRICE}
                assert (sandbox.billing.requests - before) * PRICE <= stats.spent_usd, step
            if not was_early:
                assert task.result().text
                return
    raise AssertionError("the stream never ended")


# -- what goes wrong ---------------------------------------------------------------------------------------


ERROR = b'{"error": {"message": "the model \\u001b[2J fell over", "code": "overloaded"}}'


@pytest.mark.parametrize(
    ("events", "kind", "said"),
    [
        ([b""], APIResponseError, "without \\[DONE\\]"),
        ([b": ping\n\n"], APIResponseError, "without \\[DONE\\]"),
        ([b"data: [DONE]"], APIResponseError, "without \\[DONE\\]"),
        ([b"data: " + ERROR + b"\n\n"], APIResponseError, "fell over.*overloaded"),
        ([b"event: error\ndata: fell over\n\n"], APIResponseError, "fell over"),
        ([b'event: error\ndata: {"message": "fell over"}\n\n'], APIResponseError, "fell over"),
        ([b'data: {"success": false, "message": "fell over"}\n\n'], APIResponseError, "fell over"),
        ([b"data: {\n\n"], APIResponseError, "cannot be used"),
        ([b"data: 7\n\n"], APIResponseError, "cannot be used"),
        ([b'data: {"choices": 7}\n\n'], APIResponseError, "cannot be used"),
        ([b'data: {"choices": [{"delta": 7}]}\n\n'], APIResponseError, "cannot be used"),
        ([b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'], APIResponseError, "cannot be used"),
        ([b'data: {"choices": [{"delta": {"tool_calls": 7}}]}\n\n'], APIResponseError, "cannot be used"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], APIResponseError, "cannot be used"),
    ],
)  # fmt: skip
async def test_a_stream_that_fails_keeps_what_had_come(events, kind, said):
    """Its error is typed, says that it may have been billed, and nothing is sent again."""
    retry = RetryPolicy(unknown_outcome="resend", wait_initial=0)
    async with serving(
        closing(event("One"), event(" two"), *events), retry=retry, budget=Budget(1, usd_per_chat=PRICE)
    ) as (client, server):
        texts = []
        with pytest.raises(kind, match=said) as caught:
            await collect(client, texts)

        error = caught.value
        assert texts == ["One", " two"]
        assert (error.partial.text, error.outcome, error.request.model) == (
            "One two",
            "unknown",
            "hinow/himax",
        )
        assert "\x1b" not in str(error)
        assert (error.call.attempts, error.call.unknown_outcomes, len(server.requests)) == (1, 1, 1)
        assert isinstance(pickle.loads(pickle.dumps(error)).partial, ChatCompletion)
        stats = client.stats()
        assert (stats.in_flight, stats.reserved_usd, stats.spent_usd) == (0, 0, PRICE)


async def collect(client, texts, **options):
    async with client.chat.completions.stream("Hello", **HIMAX, **options) as stream:
        async for text in stream.text:
            texts.append(text)


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick reader", "slow reader"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_cut_connection_keeps_what_had_come(reset, is_slow):
    """By FIN in the middle of the coding or by RST, also when the reader comes late."""

    async def script(talk):
        await talk.request()
        await talk.send(CHUNKED + chunked(event("One"), event(" two")))
        await asyncio.sleep(0.02)
        if reset:
            talk.reset()

    async with serving(script) as (client, server):
        stream = await client.chat.completions.create("Hello", stream=True, **HIMAX)
        if is_slow:
            await asyncio.sleep(0.1)
        with pytest.raises(APIConnectionError) as caught:
            await stream.completion()

        assert (caught.value.partial.text, caught.value.outcome) == ("One two", "unknown")
        assert (len(server.requests), client.stats().in_flight) == (1, 0)


async def test_a_body_that_breaks_its_chunking_is_not_waited_for():
    """Though nothing else ends the wait: aiohttp closes the connection, and tells nobody."""

    async def script(talk):
        await talk.request()
        await talk.send(CHUNKED + chunked(event("One")))
        await has_read.wait()
        await talk.send(b"zz\r\n")
        await talk.until_gone()

    has_read = asyncio.Event()
    patient = Timeouts(idle=None, response=None)
    async with (
        serving(script, timeouts=patient) as (client, _),
        client.chat.completions.stream("Hello", **HIMAX) as stream,
    ):
        async for _text in stream.text:
            break
        has_read.set()
        with pytest.raises(APIConnectionError, match="closed in the middle") as caught:
            await asyncio.wait_for(stream.completion(), 10)

    assert (caught.value.outcome, caught.value.partial.text) == ("unknown", "One")


async def test_a_body_that_cannot_be_unpacked_says_so_in_words():
    """And with no status that never came."""
    head = HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n"
    async with serving(in_pieces(head + b"not gzip at all")) as (client, _):
        with pytest.raises(APIConnectionError) as caught:
            await read_all(client)

    assert "broke off: Can not decode content-encoding: gzip (it may" in str(caught.value)


async def test_a_failed_stream_fails_again_when_it_is_asked_again():
    """It is not taken for a whole one."""
    async with (
        serving(closing(event("One"))) as (client, _),
        client.chat.completions.stream("Hello", **HIMAX) as stream,
    ):
        for _ in range(2):
            with pytest.raises(APIResponseError):
                await stream.completion()


async def test_silence_in_a_stream_ends_it():
    """After `Timeouts.idle`; what had come is kept."""
    script = Leaving()
    async with serving(script, timeouts=Timeouts(idle=0.1)) as (client, _):
        with pytest.raises(APITimeoutError, match=r"0\.1 s") as caught:
            await read_all(client)
        await script.is_left()

        assert caught.value.partial.text == "One two"
        assert client.stats().in_flight == 0


async def test_idle_counts_bytes_not_events():
    """A service that pings is alive; and the deadline ends it all the same."""

    async def script(talk):
        await talk.request()
        await talk.send(CHUNKED + chunked(event("One")))
        while True:
            await talk.send(chunked(b": ping\n\n"), pause=0.02)

    async with serving(script, timeouts=Timeouts(idle=0.15)) as (client, _):
        with pytest.raises(APITimeoutError, match="deadline") as caught:
            await read_all(client, timeout=0.5)

        assert (caught.value.partial.text, caught.value.outcome) == ("One", "unknown")


async def test_idle_does_not_run_before_the_first_byte():
    """That wait is the response timeout's, headers or not."""

    async def script(talk):
        await talk.request()
        await talk.send(CHUNKED)
        await asyncio.sleep(0.2)
        await talk.send(chunked(event("One"), DONE) + b"0\r\n\r\n")

    async with serving(script, stall, timeouts=Timeouts(idle=0.05, response=5)) as (client, _):
        assert (await read_all(client)).text == "One"


@pytest.mark.parametrize("script", [stall, Leaving(b": x")], ids=["no status", "no event"])
async def test_a_stream_that_never_begins(script):
    """No first byte within `Timeouts.response` of sending; then silence is idle's."""
    async with serving(script, timeouts=Timeouts(idle=0.1, response=0.1)) as (client, server):
        with pytest.raises(APITimeoutError) as caught:
            await read_all(client)

        assert caught.value.outcome == "unknown"
        assert len(server.requests) == 1


async def test_headers_without_a_body_are_the_response_timeouts():
    """A status line is no answer yet, but nothing is sent again after it."""

    async def script(talk):
        await talk.request()
        await talk.send(CHUNKED)
        await talk.until_gone()

    retry = RetryPolicy(unknown_outcome="resend", wait_initial=0)
    async with serving(script, timeouts=Timeouts(idle=9, response=0.1), retry=retry) as (client, server):
        with pytest.raises(APITimeoutError, match="first byte") as caught:
            await read_all(client)

        assert (caught.value.outcome, len(server.requests)) == ("unknown", 1)
        assert caught.value.partial.choices == ()


async def test_a_deadline_is_one_over_the_whole_stream(connect, sandbox):
    """Also for a reader who takes his time."""
    sandbox.change(chat_reply="word " * 50, chunk_delay=0.05)
    client = connect()
    with pytest.raises(APITimeoutError, match="deadline") as caught:
        await read_all(client, timeout=0.3)
    assert caught.value.partial.text.startswith("word")

    stream = await client.chat.completions.create("Hello", stream=True, timeout=0.3, **HIMAX)
    await asyncio.sleep(0.35)
    with pytest.raises(APITimeoutError, match="deadline"):
        await stream.completion()


async def test_before_the_first_byte_a_stream_is_tried_again(connect, sandbox):
    """As any other POST: a refusal waits at the gate, a 4xx is final."""
    sandbox.change(faults=[Fault(path="chat", status=429, times=1), Fault(path="chat", status=503, times=1)])
    client = connect(retry=QUICK)

    reply = await read_all(client)

    assert reply.text
    assert reply.call.attempts == 3
    sandbox.change(faults=[Fault(path="chat", status=400)])
    with pytest.raises(APIError) as caught:
        await read_all(client)
    assert (caught.value.outcome, caught.value.partial, caught.value.call.attempts) == ("refused", None, 1)


@pytest.mark.parametrize("resends", [False, True])
async def test_an_unknown_outcome_before_the_first_byte(resends):
    """The money rule is that of all POSTs: it is raised, unless the user said otherwise."""
    retry = RetryPolicy(wait_initial=0, unknown_outcome="resend" if resends else "raise")
    async with serving(close_after_request, closing(event("Hi"), DONE), retry=retry) as (client, server):
        if resends:
            assert (await read_all(client)).text == "Hi"
        else:
            with pytest.raises(APIConnectionError) as caught:
                await read_all(client)
            assert caught.value.outcome == "unknown"

        assert len(server.requests) == 1 + resends


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_stream_that_says_that_the_credit_is_gone(has_begun):
    """As its first word it cost nothing; after others it may have."""
    gone = b'data: {"error": {"message": "no", "code": "insufficient_balance"}}\n\n'
    events = (event("One"), gone) if has_begun else (gone,)
    async with serving(closing(*events), budget=Budget(1, usd_per_chat=PRICE)) as (client, _):
        with pytest.raises(InsufficientBalanceError) as caught:
            await read_all(client)

        assert caught.value.outcome == ("unknown" if has_begun else "refused")
        assert client.stats().spent_usd == (PRICE if has_begun else 0)


async def test_a_key_that_a_stream_echoes_is_removed():
    """From message and raw text."""
    async with serving(closing(b'data: {"error": {"message": "key %b"}}\n\n' % KEY.encode())) as (client, _):
        with pytest.raises(APIResponseError) as caught:
            await read_all(client)

    assert KEY not in str(caught.value)
    assert KEY.encode() not in caught.value.raw


async def test_a_line_of_100_megabytes_is_too_much():
    """It is an error as soon as it passes 64 MiB, and no more is read of it."""
    sent = 0

    async def script(talk):
        nonlocal sent
        await talk.request()
        await talk.send(CLOSING + event("One") + b"data: ")
        for _ in range(100):
            await talk.send(b"A" * 2**20)
            sent += 1

    async with serving(script) as (client, _):
        with pytest.raises(APIResponseError, match="67,108,864 bytes") as caught:
            await read_all(client)

    assert caught.value.partial.text == "One"
    assert 64 <= sent < 90


# -- slot, money, records ----------------------------------------------------------------------------------


class Ledger:
    """Hooks that keep everything."""

    def __init__(self):
        self.told = []

    def call_started(self, info):
        self.told.append(("started", info.endpoint))

    def attempt_ended(self, record):
        self.told.append(("attempt", record.outcome))

    def call_ended(self, record):
        self.told.append(("ended", record.attempts))


async def test_a_stream_holds_its_slot_and_its_money_to_its_end():
    """The hooks hear of its end when it ends."""
    go, ledger = asyncio.Event(), Ledger()

    async def script(talk):
        await talk.request()
        await talk.send(CHUNKED + chunked(event("One")))
        await go.wait()
        await talk.send(chunked(event(finish="stop"), DONE) + b"0\r\n\r\n")

    budget = Budget(1, usd_per_chat=PRICE)
    async with (
        serving(script, hooks=[ledger], budget=budget) as (client, _),
        client.chat.completions.stream("Hello", **HIMAX) as stream,
    ):
        await anext(stream.text)
        during = client.stats()
        assert ledger.told == [("started", "/chat/completions")]
        go.set()
        await stream.completion()
        after = client.stats()

    assert (during.in_flight, during.reserved_usd, during.spent_usd) == (1, PRICE, 0)
    assert during.accounts["default"].reserved_usd == PRICE
    assert (after.in_flight, after.reserved_usd, after.spent_usd) == (0, 0, PRICE)
    assert after.accounts["default"].spent_usd == PRICE
    assert ledger.told[1:] == [("attempt", "success"), ("ended", 1)]
    assert stream.call.estimated_usd == PRICE


@pytest.mark.parametrize(
    ("script", "outcome"),
    [(closing(event("One")), "unknown"), (Leaving(), "cancelled")],
    ids=["failed", "left"],
)
async def test_the_hooks_hear_of_every_end_once(script, outcome):
    """Failed or left."""
    ledger = Ledger()
    async with serving(script, hooks=[ledger]) as (client, _):
        try:
            async for _ in await client.chat.completions.create("Hello", stream=True, **HIMAX):
                if outcome == "cancelled":
                    break
        except APIResponseError:
            assert outcome == "unknown"
        await asyncio.sleep(0.01)

    assert ledger.told == [("started", "/chat/completions"), ("attempt", outcome), ("ended", 1)]


async def test_over_the_budget_nothing_is_streamed(connect, sandbox):
    """Refused before it is sent."""
    client = connect(budget=Budget(0.1, usd_per_chat=PRICE))
    with pytest.raises(Exception, match="budget"):
        await read_all(client)
    assert sandbox.billing.received == 0


@pytest.mark.parametrize("options", [{"stream": 1}, {"stream": None}])
async def test_stream_is_true_or_false(client, sandbox, options):
    """Nothing else is guessed at."""
    with pytest.raises(ValueError, match="stream must be"):
        await client.chat.completions.create("Hello", **HIMAX, **options)
    with pytest.raises(TypeError, match="temprature"):
        client.chat.completions.stream("Hello", **HIMAX, temprature=1)
    assert sandbox.billing.received == 0


async def test_a_stream_is_entered_once(client):
    """The request is sent on entering."""
    opening = client.chat.completions.stream("Hello", **HIMAX)
    async with opening as stream:
        await stream.completion()
    with pytest.raises(ConfigurationError, match="again"):
        await opening.__aenter__()
