"""What a batch came to, and how far it is: the values that its users read."""

from __future__ import annotations

import json
from typing import Any, Literal

import attrs

from hinow_async._markup import output
from hinow_async.batch import words
from hinow_async.batch.shown import first_pictures

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
    reason: str | None = None
    """What was said where it ended early."""
    images_there: int = 0
    """Pictures of the source's items that lie in the folder, those of earlier runs included."""
    out: str = ""
    """The folder, as it was given."""
    sandbox: bool = False
    """Whether these are test pictures, which cost nothing."""

    @property
    def is_complete(self) -> bool:
        """Whether every item has its pictures."""
        return self.stopped is None and not (self.failed or self.maybe_paid or self.lost)

    def __str__(self) -> str:
        return "\n".join(words.report_lines(self))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: what `hinow batch --json` prints."""
        return attrs.asdict(self)

    def to_json(self) -> str:
        """Return it as one JSON object, in ASCII."""
        return json.dumps(self.to_dict())

    def _repr_html_(self) -> str:
        """Show it in a notebook, with the first pictures of the folder."""
        return output(words.report_table(self) + first_pictures(self))


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
    remaining_usd: float | None = None
    """US dollars that the rest will cost, estimated, what is in flight included; None: not known."""
