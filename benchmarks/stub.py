"""A stub of the service that costs next to nothing: the client's CPU is what is measured, not the server's.

It reads requests off a bare asyncio protocol and answers each with one canned body, after a delay.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

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


def _answer(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_0123456789\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


ANSWERS = {
    b"/v1/images": _answer(IMAGES),
    b"/v1/images/generations": _answer(OPENAI_IMAGES),
    b"/v1/chat/completions": _answer(CHAT),
}


class _Connection(asyncio.Protocol):
    def __init__(self, delay: float) -> None:
        self._delay = delay
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
            self._buffer = self._buffer[end + 4 + length :]
            asyncio.get_running_loop().call_later(self._delay, self._send, ANSWERS[path])

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]


async def _serve(pipe: Connection, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(delay), "127.0.0.1", 0, backlog=4096)
    pipe.send(server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, pipe.recv)
    server.close()


def _main(pipe: Connection, delay: float) -> None:
    asyncio.run(_serve(pipe, delay))


@contextmanager
def stub(delay: float = 0.005) -> Iterator[str]:
    """Run the stub in a process of its own; yields its root, `http://127.0.0.1:<port>/v1`.

    Args:
        delay: Seconds before each answer.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(theirs, delay), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        ours.send("stop")
        process.join(5)
