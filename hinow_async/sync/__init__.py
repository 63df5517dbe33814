"""`Hinow`, the client without `await`, and the types of what it returns.

`values.py` and `client.py` are made from the asynchronous classes by `tools/make_sync.py`.
"""

from hinow_async.sync.client import ChatStream, Hinow
from hinow_async.sync.many import Outcomes
from hinow_async.sync.values import (
    ChatCompletion,
    ChatOutcome,
    GeneratedImage,
    ImageComparison,
    ImageOutcome,
    ImageResult,
)

__all__ = [
    "ChatCompletion",
    "ChatOutcome",
    "ChatStream",
    "GeneratedImage",
    "Hinow",
    "ImageComparison",
    "ImageOutcome",
    "ImageResult",
    "Outcomes",
]
