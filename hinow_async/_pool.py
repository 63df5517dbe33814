"""The sessions: one per account for the API, which carry the key, and two for downloads, which carry nothing.

They are made on first use and bound to the running event loop. A client met by another loop makes its own
there; the old ones close with their loop: an asynchronous generator whose `finally` closes them is finished
by the loop's `shutdown_asyncgens`, or when the client itself is forgotten. A forked child forgets its
parent's sessions without touching their sockets.

No TraceConfig: it would cost a quarter of a call. Whether a request was sent is known from its payload.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import urllib.request
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import anyio
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from multidict import CIMultiDict
from yarl import URL

from hinow_async._errors import ConfigurationError
from hinow_async._options import Network, Timeouts
from hinow_async._protocol.judge import Reply
from hinow_async._protocol.urls import ForbiddenAddressError, is_public
from hinow_async._secrets import Secret
from hinow_async._version import __version__

USER_AGENT: Final = f"hinow-async/{__version__}"

KEEPALIVE = 15.0
"""Seconds that an idle connection is kept: sooner dropped than servers drop them, so that a billed POST
seldom meets a dying connection."""

READ_BUFFER = 512 * 1024
"""Bytes a download may be ahead of its reader."""

SMALL = 32 * 1024
"""Bytes of a body that need not wait for the other side to read them: half of what aiohttp writes ahead."""

_NO_STATUS: Final = 400
"""What aiohttp calls the status of an answer that it cannot read."""

_AT_ONCE: Final = 2**16
"""Bytes of a stream that are handed over before others have their turn: hostile ones cost most per byte."""

_PIECES_AT_ONCE: Final = 16
"""The same for a whole answer, in the pieces that it comes in. Most have one or two."""

_FIXED_PATHS = frozenset({"/images", "/chat/completions", "/models", "/balance"})

_forgotten: list[object] = []
"""What a forked child keeps of its parent, lest its collection close the parent's sockets."""

_TCP_OPTIONS = (
    ("TCP_KEEPIDLE", 30),
    ("TCP_KEEPINTVL", 15),
    ("TCP_NODELAY", 1),
)
"""The long silence of a picture in the making is held open through NATs."""


class RequestBody(aiohttp.BytesPayload):
    """A body that knows whether any byte of its request was written."""

    def __init__(self, value: bytes, on_sent: Callable[[], None]) -> None:
        # Past BytesPayload's own: it warns of bodies above a MiB, which reference images make.
        super(aiohttp.BytesPayload, self).__init__(value, content_type="application/json")
        self._size = len(value)
        self.is_small = self._size <= SMALL
        self.was_sent = False
        self._on_sent = on_sent

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the body; headers go out together with its first byte."""
        transport = getattr(writer, "transport", None)
        if transport is None or transport.is_closing():
            # Seen before anything was written, so nothing was sent: the call may go again.
            raise aiohttp.ClientConnectionResetError("the connection was closed before the request")
        self.was_sent = True
        self._on_sent()
        await super().write_with_length(writer, content_length)


# From Python 3.12 on aiohttp's task is begun and ended at once. Other versions of it may send in other ways.
_IS_TASK_DEAR = sys.version_info < (3, 12) and aiohttp.__version__.startswith("3.14.")


class _Request(aiohttp.ClientRequest):
    """Refuses to be answered by what lay in the connection before it; and writes a small body without a task.

    A task for the body is 7 % of a call. The callback instead does not write at once, for a server is woken
    less often by requests that go out in one turn of the loop.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Have the request written; what comes back is an answer that has not begun."""
        body, protocol = self._body, conn.protocol
        assert protocol is not None  # noqa: S101 - it was just taken from the pool, or made
        if protocol.should_close:
            raise aiohttp.ServerDisconnectedError("an answer lay there before the request was sent")
        is_small = isinstance(body, RequestBody) and body.is_small
        if not (_IS_TASK_DEAR and is_small) or self.proxy is not None or protocol.writing_paused:
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        self.loop.call_soon(self._write, writer, conn)  # it runs before anything can be read
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )

    def _write(self, writer: StreamWriter, conn: Connection) -> None:
        try:  # noqa: SIM105 - a context manager for each call
            self.write_bytes(writer, conn).send(None)
        except StopIteration:
            pass  # always: so small a body waits for nothing


def _keepalive_socket(addr_info: Any) -> socket.socket:
    family, kind, proto, _, _ = addr_info
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def _public_socket(addr_info: Any) -> socket.socket:
    """Refuse to dial an address that is not public: this is the very address that would be connected to."""
    address = str(addr_info[4][0])
    if not is_public(address):
        raise ForbiddenAddressError(address)
    return _keepalive_socket(addr_info)


async def _close_with_loop(sessions: Mapping[Any, aiohttp.ClientSession]) -> AsyncGenerator[None, None]:
    # It refers to the sessions alone: were its owner in the same cycle, both would be collected together,
    # and the sessions be found unclosed.
    try:
        yield
    finally:
        for session in sessions.values():
            await session.close()


def _shield() -> contextlib.AbstractContextManager[object]:
    """Keep the cancelling of anyio's scopes out; where its machinery never ran, there are none to keep out.

    Starting that takes 15 ms, which a process with a single call would spend for its last line alone.
    """
    if "anyio._backends._asyncio" in sys.modules:
        return anyio.CancelScope(shield=True)
    return contextlib.nullcontext()


class _Sessions:
    """All sessions of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self.made: dict[int | str, aiohttp.ClientSession] = {}
        self._closer = _close_with_loop(self.made)

    async def watch(self) -> None:
        """Tie the sessions to the end of their loop."""
        await anext(self._closer)

    async def aclose(self) -> None:
        """Close every session, once; also within a scope of anyio that was cancelled."""
        with _shield():
            await self._closer.aclose()

    def drop(self) -> None:
        """Close what belongs to a loop that runs no more, without it."""
        for session in self.made.values():
            connector = session.connector
            session.detach()
            if connector is not None and not connector.closed:
                connector.close()


