"""A file server that misbehaves as it is told: raw bytes over loopback, one script of answers per path."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping

import attrs

CHUNK = 64 * 1024


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(size: int = 5000, seed: int = 1) -> bytes:
    """A PNG frame of *size* bytes around noise: whole as a file, though no image."""
    header = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0))
    end = _chunk(b"IEND", b"")
    noise = random.Random(seed).randbytes(size - len(header) - len(end) - 12)
    return header + _chunk(b"IDAT", noise) + end


@attrs.frozen(kw_only=True)
class Answer:
    """One answer; by default the right one."""

    status: int | None = None
    """None: 200, or 206 where a part was asked for."""
    body: bytes | None = None
    """None: the file."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    without: frozenset[str] = frozenset()
    """Headers to leave out."""
    length: int | None = None
    """What Content-Length claims; None: the truth."""
    cut: int | None = None
    """The connection ends after so many bytes of the body."""
    reset: bool = False
    """It ends by a reset."""
    stalls: bool = False
    """It stays open instead, and nothing more comes."""
    before: float = 0.0
    """Seconds before the first byte."""
    split: int | None = None
    """Bytes that are sent at once, with a pause between."""
    chunked: bool = False
    ranges: bool = True
    """False: a part is answered with the whole file."""
    shift: int = 0
    """A part begins so many bytes too late, and says so."""
    etag: str | None = None
    """None: the file's own."""


@attrs.define
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]


class FileServer:
    """Serves `files`; each request of a path takes the next answer of its script, while there is one."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[Answer]] = defaultdict(list)
        self.requests: list[Request] = []
        self.peak = 0
        self.connections = 0
        self._now = Counter[str]()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FileServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.origin = ("http", "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path: str, data: bytes | None = None, *answers: Answer) -> str:
        """Put a file and its script there, and return its URL."""
        if data is not None:
            self.files[path] = data
        self.script[path] += answers
        return f"http://127.0.0.1:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        """The requests for one path, its query left out."""
        return [request for request in self.requests if request.path.partition("?")[0] == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # all: it is over
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.requests.append(Request(method, target, headers))
        path = target.partition("?")[0]
        answer = self.script[path].pop(0) if self.script[path] else Answer()
        self._now["all"] += 1
        self.peak = max(self.peak, self._now["all"])
        try:
            return await self._send(writer, path, headers, answer)
        finally:
            self._now["all"] -= 1

    async def _send(
        self, writer: asyncio.StreamWriter, path: str, asked: dict[str, str], answer: Answer
    ) -> bool:
        status, body, headers = self._compose(path, asked, answer)
        if answer.before:
            await asyncio.sleep(answer.before)
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        sent = body if answer.cut is None else body[: answer.cut]
        step = answer.split or CHUNK
        for start in range(0, len(sent), step):
            block = sent[start : start + step]
            writer.write(b"%x\r\n%b\r\n" % (len(block), block) if answer.chunked else block)
            await writer.drain()
            if answer.split:
                await asyncio.sleep(0.001)
        if answer.stalls:
            await asyncio.Event().wait()
        if answer.reset:
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()
        if answer.chunked and answer.cut is None:
            writer.write(b"0\r\n\r\n")
            return True
        return (
            answer.cut is None and not answer.reset and "Content-Length" in headers and answer.length is None
        )

    def _compose(self, path: str, asked: dict[str, str], answer: Answer) -> tuple[int, bytes, dict[str, str]]:
        file = self.files.get(path)
        if file is None and answer.body is None and answer.status is None:
            return 404, b"", {"Content-Length": "0"}
        body = answer.body if answer.body is not None else file or b""
        status = answer.status or 200
        etag = answer.etag or f'"{zlib.crc32(body):x}"'
        headers = {"ETag": etag, "Content-Type": "application/octet-stream"}
        part = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        if part and answer.status is None and answer.ranges and asked.get("if-range") in {None, etag}:
            start = int(part[1]) + answer.shift
            if start >= len(body):
                return 416, b"", {"Content-Length": "0", "Content-Range": f"bytes */{len(body)}"}
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        headers["Content-Length"] = str(len(body) if answer.length is None else answer.length)
        if answer.chunked:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
        headers |= answer.headers
        return status, body, {name: headers[name] for name in headers if name not in answer.without}
