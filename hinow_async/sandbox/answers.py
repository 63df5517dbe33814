"""Answers as values: a status, headers and a body, and the refusals that end a request early."""

import json
from typing import Any, Self

import attrs

from hinow_async.sandbox.faults import Fault

JSON = "application/json"
Headers = tuple[tuple[str, str], ...]

# The codes and types are the sandbox's own: the contract names but `model_not_found` (section "Errors").
_KINDS = {
    400: ("invalid_request", "invalid_request_error"),
    401: ("invalid_api_key", "authentication_error"),
    402: ("insufficient_balance", "billing_error"),
    403: ("permission_denied", "permission_error"),
    404: ("not_found", "not_found_error"),
    405: ("method_not_allowed", "invalid_request_error"),
    413: ("request_too_large", "invalid_request_error"),
    422: ("invalid_request", "invalid_request_error"),
    429: ("rate_limit_exceeded", "rate_limit_error"),
}


def encode(value: Any) -> bytes:
    """Compact JSON, pure ASCII, so that lone surrogates of a prompt survive."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def of_type(content_type: str) -> Headers:
    """The header that says what a body is."""
    return (("Content-Type", content_type),)


_JSON_HEADERS = of_type(JSON)


@attrs.frozen
class Answer:
    """What is sent back: either a body, or the pieces of a stream (text, bytes, and pauses in seconds)."""

    status: int
    body: bytes = b""
    headers: Headers = _JSON_HEADERS
    stream: tuple[str | bytes | float, ...] | None = None

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Self:
        """A JSON answer."""
        return cls(status, encode(value))

    @classmethod
    def error(cls, status: int, message: str, code: str | None = None, headers: Headers = ()) -> Self:
        """The contract's error object."""
        usual_code, kind = _KINDS.get(status, ("server_error", "server_error"))
        body = {"error": {"message": message, "code": code or usual_code, "type": kind}}
        return cls(status, encode(body), _JSON_HEADERS + headers)

    def with_headers(self, headers: Headers) -> Self:
        """The same with *headers*, which replace those of the same names."""
        replaced = {name.lower() for name, _ in headers}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in replaced)
        return attrs.evolve(self, headers=kept + headers)


class Refused(Exception):  # noqa: N818 - what the service does with a request, not an error of the sandbox
    """Ends the handling of a request with this answer."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: Headers = ()) -> None:
        super().__init__(status, message)
        self.answer = Answer.error(status, message, code, headers)


def _content(body: Any) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return encode(body), JSON


def with_fault(fault: Fault, answer: Answer | None) -> Answer:
    """*answer* as *fault* makes it; None is the answer to a request whose work was never begun."""
    status = fault.status or 200
    if answer is None or status >= 300:
        answer = Answer.error(status, f"A scripted fault: status {status}")
    elif fault.status is not None:
        answer = attrs.evolve(answer, status=status)
    if fault.garbage is not None:
        answer = Answer(status, fault.garbage)
    elif fault.body is not None:
        body, content_type = _content(fault.body)
        answer = Answer(status, body, of_type(content_type))
    elif fault.sse is not None:
        answer = Answer(status, b"", of_type("text/event-stream"), fault.sse)
    return answer.with_headers(fault.headers)
