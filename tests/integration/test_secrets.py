"""The key: nowhere but in the Authorization header of its own service."""

import asyncio
import copy
import logging
import pickle
import pprint
import traceback

import attrs
import pytest
from rawserver import OK, RawServer, answer, close_after_request, http, in_pieces

from hinow_async import Account, AsyncHinow, Budget, ConfigurationError, HinowError, Network, RetryPolicy

KEY = "hi_SECRET" + "x7" * 15
QUICK = RetryPolicy(attempts=2, wait_initial=0)


def chain(error):
    """The error and all that it came from."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def shown(error):
    """All that a reporter of crashes would keep, locals of every frame of ours included."""
    texts = [pickle.dumps(error).decode("latin-1")]
    for link in chain(error):
        report = traceback.TracebackException.from_exception(link, capture_locals=True)
        for frame in report.stack:
            if "/tests/" in frame.filename:
                frame.locals = None
        texts += ["".join(report.format(chain=False)), repr(link), str(link), repr(vars(link))]
    return "\n".join(texts)


async def test_clients_accounts_and_options_do_not_show_the_key():
    """Neither repr, str, format, asdict, copy nor pprint."""
    account = Account(KEY, name="one")
    client = AsyncHinow(accounts=[account, Account(KEY + "2", name="two")])
    things = [account, client, client.images, client.chat, client.models, client._runtime, client.stats()]
    things += [client._runtime.engine, client._runtime.engine.pool, vars(client)]
    texts = [
        text
        for thing in things
        for text in (repr(thing), str(thing), f"{thing}", f"{thing!r:>5}", pprint.pformat(thing))
    ]
    texts += [repr(attrs.asdict(account)), repr(copy.copy(account)), repr(copy.deepcopy(account))]
    texts.append(repr(attrs.evolve(account, name="three")))
    await client.aclose()

    assert not [text for text in texts if "SECRET" in text]


@pytest.mark.parametrize("make", [lambda: Account(KEY), lambda: AsyncHinow(api_key=KEY)])
def test_the_key_is_never_pickled(make):
    """Other processes read it from their environment."""
    with pytest.raises(TypeError):
        pickle.dumps(make())


async def echoing(talk):
    request = await talk.request()
    said = request.headers["authorization"]
    await talk.send(
        http(401, {"error": {"message": said, "code": said, "type": said}}, {"x-request-id": said})
    )


async def echoing_success(talk):
    request = await talk.request()
    await talk.send(http(200, {"success": False, "message": request.headers["authorization"]}))


async def echoing_reason(talk):
    request = await talk.request()
    await talk.send(f"HTTP/1.1 200 {request.headers['authorization']}\r\n\xff: \r\n\r\n".encode("latin-1"))


async def echoing_location(talk):
    request = await talk.request()
    where = {"Location": f"https://evil.example/?{request.headers['authorization']}"}
    await talk.send(http(302, b"", where))


FAILURES = {
    "echoed in an error": echoing,
    "echoed in a success": echoing_success,
    "echoed in a bad head": echoing_reason,
    "echoed in a location": echoing_location,
    "refused": answer(http(400, {"message": "no"})),
    "failed": answer(http(500, b"<html>")),
    "cut": in_pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "no HTTP": in_pieces(b"hello\r\n\r\n"),
    "closed": close_after_request,
}


@pytest.mark.parametrize("script", FAILURES.values(), ids=FAILURES)
async def test_no_error_shows_the_key(script):
    """Over the whole chain of causes, with captured locals, pickled, and in what was logged."""
    async with (
        RawServer(script) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url, retry=QUICK) as client,
    ):
        with pytest.raises(HinowError) as caught:
            await client.images.generate("A lighthouse")
        error = caught.value
        texts = shown(error)
        with pytest.raises(HinowError) as caught:
            await client.models.list()
        texts += shown(caught.value)

    assert "SECRET" not in texts
    assert len(chain(error)) == 1
    assert pickle.loads(pickle.dumps(error)).args == error.args


async def test_connection_errors_do_not_show_the_key():
    """A refused connection, over plain HTTP and TLS."""
    for base in ("http://127.0.0.1:1", "https://127.0.0.1:1"):
        async with AsyncHinow(api_key=KEY, base_url=base, retry=QUICK) as client:
            with pytest.raises(HinowError) as caught:
                await client.images.generate("A lighthouse")

        assert "SECRET" not in shown(caught.value)


async def test_the_key_is_not_logged(caplog):
    """At DEBUG, of ourselves, aiohttp and asyncio, with the loop in debug mode."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    try:
        async with (
            RawServer(answer(http(503, b"", {"retry-after-ms": "1"}), OK)) as server,
            AsyncHinow(api_key=KEY, base_url=server.base_url, budget=Budget(1, usd_per_image=1)) as client,
        ):
            await client.images.generate("A lighthouse of prompts")
    finally:
        loop.set_debug(False)

    assert caplog.records
    assert "SECRET" not in caplog.text
    ours = [record for record in caplog.records if record.name.startswith("hinow_async")]
    assert not [
        record for record in ours if record.levelno > logging.DEBUG and "prompts" in record.getMessage()
    ]


async def test_results_hold_no_key(client, sandbox):
    """Neither pickled nor shown, though they refer to their client."""
    result = await client.images.generate("A lighthouse")
    completion = await client.chat.completions.create("Hello", model="hinow/himax")

    for value in (result, completion, result.images[0], result.call):
        assert sandbox.api_key not in repr(value)
        assert sandbox.api_key.encode() not in pickle.dumps(value)
    assert pickle.loads(pickle.dumps(result)) == result


BAD_KEYS = [
    "",
    "   ",
    "hi_SECRET\nX: y",
    "hi_SECRET key",
    "hi_SECRET\x00",
    "hi_SECRETä",
    "hi_SECRET\u202e",
    7,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_cannot_be_sent_is_refused_unseen(key, monkeypatch):
    """A ConfigurationError that does not print it, whichever way it comes."""
    makers = [lambda: AsyncHinow(api_key=key), lambda: Account(key)]
    if isinstance(key, str) and "\x00" not in key:
        monkeypatch.setenv("HINOW_API_KEY", key)
        makers.append(AsyncHinow)
    for make in makers:
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "SECRET" not in shown(caught.value)


async def test_blanks_around_a_key_are_stripped(monkeypatch):
    """A newline at the end of a file is no part of it."""
    monkeypatch.setenv("HINOW_API_KEY", f"  {KEY}\n")
    async with RawServer(answer(OK)) as server, AsyncHinow(base_url=server.base_url) as client:
        await client.images.generate("A lighthouse")

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_another_port_of_the_same_host_is_another_place():
    """A picture there is fetched without the key."""
    async with RawServer(answer(http(404))) as files:
        urls = {"data": {"urls": [f"{files.origin}/a.png"]}}
        async with (
            RawServer(answer(http(200, urls))) as server,
            AsyncHinow(
                api_key=KEY, base_url=server.base_url, network=Network(headers={"X-A": "b"})
            ) as client,
        ):
            result = await client.images.generate("A lighthouse")
            with pytest.raises(HinowError):
                await result.images[0].read()

    assert files.connections == 0
