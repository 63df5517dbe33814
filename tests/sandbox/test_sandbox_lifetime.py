"""A sandbox comes and goes without a trace, in a loop or in a thread, and answers for itself alone."""

import asyncio
import gc
import http.client
import json
import threading
import time
import urllib.request

import pytest

from hinow_async.sandbox import Behaviour, Sandbox


async def test_a_strangers_name_is_refused(behave):
    """A `Host` that is not the sandbox's own gets 421, on every path and with a good key (DNS rebinding)."""
    async with behave() as caller:
        port = caller.sandbox.origin.rpartition(":")[2]
        (url,) = await caller.urls()
        strangers = [f"evil.example:{port}", "127.0.0.1", "localhost:1", f"127.0.0.1.evil.example:{port}", ""]
        targets = [("GET", "/balance"), ("POST", "/images"), ("GET", url)]
        refused = [
            (await caller.ask(method, target, headers={"Host": host})).status
            for host in strangers
            for method, target in targets
        ]
        own = await caller.ask("GET", "/balance", headers={"Host": f"LOCALHOST:{port}"})
        missing = await caller.raw(b"GET /v1/balance HTTP/1.0\r\n\r\n")

    assert set(refused) == {421}
    assert own.status == 200
    assert b" 421 " in missing
    assert caller.sandbox.billing.requests == 1


async def test_a_relay_can_be_let_in(behave):
    """A further host, named in the behaviour, is served."""
    async with behave(hosts=["127.0.0.1:9"]) as caller:
        assert (await caller.ask("GET", "/balance", headers={"Host": "127.0.0.1:9"})).status == 200


async def test_it_listens_on_loopback_with_a_fresh_key():
    """127.0.0.1 and nothing else; two sandboxes share neither key nor address, and keys are long."""
    async with Sandbox() as one, Sandbox() as other:
        assert one.base_url.startswith("http://127.0.0.1:")
        assert one.base_url.endswith("/v1")
        assert one.base_url != other.base_url
        assert [sock.getsockname()[0] for sock in one._listener.sockets] == ["127.0.0.1"]
        assert one.api_key != other.api_key
        assert one.api_key.startswith("hi_")
        assert len(one.api_key) >= 32
        assert one.api_key not in repr(one)


async def test_nothing_is_left(behave):
    """With requests and a stream under way and an idle connection: all of it ends at once."""
    before = asyncio.all_tasks()
    threads = threading.active_count()

    def latency(body):
        return 30 if "prompt" in body else 0

    async with behave(latency=latency, chunk_delay=30) as caller:
        asking = [asyncio.create_task(caller.draw()) for _ in range(5)]
        asking.append(asyncio.create_task(caller.chat("x", stream=True)))
        await caller.ask("GET", "/balance")
        while caller.sandbox.billing.in_flight < 6:
            await asyncio.sleep(0.01)
        started = time.perf_counter()
        await caller.sandbox.aclose()
        elapsed = time.perf_counter() - started
        results = await asyncio.gather(*asking, return_exceptions=True)

    assert elapsed < 1
    assert all(isinstance(result, Exception) for result in results)
    assert caller.sandbox.billing.requests == 6
    assert caller.sandbox.billing.in_flight == 0
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert threading.active_count() == threads
    gc.collect()  # an unclosed socket or transport would be a ResourceWarning, which is an error here


async def test_a_reader_who_does_not_read_holds_nobody_up():
    """A client that takes nothing of a large answer does not keep the sandbox from closing."""
    async with Sandbox(Behaviour(chat_reply="x" * 20_000_000)) as sandbox:
        host, port = sandbox.origin.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.transport.pause_reading()
        body = b'{"model":"hinow/himax","messages":[{"role":"user","content":"x"}]}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}"
        writer.write(f"{head}\r\nAuthorization: Bearer {sandbox.api_key}\r\n\r\n".encode() + body)
        while not sandbox.billing.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        await sandbox.aclose()
        elapsed = time.perf_counter() - started
        writer.transport.abort()

    assert elapsed < 3
    assert len(asyncio.all_tasks()) == 1


async def test_it_can_be_started_again(behave):
    """The same address, key, accounts and links; nothing answers in between."""
    async with behave() as caller:
        sandbox, address = caller.sandbox, caller.sandbox.base_url
        (url,) = await caller.urls()
        await caller.fetch(url)
        await sandbox.aclose()
        await sandbox.aclose()
        with pytest.raises(OSError, match="onnect"):
            await caller.draw()
        await sandbox.start()

        assert sandbox.base_url == address
        assert (await caller.fetch(url)).status == 200
        assert (await caller.urls("An owl", num_images=2))[0] != url
        with pytest.raises(RuntimeError, match="already running"):
            await sandbox.start()
    assert sandbox.billing.requests == 2


async def test_a_taken_port_is_said():
    """An OSError; a sandbox that did not start has no address and can be closed all the same."""
    async with Sandbox() as sandbox:
        second = Sandbox(port=int(sandbox.origin.rpartition(":")[2]))
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.aclose()
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = Sandbox().base_url


def ask(sandbox: Sandbox, path: str, body: object = None) -> http.client.HTTPResponse:
    request = urllib.request.Request(sandbox.base_url + path, method="GET" if body is None else "POST")
    request.add_header("Authorization", f"Bearer {sandbox.api_key}")
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(request, data, timeout=5)


def test_in_a_thread_for_synchronous_code():
    """The same attributes; it can be changed from outside, and ends with the block."""
    threads = threading.active_count()
    with Sandbox.in_thread(Behaviour(picture_size=64)) as sandbox:
        body = {"model": "openai/gpt-image-2", "prompt": "A fox", "parameters": {"num_images": 2}}
        with ask(sandbox, "/images", body) as answer:
            url = json.load(answer)["data"]["urls"][1]
        with urllib.request.urlopen(url, timeout=5) as answer:
            picture = answer.read()
        sandbox.change(balance=1)
        with ask(sandbox, "/balance") as answer:
            balance = json.load(answer)["data"]["balance"]

    assert picture.startswith(b"\x89PNG")
    assert (sandbox.billing.images, sandbox.behaviour.picture_size, len(sandbox.log)) == (2, 64, 3)
    assert balance == 0.826
    assert threading.active_count() == threads
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_a_thread_that_cannot_start_says_so():
    """The error of the start is raised where it was asked for."""
    with Sandbox.in_thread() as sandbox:
        port = int(sandbox.origin.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), Sandbox.in_thread(port=port):
            pass


async def test_latency_and_jitter(behave):
    """A number, or whatever a callable makes of the request; jitter adds at most so much."""
    seen = []

    def latency(body):
        seen.append(body["prompt"])
        return 0.1

    async with behave(latency=latency, latency_jitter=0.05) as caller:
        started = time.perf_counter()
        await caller.draw("A fox")
        elapsed = time.perf_counter() - started

    assert seen == ["A fox"]
    assert elapsed >= 0.1
