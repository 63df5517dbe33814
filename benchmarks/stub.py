"""A stub of the service that costs next to nothing: the client's CPU is what is measured, not the server's.

It reads requests off a bare asyncio protocol and answers each with one canned body, after a delay. `GET
/v1/held` says how many requests wait for their answers, `GET /v1/release` lets those go that a holding stub
keeps.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.pictures import png

IMAGES = json.dumps(
    {
        "success": True,
        "data": {
            "urls": ["https://files.example.com/a/0123456789abcdef.png?sig=0123456789abcdef"],
            "model": "openai/gpt-image-2-2026-04-21",
            "provider": "openai",
        },
    }
).encode()
OPENAI_IMAGES = json.dumps(
    {"created": 1, "data": [{"url": "https://files.example.com/a/0123456789abcdef.png?sig=0123456789abcdef"}]}
).encode()
CHAT = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "hinow/himax",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Three lighthouses."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
    }
).encode()


def chunk(text: str) -> bytes:
    """One event of a streamed chat, as gateways send them."""
    delta = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    root = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "hinow/himax"}
    return b"data: %b\n\n" % json.dumps({**root, "choices": [delta]}).encode()


def _stream(chunks: int, texts: str) -> list[bytes]:
    """A whole answer in pieces: each event in a piece of chunked coding of its own."""
    last = json.dumps({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events = [*(chunk(texts) for _ in range(chunks)), b"data: %b\n\n" % last.encode(), b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%b\r\n" % (len(event), event) for event in events), b"0\r\n\r\n"]


def _answer(body: bytes, kind: str = "application/json") -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nx-request-id: req_0123456789\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


PICTURE = "/files/picture.png"
"""What the links lead to if they are to lead to the stub itself."""


class _Desk:
    """The answers, and those that are kept back."""

    def __init__(self, origin: str | None, *, hold: bool) -> None:
        images = IMAGES
        if origin is not None:
            images = json.dumps({"success": True, "data": {"urls": [origin + PICTURE]}}).encode()
        self.answers = {
            b"/v1/images": _answer(images),
            b"/v1/images/generations": _answer(OPENAI_IMAGES),
            b"/v1/chat/completions": _answer(CHAT),
            PICTURE.encode(): _answer(png(4096), "image/png"),
        }
        self.holds = hold
        self._held: list[tuple[_Connection, bytes]] = []

    def keep(self, connection: _Connection, answer: bytes) -> None:
        self._held.append((connection, answer))

    def told(self, question: bytes) -> bytes:
        """Answer a question about what is held."""
        count = len(self._held)
        if question == b"/v1/release":
            for connection, answer in self._held:
                connection.send(answer)
            self._held.clear()
        return _answer(str(count).encode())


class _Connection(asyncio.Protocol):
    def __init__(self, desk: _Desk, delay: float, stream: list[bytes], at_once: int, pause: float) -> None:
        self._desk = desk
        self._delay = delay
        self._pause = pause
        self._stream = stream
        self._at_once = at_once
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            path = self._buffer.split(b" ", 2)[1]
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            loop = asyncio.get_running_loop()
            if self._stream and b'"stream":true' in body.replace(b" ", b""):
                loop.call_later(self._delay, self._send_stream, 0)
            elif path not in self._desk.answers:
                self.send(self._desk.told(path))
            elif self._desk.holds:
                self._desk.keep(self, self._desk.answers[path])
            else:
                loop.call_later(self._delay, self.send, self._desk.answers[path])

    def _send_stream(self, at: int) -> None:
        self.send(b"".join(self._stream[at : at + self._at_once]))
        if at + self._at_once < len(self._stream):
            asyncio.get_running_loop().call_later(self._pause, self._send_stream, at + self._at_once)

    def send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]


async def _serve(
    pipe: Connection,
    delay: float,
    hold: bool,
    pictures: bool,
    chunks: int,
    text: str,
    at_once: int,
    pause: float,
) -> None:
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = listening.getsockname()[1]
    desk = _Desk(f"http://127.0.0.1:{port}" if pictures else None, hold=hold)
    stream = _stream(chunks, text) if chunks else []
    server = await loop.create_server(
        lambda: _Connection(desk, delay, stream, at_once, pause), sock=listening, backlog=4096
    )
    pipe.send(port)
    await loop.run_in_executor(None, pipe.recv)
    server.close()


def _main(pipe: Connection, *how: Any) -> None:
    asyncio.run(_serve(pipe, *how))


@contextmanager
def stub(
    delay: float = 0.005,
    *,
    hold: bool = False,
    pictures: bool = False,
    chunks: int = 0,
    text: str = " word",
    at_once: int = 2**30,
    pause: float = 0.0,
) -> Iterator[str]:
    """Run the stub in a process of its own; yields its root, `http://127.0.0.1:<port>/v1`.

    Args:
        delay: Seconds before each answer.
        hold: Keep every answer until it is released.
        pictures: Links lead to a picture of 4 KiB that the stub serves, instead of nowhere.
        chunks: Of a streamed chat; 0: it does not stream.
        text: What each chunk says.
        at_once: Events that a stream sends at once.
        pause: Seconds between two such parts.
    """
    ours, theirs = multiprocessing.Pipe()
    how = (theirs, delay, hold, pictures, chunks, text, at_once, pause)
    process = multiprocessing.get_context("spawn").Process(target=_main, args=how, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        ours.send("stop")
        process.join(5)
