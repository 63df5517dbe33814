"""Answers that no service should give, and what a batch makes of them."""

import base64
import io
import json

import pytest
from PIL import Image
from rawserver import KEY, RawServer, answer, http

from hinow_async import APIResponseError, AsyncHinow, ImageRequest
from hinow_async.batch import generate_batch
from hinow_async.batch.verify import verify_batch

pytestmark = pytest.mark.usefixtures("leak_guard")


def inline():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def test_half_an_emoji_in_an_answer_stops_no_batch(tmp_path):
    """No database takes a lone surrogate: the picture is paid for, and is kept like the one beside it."""
    data = {"urls": [inline()], "model": "\ud800x", "provider": "half \udc00"}
    async with (
        RawServer(answer(http(200, {"success": True, "data": data}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        report = await generate_batch(client, ["one", "two"], tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text("utf-8").splitlines()]
    assert (report.saved, report.stopped) == (2, None)
    assert [(line["model"], line["provider"]) for line in lines] == [("?x", "half ?")] * 2


async def batch_over(server, folder, count=1, **options):
    """A batch of so many requests for three pictures."""
    async with AsyncHinow(api_key=KEY, base_url=server.base_url) as client:
        requests = [ImageRequest(f"p{number}", num_images=3) for number in range(count)]
        return await generate_batch(client, requests, folder, **options)


@pytest.mark.parametrize("odd", [None, 7, {"url": None}, ["x"]], ids=str)
async def test_one_odd_picture_does_not_take_the_others_along(tmp_path, odd):
    """They are paid for: they are saved, and the answer is not bought again, even with consent."""
    data = {"urls": [inline(), odd, inline()]}
    async with RawServer(answer(*[http(200, {"data": data})] * 2)) as server:
        report = await batch_over(server, tmp_path)
        again = await batch_over(server, tmp_path, resend_unknown=True)
        posts = len([request for request in server.requests if "POST" in request.line])
    assert (report.images, report.lost, report.maybe_paid) == (2, 1, 0)
    assert (again.lost, posts) == (1, 1)
    assert len(list((tmp_path / "images").glob("*.png"))) == 2


async def test_an_answer_without_any_picture_is_none():
    """Nothing says that it was paid for, nor that it was not."""
    async with (
        RawServer(answer(http(200, {"data": {"urls": [None, 7]}}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        with pytest.raises(APIResponseError, match="no picture of the answer is a URL or base64") as caught:
            await client.images.generate("p")
    assert caught.value.outcome == "unknown"


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "error": {"message": f"bad key {KEY}"}},
        {"data": {"urls": [inline()], "model": f"m {KEY}", "note": KEY}},
    ],
    ids=["refused", "answered"],
)
async def test_a_key_that_is_echoed_in_a_success_is_kept_nowhere(tmp_path, body):
    """Not in the ledger, not in the manifest."""
    async with RawServer(answer(http(200, body))) as server:
        await batch_over(server, tmp_path)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert found == []


async def test_a_name_of_megabytes_makes_no_line_that_cannot_be_read(tmp_path):
    """A manifest's lines have a greatest length."""
    data = {"urls": [inline()], "model": "m" * 17_000_000}
    async with RawServer(answer(http(200, {"data": data}))) as server:
        await batch_over(server, tmp_path)
    assert (await verify_batch(tmp_path)).is_clean
    assert (tmp_path / "manifest.jsonl").stat().st_size < 2000


def chat(message, **choice):
    """An answer with one choice."""
    return http(200, {"choices": [{"message": message, "finish_reason": "stop", **choice}]})


async def test_a_part_whose_type_is_no_text_is_no_picture():
    """The answer is paid for, and given."""
    part = {"type": ["text"], "text": "paid"}
    async with (
        RawServer(answer(*[chat({"content": [part]})] * 2)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        assert (await client.chat.completions.create("q", model="a/b")).text == "paid"
        async with client.chat.completions.stream("q", model="a/b") as stream:
            assert (await stream.completion()).text == "paid"


@pytest.mark.parametrize("delta", [None, {}, "", [], {"content": "other"}], ids=str)
async def test_a_whole_answer_with_a_delta_beside_its_message_is_read_by_its_message(delta):
    """As one that was asked for whole is."""
    async with (
        RawServer(answer(chat({"content": "paid"}, delta=delta))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
        client.chat.completions.stream("q", model="a/b") as stream,
    ):
        assert (await stream.completion()).text == "paid"


@pytest.mark.parametrize("end", ["[DONE]", '{"error":{"message":"boom"}}'])
async def test_what_is_nested_deeply_in_a_stream_hides_nothing(end):
    """Neither the words, nor the error that the service ends with."""
    deep = '{"a":' * 900 + "1" + "}" * 900
    first = '{"choices":[{"delta":{"content":"paid","x":' + deep + '},"finish_reason":"stop"}]}'
    raw = f"data: {first}\n\ndata: {end}\n\n".encode()
    async with (
        RawServer(answer(http(200, raw, {"Content-Type": "text/event-stream"}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        stream = client.chat.completions.stream("q", model="a/b")
        if end == "[DONE]":
            async with stream as words:
                assert (await words.completion()).text == "paid"
            return
        with pytest.raises(APIResponseError, match="boom") as caught:
            async with stream as words:
                await words.completion()
    assert caught.value.partial.text == "paid"
