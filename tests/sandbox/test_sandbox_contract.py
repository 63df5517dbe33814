"""The sandbox keeps the contract: endpoints, forms of answers, refusals."""

import base64
import io
import json

import pytest

PINNED = "openai/gpt-image-2-2026-04-21"


async def test_pictures_come_in_the_envelope(caller):
    """One URL for each picture asked for, with model and provider, and a request id."""
    reply = await caller.draw(num_images=3, quality="high")

    assert reply.status == 200
    assert reply.json["success"] is True
    assert reply.json["data"]["model"] == PINNED
    assert reply.json["data"]["provider"]
    assert len(set(reply.json["data"]["urls"])) == 3
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("status", [200, 201, 202, 299])
async def test_a_success_may_have_any_2xx_status(behave, status):
    """The status of a success is an option, for pictures and chats alike."""
    async with behave(status=status) as caller:
        assert (await caller.draw()).status == status
        assert (await caller.chat("Hello")).status == status


async def test_other_forms_of_an_answer(behave):
    """The data alone, OpenAI's form with URLs or base64, and data: URIs, all of the same picture."""
    async with behave(answer_form="bare") as caller:
        bare = (await caller.draw()).json
        picture = (await caller.fetch(bare["urls"][0])).body
        caller.sandbox.change(answer_form="openai")
        linked = (await caller.draw()).json
        caller.sandbox.change(answer_form="openai_b64")
        encoded = (await caller.draw(num_images=2)).json
        caller.sandbox.change(answer_form="data_uris")
        embedded = (await caller.draw()).json["data"]["urls"][0]

        assert (await caller.fetch(linked["data"][0]["url"])).body == picture
    assert isinstance(linked["created"], int)
    assert len(encoded["data"]) == 2
    assert embedded == f"data:image/png;base64,{base64.b64encode(picture).decode()}"


async def test_base64_is_the_picture(behave):
    """`b64_json` holds the bytes that the URL of the same request serves."""
    async with behave(answer_form="openai_b64") as caller:
        encoded = (await caller.draw("A fox")).json["data"][0]["b64_json"]
        caller.sandbox.change(answer_form="envelope")
        picture = await caller.fetch((await caller.urls("A fox"))[0])

    assert base64.b64decode(encoded, validate=True) == picture.body


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_api_key"),
        ("Bearer hi_wrong", "invalid_api_key"),
        ("Bearer sk-wrong", "invalid_api_key"),
        ("Basic aGk6aGk=", "invalid_api_key"),
        ("Bearer hi_ключ", "invalid_api_key"),
    ],
)
async def test_a_bad_key_gets_401(caller, authorization, code):
    """Missing, malformed or unknown: 401 with a JSON error, nothing billed, and the key is not repeated."""
    headers = {} if authorization is None else {"Authorization": authorization}
    body = {"model": PINNED, "prompt": "A fox"}

    for method, path in (
        ("POST", "/images"),
        ("POST", "/chat/completions"),
        ("GET", "/models"),
        ("GET", "/balance"),
    ):
        reply = await caller.ask(method, path, key=None, headers=headers, json=body)
        assert (reply.status, reply.error["code"]) == (401, code)
        assert "wrong" not in reply.body.decode()
    assert caller.sandbox.billing.requests == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quality", "ultra"),
        ("aspect_ratio", "5:4"),
        ("aspect_ratio", ["16:9"]),
        ("resolution", "8k"),
        ("output_format", "gif"),
        ("num_images", 0),
        ("num_images", 11),
        ("num_images", "2"),
        ("num_images", True),
        ("n", 1.5),
    ],
)
async def test_an_impossible_parameter_is_named(caller, field, value):
    """400, the message names the field, nothing is billed."""
    reply = await caller.draw(**{field: value})

    assert reply.status == 400
    assert f"parameters.{field}" in reply.error["message"]
    assert caller.sandbox.billing.requests == 0


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"[" * 100_000, "JSON"),
        (b'{"prompt": "x"}', "model"),
        (b'{"model": 1, "prompt": "x"}', "model"),
        (b'{"model": "hinow/himax", "prompt": "x"}', "model"),
        (b'{"model": "openai/gpt-image-2"}', "prompt"),
        (b'{"model": "openai/gpt-image-2", "prompt": "  "}', "prompt"),
        (b'{"model": "openai/gpt-image-2", "prompt": "x", "parameters": [1]}', "parameters"),
    ],
)
async def test_a_wrong_body_gets_400(caller, raw, word):
    """What is no good request is refused with a word about what is wrong."""
    reply = await caller.ask("POST", "/images", data=raw)

    assert reply.status == 400
    assert word in reply.error["message"]
    assert reply.headers["x-request-id"]


