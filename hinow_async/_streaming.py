"""One billable call whose answer is a stream: the same way to it, and another end.

Until a success begins to answer, it is a `Call` like any other, tries and all. From then on nothing is sent
again. The slot is held and the money reserved until the stream has ended: by its end, by a failure, or
because its reader left it. Whatever comes first closes the books, and the rest does nothing.

Silence is watched by one timer, which is set anew only when it rings: a stream has thousands of pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from hinow_async._alarm import AWAKE, has_slept
from hinow_async._call import ZERO, Call, CallOptions, Engine, Plan
from hinow_async._errors import APIError
from hinow_async._limiter import Grant
from hinow_async._models.calls import AttemptOutcome
from hinow_async._pool import Incoming, TransportError
from hinow_async._protocol import judge
from hinow_async._protocol.chat_stream import StreamProblem
from hinow_async._protocol.judge import Failure
from hinow_async._protocol.outcome import Event

LINGER = 0.1
"""Seconds that the end of a body is waited for after `[DONE]`: it saves the next call a connection."""


class StreamBrokenError(Exception):
    """The stream ended before its end."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class StreamCall(Call[Incoming]):
    """The state of one call whose answer is read as it comes."""

    __slots__ = ("_grant", "_incoming", "_latency", "_limit", "_timer", "_waits_since", "is_over")

    def __init__(self, engine: Engine, plan: Plan[Incoming], options: CallOptions) -> None:
        super().__init__(engine, plan, options)
        self._grant: Grant | None = None
        self._incoming: Incoming | None = None
        self._latency: float | None = None  # seconds to the first byte of the body
        self._limit = ""  # what the timer found exceeded
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since: float | None = None
        self.is_over = False
        """The books are closed."""

    # -- the way to it -----------------------------------------------------------------------------

    async def open(self) -> Incoming:
        """Make the call as far as its answer begins; see `Call.run` for what is raised."""
        self._begin()
        try:
            return await self._answered()
        except BaseException:
            self.is_over = True
            self._tell_ended()
            raise

    @property
    def _ask(self) -> Callable[..., Awaitable[Any]]:
        return self._engine.pool.open

    def _headers(self) -> dict[str, str]:
        return {"Accept": "text/event-stream", **super()._headers()}

    async def _read_success(self, grant: Grant, reply: Incoming) -> tuple[Incoming]:
        """Keep the grant: the call is in flight as long as its stream."""
        self._grant, self._incoming = grant, reply
        grant.account.reserved += self._reserved
        return (reply,)

    def _on_tried(self, grant: Grant, result: tuple[Incoming] | Failure) -> None:
        if isinstance(result, Failure):
            super()._on_tried(grant, result)

    # -- the stream --------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """Return what has come since; nothing at the end.

        Raises:
            StreamBrokenError: it broke off, or the call's time is over.
        """
        incoming = self._incoming
        assert incoming is not None  # noqa: S101 - it was opened
        loop = asyncio.get_running_loop()
        self._waits_since = loop.time()
        if self._timer is None:
            self._watch(loop)
        try:
            if self._is_too_late(0):  # the reader took his time: bytes that are here end no wait
                raise StreamBrokenError(judge.of_late_stream())
            data = await incoming.read()
        except TransportError as error:
            raise StreamBrokenError(self._broken(error)) from None
        finally:
            self._waits_since = None
        if self._latency is None:
            self._latency = self._engine.clock() - self._opened.at
            self._unwatch()  # the next limit is another one, and may be the sooner
        return data

    async def linger(self) -> None:
        """Let the connection of a stream that is complete be used again, if its end comes at once."""
        if self._incoming is not None:
            await self._incoming.drain(LINGER)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the timer for who waits; it rings early when bytes came in the meantime."""
        due, self._limit = self._due(loop)
        if due is not None:
            self._timer = loop.call_at(due, self._on_timer, loop, due)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, loop: asyncio.AbstractEventLoop) -> tuple[float | None, str]:
        timeouts = self._engine.timeouts
        since = self._waits_since or 0.0
        ends = self._deadline_in_loop()
        if self._latency is None:
            due, limit = self._response_due, f"no first byte came within {timeouts.response or 0:g} s"
        else:
            due = None if timeouts.idle is None else since + timeouts.idle
            limit = f"nothing came for {timeouts.idle or 0:g} s"
        if ends is not None and (due is None or ends <= due):
            return ends, ""
        return due, limit

    def _on_timer(self, loop: asyncio.AbstractEventLoop, rings: float) -> None:
        self._timer = None
        if self._waits_since is None or self.is_over:
            return  # nobody waits: the next one who does sets it anew
        now = loop.time()
        due, limit = self._due(loop)
        if due is not None and due <= now and limit and has_slept(now, rings):
            self._timer = loop.call_at(now + AWAKE, self._on_timer, loop, now + AWAKE)
        elif due is not None and due <= now and self._incoming is not None:
            self._limit = limit
            self._incoming.interrupt(limit)
        else:
            self._watch(loop)

    def _broken(self, error: TransportError) -> Failure:
        if error.is_timeout and not self._limit:
            return judge.of_late_stream()
        return judge.of_broken_stream(self._redact(str(error)), is_timeout=error.is_timeout)

    # -- its end -----------------------------------------------------------------------------------

    def succeed(self) -> None:
        """It is whole, and paid for."""
        if self._leave(Event.SUCCESS, "success", self._latency):
            self._tell_ended()

    def problem(self, problem: StreamProblem, *, has_begun: bool) -> Failure:
        """Judge what is wrong within the stream."""
        assert self._incoming is not None  # noqa: S101 - it was opened
        return judge.of_stream(
            problem, self._status or 200, self._incoming.headers, has_begun=has_begun, redact=self._redact
        )

    def fail(self, failure: Failure) -> APIError:
        """It failed after it had begun to answer; return the error."""
        if failure.outcome == "refused":
            self._give_back()
        elif self._held:
            self._note_unknown()
        if self._leave(failure.event, failure.outcome):
            self._tell_ended()
        self.close()
        error = self._verdict(failure)
        error.request, error.call = self._plan.request, self.record()
        return error

    def close(self) -> None:
        """Close the connection. Where the stream was not at its end its reader left it: it stays paid."""
        if self._incoming is not None:
            self._incoming.close()
        if self._leave(Event.LOST, "cancelled"):
            self._tell_ended()

    def _leave(self, event: Event, ended: AttemptOutcome, latency: float | None = None) -> bool:
        """Give the slot back and settle, once; return whether this was the time."""
        if self.is_over:
            return False
        self.is_over = True
        self._unwatch()
        grant = self._opened
        grant.account.reserved -= self._reserved
        self._engine.limiter.release(grant, event, latency)
        if self._held:
            self._spend(self._amount)
        self.is_paid = ended == "success"
        if ended == "success" and grant.account.parking.reasons:
            grant.account.parking.clear(self.model)
        if self._engine.hooks.attempt_ended:
            self._tell_attempt(grant, ended, self._status)
        return True

    @property
    def _reserved(self) -> Decimal:
        return self._amount or ZERO

    @property
    def _opened(self) -> Grant:
        assert self._grant is not None  # noqa: S101 - it was opened
        return self._grant
