"""Whole chats, the catalogue and the balance."""

import asyncio

import pytest
from rawserver import KEY, RawServer, answer, close_after_request, http, stall

from hinow_async import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    AsyncHinow,
    ChatRequest,
    InternalServerError,
    Limits,
    Message,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    Timeouts,
)
from hinow_async.sandbox import Fault

QUICK = RetryPolicy(wait_initial=0)
PICTURE = "https://files.example.com/a.png"


def reply(message, **more):
    return http(
        200, {"id": "c-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more}
    )


async def chat(raw, **options):
    async with (
        RawServer(answer(raw)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        completion = await client.chat.completions.create("Hello", model="hinow/himax", **options)
    return completion, server.requests[0].json


async def test_a_chat_is_answered_whole(client, sandbox):
    """Options stand at the root of the body, and the answer is joined with its request and record."""
    completion = await client.chat.completions.create(
        "Name a lighthouse", model="hinow/himax", temperature=0.5, stop=["\n"], extra={"user": "u"}
    )

    assert sandbox.log[-1].body == {
        "model": "hinow/himax",
        "messages": [{"role": "user", "content": "Name a lighthouse"}],
        "temperature": 0.5,
        "stop": ["\n"],
        "user": "u",
    }
    assert completion.text
    assert completion.usage.total_tokens > 0
    assert completion.request.messages[0].content == "Name a lighthouse"
    assert (completion.call.attempts, completion.call.account) == (1, "default")


async def test_unknown_fields_of_a_chat_are_kept():
    """At every level."""
    message = {"role": "assistant", "content": "Hi", "mood": "calm"}
    completion, _ = await chat(reply(message, usage={"total_tokens": 3, "cached": 1}, trace="t"))

    assert completion.extra == {"trace": "t"}
    assert completion.choices[0].message.extra == {"mood": "calm"}
    assert (completion.usage.total_tokens, completion.usage.extra) == (3, {"cached": 1})


@pytest.mark.parametrize(
    "message",
    [
        {"content": f"Here: ![a lighthouse]({PICTURE})"},
        {"content": f'Here: ![a lighthouse](<{PICTURE}> "A title")'},
        {"content": f"Here: ![a [red] lighthouse]({PICTURE})"},
        {"content": [{"type": "text", "text": "Here"}, {"type": "image_url", "image_url": {"url": PICTURE}}]},
        {"content": "", "images": [{"image_url": {"url": PICTURE}}]},
        {"content": None, "images": [PICTURE]},
    ],
)
async def test_pictures_are_found_wherever_a_gateway_puts_them(message):
    """Markdown, parts, and the list of images."""
    completion, _ = await chat(reply({"role": "assistant", **message}))

    assert [image.url for image in completion.images] == [PICTURE]


@pytest.mark.parametrize("head", ["data:image/png", "data:image/PNG", "data:image/png;charset=utf-8"])
async def test_a_picture_in_the_text_may_say_more_of_itself(head):
    """RFC 2397: a media type in any case, with parameters."""
    text = f"Here: {head};base64,iVBORw0KGgo= it is"
    completion, _ = await chat(reply({"role": "assistant", "content": text}))

    assert [image.data for image in completion.images] == [b"\x89PNG\r\n\x1a\n"]


async def test_a_link_of_markdown_may_hold_parentheses():
    """In pairs."""
    text = "![a](https://x.example/a_(1).png) ![b](https://x.example/b.png)) ![c](https://x.example/c(.png"
    completion, _ = await chat(reply({"role": "assistant", "content": text}))

    assert [image.url for image in completion.images] == [
        "https://x.example/a_(1).png",
        "https://x.example/b.png",
        "https://x.example/c",
    ]


async def test_what_is_of_another_type_is_kept():
    """Roles, reasons and calls that nobody expects survive."""
    message = {"role": "narrator", "content": [{"type": "odd"}], "tool_calls": {"a": 1}}
    raw = http(200, {"choices": [{"index": 0, "message": message, "finish_reason": 7}]})
    completion, _ = await chat(raw)

    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content) == ("narrator", ({"type": "odd"},))
    assert (choice.message.extra, choice.extra) == ({"tool_calls": {"a": 1}}, {"finish_reason": 7})


async def test_tool_calls_are_kept():
    """As the protocol has them."""
    calls = [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    completion, _ = await chat(reply({"role": "assistant", "content": None, "tool_calls": calls}))

    assert list(completion.choices[0].message.tool_calls) == calls
    assert completion.text == ""


async def test_a_conversation_is_sent_as_it_is():
    """Messages, mappings and whole requests are the same."""
    messages = [Message("system", "Be brief"), {"role": "user", "content": "Hi", "name": "Ann"}]
    async with (
        RawServer(answer(reply({"role": "assistant", "content": "Hi"}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        await client.chat.completions.create(messages, model="hinow/himax", seed=1)
        await client.chat.completions.create(ChatRequest(messages, model="hinow/himax"), seed=1)

    assert server.requests[0].json == server.requests[1].json
    assert server.requests[0].json["messages"][1] == {"role": "user", "content": "Hi", "name": "Ann"}


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"choices": []}', b'{"choices": [7]}', b'{"choices": null}', b"[]", b'{"choices": [{}]}',
     b'{"choices": [{"message": {"content": 7}}]}', b'{"success": false, "message": NaN}'],
)  # fmt: skip
async def test_a_chat_that_cannot_be_read_may_have_been_billed(body):
    """As for pictures."""
    with pytest.raises(APIResponseError) as caught:
        await chat(http(200, body))

    assert caught.value.outcome == "unknown"


async def test_chats_are_not_sent_again_after_an_unknown_outcome(connect, sandbox):
    """Chat POSTs follow the same rules."""
    sandbox.change(faults=[Fault(path="chat", drop="after")])
    client = connect(retry=QUICK)

    with pytest.raises(APIConnectionError) as caught:
        await client.chat.completions.create("Hello", model="hinow/himax")

    assert (caught.value.outcome, sandbox.billing.requests) == ("unknown", 1)


@pytest.mark.parametrize(
    "options",
    [{"model": "a//b"}, {"temperature": -1}, {"top_p": 2}, {"max_tokens": 0}, {"extra": {"stream": True}},
     {"extra": {"x": {1}}}, {"temperature": float("nan")}],
)  # fmt: skip
async def test_impossible_chats_are_refused(client, sandbox, options):
    """Before anything is sent."""
    with pytest.raises(ValueError, match=r".+"):
        await client.chat.completions.create("Hello", **{"model": "hinow/himax", **options})

    assert sandbox.billing.received == 0


async def test_a_chat_without_a_model_is_refused(client):
    """There is no default."""
    with pytest.raises(ValueError, match="model"):
        await client.chat.completions.create("Hello")


# -- what is free ------------------------------------------------------------------------------------------


async def test_the_catalogue_lists_models_with_their_prices(client):
    """And each can be asked for by its id, slash and all."""
    models = await client.models.list()
    one = await client.models.retrieve("hinow/himax")

    assert one in models
    assert any(model.cost is not None and model.cost.total for model in models)


async def test_a_model_that_is_not_there(client):
    """The hint names the usual cause."""
    with pytest.raises(NotFoundError, match="namespace"):
        await client.models.retrieve("himax")


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("x?y#z", "x%3Fy%23z"),
        ("a/b c", "a/b%20c"),
        ("a/%2e%2e", "a/%252e%252e"),
        ("a/b\r\nX: y", "a/b%0D%0AX%3A%20y"),
        ("ä/ü", "%C3%A4/%C3%BC"),
        ("a;b/c@d:e", "a%3Bb/c%40d%3Ae"),
    ],
)
async def test_hostile_ids_stay_in_their_segment(model, path):
    """Each segment is escaped on its own, so that nothing leaves the path."""
    async with (
        RawServer(answer(http(200, {"id": model}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        assert (await client.models.retrieve(model)).id == model

    assert server.requests[0].line == f"GET /v1/models/{path} HTTP/1.1"


@pytest.mark.parametrize(
    "model", ["", "/", "a/", "/a", "a//b", ".", "..", "a/../../balance", "a/./b", " ", 7, None]
)
async def test_ids_with_empty_or_dotted_segments_are_refused(client, sandbox, model):
    """They could walk to another path."""
    with pytest.raises(ValueError, match="model"):
        await client.models.retrieve(model)

    assert sandbox.billing.received == 0


async def test_the_balance_in_dollars(connect, sandbox):
    """Of the account that is named, by default the first."""
    sandbox.change(balance="12.34")
    client = connect()

    balance = await client.balance()

    assert (balance.balance, balance.account_id) == (12.34, "acc_sandbox")
    with pytest.raises(ValueError, match="default"):
        await client.balance(account="other")


@pytest.mark.parametrize("script", [close_after_request, answer(http(500)), answer(http(200, b"{"))])
async def test_a_get_is_tried_again_after_any_failure(script):
    """It costs nothing."""
    async with (
        RawServer(script, answer(http(200, {"data": {"balance": 1}}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url, retry=QUICK) as client,
    ):
        if script is close_after_request:
            assert (await client.balance()).balance == 1
        else:
            with pytest.raises((InternalServerError, APIResponseError)) as caught:
                await client.balance()
            assert caught.value.outcome == "refused"
            assert "billed" not in str(caught.value)
            assert len(server.requests) == 4


async def test_a_get_takes_no_slot_and_learns_nothing(connect, sandbox):
    """A 429 to it delays only itself."""
    sandbox.change(latency=0.2, faults=[Fault(path="balance", status=429, times=1)])
    client = connect(limits=Limits(max_in_flight=1), retry=QUICK)
    call = asyncio.create_task(client.images.generate("A lighthouse"))
    await asyncio.sleep(0.05)

    await client.balance()

    assert not call.done()
    assert client.stats().throttled == 0
    await call


async def test_a_get_told_to_come_back_after_its_deadline_says_so_at_once():
    """Nobody waits for what cannot come in time."""
    async with (
        RawServer(answer(http(429, b"", {"Retry-After": "30"}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        with pytest.raises(RateLimitError) as caught:
            await asyncio.wait_for(client.balance(timeout=5), 1)

    assert caught.value.retry_after == 30


async def test_the_deadline_of_a_get():
    """Over all its tries; nothing is ever unknown."""
    async with (
        RawServer(stall) as server,
        AsyncHinow(
            api_key=KEY, base_url=server.base_url, retry=QUICK, timeouts=Timeouts(response=0.05)
        ) as client,
    ):
        with pytest.raises(APITimeoutError) as caught:
            await client.models.list(timeout=0.12)
        with pytest.raises(APITimeoutError):
            await client.models.list()

    assert caught.value.outcome == "not_sent"


@pytest.mark.parametrize("status", [302, 307])
async def test_a_get_is_not_redirected(status):
    """The key goes nowhere else."""
    async with RawServer(answer(http(200, {"data": []}))) as elsewhere:
        location = http(status, b"", {"Location": f"{elsewhere.base_url}/models"})
        async with (
            RawServer(answer(location)) as server,
            AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
        ):
            with pytest.raises(APIResponseError):
                await client.models.list()

    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"data": {"balance": null}}', b'{"data": {"balance": 1e999999}}',
     b'{"data": {"balance": true}}',
     b'{"data": {"balance": "12"}}', b'{"success": false}', b'{"balance": ' + b"9" * 400 + b"}"],
)  # fmt: skip
async def test_a_balance_that_is_no_number(body):
    """Is an error, never nothing."""
    async with (
        RawServer(answer(http(200, body))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url, retry=QUICK) as client,
    ):
        with pytest.raises(APIResponseError):
            await client.balance()