async def test_neighbours_and_foreign_models(behave):
    """The edit model takes more ratios; models that only the caller knows take anything, `n` included."""
    async with behave(models=["stability/any"]) as caller:
        assert (await caller.draw(model="openai/gpt-image-2-edit", aspect_ratio="21:9")).status == 200
        reply = await caller.draw(model="stability/any", n=4, width=640, height=480, quality="ultra", seed=7)

    assert len(reply.json["data"]["urls"]) == 4
    assert caller.sandbox.billing.images == 5


async def test_an_unknown_model_gets_404(caller):
    """`model_not_found`, and a hint when the namespace is missing."""
    for reply in (await caller.draw(model="himax"), await caller.chat("Hello", model="himax")):
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
        assert "namespace" in reply.error["message"]


async def test_the_catalogue(caller):
    """Lists the pinned snapshot, its neighbours and the chat model; one model by its id, slashes and all."""
    listed = (await caller.ask("GET", "/models")).json
    by_id = {model["id"]: model for model in listed["data"]}

    assert listed["object"] == "list"
    assert {PINNED, "openai/gpt-image-2", "openai/gpt-image-2-edit", "hinow/himax"} == set(by_id)
    assert by_id[PINNED]["cost"]["total"] == 0.087
    assert by_id[PINNED]["category"] == ["text_to_image"]
    assert (await caller.ask("GET", "/models/hinow/himax")).json == by_id["hinow/himax"]


@pytest.mark.parametrize(
    "path", ["/models/himax", "/models/", "/models/hinow/himax/", "/nothing", "/images/1"]
)
async def test_what_is_not_there_gets_404(caller, path):
    """Unknown models and unknown paths, with a JSON error."""
    assert (await caller.ask("GET", path)).error["message"]


async def test_an_escaped_slash_is_not_a_slash(caller):
    """Each segment of a model's id is escaped on its own; escaping the slash answers 404."""
    reply = await caller.raw(caller.head("GET /v1/models/hinow%2Fhimax HTTP/1.0"))

    assert reply.startswith(b"HTTP/1.0 404")


async def test_the_wrong_method_gets_405(caller):
    """With the right one in `Allow`."""
    reply = await caller.ask("GET", "/images")

    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


async def test_the_balance_falls_by_the_price(behave):
    """Dollars fall per picture, exactly; a request that they do not cover gets 402 and costs nothing."""
    async with behave(balance=0.3, price_per_image=0.1) as caller:
        assert (await caller.draw(num_images=2)).status == 200
        too_dear = await caller.draw(num_images=2)
        balance = (await caller.ask("GET", "/balance")).json
        last = await caller.draw()
        none_left = await caller.draw()
        chat = await caller.chat("Hello")

    assert (too_dear.status, too_dear.error["code"]) == (402, "insufficient_balance")
    assert balance["success"] is True
    assert balance["data"]["balance"] == 0.1
    assert [last.status, none_left.status, chat.status] == [200, 402, 402]
    assert str(caller.sandbox.billing.usd) == "0.3"


