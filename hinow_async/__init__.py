"""Turn prompts into pictures on disk through HInow.ai: async, within every limit, never paying twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hinow_async._errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BatchError,
    BudgetExceededError,
    ConfigurationError,
    ConflictError,
    DownloadError,
    DownloadTooLargeError,
    HinowError,
    InsufficientBalanceError,
    IntegrityError,
    InternalServerError,
    LedgerCorruptError,
    LedgerLockedError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SourceError,
    UnsafeURLError,
    URLExpiredError,
)
from hinow_async._models.calls import AttemptRecord, CallInfo, CallRecord
from hinow_async._models.images import (
    GeneratedImage,
    ImageOutcome,
    ImageRequest,
    ImageResult,
    SavedImage,
)
from hinow_async._options import (
    Account,
    Budget,
    DownloadPolicy,
    Limits,
    Network,
    RetryPolicy,
    Timeouts,
)
from hinow_async._version import __version__

if TYPE_CHECKING:
    from hinow_async._client import AsyncHinow
    from hinow_async._models.account import Balance, Model, ModelCost
    from hinow_async._models.chat import (
        ChatCompletion,
        ChatCompletionChunk,
        ChatOutcome,
        ChatRequest,
        Choice,
        Message,
        Usage,
    )
    from hinow_async._models.comparison import ImageComparison
    from hinow_async._models.stats import AccountStats, ClientStats
    from hinow_async._resources.streams import ChatStream
    from hinow_async.sync.client import Hinow

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "Account",
    "AccountStats",
    "AsyncHinow",
    "AttemptRecord",
    "AuthenticationError",
    "BadRequestError",
    "Balance",
    "BatchError",
    "Budget",
    "BudgetExceededError",
    "CallInfo",
    "CallRecord",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatOutcome",
    "ChatRequest",
    "ChatStream",
    "Choice",
    "ClientStats",
    "ConfigurationError",
    "ConflictError",
    "DownloadError",
    "DownloadPolicy",
    "DownloadTooLargeError",
    "GeneratedImage",
    "Hinow",
    "HinowError",
    "ImageComparison",
    "ImageOutcome",
    "ImageRequest",
    "ImageResult",
    "InsufficientBalanceError",
    "IntegrityError",
    "InternalServerError",
    "LedgerCorruptError",
    "LedgerLockedError",
    "Limits",
    "Message",
    "Model",
    "ModelCost",
    "Network",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "RetryPolicy",
    "SavedImage",
    "SourceError",
    "Timeouts",
    "URLExpiredError",
    "UnsafeURLError",
    "Usage",
    "__version__",
]


_HOMES = {
    "_client": ("AsyncHinow",),
    "_models.account": ("Balance", "Model", "ModelCost"),
    "_models.chat": (
        "ChatCompletion",
        "ChatCompletionChunk",
        "ChatOutcome",
        "ChatRequest",
        "Choice",
        "Message",
        "Usage",
    ),
    "_models.comparison": ("ImageComparison",),
    "_models.stats": ("AccountStats", "ClientStats"),
    "_resources.streams": ("ChatStream",),
    "sync.client": ("Hinow",),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what few need, and the client, when first asked for: aiohttp takes longer than all else."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
