"""What a batch came to, and how far it is: the values that its users read."""

from __future__ import annotations

from typing import Literal

import attrs

Stopped = Literal["budget", "balance", "key", "disk", "failing", "unreachable", "interrupted"]
"""Why a batch ended before its source did."""


@attrs.frozen(kw_only=True)
class BatchReport:
    """What became of a batch. Items that were not sent are in none of the counts but *total*."""

    total: int
    """Items in the source, as far as it was read."""
    saved: int
    """Items whose pictures came to lie in the folder in this run."""
    reused: int
    """Items whose pictures were there from earlier runs."""
    failed: int
    """Items that cost nothing and brought nothing; the next run tries them again."""
    maybe_paid: int
    """Items that may have been billed without an answer; sent again only with `resend_unknown`."""
    lost: int
    """Items that were paid for and whose pictures cannot be had; the next run asks their links again."""
    images: int
    """Pictures saved in this run."""
    bytes: int
    """Their size, in bytes."""
    elapsed: float
    """Seconds."""
    estimated_usd: float | None
    """US dollars that this run is estimated to have cost, maybe-paid calls included; None: nobody knows a
    price."""
    balance_fell_usd: float | None
    """US dollars by which the balance fell meanwhile, whoever spent them; None: it could not be read."""
    model_mismatches: int
    """Answers that name another model than was asked for."""
    stopped: Stopped | None
    """Why it ended early; None: it ran to its end."""

    @property
    def is_complete(self) -> bool:
        """Whether every item has its pictures."""
        return self.stopped is None and not (self.failed or self.maybe_paid or self.lost)


@attrs.frozen(kw_only=True)
class BatchProgress:
    """How far a batch is, at one moment."""

    total: int | None
    """Items in the source; None: not known before it ends."""
    done: int
    """Items whose pictures lie in the folder, those of earlier runs included."""
    failed: int
    """Items that failed, maybe-paid and lost ones included."""
    in_flight: int
    """Calls on their way."""
    waiting: int
    """Calls that wait for a slot."""
    images: int
    """Pictures saved in this run."""
    bytes: int
    """Their size, in bytes."""
    elapsed: float
    """Seconds."""
    rate: float
    """Items finished per second, lately."""
    remaining: float | None
    """Seconds that the rest will take at that rate; None: not known."""
    estimated_usd: float | None
    """US dollars spent in this run, estimated; None: nobody knows a price."""
    limit: int
    """Calls that the account is known to allow in flight."""
