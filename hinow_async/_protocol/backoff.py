"""How long to wait before a call is tried again: backoff with jitter, and Retry-After."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime


def backoff(tries: int, initial: float, longest: float, jitter: float) -> float:
    """Seconds to wait after *tries* failed tries: doubled with each, and half of it left to *jitter*.

    Args:
        tries: Tries that failed, from 1.
        initial: Seconds after the first.
        longest: Seconds, never passed.
        jitter: From 0 to 1; random, so that callers that failed together do not return together.
    """
    # 2.0 ** 1000 overflows; long before that, the longest wait holds.
    whole = min(longest, initial * 2.0 ** min(tries - 1, 60))
    return whole * (0.5 + 0.5 * jitter)


def retry_after(headers: Mapping[str, str], wall_now: float) -> float | None:
    """Read how long the service asks to wait, in seconds; None: it did not say, or said nonsense.

    `retry-after-ms` wins; then Retry-After in seconds (fractions accepted) or as an HTTP date, which is
    compared with the answer's own `Date` where there is one: two clocks differ.
    What is negative, past, infinite, not a number or words is ignored.

    Args:
        headers: Of the answer, with case-insensitive access.
        wall_now: The present moment in Unix seconds.

    Source: RFC 9110, section 10.2.3.
    """
    milliseconds = _positive(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    asked = _positive(value)
    return asked if asked is not None else _until(value, headers.get("date"), wall_now)


def _positive(text: str | None) -> float | None:
    if text is None or not text.isascii() or "_" in text:  # Python's float reads more than HTTP writes
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _moment(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _until(value: str, date: str | None, wall_now: float) -> float | None:
    moment = _moment(value)
    if moment is None:
        return None
    now = _moment(date)
    wait = moment - (wall_now if now is None else now)
    return wait if wait > 0 else None