class TransportError(Exception):
    """No answer came. It refers to nothing of aiohttp, whose errors hold the request's headers."""

    def __init__(self, message: str, *, is_final: bool = False, is_timeout: bool = False) -> None:
        super().__init__(message)
        self.is_timeout = is_timeout
        self.is_final = is_final
        """Whether trying again is pointless: a certificate does not mend itself."""


def _translate(error: Exception) -> TransportError:
    """Tell in words of ours how the way to the service failed."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return TransportError(
            f"the TLS certificate of {error.host} cannot be trusted: {error.certificate_error}", is_final=True
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        # A handshake that was cut short is an accident; any other failure of it will repeat itself.
        is_cut = isinstance(error.__cause__, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError)
        return TransportError(f"TLS failed: {error}", is_final=not is_cut)
    if isinstance(error, TimeoutError):
        return TransportError(f"connecting took too long: {error or type(error).__name__}", is_timeout=True)
    return TransportError(_words_of(error) or type(error).__name__)


def _words_of(error: Exception) -> str:
    """Return what an error says; of a broken body the reason alone, for its "400" is no status that came."""
    reason = error if isinstance(error, aiohttp.ClientResponseError) else error.__cause__
    if isinstance(reason, aiohttp.http_exceptions.HttpProcessingError):
        return " ".join(reason.message.split())
    if isinstance(reason, aiohttp.ClientResponseError) and reason.status == _NO_STATUS:
        return " ".join(reason.message.split())
    return str(error)


class Sizes:
    """The most that is read of an answer, in bytes after decompression."""

    __slots__ = ("of_error", "of_success")

    def __init__(self, of_success: int, of_error: int) -> None:
        self.of_success = of_success
        self.of_error = of_error


async def _read(response: aiohttp.ClientResponse, most: Sizes) -> Reply:
    """Read an answer to its end, but no further than allowed; a cut one is given as far as it came.

    Never `read()` or `json()`: they would expand a compressed bomb before anyone could count. And what is
    expanded is there without ever being waited for, so others are given their turn.
    """
    content = response.content
    bound = most.of_success if 200 <= response.status < 300 else most.of_error
    pieces: list[bytes] = []
    size = 0
    is_whole = True
    try:
        while size <= bound and not content.at_eof():
            piece = await content.readany()
            pieces.append(piece)
            size += len(piece)
            if len(pieces) % _PIECES_AT_ONCE == 0:
                await asyncio.sleep(0)
    except (aiohttp.ClientError, OSError, aiohttp.http_exceptions.HttpProcessingError):
        is_whole = False
    except BaseException:
        response.close()
        raise
    is_too_large = size > bound
    if is_too_large or not is_whole:
        response.close()  # one that was read to its end has given its connection back by itself
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return Reply(response.status, response.headers, body, is_whole=is_whole, is_too_large=is_too_large)


def _hear(lost: asyncio.Future[None]) -> None:
    """Take note of why a connection was lost, or asyncio complains that nobody did."""
    if not lost.cancelled():
        lost.exception()


class Incoming:
    """An answer whose body is read as it comes; whoever has it closes it."""

    __slots__ = ("_content", "_lost", "_problem", "_response", "headers", "status")

    is_success = True

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self._problem: TransportError | None = None
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        protocol = response.connection.protocol if response.connection is not None else None
        self._lost = protocol.closed if protocol is not None else None
        if self._lost is not None:
            self._lost.remove_done_callback(_hear)  # it is the connection's, and this may be its second body
            self._lost.add_done_callback(_hear)
            self._lost.add_done_callback(self._on_lost)

    def _on_lost(self, _: object) -> None:
        # Of a body whose chunking breaks off its rules aiohttp closes the connection, and never says so to
        # who reads: he would wait for `idle`, if he set one, else for ever.
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(TransportError("the connection was closed in the middle of the body"))

    @property
    def is_json(self) -> bool:
        """Whether it is one JSON document, and no stream."""
        return self._response.content_type == "application/json"

    async def read(self) -> bytes:
        """Return what has come since, at least one byte; nothing at the end.

        One packet may hold a gigabyte, compressed: what is there is not waited for, so that without a turn
        for others no deadline, and no cancel, would be heard until all of it was read.

        Raises:
            TransportError: it broke off; what had come before was returned.
        """
        if self._problem is None:
            try:
                if there := self._content.read_nowait(_AT_ONCE):
                    await asyncio.sleep(0)
                    return there
                return await self._content.read(_AT_ONCE)
            except (aiohttp.ClientError, OSError, RuntimeError, TransportError) as error:
                self._problem = error if isinstance(error, TransportError) else _translate(error)
            # aiohttp forgets what it holds when a connection breaks: but that was paid for.
            self._content.set_exception(None)  # type: ignore[arg-type]
            if left := self._content.read_nowait():
                return left
        raise self._problem

    async def drain(self, seconds: float) -> None:
        """Read the end of a body that has said all, so that its connection can be used again."""
        with contextlib.suppress(TransportError, TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._content.at_eof():
                    await self.read()

    def interrupt(self, message: str) -> None:
        """Make who waits in `read` wait no longer."""
        self._content.set_exception(TransportError(message, is_timeout=True))

    def close(self) -> None:
        """Close the connection, unless the body came to its end and gave it back. Any number of times."""
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_lost)  # the connection may live longer than this
            self._lost = None
        self._response.close()


class Pool:
    """Gives out the session of an account, or of downloads, in the running event loop."""

    def __init__(
        self,
        accounts: Sequence[tuple[Secret, str]],
        network: Network,
        timeouts: Timeouts,
    ) -> None:
        self._keys = tuple(key for key, _ in accounts)
        self._bases = tuple(base for _, base in accounts)
        self._urls: dict[tuple[int, str], URL] = {}
        self._has_proxy = network.proxy is not None or network.trust_env
        self._network = network
        self._timeout = aiohttp.ClientTimeout(total=None, connect=timeouts.connect, sock_connect=None)
        self._sessions: _Sessions | None = None

    async def enter(self) -> None:
        """Make ready for the running loop. Cheap when it is the loop of the call before.

        Raises:
            ConfigurationError: the client is in use by another loop that is running.
        """
        loop = asyncio.get_running_loop()
        current = self._sessions
        if current is not None and current.loop is loop and current.pid == os.getpid():
            return
        if current is not None:
            self._leave(current)
        self._sessions = _Sessions(loop)
        await self._sessions.watch()

    def is_ready(self) -> bool:
        """Whether `enter` has nothing to do."""
        current = self._sessions
        return (
            current is not None and current.loop is asyncio.get_running_loop() and current.pid == os.getpid()
        )

    def _leave(self, old: _Sessions) -> None:
        if old.pid != os.getpid():
            _forgotten.append(old)
        elif old.loop.is_running():
            raise ConfigurationError(
                "this client is in use by another event loop that is running: make a client for each loop"
            )
        else:
            old.drop()
        self._sessions = None

    def api(self, index: int) -> aiohttp.ClientSession:
        """Return the session of account number *index*; it carries the key and follows nothing."""
        sessions = self._current()
        session = sessions.made.get(index)
        if session is None:
            session = sessions.made[index] = self._make(
                {
                    "Authorization": self._keys[index].bearer(),
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "Content-Type": "application/json",
                },
                self._network.headers or {},
                _keepalive_socket,
                auto_decompress=True,
            )
        return session

    def downloads(self, *, exempt: bool) -> aiohttp.ClientSession:
        """Return a session for pictures: no key, no cookies; unless *exempt*, public addresses alone.

        Behind a proxy the address dialled is the proxy's, so there the proxy has to keep that rule.
        """
        sessions = self._current()
        name = "exempt" if exempt else "strict"
        session = sessions.made.get(name)
        if session is None:
            strict = not exempt and not self._network.proxy and not self._network.trust_env
            session = sessions.made[name] = self._make(
                {"Accept": "*/*", "Accept-Encoding": "identity"},
                {},
                _public_socket if strict else _keepalive_socket,
                auto_decompress=False,
            )
        return session

    async def post(
        self, index: int, path: str, body: RequestBody, headers: Mapping[str, str] | None, most: Sizes
    ) -> Reply:
        """Send a billable request, once; nothing is followed and nothing repeated.

        Raises:
            TransportError: no answer came; `body.was_sent` tells whether anything went out.
        """
        session = self.api(index)
        url, proxy = self._target(index, path)
        # Raised outside of the handler: the context would lead to aiohttp's errors, and they to the key.
        try:
            response = await session.post(url, data=body, headers=headers, allow_redirects=False, proxy=proxy)
            return await _read(response, most)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _translate(error)
        raise problem

    async def open(
        self, index: int, path: str, body: RequestBody, headers: Mapping[str, str] | None, most: Sizes
    ) -> Incoming | Reply:
        """Send a billable request, once; a success is returned with its body still to come.

        Raises:
            TransportError: no answer came; `body.was_sent` tells whether anything went out.
        """
        session = self.api(index)
        url, proxy = self._target(index, path)
        try:
            response = await session.post(url, data=body, headers=headers, allow_redirects=False, proxy=proxy)
            if 200 <= response.status < 300:
                return Incoming(response)
            return await _read(response, most)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _translate(error)
        raise problem

    async def get(self, index: int, path: str, headers: Mapping[str, str] | None, most: Sizes) -> Reply:
        """Fetch something that costs nothing.

        Raises:
            TransportError: no answer came.
        """
        session = self.api(index)
        url, proxy = self._target(index, path)
        try:
            response = await session.get(url, headers=headers, allow_redirects=False, proxy=proxy)
            return await _read(response, most)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _translate(error)
        raise problem

    def _target(self, index: int, path: str) -> tuple[URL, str | None]:
        url = self._urls.get((index, path))
        if url is None:
            url = URL(self._bases[index] + path, encoded=True)
            if path in _FIXED_PATHS:
                self._urls[index, path] = url
        return url, self.proxy_for(str(url)) if self._has_proxy else None

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy for *url*: the one given, else one of the environment when that is trusted."""
        if self._network.proxy is not None or not self._network.trust_env:
            return self._network.proxy
        scheme, _, rest = url.partition("://")
        host = rest.partition("/")[0]
        if urllib.request.proxy_bypass(host):
            return None
        return urllib.request.getproxies().get(scheme)

    async def aclose(self) -> None:
        """Close the sessions of the running loop, and drop any other's."""
        sessions, self._sessions = self._sessions, None
        if sessions is None:
            return
        if sessions.loop is asyncio.get_running_loop() and sessions.pid == os.getpid():
            await sessions.aclose()
        elif sessions.pid != os.getpid():
            _forgotten.append(sessions)
        elif not sessions.loop.is_running():
            sessions.drop()
        else:
            asyncio.run_coroutine_threadsafe(sessions.aclose(), sessions.loop)

    def _current(self) -> _Sessions:
        if self._sessions is None:
            raise ConfigurationError("the client has no sessions in this event loop")
        return self._sessions

    def _make(
        self, ours: Mapping[str, str], more: Mapping[str, str], make_socket: Any, *, auto_decompress: bool
    ) -> aiohttp.ClientSession:
        local = self._network.local_address
        headers = CIMultiDict({"User-Agent": USER_AGENT})
        headers.update(more)  # "user-agent" replaces "User-Agent", and ours replace any of theirs
        headers.update(ours)
        connector = aiohttp.TCPConnector(
            limit=0,  # the limiter is ours
            keepalive_timeout=KEEPALIVE,
            ttl_dns_cache=10,
            socket_factory=make_socket,
            local_addr=(local, 0) if local else None,
            ssl=True if self._network.ssl is None else self._network.ssl,
        )
        return aiohttp.ClientSession(
            connector=connector,
            request_class=_Request,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=auto_decompress,
            trust_env=False,  # it would also read .netrc and send what it finds there
            read_bufsize=2**16 if auto_decompress else READ_BUFFER,
            requote_redirect_url=False,
        )
