"""Around aiohttp: one request with its id, and sending its answer, well-made or not."""

import asyncio

import attrs
from aiohttp import web
from multidict import CIMultiDict

from hinow_async.sandbox.answers import Answer
from hinow_async.sandbox.delivery import cut, deliver, plan
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
    """One request and the id that its answer carries."""

    request: web.BaseRequest
    path: str
    """As it was sent: escapes are not undone."""
    request_id: str

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.request.headers.get(name)

    async def send(
        self, answer: Answer, fault: Fault | None = None, bandwidth: float | None = None
    ) -> web.StreamResponse:
        """Send *answer* in the way of *fault*, at most so many bytes a second."""
        answer = answer.with_headers((("x-request-id", self.request_id),))
        by_hand = (
            answer.stream is not None or bandwidth is not None or (fault is not None and fault.cuts_by_hand)
        )
        if not by_hand:
            return web.Response(status=answer.status, body=answer.body, headers=CIMultiDict(answer.headers))
        transport = self.request.transport
        if transport is not None:
            await _send_by_hand(transport, answer, fault, bandwidth)
        return Delivered()


async def _send_by_hand(
    transport: asyncio.Transport, answer: Answer, fault: Fault | None, bandwidth: float | None
) -> None:
    reset = fault is not None and fault.reset
    if fault is None or fault.drop is None or answer.stream is not None:
        await deliver(transport, plan(answer, fault, bandwidth), reset=reset)
    elif reset:
        cut(transport)
    else:
        transport.close()
