"""Around aiohttp: one request with its id, and sending its answer, well-made or not."""

import asyncio
from collections.abc import Iterable

import attrs
from aiohttp import web
from multidict import CIMultiDict

from hinow_async.sandbox.answers import Answer
from hinow_async.sandbox.billing import Received
from hinow_async.sandbox.delivery import Step, cut, deliver, pieces, plan
from hinow_async.sandbox.faults import Fault


class Delivered(web.StreamResponse):
    """Stands for an answer that went to the socket already, or never will; the connection is not reused."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to send."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


@attrs.frozen
class Exchange:
    """One request, its entry in the log, and the id that its answer carries."""

    request: web.BaseRequest
    path: str
    """As it was sent: escapes are not undone."""
    request_id: str
    received: Received

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.request.headers.get(name)

    async def read(self) -> bytes:
        """The body of the request."""
        transport = self.request.transport
        if self.header("Expect") is not None and transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self.request.read()

    async def send(self, answer: Answer, fault: Fault | None, bandwidth: float | None) -> web.StreamResponse:
        """Send *answer* in the way of *fault*, at most so many bytes a second."""
        answer = answer.with_headers((("x-request-id", self.request_id),))
        if fault is not None and fault.cuts_by_hand:
            transport = self.request.transport
            if transport is not None:
                await _send_by_hand(transport, answer, fault, bandwidth)
            return Delivered()
        if answer.stream is not None or bandwidth is not None:
            return await self._send_slowly(answer, pieces(answer, bandwidth))
        return web.Response(status=answer.status, body=answer.body, headers=CIMultiDict(answer.headers))

    async def _send_slowly(self, answer: Answer, steps: Iterable[Step]) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=CIMultiDict(answer.headers))
        if answer.stream is None:
            response.content_length = len(answer.body)
        await response.prepare(self.request)
        for step in steps:
            if isinstance(step, bytes):
                await response.write(step)
            else:
                await asyncio.sleep(step)
        await response.write_eof()
        return response


async def _send_by_hand(
    transport: asyncio.Transport, answer: Answer, fault: Fault, bandwidth: float | None
) -> None:
    if fault.drop is None or answer.stream is not None:
        await deliver(transport, plan(answer, fault, bandwidth), reset=fault.reset)
    elif fault.reset:
        cut(transport)
    else:
        transport.close()
