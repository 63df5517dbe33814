"""The numbers of a client at one moment, frozen: what `client.stats()` returns."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class AccountStats:
    """One account's numbers at one moment."""

    in_flight: int
    waiting: int
    """Calls that wait for this account alone; the common queue counts in `ClientStats.waiting`."""
    limit: int
    """Calls allowed in flight now."""
    throttled: int
    """Answers 429, 503 and 529 so far."""
    retries: int
    unknown_outcomes: int
    spent_usd: float
    """US dollars spent at this account."""
    reserved_usd: float
    """US dollars held for its calls in flight."""
    pace_per_minute: float | None
    """The learned pace in images per minute; None: none was learned."""
    requests_last_minute: int | None
    """Requests accepted in the last minute; None with `adaptive=False`, which does not count."""
    images_last_minute: float | None
    """Images accepted in the last minute; a chat counts as one."""
    decisions: tuple[str, ...]
    """Why the limit is what it is: the last few things that were learned, oldest first."""
    gate: float
    """Seconds until the account's gate opens; 0.0: it is open."""
    held_by: str | None
    """The part that holds the head of the queue now."""
    parked: str | None
    """Why the account gets no calls; None: it gets them."""


@attrs.frozen(kw_only=True)
class ClientStats:
    """A snapshot of the client; nothing in it changes afterwards."""

    in_flight: int
    """Calls that hold a slot."""
    waiting: int
    """Calls that wait for one."""
    oldest_wait: float
    """Seconds that the first in the queue has been waiting, since its call began; 0.0: nobody waits."""
    limit: int
    """Calls allowed in flight now, over all accounts."""
    throttled: int
    """Answers 429, 503 and 529 so far."""
    retries: int
    """Tries beyond the first of their call."""
    unknown_outcomes: int
    """Tries that may have been billed although no answer could be read."""
    spent_usd: float
    """US dollars spent so far, estimated unless prices were given; unknown outcomes included."""
    reserved_usd: float
    """US dollars held for calls under way."""
    accounts: Mapping[str, AccountStats]
    """The same per account, by name."""
