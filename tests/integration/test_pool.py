"""The sessions: loops that come and go, clients that are forgotten, forks, proxies, addresses."""

import asyncio
import base64
import contextlib
import gc
import os
import resource
import signal
import socket
import ssl
import threading
import time
import warnings

import pytest
import trustme
from rawserver import KEY, OK, RawServer, answer, stall

from hinow_async import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncHinow,
    ConfigurationError,
    Limits,
    Network,
    RetryPolicy,
    Timeouts,
)
from hinow_async.sandbox import Behaviour, Sandbox

QUICK = RetryPolicy(wait_initial=0)


@pytest.fixture
def threaded():
    with Sandbox.in_thread(Behaviour(picture_size=32)) as sandbox:
        yield sandbox


def client_of(sandbox, **options):
    return AsyncHinow(api_key=sandbox.api_key, base_url=sandbox.base_url, **options)


def test_a_client_is_used_by_one_loop_after_another(threaded):
    """`asyncio.run` twice, without closing between: no warning, no broken session."""
    client = client_of(threaded)

    for _ in range(3):
        result = asyncio.run(client.images.generate("A lighthouse"))
        assert result.images
        gc.collect()

    assert threaded.billing.requests == 3
    assert client.stats().in_flight == 0
    asyncio.run(client.aclose())


async def test_a_closed_client_leaves_no_timer_behind(sandbox):
    """A loop that lives on is not held up by it at its end, and holds nothing of it until then."""
    before = timers_of(asyncio.get_running_loop())
    async with AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client:
        await client.images.generate("A lighthouse", timeout=60)
    assert timers_of(asyncio.get_running_loop()) <= before


def timers_of(loop):
    """What a loop still has to ring."""
    return {handle._callback.__qualname__ for handle in loop._scheduled if not handle.cancelled()}


def test_the_response_timeout_holds_in_every_loop(threaded):
    """The timer of a loop that has ended watches over nothing; the next loop has its own."""
    client = client_of(threaded, timeouts=Timeouts(response=0.2))
    asyncio.run(client.images.generate("A lighthouse"))
    threaded.change(latency=3)

    with pytest.raises(APITimeoutError, match=r"within 0\.2 s"):
        asyncio.run(client.images.generate("A lighthouse", timeout=2))

    asyncio.run(client.aclose())


def test_a_loop_that_ends_with_calls_in_flight_leaves_a_usable_client(threaded):
    """Waiters and grants of the dead loop are written off."""
    threaded.change(latency=5)
    client = client_of(threaded)

    async def leave():
        asyncio.create_task(client.images.generate("A lighthouse"))  # noqa: RUF006 - it is left on purpose
        await asyncio.sleep(0.1)

    asyncio.run(leave())
    threaded.change(latency=0)

    assert asyncio.run(client.images.generate("Another")).images
    assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
    asyncio.run(client.aclose())


async def test_two_running_loops_at_once_are_refused(client):
    """A session belongs to one loop: the second is told so."""
    await client.images.generate("A lighthouse")
    errors = []

    def elsewhere():
        try:
            asyncio.run(client.images.generate("A lighthouse"))
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)
    thread.join()

    assert "another event loop" in str(errors[0])
    assert (await client.images.generate("A lighthouse")).images


async def test_a_client_that_is_forgotten_gives_no_warning(sandbox):
    """Its sessions are closed when it is collected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = client_of(sandbox)
        await client.images.generate("A lighthouse")
        del client
        gc.collect()
        await asyncio.sleep(0.05)
        gc.collect()

    assert [str(warning.message) for warning in caught] == []


def test_a_client_that_outlives_its_loop_and_is_forgotten_gives_no_warning(threaded):
    """The loop closed its sessions when it ended."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = client_of(threaded)
        asyncio.run(client.images.generate("A lighthouse"))
        del client
        gc.collect()

    assert [str(warning.message) for warning in caught] == []


