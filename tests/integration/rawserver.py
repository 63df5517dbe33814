"""A TCP server that does to each connection what its script says, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import attrs

KEY = "hi_" + "k" * 40
URL = "https://files.example.com/a.png"


@attrs.frozen
class Request:
    """One request as it came."""

    line: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    names: tuple[str, ...]
    """The names as they came, repeated ones too."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _parse(head: bytes, body: bytes) -> Request:
    line, *rest = head.decode("latin-1").split("\r\n")
    pairs = [item.split(": ", 1) for item in rest if item]
    names = tuple(name.lower() for name, _ in pairs)
    return Request(line, {name.lower(): value for name, value in pairs}, body, names)


class Conversation:
    """One connection, as its script sees it."""

    def __init__(self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> Request:
        """Read one whole request."""
        head = await self.head()
        body = await self.reader.readexactly(int(_parse(head, b"").headers.get("content-length", 0)))
        self.server.requests.append(_parse(head, body))
        return self.server.requests[-1]

    async def head(self) -> bytes:
        """Read a request as far as its empty line."""
        return (await self.reader.readuntil(b"\r\n\r\n"))[:-4]

    async def send(self, *pieces: bytes, pause: float = 0) -> None:
        """Send these pieces, each on its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause)

    async def until_gone(self) -> None:
        """Wait until the client closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """End the connection by RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Conversation], Awaitable[None]]


class RawServer:
    """Serves the n-th connection by the n-th script, and all further ones by the last."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._scripts = scripts
        self._tls = tls
        self._host = host
        self._tasks: set[asyncio.Task[Any]] = set()
        self.requests: list[Request] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls, limit=2**24)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(Conversation(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


# -- what is sent ------------------------------------------------------------------------------------------


def http(status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A well-made answer; a body that is no bytes goes out as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode("latin-1") + raw


def pictures(count: int = 1) -> dict[str, Any]:
    """The body of a success with so many pictures."""
    return {"success": True, "data": {"urls": [URL] * count, "model": "m", "provider": "p"}}


OK = http(200, pictures())


# -- scripts -----------------------------------------------------------------------------------------------


def answer(*answers: bytes) -> Script:
    """Answer the requests of a connection by these, the last one again and again."""

    async def script(talk: Conversation) -> None:
        for number in range(10**6):
            await talk.request()
            await talk.send(answers[min(number, len(answers) - 1)])

    return script


def in_pieces(*pieces: bytes, pause: float = 0.0) -> Script:
    """Read a request, send an answer in pieces, and close."""

    async def script(talk: Conversation) -> None:
        await talk.request()
        await talk.send(*pieces, pause=pause)

    return script


async def close_unread(_: Conversation) -> None:
    """Accept, and close at once."""


async def close_after_request(talk: Conversation) -> None:
    """Read the whole request, then close without an answer."""
    await talk.request()


async def reset_after_request(talk: Conversation) -> None:
    """Read the whole request, then RST."""
    await talk.request()
    talk.reset()


def reset_after(count: int) -> Script:
    """Read so many bytes, then RST."""

    async def script(talk: Conversation) -> None:
        await talk.reader.readexactly(count)
        talk.reset()

    return script


async def stall(talk: Conversation) -> None:
    """Read the whole request, and never answer."""
    await talk.request()
    await talk.until_gone()


async def stall_unread(talk: Conversation) -> None:
    """Accept, and do nothing until the client goes."""
    await talk.until_gone()
