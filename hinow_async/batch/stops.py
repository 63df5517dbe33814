"""When a batch sends no more: money, key, and failures in succession. Told the time, it never asks for it."""

from __future__ import annotations

from typing import Final

from hinow_async._errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientBalanceError,
    PermissionDeniedError,
)
from hinow_async.batch.report import Stopped

UNKNOWN_IN_SUCCESSION: Final = 10
UNREACHED_IN_SUCCESSION: Final = 10
FAILED_IN_SUCCESSION: Final = 100


class Streak:
    """Bad ends in succession.

    One that was under way when the streak began belongs to the same event, and does not count: a connection
    that dies takes many calls with it at once.
    """

    def __init__(self) -> None:
        self.length = 0
        self._began = 0.0

    def add(self, sent_at: float, now: float) -> int:
        """Count one more, sent at *sent_at*; return how many there are."""
        if self.length == 0:
            self._began = now
            self.length = 1
        elif sent_at >= self._began:
            self.length += 1
        return self.length

    def end(self) -> None:
        """Something else happened."""
        self.length = 0


class StopRules:
    """Judges how each item ended."""

    def __init__(self, *, keep_going: bool) -> None:
        self._keep_going = keep_going
        self._accepted: set[str] = set()
        self._unknown = Streak()
        self._unreached = Streak()
        self._failed = 0
        self._has_answer = False

    def on_success(self, model: str) -> None:
        """A call was accepted and answered."""
        self._accepted.add(model)
        self._has_answer = True
        self._unknown.end()
        self._unreached.end()

    def on_saved(self) -> None:
        """An item has its pictures."""
        self._failed = 0

    def on_lost(self) -> Stopped | None:
        """A paid item's pictures could not be had."""
        return self._one_more_failure()

    def reason_of(self, error: Exception, model: str) -> Stopped | None:
        """Say whether *error* is no fault of its item, but stops the batch."""
        if isinstance(error, BudgetExceededError):
            return "budget"
        if isinstance(error, InsufficientBalanceError):
            return "balance"
        if isinstance(error, AuthenticationError):
            return "key"
        if isinstance(error, PermissionDeniedError) and model not in self._accepted:
            return "key"
        return None

    def on_failure(self, error: Exception, sent_at: float, now: float) -> Stopped | None:
        """An item failed; say whether that makes too many in succession."""
        outcome = error.outcome if isinstance(error, APIError) else None
        if outcome == "unknown":
            if self._unknown.add(sent_at, now) >= UNKNOWN_IN_SUCCESSION:
                return "failing"
        else:
            self._unknown.end()
        if isinstance(error, APIConnectionError) and outcome == "not_sent":
            # Before the first answer there is no event to wait out: nobody is there.
            since = sent_at if self._has_answer else now
            if self._unreached.add(since, now) >= UNREACHED_IN_SUCCESSION:
                return "unreachable"
        else:
            self._unreached.end()
            self._has_answer = self._has_answer or outcome == "refused"
        return self._one_more_failure()

    @property
    def was_never_reached(self) -> bool:
        """Whether all that was tried ended without a connection."""
        return self._unreached.length > 0 and not self._has_answer

    def _one_more_failure(self) -> Stopped | None:
        self._failed += 1
        too_many = self._failed >= FAILED_IN_SUCCESSION and not self._keep_going
        return "failing" if too_many else None
