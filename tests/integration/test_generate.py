"""One picture from request to result: what is sent, and what is made of each form of answer."""

import asyncio
import base64

import pytest
from rawserver import KEY, OK, URL, RawServer, answer, http, pictures

from hinow_async import APIResponseError, AsyncHinow, ImageRequest, Network, __version__
from hinow_async._models.known import PINNED_MODEL

PNG = base64.b64encode(b"\x89PNG").decode()


async def generate(raw: bytes, **options):
    async with RawServer(answer(raw)) as server, AsyncHinow(api_key=KEY, base_url=server.base_url) as client:
        return await client.images.generate("A lighthouse", **options)


async def test_what_is_asked_reaches_the_service_and_what_it_draws_comes_back(client, sandbox):
    """The options travel in `parameters`, and the answer is joined with its request."""
    result = await client.images.generate("A lighthouse", num_images=3, quality="low", resolution="1k")

    assert sandbox.log[-1].body == {
        "model": PINNED_MODEL,
        "prompt": "A lighthouse",
        "parameters": {"quality": "low", "resolution": "1k", "num_images": 3},
    }
    assert [image.index for image in result.images] == [0, 1, 2]
    assert all(image.url.startswith(sandbox.origin) for image in result.images)
    assert (result.model, result.provider) == (PINNED_MODEL, "sandbox")
    assert result.request == ImageRequest("A lighthouse", num_images=3, quality="low", resolution="1k")
    assert sandbox.billing.images == 3


async def test_without_options_no_parameters_are_sent(client, sandbox):
    """Only what the caller set travels."""
    await client.images.generate("A lighthouse")

    assert sandbox.log[-1].body == {"model": PINNED_MODEL, "prompt": "A lighthouse"}


async def test_keywords_override_the_fields_of_a_request(client, sandbox):
    """What is said last holds; the other fields of the request stay."""
    request = ImageRequest("A lighthouse", quality="low", num_images=2)

    result = await client.images.generate(request, num_images=1)

    assert result.request == ImageRequest("A lighthouse", quality="low", num_images=1)


@pytest.mark.parametrize("form", ["envelope", "bare", "openai", "openai_b64", "data_uris"])
@pytest.mark.parametrize("status", [200, 201, 202])
async def test_every_form_of_answer_is_read(client, sandbox, form, status):
    """Envelope, bare data, OpenAI's form, base64 and data: URIs give readable pictures, under any 2xx."""
    sandbox.change(answer_form=form, status=status)

    result = await client.images.generate("A lighthouse", num_images=2)

    assert [(await image.read())[:4] for image in result.images] == [b"\x89PNG"] * 2


async def test_unknown_fields_are_kept():
    """What this library does not know lies in `.extra` of the result and of the picture."""
    raw = {
        "success": True,
        "trace": "t-1",
        "data": {"urls": [{"url": URL, "seed": 7}], "model": "m", "cost": {"usd": 1}},
    }

    result = await generate(http(200, raw))

    assert result.extra == {"trace": "t-1", "cost": {"usd": 1}}
    assert result.images[0].extra == {"seed": 7}
    assert result.provider is None


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_all_delivered_pictures_are_kept(count):
    """Fewer or more pictures than asked for is a success."""
    result = await generate(http(200, pictures(count)), num_images=2)

    assert len(result.images) == count


async def test_mixed_urls_and_base64():
    """Pictures of one answer may come in different ways."""
    raw = {"created": 1, "data": [{"url": URL}, {"b64_json": PNG}, f"data:image/png;base64,{PNG}"]}

    result = await generate(http(200, raw))

    assert [image.url for image in result.images] == [URL, None, None]
    assert [image.data for image in result.images] == [None, b"\x89PNG", b"\x89PNG"]
    assert result.extra == {"created": 1}


async def test_the_call_is_recorded(client):
    """The record says what was tried, by whom, for how much, under which ids."""
    result = await client.images.generate("A lighthouse", num_images=2, idempotency_key="mine-1")
    call = result.call

    assert call.request_id.startswith("req_")
    assert (call.attempts, call.unknown_outcomes, call.account) == (1, 0, "default")
    assert call.estimated_usd == 0.174
    assert call.idempotency_key == "mine-1"
    assert 0 <= call.queued <= call.elapsed


async def test_request_id_comes_from_either_header():
    """`request-id` serves where `x-request-id` is missing."""
    result = await generate(http(200, pictures(), {"request-id": "r-9"}))

    assert result.call.request_id == "r-9"


async def test_an_unknown_model_without_a_price_has_no_estimate():
    """Nobody knows what it costs, so nothing is estimated."""
    result = await generate(OK, model="some/model", extra={"n": 2})

    assert result.call.estimated_usd is None


async def test_headers_of_a_request():
    """Each header of ours is sent once, the caller's beside them."""
    async with (
        RawServer(answer(OK)) as server,
        AsyncHinow(
            api_key=KEY,
            base_url=server.base_url,
            network=Network(headers={"X-Team": "sea", "user-agent": "mine", "accept": "text/plain"}),
        ) as client,
    ):
        await client.images.generate("A lighthouse", headers={"X-Trace": "t"})
    (sent,) = server.requests

    assert sent.line == "POST /v1/images HTTP/1.1"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert (sent.headers["x-team"], sent.headers["x-trace"]) == ("sea", "t")
    assert len(sent.headers["idempotency-key"]) == 32
    assert len(set(sent.names)) == len(sent.names)


