"""From an answer that is no success to the error of the tree: which class, what it says, what to do next."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hinow_async._errors import (
    APIResponseError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InsufficientBalanceError,
    InternalServerError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    RateLimitError,
)
from hinow_async._protocol import json
from hinow_async._protocol.fields import error_fields

BODY_SHOWN = 2048
"""Characters of an error's body that are kept."""

_CLASSES: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientBalanceError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: BadRequestError,
    429: RateLimitError,
}

_HINTS = {
    400: "nothing was billed: correct the request",
    401: "check the key (HINOW_API_KEY): it is missing, malformed or revoked",
    402: "top up the account: no credit is left",
    403: "the key is valid, but its plan does not include this model or endpoint",
    404: "check the model's id: usually its namespace is missing (openai/..., hinow/...)",
    422: "nothing was billed: correct the request",
}

MAY_BE_BILLED = "it may have been billed, so it was not sent again"

Redact = Callable[[str], str]


def printable(text: str, most: int) -> str:
    """Cut *text* and escape what could move a terminal's cursor or reverse its writing."""
    if len(text) <= most and text.isprintable():
        return text
    cut = text[:most] + ("..." if len(text) > most else "")
    return "".join(char if char.isprintable() or char == "\n" else _escape(char) for char in cut)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode() if ord(char) < 0xD800 or ord(char) > 0xDFFF else "\ufffd"


def request_id(headers: Mapping[str, str], redact: Redact) -> str | None:
    """The service's id of a request."""
    value = headers.get("x-request-id") or headers.get("request-id")
    return printable(redact(value), 200) if value else None


def read_error(body: bytes) -> tuple[str | None, str | None, str | None]:
    """Return message, code and type of an error body; three times None for HTML and other noise."""
    try:
        return error_fields(json.loads(body))
    except json.MalformedJSONError:
        return None, None, None


def status_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    fields: tuple[str | None, str | None, str | None],
    retry_after: float | None,
    outcome: Outcome,
    redact: Redact,
    is_out_of_credit: bool = False,
) -> APIStatusError:
    """Make the error of an error status."""
    message, code, kind = fields
    cls = InsufficientBalanceError if is_out_of_credit else _class_of(status)
    hint = _HINTS[402] if is_out_of_credit else _HINTS.get(status, "")
    if outcome == "unknown":
        hint = MAY_BE_BILLED
    if retry_after:
        hint = f"{hint}; " * bool(hint) + f"it asks to wait {retry_after:g} s"
    said = printable(redact(message or "the service gave no reason"), 500)
    return cls(
        f"the service answered {status}: {said}" + (f" ({hint})" if hint else ""),
        status=status,
        code=printable(redact(code), 200) if code else None,
        type=printable(redact(kind), 200) if kind else None,
        request_id=request_id(headers, redact),
        body=printable(redact(body.decode("utf-8", "replace")), BODY_SHOWN),
        retry_after=retry_after,
        outcome=outcome,
    )


def _class_of(status: int) -> type[APIStatusError]:
    return InternalServerError if status >= 500 else _CLASSES.get(status, APIStatusError)


def response_error(
    message: str, status: int, headers: Mapping[str, str], body: bytes, *, outcome: Outcome, redact: Redact
) -> APIResponseError:
    """Make the error of an answer that cannot be what it should be; the body is kept whole."""
    hint = f" ({MAY_BE_BILLED})" if outcome == "unknown" else ""
    return APIResponseError(
        f"the answer ({status}) cannot be used: {printable(redact(message), 500)}{hint}",
        status=status,
        request_id=request_id(headers, redact),
        raw=_redact_bytes(body, redact),
        outcome=outcome,
    )


def _redact_bytes(body: bytes, redact: Redact) -> bytes:
    # Latin-1 maps every byte to one character and back, and a key is ASCII.
    text = body.decode("latin-1")
    redacted = redact(text)
    return body if redacted is text else redacted.encode("latin-1")  # it may be half a gigabyte