async def test_closing_twice_is_fine_and_calls_after_it_are_refused(connect, sandbox):
    """Every kind of call says that the client is closed."""
    client = connect()
    result = await client.images.generate("A lighthouse")
    await client.aclose()
    await client.aclose()

    for call in (
        client.images.generate("A lighthouse"),
        client.chat.completions.create("Hello", model="hinow/himax"),
        client.models.list(),
        client.balance(),
        result.images[0].read(),
        client.with_options(timeout=1).images.generate("A lighthouse"),
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            await call
    with pytest.raises(ConfigurationError, match="closed"):
        async with client.images.generate_many(["One"]):
            pass
    assert sandbox.billing.requests == 1
    assert "closed" in repr(client)


async def test_closing_a_view_closes_nothing(client):
    """Only the client itself owns its connections."""
    async with client.with_options(timeout=5) as view:
        await view.images.generate("A lighthouse")

    assert (await client.images.generate("A lighthouse")).images


async def test_closing_under_calls_in_flight(connect, sandbox):
    """They fail as what they are: maybe billed; those that wait are not sent; nothing hangs."""
    sandbox.change(latency=5)
    client = connect(limits=Limits(max_in_flight=1), retry=QUICK)
    tasks = [asyncio.create_task(client.images.generate(name)) for name in ("First", "Second")]
    while sandbox.billing.in_flight < 1:
        await asyncio.sleep(0.01)
    await client.aclose()
    async with asyncio.timeout(5):
        first, second = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(first, APIConnectionError)
    assert first.outcome == "unknown"
    assert isinstance(second, ConfigurationError)
    assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
    assert set(sandbox.billing.by_prompt) == {"First"}


def test_a_forked_child_makes_its_own_connections(threaded):
    """And leaves its parent's alone."""
    client = client_of(threaded)

    async def parent():
        await client.images.generate("Parent")
        pid = os.fork()
        if not pid:
            code = 1
            with contextlib.suppress(BaseException):
                asyncio.events._set_running_loop(None)
                code = 0 if asyncio.run(client.images.generate("Child")).images else 2
            os._exit(code)
        for _ in range(300):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            await asyncio.sleep(0.02)
        else:
            os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, 0)
        await client.images.generate("Parent again")
        await client.aclose()
        return os.waitstatus_to_exitcode(status)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        assert asyncio.run(parent()) == 0
    assert threaded.billing.by_prompt == {"Parent": 1, "Child": 1, "Parent again": 1}


async def test_connections_are_kept(client, sandbox):
    """Calls in a row share one."""
    async with RawServer(answer(OK)) as server, AsyncHinow(api_key=KEY, base_url=server.base_url) as client:
        for _ in range(10):
            await client.images.generate("A lighthouse")

    assert (server.connections, len(server.requests)) == (1, 10)


async def test_connections_come_from_the_local_address():
    """As the caller chose."""
    peers = []

    async def note(talk):
        peers.append(talk.writer.get_extra_info("peername")[0])
        await answer(OK)(talk)

    async with (
        RawServer(note) as server,
        AsyncHinow(
            api_key=KEY, base_url=server.base_url, network=Network(local_address="127.0.0.5")
        ) as client,
    ):
        await client.images.generate("A lighthouse")

    assert peers == ["127.0.0.5"]