async def test_user_agent_names_the_library():
    """The service can tell us from others."""
    async with (
        RawServer(answer(OK)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        await client.images.generate("A lighthouse")

    assert server.requests[0].headers["user-agent"] == f"hinow-async/{__version__}"
    assert server.requests[0].headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "name", ["Authorization", "Idempotency-Key", "Host", "Expect", "Content-Length", "Cookie"]
)
async def test_headers_that_are_ours_are_refused(client, sandbox, name):
    """A header that would change who pays, where it goes or how it is framed is never sent."""
    with pytest.raises(ValueError, match=name):
        await client.images.generate("A lighthouse", headers={name: "x"})

    assert sandbox.billing.received == 0


@pytest.mark.parametrize(
    "headers", [{"X-A": "b\r\nX-C: d"}, {"X A": "b"}, {"X-A\r\n": "b"}, {"": "b"}, {"X": 1}]
)
async def test_headers_cannot_break_out_of_their_line(client, sandbox, headers):
    """Control characters in names and values are a ValueError."""
    with pytest.raises(ValueError, match="header"):
        await client.images.generate("A lighthouse", headers=headers)

    assert sandbox.billing.received == 0


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "ä", "k" * 256, 7])
async def test_impossible_idempotency_keys_are_refused(client, sandbox, key):
    """Before anything is sent."""
    with pytest.raises(ValueError, match="idempotency_key"):
        await client.images.generate("A lighthouse", idempotency_key=key)

    assert sandbox.billing.received == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"quality": "best"}, "quality must be one of low, medium, high"),
        ({"num_images": 11}, "num_images must be a whole number from 1 to 10"),
        ({"num_images": True}, "num_images"),
        ({"aspect_ratio": "21:9"}, "aspect_ratio"),
        ({"model": "a//b"}, "model"),
        ({"extra": {"quality": "low"}}, "extra may not repeat 'quality'"),
        ({"extra": {"f": {1, 2}}}, "extra"),
        ({"extra": {"f": float("nan")}}, "extra"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "timeout"),
    ],
)
async def test_impossible_values_are_named_before_anything_is_sent(client, sandbox, options, named):
    """The message names the field; the service hears nothing."""
    with pytest.raises(ValueError, match=named):
        await client.images.generate("A lighthouse", **options)

    assert sandbox.billing.received == 0


async def test_a_prompt_cut_in_an_emoji_is_sent():
    """A lone surrogate is no reason to fail: JSON can carry it."""
    async with (
        RawServer(answer(OK)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        await client.images.generate("A cat \ud83d")

    assert server.requests[0].json["prompt"] == "A cat \ud83d"


async def test_each_call_has_a_key_of_its_own(client, sandbox):
    """Two calls are two purchases."""
    await asyncio.gather(*(client.images.generate("A lighthouse") for _ in range(20)))

    assert sorted(sandbox.billing.by_key.values()) == [1] * 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_never_followed(status):
    """Neither the body nor the key goes anywhere else, whatever the answer says."""
    async with RawServer(answer(OK)) as elsewhere:
        location = http(status, b"", {"Location": f"{elsewhere.base_url}/images"})
        with pytest.raises(APIResponseError, match="redirect") as caught:
            await generate(location)

    assert elsewhere.connections == 0
    assert (caught.value.outcome, caught.value.status, caught.value.call.attempts) == ("refused", status, 1)


async def test_saving_tells_how_far_it_is(client, tmp_path):
    """Bytes done and in all, over all pictures of the result; both end at what lies on disk."""
    told = []
    result = await client.images.generate("A lighthouse", num_images=3)
    saved = await result.save(tmp_path, on_progress=lambda done, total: told.append((done, total)))

    size = sum(picture.size_bytes for picture in saved)
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_a_progress_callback_that_raises_is_ignored(client, tmp_path, caplog):
    """It is logged, and the pictures are saved all the same."""

    def broken(done, total):
        raise RuntimeError("no screen")

    result = await client.images.generate("A lighthouse")
    saved = await result.save(tmp_path, on_progress=broken)

    assert saved[0].path.exists()
    assert "on_progress failed" in caplog.text


async def test_a_cancelled_save_has_ended_when_it_says_so(sandbox, client, tmp_path):
    """Its downloads are not left to clean up later: no task and no temporary file is there any more."""
    sandbox.change(bandwidth=200)
    result = await client.images.generate("A lighthouse", num_images=3)
    saving = asyncio.create_task(result.save(tmp_path))
    async with asyncio.timeout(10):
        while len(list(tmp_path.glob(".*.part"))) < 3:
            await asyncio.sleep(0.01)
    saving.cancel()
    await asyncio.wait([saving])

    assert saving.cancelled()
    assert list(tmp_path.iterdir()) == []
    assert [task for task in asyncio.all_tasks() if "Downloader" in repr(task)] == []
