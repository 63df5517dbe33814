"""The error tree: its shape, its pickles, and what each says."""

import copy
import inspect
import pickle
import traceback
from decimal import Decimal
from pathlib import Path

import pytest

import hinow_async
from hinow_async import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    BatchError,
    BudgetExceededError,
    CallRecord,
    ConfigurationError,
    DownloadError,
    HinowError,
    ImageRequest,
    RateLimitError,
    SourceError,
)

TREE = """
HinowError
    APIError
        APIConnectionError
            APITimeoutError
        APIResponseError
        APIStatusError
            AuthenticationError
            BadRequestError
            ConflictError
            InsufficientBalanceError
            InternalServerError
            NotFoundError
            PermissionDeniedError
            RateLimitError
    BatchError
        LedgerCorruptError
        LedgerLockedError
        SourceError
    BudgetExceededError
    ConfigurationError
    DownloadError
        DownloadTooLargeError
        IntegrityError
        URLExpiredError
        UnsafeURLError
"""

CALL = CallRecord(
    request_id="r",
    attempts=1,
    elapsed=1.0,
    queued=0.0,
    unknown_outcomes=0,
    estimated_usd=None,
    account="a",
    idempotency_key="k",
)
MONEY = {"asked": Decimal(1), "spent": Decimal(2), "reserved": Decimal(0), "left": Decimal("0.5")}
ERRORS = [
    HinowError("no"),
    ConfigurationError("no"),
    APIError("no", request=ImageRequest("x"), call=CALL, outcome="unknown"),
    APIConnectionError("no", outcome="unknown"),
    APITimeoutError("no", outcome="refused"),
    APIResponseError("no", status=200, request_id="r", raw=b"{", outcome="unknown"),
    APIStatusError("no", status=418, code="c", type="t", request_id="r", body="b", retry_after=1.5),
    RateLimitError("no", status=429, retry_after=2.0, call=CALL),
    BudgetExceededError("no", **MONEY),
    DownloadError("no", url="https://a.example/x", path=Path("x.png")),
    BatchError("no"),
    SourceError("no", line=3),
]


def drawn(cls, depth=0):
    below = sorted(sub.__name__ for sub in cls.__subclasses__() if sub.__module__ == "hinow_async._errors")
    names = {sub.__name__: sub for sub in cls.__subclasses__()}
    return "    " * depth + cls.__name__ + "\n" + "".join(drawn(names[name], depth + 1) for name in below)


def test_the_tree_is_the_one_that_is_documented():
    """Handlers are written against it."""
    assert drawn(HinowError) == TREE.lstrip()


def test_every_error_of_the_tree_is_public():
    """And all public errors are of the tree."""
    public = {name for name in hinow_async.__all__ if inspect.isclass(getattr(hinow_async, name))
              and issubclass(getattr(hinow_async, name), Exception)}  # fmt: skip

    assert public == {line.strip() for line in TREE.split()}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_are_pickled_whole(error, protocol):
    """Type, message and every attribute, notes too."""
    again = pickle.loads(pickle.dumps(error, protocol))

    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    assert vars(copy.copy(error)) == vars(error)


def test_notes_survive_a_pickle():
    """They say why a call was not sent again."""
    error = APIConnectionError("no")
    error.add_note("budget")

    assert pickle.loads(pickle.dumps(error)).__notes__ == ["budget"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_shown(error):
    """By repr, str and a traceback with locals."""
    assert "no" in repr(error)
    assert str(error) == "no"
    assert "no" in "".join(traceback.format_exception(error))


def test_kinds_that_python_knows():
    """Who catches Python's own class catches ours."""
    assert issubclass(APITimeoutError, TimeoutError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(SourceError, ValueError)