async def test_a_chat_answers(caller):
    """OpenAI's form; content parts are read; usage adds up."""
    parts = [{"type": "text", "text": "Name three"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    reply = (await caller.chat({"role": "user", "content": parts})).json

    assert reply["object"] == "chat.completion"
    assert reply["model"] == "hinow/himax"
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert "Name three" in reply["choices"][0]["message"]["content"]
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize(
    "messages", [[], [1], [{"content": "x"}], [{"role": "user", "content": 1}], "x", None]
)
async def test_wrong_messages_are_named(caller, messages):
    """400 with the field."""
    body = {"model": "hinow/himax", "messages": messages}
    reply = await caller.ask("POST", "/chat/completions", json=body)

    assert reply.status == 400
    assert "messages" in reply.error["message"]


async def test_the_image_model_draws_in_a_chat(caller):
    """Its picture stands in `message.images` and can be fetched; it is billed as one picture."""
    message = (await caller.chat("A fox", model=PINNED)).json["choices"][0]["message"]
    picture = await caller.fetch(message["images"][0]["image_url"]["url"])

    assert picture.body.startswith(b"\x89PNG")
    assert caller.sandbox.billing.images == 1


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def test_tools_are_called(caller):
    """A tool is called with all required arguments, unless forbidden or just answered."""
    called = (await caller.chat("Is it raining?", tools=[TOOL])).json["choices"][0]
    forbidden = (await caller.chat("Hello", tools=[TOOL], tool_choice="none")).json["choices"][0]
    answered = (await caller.chat("Hello", {"role": "tool", "content": "sun"}, tools=[TOOL])).json["choices"][
        0
    ]

    assert called["finish_reason"] == "tool_calls"
    assert called["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert set(json.loads(called["message"]["tool_calls"][0]["function"]["arguments"])) == {"city"}
    assert forbidden["finish_reason"] == answered["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "more", [{"tools": [{"function": {}}]}, {"tools": [TOOL], "tool_choice": {"function": {"name": "other"}}}]
)
async def test_wrong_tools_are_named(caller, more):
    """400 with the field."""
    reply = await caller.chat("Hello", **more)

    assert reply.status == 400
    assert "tool" in reply.error["message"]


def chunks(body: bytes) -> list[dict]:
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


@pytest.mark.parametrize("delay", [0.0, 0.001])
async def test_a_stream_says_the_same(behave, delay):
    """Server-sent events up to [DONE], whose deltas make the whole answer; the connection stays usable."""
    async with behave(chunk_delay=delay) as caller:
        whole = (await caller.chat("Name  three")).json["choices"][0]["message"]["content"]
        reply = await caller.chat("Name  three", stream=True)

    said = chunks(reply.body)
    assert reply.headers["Content-Type"] == "text/event-stream"
    assert "Connection" not in reply.headers
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in said) == whole
    assert said[-1]["choices"][0]["finish_reason"] == "stop"
    assert said[0]["choices"][0]["delta"]["role"] == "assistant"


async def test_streamed_tool_calls_come_in_fragments(caller):
    """Fragments carry an index and join to valid arguments."""
    said = chunks((await caller.chat("Is it raining?", tools=[TOOL], stream=True)).body)
    calls = [call for chunk in said for call in chunk["choices"][0]["delta"].get("tool_calls", ())]

    assert len(calls) == 2
    assert {call["index"] for call in calls} == {0}
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"city": "sandbox"}


async def test_a_streamed_picture(caller):
    """The image model streams its picture as a delta."""
    said = chunks((await caller.chat("A fox", model=PINNED, stream=True)).body)
    images = [image for chunk in said for image in chunk["choices"][0]["delta"].get("images", ())]

    assert (await caller.fetch(images[0]["image_url"]["url"])).status == 200


async def test_a_set_reply(behave):
    """What every chat says can be set."""
    async with behave(chat_reply="Three words here") as caller:
        assert (await caller.chat("x")).json["choices"][0]["message"]["content"] == "Three words here"


async def test_the_log_has_every_request_but_no_key(caller):
    """Method, path, headers and body of what came, refused or not; never the key."""
    await caller.draw("A fox", headers={"Idempotency-Key": "k1"})
    await caller.ask("POST", "/images", key="hi_wrong", json={})
    await caller.ask("GET", "/models?x=1")

    log = caller.sandbox.log
    assert [(one.method, one.path) for one in log] == [
        ("POST", "/v1/images"),
        ("POST", "/v1/images"),
        ("GET", "/v1/models?x=1"),
    ]
    assert log[0].body["prompt"] == "A fox"
    assert log[0].headers["idempotency-key"] == "k1"
    assert log[1].body is None
    assert log[0].at <= log[1].at <= log[2].at
    assert not [one for one in log if "authorization" in one.headers or caller.sandbox.api_key in str(one)]


async def test_a_large_body_is_read_after_100_continue(caller):
    """A body of megabytes (reference images) is taken, and a caller who waits for 100 gets it."""
    parameters = {"image": "A" * 2_000_000}
    body = json.dumps({"model": "openai/gpt-image-2-edit", "prompt": "x", "parameters": parameters})
    reply = await caller.ask("POST", "/images", data=io.BytesIO(body.encode()), expect100=True)

    assert reply.status == 200
    assert caller.sandbox.log[-1].body is None
