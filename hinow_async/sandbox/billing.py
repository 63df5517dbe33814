"""What the service did and what it charged for: the truth that a client's own accounts are held against."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

LOG_LENGTH = 10_000
LOGGED_BODY = 64 * 1024  # bytes; ten thousand bodies with reference images would fill the memory


@attrs.define
class Billing:
    """Counters of one sandbox. A request is billed when it is accepted, before the work begins.

    So a caller who goes away during the latency has paid, and so has one whose answer was lost; refused and
    invalid requests cost nothing.
    """

    received: int = 0
    """HTTP requests of every kind, downloads and refused ones included."""
    requests: int = 0
    """Billed requests: for pictures and chats."""
    images: int = 0
    """Billed pictures."""
    refused: int = 0
    """Requests answered with 429, by a limit or by a fault."""
    in_flight: int = 0
    """Accepted requests that are being worked on now."""
    peak_in_flight: int = 0
    usd: Decimal = Decimal(0)
    """All that was charged, exactly."""
    by_prompt: Counter[str] = attrs.field(factory=Counter)
    """Billed requests by prompt (of a chat: by its last user message)."""
    by_key: Counter[str] = attrs.field(factory=Counter)
    """Billed requests by ``Idempotency-Key``, those that carried one. The key is counted, not honoured."""

    def charge(self, *, prompt: str, images: int, usd: Decimal, idempotency_key: str | None) -> None:
        """Bill one request."""
        self.requests += 1
        self.images += images
        self.usd += usd
        self.by_prompt[prompt] += 1
        if idempotency_key is not None:
            self.by_key[idempotency_key] += 1

    def enter(self) -> None:
        """One more is in flight."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def leave(self) -> None:
        """One of them is done."""
        self.in_flight -= 1


@attrs.define
class Received:
    """One request as it came in."""

    at: float
    """Seconds of the monotonic clock."""
    method: str
    path: str
    """With its query, as it stood in the request line."""
    headers: dict[str, str]
    """Names in lower case, without ``authorization``."""
    body: Any = None
    """The JSON body of a POST that came so far; None for every other, and for one above 64 KiB."""


class RequestLog(deque[Received]):
    """The last 10,000 requests, oldest first."""

    def __init__(self) -> None:
        super().__init__(maxlen=LOG_LENGTH)

    def write(self, method: str, path: str, headers: Mapping[str, str]) -> Received:
        """Note a request; its body is filled in when it has been read."""
        kept = {name.lower(): value for name, value in headers.items()}
        kept.pop("authorization", None)
        entry = Received(time.monotonic(), method, path, kept)
        self.append(entry)
        return entry
