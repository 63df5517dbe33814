"""Answers that no HTTP library would send: cut, stalled, mislabelled, or no HTTP at all.

``plan`` is pure: it says which bytes to write and how long to be silent in between. ``deliver`` does it,
straight to the transport, and then closes the connection: after such an answer it is of no further use.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from http import HTTPStatus

from hinow_async.sandbox.answers import Answer
from hinow_async.sandbox.faults import Fault

Step = bytes | float

_PACE = 0.02  # seconds between two pieces of a body that is slowed down
_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() then sends RST and forgets what was not sent


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _head(answer: Answer, framing: str, length: int) -> bytes:
    fields = [("Connection", "close")]
    if framing == "length":
        fields.append(("Content-Length", str(length)))
    elif framing == "chunked":
        fields.append(("Transfer-Encoding", "chunked"))
    own = {name.lower() for name, _ in answer.headers}
    fields = [*answer.headers, *(field for field in fields if field[0].lower() not in own)]
    lines = [f"{name}: {value}" for name, value in fields]
    return "\r\n".join((f"HTTP/1.1 {answer.status} {_reason(answer.status)}", *lines, "", "")).encode()


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _slowed(body: bytes, bandwidth: float | None) -> Iterator[Step]:
    if bandwidth is None:
        yield body
        return
    size = max(1, int(bandwidth * _PACE))
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield piece
        yield len(piece) / bandwidth


def _body(body: bytes, fault: Fault, bandwidth: float | None) -> Iterator[Step]:
    sent = body[: fault.truncate]
    if fault.stall is None:
        yield from _slowed(sent, bandwidth)
        return
    pause = len(sent) if fault.truncate is not None else len(sent) // 2
    yield from _slowed(sent[:pause], bandwidth)
    yield float(fault.stall)
    yield from _slowed(sent[pause:], bandwidth)


def _stream(steps: Iterable[str | bytes | float]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, str):
            yield step.encode()
        else:
            yield step if isinstance(step, bytes) else float(step)


def _framed(steps: Iterable[Step], framing: str) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, float):
            yield step
        elif step:  # an empty chunk would be the last one
            yield _chunk(step) if framing == "chunked" else step


def pieces(answer: Answer, bandwidth: float | None) -> Iterator[Step]:
    """The body of a well-made answer: what to write, and the seconds to wait in between."""
    return _slowed(answer.body, bandwidth) if answer.stream is None else _stream(answer.stream)


def plan(answer: Answer, fault: Fault, bandwidth: float | None) -> Iterator[Step]:
    """All of an answer that *fault* spoils; afterwards the connection is closed."""
    if fault.raw is not None:
        yield fault.raw
        yield float(fault.stall or 0)
        return
    framing = fault.framing or ("length" if answer.stream is None else "chunked")
    yield _head(answer, framing, len(answer.body) if fault.length is None else fault.length)
    steps = _body(answer.body, fault, bandwidth) if answer.stream is None else _stream(answer.stream)
    yield from _framed(steps, framing)
    if framing == "chunked" and fault.truncate is None and fault.drop is None:
        yield b"0\r\n\r\n"


async def deliver(transport: asyncio.Transport, steps: Iterable[Step], *, reset: bool = False) -> None:
    """Write *steps*, then close the connection; ends early when the client has gone."""
    for step in steps:
        if transport.is_closing():
            return
        if isinstance(step, bytes):
            transport.write(step)
        elif step > 0:
            await asyncio.sleep(step)
    cut(transport) if reset else transport.close()


def cut(transport: asyncio.Transport) -> None:
    """Close the connection by RST, without sending what is still waiting to be sent."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
