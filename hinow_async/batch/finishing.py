"""How long it takes to finish what is on its way, judged by what came to its end so far. Told the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

_SURE: Final = 0.9
"""Share of the calls so far that took no longer than what one call is taken to need."""


@attrs.frozen
class Outlook:
    """What can be said of the end of what is on its way."""

    seconds: float | None
    """Until all of it is done, but for what is overdue; None: nothing is known."""
    overdue: int = 0
    """Calls that have already taken longer than any that ended."""


def outlook(spans: Sequence[float], ages: Sequence[float]) -> Outlook:
    """Judge what is on its way.

    Args:
        spans: Seconds that calls took so far, each from its sending until its pictures were saved.
        ages: Seconds that those on their way have taken up to now.
    """
    if not spans:
        return Outlook(None if ages else 0.0)
    ordered = sorted(spans)
    # The last of many to end is one of the slowest.
    share = max(_SURE, len(ages) / (len(ages) + 1))
    usual, slowest = ordered[math.ceil(share * len(ordered)) - 1], ordered[-1]
    left = [(usual if age < usual else slowest) - age for age in ages if age < slowest]
    overdue = len(ages) - len(left)
    return Outlook(None if ages and not left else max(left, default=0.0), overdue)
