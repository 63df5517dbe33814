"""Pictures in chats: one's own that are sent along, and the answer's that are kept."""

import base64
import os
import pickle

import pytest
from rawserver import KEY, RawServer, answer, http

from hinow_async import AsyncHinow, ConfigurationError, Message, UnsafeURLError
from hinow_async.sandbox import Behaviour, Sandbox

PINNED = "openai/gpt-image-2-2026-04-21"
HIMAX = {"model": "hinow/himax"}
NAN = float("nan")


@pytest.fixture
async def picture(client, tmp_path):
    result = await client.images.generate("A fox")
    return (await result.save(tmp_path))[0].path


async def sent(client, sandbox, content):
    await client.chat.completions.create([Message("user", content)], **HIMAX)
    return sandbox.log[-1].body["messages"][0]["content"]


async def test_files_and_bytes_become_data_uris(client, sandbox, picture):
    """As parts of their own, and in the place of a part's URL; other parts stay as they are."""
    uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    detailed = {"type": "image_url", "image_url": {"url": picture, "detail": "low"}}
    odd = {"type": "odd", "x": 1}

    content = await sent(client, sandbox, ["What is it?", picture, picture.read_bytes(), detailed, odd])

    assert content == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "image_url", "image_url": {"url": uri, "detail": "low"}},
        odd,
    ]


async def test_a_stream_sends_pictures_too(client, sandbox, picture):
    """By the same way."""
    messages = {"role": "user", "content": ["What is it?", picture]}
    async with client.chat.completions.stream(messages, **HIMAX) as stream:
        await stream.completion()

    assert sandbox.log[-1].body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "text", "cut", "empty", "large", "nu\0l"])
async def test_what_is_no_whole_picture_is_refused(client, sandbox, picture, tmp_path, kind):
    """Before anything is sent; the message names the file."""
    path = tmp_path / f"{kind}.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind not in {"missing", "nu\0l"}:
        data = {"text": b"no picture", "cut": picture.read_bytes()[:-4], "empty": b""}.get(kind)
        path.write_bytes(picture.read_bytes() + b"\0" * 21 * 2**20 if data is None else data)
    before = sandbox.billing.received

    with pytest.raises(ValueError, match=rf"messages\[0\].*{kind}\.png"):
        await sent(client, sandbox, ["What is it?", path])

    assert sandbox.billing.received == before


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"content": "x"}], r"messages\[0\]\.role"),
        ([{"role": 7, "content": "x"}], r"messages\[0\]\.role"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": 7}], r"messages\[1\]\.content"),
        ([{"role": "user", "content": ["x", 7]}], r"messages\[0\]\.content\[1\]"),
        ([{"role": "user", "content": "x", "tool_calls": "f"}], r"messages\[0\]\.tool_calls"),
        ([7], r"messages\[0\]"),
    ],
)
async def test_wrong_messages_are_named(client, sandbox, messages, said):
    """By their place."""
    with pytest.raises(ValueError, match=said):
        await client.chat.completions.create(messages, **HIMAX)
    assert sandbox.billing.received == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 1.5), ("seed", True), ("stop", 7), ("stop", [7]), ("tools", ["f"]), ("tools", 7),
     ("response_format", "json"), ("tool_choice", 7), ("temperature", -1), ("temperature", NAN),
     ("top_p", 1.1), ("top_p", NAN), ("repetition_penalty", "much"), ("repetition_penalty", NAN),
     ("max_tokens", 0), ("max_tokens", 1.5)],
)  # fmt: skip
async def test_wrong_options_are_named(client, sandbox, field, value):
    """With what would be right."""
    with pytest.raises(ValueError, match=f"{field} must be"):
        await client.chat.completions.create("Hello", **HIMAX, **{field: value})
    assert sandbox.billing.received == 0


@pytest.mark.parametrize(
    ("options", "field"),
    [({"response_format": {"x": b"1"}}, "response_format"), ({"tools": [{"x": {1}}]}, "tools"),
     ({"extra": {"top_k": NAN}}, "top_k"), ({"extra": {"user": object()}}, "user")],
)  # fmt: skip
async def test_what_is_not_json_is_named(client, sandbox, options, field):
    """By its field, before anything is sent."""
    with pytest.raises(ValueError, match=rf"^{field}: not JSON: "):
        await client.chat.completions.create("Hello", **HIMAX, **options)
    assert sandbox.billing.received == 0


@pytest.mark.parametrize("form", ["envelope", "data_uris"])
@pytest.mark.parametrize("streams", [False, True])
async def test_pictures_of_an_answer_are_saved(tmp_path, form, streams):
    """Linked or inline, whole or streamed."""
    async with (
        Sandbox(Behaviour(picture_size=32, answer_form=form)) as sandbox,
        AsyncHinow(api_key=sandbox.api_key, base_url=sandbox.base_url) as client,
    ):
        if streams:
            reply = await (
                await client.chat.completions.create("A fox", model=PINNED, stream=True)
            ).completion()
        else:
            reply = await client.chat.completions.create("A fox", model=PINNED)
        (saved,) = await reply.save(tmp_path, name="fox")
        again = await client.images.save(pickle.loads(pickle.dumps(reply)), tmp_path, name="fox")

        assert saved.path == tmp_path / "fox-0.png"
        assert again == (saved,)
        assert await reply.images[0].read() == saved.path.read_bytes()
        with pytest.raises(ConfigurationError, match=r"client\.images\.save"):
            await pickle.loads(pickle.dumps(reply)).save(tmp_path)


async def test_links_of_a_chat_are_trusted_no_more_than_others(tmp_path):
    """A model can be made to say anything."""
    message = {"role": "assistant", "content": "![x](http://169.254.169.254/latest) ![y](file:///etc/passwd)"}
    raw = http(200, {"choices": [{"index": 0, "message": message}]})
    async with (
        RawServer(answer(raw)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        reply = await client.chat.completions.create("Hello", **HIMAX)
        assert len(reply.images) == 2
        with pytest.raises(UnsafeURLError):
            await reply.save(tmp_path)

    assert list(tmp_path.iterdir()) == []
