"""Frozen records of what calls did: for errors, results and hooks."""

from __future__ import annotations

from typing import Literal

import attrs

AttemptOutcome = Literal["success", "not_sent", "refused", "final", "unknown", "cancelled"]


@attrs.frozen(kw_only=True)
class CallRecord:
    """What one call did, from its start to its end, over all attempts."""

    request_id: str | None
    """The service's id of the last request that was answered (`x-request-id` or `request-id`)."""
    attempts: int
    """Tries: requests sent, refused ones included, and connections that failed."""
    elapsed: float
    """Seconds from the start of the call to its end."""
    queued: float
    """Seconds spent waiting for a slot, in all."""
    unknown_outcomes: int
    """Tries that may have been billed although no answer could be read."""
    estimated_usd: float | None
    """What the call is estimated to have cost, in US dollars; None: nobody knows a price."""
    account: str | None
    """`Account.name` of the account that was asked last; None: no account was."""
    idempotency_key: str
    """The `Idempotency-Key` that every try of this call carried."""


@attrs.frozen(kw_only=True)
class CallInfo:
    """A call that has just started (hook `call_started`)."""

    endpoint: str
    """`/images` or `/chat/completions`."""
    model: str
    weight: int
    """Pictures asked for; 1 for a chat."""
    idempotency_key: str


@attrs.frozen(kw_only=True)
class AttemptRecord:
    """One try that has just ended (hook `attempt_ended`)."""

    idempotency_key: str
    attempt: int
    """Its number within the call, from 1."""
    account: str
    outcome: AttemptOutcome
    status: int | None
    """The HTTP status; None: no answer came."""
    elapsed: float
    """Seconds from the grant of a slot to the end of the try."""
    retry_after: float | None
    """Seconds the service asked to wait."""
