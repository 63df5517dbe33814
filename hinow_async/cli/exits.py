"""Exit codes, and what is said about an error: one readable paragraph, never a traceback."""

from __future__ import annotations

import signal
from typing import Final

from hinow_async._errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    HinowError,
    InsufficientBalanceError,
    LedgerCorruptError,
    LedgerLockedError,
    PermissionDeniedError,
)

OK: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
NO_MONEY: Final = 3
REFUSED: Final = 4
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_CODES: Final[tuple[tuple[tuple[type[Exception], ...], int], ...]] = (
    ((BudgetExceededError, InsufficientBalanceError), NO_MONEY),
    ((AuthenticationError, PermissionDeniedError), REFUSED),
    ((ConfigurationError, LedgerLockedError, LedgerCorruptError, ValueError), WRONG_USE),
)


def code_of(error: Exception) -> int:
    """Return the exit code of a command that ended with *error*."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), FAILED)


def code_of_signal(number: int) -> int:
    """Return 130 for Ctrl-C, 143 for SIGTERM (POSIX shells: 128 and the signal's number)."""
    return 128 + int(number or signal.SIGINT)


def message_of(error: Exception) -> str:
    """Return what to say about *error*."""
    if isinstance(error, DownloadError):
        return f"{error}. The picture is paid for."
    if isinstance(error, HinowError | ValueError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return f"unexpected {type(error).__name__}: {error} (please report this; -vv shows where it came from)"
