"""One try that brought no result, judged: for money, for the account's limits, for the next try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from hinow_async._errors import APIConnectionError, APIError, APITimeoutError, Outcome
from hinow_async._protocol import outcome
from hinow_async._protocol.backoff import retry_after
from hinow_async._protocol.failures import (
    MAY_BE_BILLED,
    Redact,
    read_error,
    response_error,
    status_error,
)
from hinow_async._protocol.fields import UnsuccessfulError
from hinow_async._protocol.outcome import Event

if TYPE_CHECKING:
    from hinow_async._protocol.chat_stream import StreamProblem


class Reply:
    """An answer, read as far as it came or was allowed to."""

    __slots__ = ("body", "headers", "is_too_large", "is_whole", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, *, is_whole: bool, is_too_large: bool
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.is_whole = is_whole
        self.is_too_large = is_too_large

    @property
    def is_success(self) -> bool:
        """Whether the body can be read as a result."""
        return 200 <= self.status < 300 and self.is_whole and not self.is_too_large


@attrs.frozen(eq=False, repr=False)
class Failure:
    """One try that brought no result."""

    error: APIError
    event: Event
    """What the account's controller is told."""
    is_final: bool = False
    """Nothing is gained by trying again at this account."""
    status: int | None = None
    retry_after: float | None = None
    parks: bool = False
    """The key, not the request, was refused."""

    @property
    def outcome(self) -> Outcome:
        """What this try means for money."""
        return self.error.outcome

    @property
    def is_throttled(self) -> bool:
        """A 429 of the rate kind: the account waits, not the call."""
        return self.event is Event.REFUSED

    @property
    def waits_at_gate(self) -> bool:
        """The account's gate is the wait; the call needs none of its own."""
        return self.event is Event.REFUSED or self.event is Event.OVERLOAD


def of_status(reply: Reply, unbilled: frozenset[int], wall_now: float, redact: Redact) -> Failure:
    """Judge an answer that is no usable success.

    Args:
        reply: The answer.
        unbilled: `RetryPolicy.unbilled_statuses`.
        wall_now: Unix seconds, for a Retry-After that is a date.
        redact: Removes the key from what the service said.
    """
    if reply.status < 400:
        return _unusable(reply, redact)
    fields = read_error(reply.body)
    broke = reply.status == 429 and outcome.is_out_of_credit(*fields)
    asked = retry_after(reply.headers, wall_now)
    money = "final" if broke else outcome.money(reply.status, unbilled)
    error = status_error(
        reply.status,
        reply.headers,
        reply.body,
        fields=fields,
        retry_after=asked,
        outcome="unknown" if money == "unknown" else "refused",
        redact=redact,
        is_out_of_credit=broke,
    )
    return Failure(
        error,
        outcome.event(reply.status, out_of_credit=broke),
        is_final=money == "final",
        status=reply.status,
        retry_after=asked,
        parks=broke or reply.status in {401, 402, 403},
    )


def _unusable(reply: Reply, redact: Redact) -> Failure:
    """A 3xx, which is never followed; or a 2xx that is cut or too large, and was therefore paid for."""
    money: Outcome = "unknown"
    if reply.status >= 300:
        message, money = "it redirects, and a billable request is never followed", "refused"
    elif reply.is_too_large:
        message = f"it is larger than {len(reply.body) // 2**20} MiB"
    else:
        message = "it was cut off before its end"
    error = response_error(message, reply.status, reply.headers, reply.body, outcome=money, redact=redact)
    return Failure(error, Event.ANSWERED, is_final=money == "refused", status=reply.status)


def of_unreadable(reply: Reply, problem: ValueError, redact: Redact) -> Failure:
    """Judge a 2xx whose body is not what it should be; `success: false` may say that the credit is gone."""
    fields = (str(problem), getattr(problem, "code", None), getattr(problem, "type", None))
    if isinstance(problem, UnsuccessfulError) and outcome.is_out_of_credit(*fields):
        error: APIError = status_error(
            reply.status,
            reply.headers,
            reply.body,
            fields=fields,
            retry_after=None,
            outcome="refused",
            redact=redact,
            is_out_of_credit=True,
        )
        return Failure(error, Event.ANSWERED, is_final=True, status=reply.status, parks=True)
    error = response_error(
        str(problem), reply.status, reply.headers, reply.body, outcome="unknown", redact=redact
    )
    return Failure(error, Event.ANSWERED, status=reply.status)


def of_stream(
    problem: StreamProblem, status: int, headers: Mapping[str, str], *, has_begun: bool, redact: Redact
) -> Failure:
    """Judge what was wrong within a stream: it was answered, and so it may have been billed.

    Args:
        problem: What was said, or found out.
        status: Of the answer that streams.
        headers: Its headers.
        has_begun: Chunks had come before: then something was done, whatever is said afterwards.
        redact: Removes the key from what the service said.
    """
    fields = (problem.message, problem.code, problem.type)
    if problem.is_said and outcome.is_out_of_credit(*fields):
        error: APIError = status_error(
            status,
            headers,
            problem.raw,
            fields=fields,
            retry_after=None,
            outcome="unknown" if has_begun else "refused",
            redact=redact,
            is_out_of_credit=True,
        )
        return Failure(error, Event.ANSWERED, is_final=True, status=status)
    said = f"the service said within the stream: {problem.message}" if problem.is_said else problem.message
    if problem.is_said and problem.code:
        said = f"{said} [{problem.code}]"
    error = response_error(said, status, headers, problem.raw, outcome="unknown", redact=redact)
    return Failure(error, Event.ANSWERED, is_final=True, status=status)


def of_broken_stream(message: str, *, is_timeout: bool) -> Failure:
    """Judge a stream whose connection died, or that fell silent, in its middle."""
    cls = APITimeoutError if is_timeout else APIConnectionError
    error = cls(f"the stream broke off: {message} ({MAY_BE_BILLED})", outcome="unknown")
    return Failure(error, Event.FAILED, is_final=True)


def of_late_stream() -> Failure:
    """Judge a stream that the call's own deadline ended."""
    message = f"the call's deadline ended before its stream did ({MAY_BE_BILLED})"
    return Failure(APITimeoutError(message, outcome="unknown"), Event.LOST, is_final=True)


def of_no_answer(message: str, *, was_sent: bool, is_final: bool, is_timeout: bool) -> Failure:
    """Judge a try whose connection failed: before its first byte it cost nothing, after it nobody knows."""
    money, hint = _money(was_sent=was_sent)
    cls = APITimeoutError if is_timeout else APIConnectionError
    event = Event.FAILED if was_sent else Event.CANCELLED
    return Failure(cls(f"no answer came: {message}{hint}", outcome=money), event, is_final=is_final)


def of_timeout(seconds: float) -> Failure:
    """Judge a try that was sent, and not answered within `Timeouts.response` *seconds*."""
    message = f"no whole answer came within {seconds:g} s of sending ({MAY_BE_BILLED})"
    return Failure(APITimeoutError(message, outcome="unknown"), Event.FAILED)


def of_deadline(*, was_sent: bool) -> Failure:
    """Judge a try that the call's own deadline ended."""
    money, hint = _money(was_sent=was_sent)
    error = APITimeoutError(f"the call's deadline ended before an answer came{hint}", outcome=money)
    return Failure(error, Event.LOST if was_sent else Event.CANCELLED, is_final=True)


def _money(*, was_sent: bool) -> tuple[Outcome, str]:
    return ("unknown", f" ({MAY_BE_BILLED})") if was_sent else ("not_sent", "")
