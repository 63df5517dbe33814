"""One call of a batch, as the ledger and the stream follow it."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from decimal import Decimal
from typing import Any

from hinow_async._budget import exact
from hinow_async._call import Call
from hinow_async._models.images import ImageResult
from hinow_async._protocol import json
from hinow_async._protocol.wire import image_request_to_wire
from hinow_async._resources.many import Item as Place
from hinow_async.batch.ledger import Bought, Ledger, Problem, Row
from hinow_async.batch.paid import Paid
from hinow_async.batch.verdicts import Work


class Trip:
    """What a call reports to: to the ledger as a `_call.Journal`, to the stream as a `_call.Watcher`."""

    def __init__(self, ledger: Ledger, work: Work, place: Place) -> None:
        self._ledger = ledger
        self._work = work
        self._call: Call[Any] | None = None
        self._row: Row | None = None
        self._tries: dict[int, int] = {}
        """Numbers of the tries in the ledger, by those in the call."""
        self._last = 0
        self.price: Decimal | None = None
        """US dollars that its last try could cost; None: nobody knows, or it was not sent."""
        self.place = place
        self.sent_at = time.monotonic()
        self.last_sent_at: float | None = None
        """When its last try was sent; None: it was not."""
        self.is_unsent = False
        """Whether it ended unsent, and goes on later."""
        self.was_denied = False
        """Whether it was to be tried again when the batch had stopped."""
        self.is_answered = False
        """Whether an answer is in the ledger, or on its way there."""

    @property
    def row(self) -> Row:
        """Its item, as the ledger is told of it."""
        if self._row is None:
            body = None if self._call is None else self._call.body
            self._row = row_of(self._ledger, self._work, body)
        return self._row

    @property
    def is_sent(self) -> bool:
        """Whether a try of it may be on its way, or was."""
        return bool(self._tries)

    # -- as a watcher --------------------------------------------------------------------------------

    def on_granted(self, call: Call[Any]) -> None:
        """A try is about to be sent; the first one counts."""
        if self._call is None:
            self._call, self.price = call, call.price
            self.sent_at = time.monotonic()
        self.place.on_granted(call)

    def may_send(self) -> bool:
        """Whether the call may be tried again."""
        self.was_denied = not self.place.may_send()
        return not self.was_denied

    # -- as a journal --------------------------------------------------------------------------------

    def sending(self, attempt: int, key: str, account: str) -> Awaitable[None]:
        """Record a try, durably."""
        self._last = self._tries[attempt] = self._ledger.next_attempt()
        self.last_sent_at = time.monotonic()
        return self._ledger.sent(self.row, self._last, key, account, self.price)

    async def unbilled(self, attempt: int) -> None:
        """Close a try that cost nothing."""
        number = self._tries.pop(attempt, None)
        self.is_answered = False
        if number is not None:
            self._ledger.unbilled(self.row, number)

    def answered(self, raw: bytes) -> Awaitable[None]:
        """Record an answer, durably."""
        self.is_answered = True
        request_id = None if self._call is None else self._call.request_id
        return self._ledger.answered(self.row, self._last, raw, request_id)

    # -- its end -------------------------------------------------------------------------------------

    def end_unknown(self, problem: Problem) -> None:
        """Record that nobody knows whether it was billed; an answer that came was of no use."""
        self._ledger.maybe_paid(self.row, problem, attempt=self._last if self.is_answered else None)

    def as_paid(self, result: ImageResult) -> Paid:
        """Return its answer."""
        call = result.call
        bought = Bought(
            attempt=self._last,
            model=result.model,
            provider=result.provider,
            request_id=call.request_id,
            images=len(result.images),
            usd=None if call.estimated_usd is None else exact(call.estimated_usd),
        )
        return Paid(row=self.row, bought=bought, account=call.account or "", missing=result.images)


def row_of(ledger: Ledger, work: Work, body: bytes | None = None) -> Row:
    """Return an item as the ledger is told of it; one that is new to it gets a number.

    Args:
        ledger: It knows the numbers.
        work: The item.
        body: Its request as it is sent; None: it was not made yet.
    """
    item, known = work.item, work.known
    is_new = known is None or work.is_superseding
    number = ledger.next_item() if known is None or is_new else known.number
    supersedes = known.number if known is not None and work.is_superseding else None
    if body is None:
        body = json.dumps(image_request_to_wire(item.request))
    return Row(number, item.id, item.fingerprint, body.decode(), supersedes, is_new=known is None)
