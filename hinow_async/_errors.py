"""The error tree. It imports nothing of ours; foreign exceptions are translated into it where they enter.

Every error can be pickled (batches and clusters send them between processes) and none holds the API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from pathlib import Path

    from hinow_async._models.calls import CallRecord
    from hinow_async._models.images import SavedImage

Outcome = Literal["not_sent", "refused", "unknown"]
"""What a failed call means for money: nothing was sent; the service refused it; it may have been billed."""


def _rebuild(cls: type[HinowError], args: tuple[Any, ...], state: dict[str, Any]) -> HinowError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class HinowError(Exception):
    """The base of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling calls __init__ with args alone, which keyword-only arguments break.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(HinowError, ValueError):
    """No key, impossible options, a client that is closed or used in two places: the caller's to mend."""


class APIError(HinowError):
    """A call failed; `outcome` says what that means for money."""

    request: Any
    """The request as the caller gave it (`ImageRequest`, `ChatRequest`); None for catalogue and balance."""
    call: CallRecord | None
    """What the call did: attempts, times, unknown outcomes. None where there was no call to record."""
    outcome: Outcome
    """`not_sent` and `refused` cost nothing; `unknown` may have been billed."""
    partial: Any
    """What a stream had brought before it failed, put together; None where nothing had begun.

    A `ChatCompletion`; of `Hinow` its twin without `await`, `hinow_async.sync.ChatCompletion`. The same
    errors serve both, so that no one type would be true; `stream.partial` is the same value, and has it.
    """

    def __init__(
        self,
        message: str,
        *,
        request: Any = None,
        call: CallRecord | None = None,
        outcome: Outcome = "not_sent",
    ) -> None:
        super().__init__(message)
        self.request = request
        self.call = call
        self.outcome = outcome
        self.partial = None


class APIConnectionError(APIError):
    """No answer came: the service was not reached, or the connection died."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer came in time: the call's deadline, or one of `Timeouts`, ended."""


class APIResponseError(APIError):
    """An answer that cannot be what it should be: not JSON, `success: false`, no pictures, too large."""

    status: int
    request_id: str | None
    raw: bytes
    """The answer's body as it came (of an answer that was too large: its beginning)."""

    def __init__(
        self, message: str, *, status: int = 0, request_id: str | None = None, raw: bytes = b"", **rest: Any
    ) -> None:
        super().__init__(message, **rest)
        self.status = status
        self.request_id = request_id
        self.raw = raw


class APIStatusError(APIError):
    """The service answered with an error status."""

    status: int
    """The HTTP status."""
    code: str | None
    """The service's own code, e.g. `model_not_found`."""
    type: str | None
    """The service's own type of error."""
    request_id: str | None
    """The service's id of the request (`x-request-id` or `request-id`): quote it when asking for help."""
    body: str
    """The body, cut to 2 KiB, control characters escaped."""
    retry_after: float | None
    """Seconds the service asked to wait; None if it did not say."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str | None = None,
        type: str | None = None,
        request_id: str | None = None,
        body: str = "",
        retry_after: float | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(message, **rest)
        self.status = status
        self.code = code
        self.type = type
        self.request_id = request_id
        self.body = body
        self.retry_after = retry_after


class BadRequestError(APIStatusError):
    """400 or 422: the request is wrong; the message names the field."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, malformed or revoked."""


class InsufficientBalanceError(APIStatusError):
    """402, or another status that says so: no credit is left."""


class PermissionDeniedError(APIStatusError):
    """403: the key is valid, but may not use this model or endpoint."""


class NotFoundError(APIStatusError):
    """404: no such model (usually its namespace is missing), or no such path."""


class ConflictError(APIStatusError):
    """409: another request with the same idempotency key is under way, or the state forbids it."""


class RateLimitError(APIStatusError):
    """429: too many requests, and the call could not wait for the account to open again."""


class InternalServerError(APIStatusError):
    """5xx: the service failed. Except for 503 and 529 the call may have been billed."""


class BudgetExceededError(HinowError):
    """The call could have gone over the budget: nothing was sent."""

    asked: Decimal
    """US dollars that this call could cost."""
    spent: Decimal
    """US dollars spent so far, unknown outcomes included."""
    reserved: Decimal
    """US dollars held for calls under way."""
    left: Decimal
    """US dollars that are neither spent nor reserved."""

    def __init__(
        self, message: str, *, asked: Decimal, spent: Decimal, reserved: Decimal, left: Decimal
    ) -> None:
        super().__init__(message)
        self.asked = asked
        self.spent = spent
        self.reserved = reserved
        self.left = left


class DownloadError(HinowError):
    """A picture that was paid for could not be fetched or kept; asking again for the file costs nothing."""

    url: str | None
    """The picture's URL without its query (which may be a signature); None for a picture that came inline."""
    path: Path | None
    """Where the file was to lie."""
    saved: Sequence[SavedImage]
    """What `save` did keep of the same result."""

    def __init__(self, message: str, *, url: str | None = None, path: Path | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.path = path
        self.saved = ()


class UnsafeURLError(DownloadError):
    """A result URL that may not be fetched: not https, or not a public address."""


class URLExpiredError(DownloadError):
    """403, 404 or 410: the link is dead. The picture was paid for; the call is not sent again."""


class IntegrityError(DownloadError):
    """The bytes are not a whole picture: cut, of another length, or no picture at all."""


class DownloadTooLargeError(DownloadError):
    """The file is larger than `DownloadPolicy.max_bytes`."""


class BatchError(HinowError):
    """A batch cannot go on."""


class LedgerLockedError(BatchError):
    """Another process works in this folder."""


class LedgerCorruptError(BatchError):
    """The folder's ledger cannot be trusted: nothing was sent, nothing was deleted."""


class SourceError(BatchError, ValueError):
    """A line of the source is wrong."""

    line: int | None
    """The line's number, from 1; None where the source has no lines."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line
