"""Reading a source through before anything is sent: to find its mistakes, and to say what it will come to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from hinow_async.batch.aside import own_thread
from hinow_async.batch.source import BadLine, Source
from hinow_async.batch.verdicts import Judge, Work


@attrs.define
class Survey:
    """What a source holds, and what of it is left to be made."""

    items: int = 0
    images: int = 0
    """Pictures that all items ask for."""
    left: int = 0
    """Items to be made; what is there, maybe paid or lost is not among them."""
    left_images: int = 0
    reused: int = 0
    """Items whose pictures are there."""
    reused_images: int = 0
    maybe_paid: int = 0
    """Items that may have been paid for, and stay as they are."""
    fetched: int = 0
    """Items that are paid for, and whose links are asked again."""
    bad_lines: int = 0
    """Lines that are passed over."""
    estimated_usd: Decimal | None = None
    """What those left will cost, estimated; None: nobody knows a price."""
    unpriced: int = 0
    """Items left of which nobody knows what they cost."""
    is_whole: bool = False
    """False where it was ended early."""

    @property
    def to_come(self) -> Decimal | None:
        """What those left will cost together, estimated; None: of some nobody knows it."""
        return None if self.unpriced else self.estimated_usd or Decimal(0)

    @property
    def is_nothing_to_do(self) -> bool:
        """Whether a run over the source would change nothing."""
        return self.is_whole and not (self.left or self.fetched or self.bad_lines)


async def survey(
    source: Source,
    judge: Judge,
    price: Callable[[Any], Decimal | None],
    *,
    ending: asyncio.Event | None = None,
) -> Survey:
    """Read *source* through.

    Args:
        source: What to read.
        judge: Says what is to be done with each item.
        price: US dollars that a request could cost.
        ending: Once set, reading ends.

    Raises:
        SourceError: an entry is wrong.
    """
    found = Survey()
    with own_thread() as call:
        async for chunk in source.chunks():
            if ending is not None and ending.is_set():
                return found
            works, error = await call(judge.judge, chunk)
            if error is not None:
                raise error
            for work in works:
                _count(found, work, price)
    found.is_whole = True
    return found


def _count(found: Survey, work: Work | BadLine, price: Callable[[Any], Decimal | None]) -> None:
    found.items += 1
    if isinstance(work, BadLine):
        found.bad_lines += 1
        return
    found.images += work.item.request.images_asked
    if work.verdict == "make":
        _add(found, work.item.request, price)
    elif work.verdict == "fetch":
        found.fetched += 1
    elif work.verdict == "maybe_paid":
        found.maybe_paid += 1
    else:
        found.reused += 1
        found.reused_images += len(work.known.files) if work.known is not None else 0


def _add(found: Survey, request: Any, price: Callable[[Any], Decimal | None]) -> None:
    found.left += 1
    found.left_images += request.images_asked
    usd = price(request)
    if usd is None:
        found.unpriced += 1
    else:
        found.estimated_usd = (found.estimated_usd or Decimal(0)) + usd