async def test_sockets_are_kept_alive_through_nats():
    """TCP keepalive after 30 s of silence, every 15 s."""
    async with (
        RawServer(answer(OK)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        await client.images.generate("A lighthouse")
        connector = client._runtime.engine.pool.api(0).connector
        ((protocol, _),) = next(iter(connector._conns.values()))
        sock = protocol.transport.get_extra_info("socket")

        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15


async def test_the_accounts_extra_headers_stay_with_the_api(client, sandbox, connect):
    """Downloads carry neither them nor the key."""
    client = connect(network=Network(headers={"X-Team": "sea"}))
    result = await client.images.generate("A lighthouse")
    await result.images[0].read()

    api, download = list(sandbox.log)[-2:]
    assert api.headers["x-team"] == "sea"
    assert "x-team" not in download.headers
    assert "authorization" not in download.headers


# -- proxies -----------------------------------------------------------------------------------------------


class Proxy(RawServer):
    """Understands CONNECT and absolute-form requests; asks for a password when it has one."""

    def __init__(self, password=None, hang=False):
        super().__init__(self._proxy)
        self._password = password
        self._hang = hang
        self.lines = []

    async def _proxy(self, talk):
        head = await talk.head()
        line, *rest = head.decode().split("\r\n")
        self.lines.append(line)
        headers = {name.lower(): value for name, value in (item.split(": ", 1) for item in rest)}
        if self._hang:
            return await talk.until_gone()
        if self._password is not None and headers.get("proxy-authorization") != self._password:
            return await talk.send(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        method, target, _ = line.split(" ")
        host, _, port = target.removeprefix("http://").partition("/")[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            await talk.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            writer.write(head.replace(f"http://{host}:{port}".encode(), b"", 1) + b"\r\n\r\n")
        up = asyncio.create_task(self._pump(talk.reader, writer))
        await self._pump(reader, talk.writer)
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)

    @staticmethod
    async def _pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(65536):
                writer.write(block)
                await writer.drain()
        writer.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


async def test_a_proxy_is_used_when_it_is_named(connect):
    """Plain HTTP goes through it in absolute form."""
    async with Proxy() as proxy:
        client = connect(network=Network(proxy=proxy.url))
        assert (await client.images.generate("A lighthouse")).images
        await client.aclose()

    assert proxy.lines[0].startswith("POST http://127.0.0.1:")


async def test_https_goes_through_a_tunnel():
    """CONNECT, and TLS with the service inside: the proxy never sees the key."""
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    async with (
        Proxy() as proxy,
        RawServer(answer(OK), tls=served) as server,
        AsyncHinow(
            api_key=KEY, base_url=server.base_url, network=Network(proxy=proxy.url, ssl=trusted)
        ) as client,
    ):
        assert (await client.images.generate("A lighthouse")).images

    assert proxy.lines == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]


async def test_a_proxy_that_asks_who_we_are_has_sent_nothing():
    """407 to CONNECT: not sent."""
    async with (
        Proxy(password="Basic none") as proxy,
        AsyncHinow(
            api_key=KEY,
            base_url="https://127.0.0.1:1",
            retry=QUICK,
            network=Network(proxy=proxy.url),
        ) as client,
    ):
        with pytest.raises(APIError, match="407") as caught:
            await client.images.generate("A lighthouse")

    assert caught.value.outcome == "not_sent"


async def test_a_proxy_with_a_password():
    """It stands in the proxy's URL, and is shown nowhere."""
    token = "Basic " + base64.b64encode(b"ann:s3cret").decode()
    async with (
        RawServer(answer(OK)) as server,
        Proxy(password=token) as proxy,
    ):
        network = Network(proxy=proxy.url.replace("://", "://ann:s3cret@"))
        async with AsyncHinow(api_key=KEY, base_url=server.base_url, network=network) as client:
            assert (await client.images.generate("A lighthouse")).images
    assert "s3cret" not in repr(network)


async def test_a_proxy_that_cannot_be_reached_shows_no_password():
    """Not sent; the message says which host."""
    network = Network(proxy="http://ann:s3cret@127.0.0.1:1")
    async with AsyncHinow(
        api_key=KEY, base_url="https://api.example.com", network=network, retry=QUICK
    ) as client:
        with pytest.raises(APIConnectionError, match=r"127\.0\.0\.1") as caught:
            await client.images.generate("A lighthouse")

    assert caught.value.outcome == "not_sent"
    assert "s3cret" not in str(caught.value)


async def test_a_tunnel_that_hangs_ends_with_the_connect_timeout():
    """Not sent."""
    async with (
        Proxy(hang=True) as proxy,
        AsyncHinow(
            api_key=KEY,
            base_url="https://127.0.0.1:1",
            retry=RetryPolicy(attempts=1),
            timeouts=Timeouts(connect=0.2),
            network=Network(proxy=proxy.url),
        ) as client,
    ):
        begun = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            await client.images.generate("A lighthouse")

    assert caught.value.outcome == "not_sent"
    assert time.monotonic() - begun < 2


async def test_proxies_of_the_environment_are_used_only_when_trusted(connect, monkeypatch):
    """`trust_env`, and NO_PROXY within it."""
    async with Proxy() as proxy:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        await connect().images.generate("A lighthouse")
        assert proxy.lines == []

        trusting = connect(network=Network(trust_env=True))
        await trusting.images.generate("A lighthouse")
        assert len(proxy.lines) == 1
        await trusting.aclose()

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        exempt = connect(network=Network(trust_env=True))
        await exempt.images.generate("A lighthouse")
        assert len(proxy.lines) == 1


async def test_netrc_is_never_read(monkeypatch, tmp_path):
    """aiohttp would send what it finds there in place of the key."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with (
        RawServer(answer(OK)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url, network=Network(trust_env=True)) as client,
    ):
        await client.images.generate("A lighthouse")

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_without_file_descriptors_nothing_was_sent():
    """EMFILE is a connection that failed: tried again, and then raised; no spin."""
    async with (
        RawServer(stall) as server,
        AsyncHinow(
            api_key=KEY, base_url=server.base_url, retry=RetryPolicy(attempts=3, wait_initial=0.01)
        ) as client,
    ):
        await client._runtime.enter()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            with pytest.raises(APIConnectionError) as caught:
                await client.images.generate("A lighthouse")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (caught.value.outcome, caught.value.call.attempts) == ("not_sent", 3)
    assert server.connections == 0
