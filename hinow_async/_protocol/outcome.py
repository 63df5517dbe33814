"""What an answer means: for money, for the next try, and for what is learned of the account's limits.

The two tables of the design in code: "What a failure means for money" and the controller's events.
Nothing here waits; an exception without an answer is judged in `_call`, by whether a byte was sent.
"""

from __future__ import annotations

import enum
import re
from typing import Literal

Money = Literal["refused", "final", "unknown"]
"""refused: not billed, may be tried again. final: not billed, pointless. unknown: may have been billed."""


class Event(enum.Enum):
    """What the controller of an account is told when a call gives its slot back."""

    SUCCESS = enum.auto()
    ANSWERED = enum.auto()
    REFUSED = enum.auto()
    OVERLOAD = enum.auto()
    FAILED = enum.auto()
    LOST = enum.auto()
    CANCELLED = enum.auto()


_FAILED = frozenset({500, 502, 504, *range(520, 525)})
_OVERLOAD = frozenset({503, 529})
_NEVER_DONE = frozenset({501, 505})  # the service says that it cannot do such a thing at all

_NO_CREDIT_CODES = frozenset(
    {
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "billing_hard_limit_reached",
        "billing_error",
    }
)
_NO_CREDIT_TEXT = (  # compiled with the first failure, which most processes never see
    r"insufficient (?:balance|credit|credits|funds|quota)"
    r"|(?:out of|no|not enough|ran out of) (?:credit|credits|balance|funds)"
    r"|exceeded your current quota|(?:credit|credits|balance) (?:is|are) (?:exhausted|used up|too low)"
)


def money(status: int, unbilled: frozenset[int]) -> Money:
    """Say what an answer that is no success means for money (design, section 4)."""
    if status in unbilled:
        return "refused"
    if status >= 500 and status not in _NEVER_DONE:
        return "unknown"
    return "final"


def event(status: int, *, out_of_credit: bool = False) -> Event:
    """Say what the controller learns from an answer that is no success (adaptive, section 4)."""
    if status == 429:
        return Event.ANSWERED if out_of_credit else Event.REFUSED
    if status in _OVERLOAD:
        return Event.OVERLOAD
    return Event.FAILED if status in _FAILED else Event.ANSWERED


def is_out_of_credit(message: str | None, code: str | None, type_: str | None) -> bool:
    """Say whether an error means that the account's money is gone, whatever its status."""
    if {code, type_} & _NO_CREDIT_CODES:
        return True
    return message is not None and re.search(_NO_CREDIT_TEXT, message[:2000], re.IGNORECASE) is not None
