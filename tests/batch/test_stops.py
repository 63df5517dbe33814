"""When a batch sends no more."""

from decimal import Decimal

from hinow_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InsufficientBalanceError,
    PermissionDeniedError,
)
from hinow_async.batch.stops import StopRules

UNKNOWN = APIConnectionError("reset", outcome="unknown")
NOT_SENT = APIConnectionError("refused", outcome="not_sent")
BAD = BadRequestError("bad", status=400, outcome="refused")


def rules(keep_going=False):
    return StopRules(keep_going=keep_going)


def test_money_and_key_stop_at_once():
    """What no other item would fare better with is no fault of the item's."""
    zero = Decimal(0)
    budget = BudgetExceededError("over", asked=zero, spent=zero, reserved=zero, left=zero)
    errors = (
        budget,
        InsufficientBalanceError("402"),
        AuthenticationError("401"),
        PermissionDeniedError("403"),
        BAD,
    )
    judged = [rules().reason_of(error, "m") for error in errors]
    assert judged == ["budget", "balance", "key", "key", None]


def test_a_403_fails_the_item_once_a_call_of_its_model_was_accepted():
    """Then it is the item that is not allowed, not the key; another model is another matter."""
    judge = rules()
    judge.on_success("m")
    assert judge.reason_of(PermissionDeniedError("403"), "m") is None
    assert judge.reason_of(PermissionDeniedError("403"), "other") == "key"


def test_ten_unknown_ends_count_only_when_each_was_sent_after_the_first():
    """256 calls on a connection that dies are one event; ten after one another are a broken service."""
    judge = rules()
    assert {judge.on_failure(UNKNOWN, 0.0, 1.0) for _ in range(90)} == {None}
    ends = [judge.on_failure(UNKNOWN, 2.0, 3.0) for _ in range(9)]
    assert ends == [None] * 8 + ["failing"]


def test_a_success_between_ends_the_streak():
    """In succession means without anything that went well."""
    judge = rules()
    for _ in range(3):
        assert [judge.on_failure(UNKNOWN, 5.0, 1.0) for _ in range(9)] == [None] * 9
        judge.on_success("m")


def test_a_service_out_of_reach_is_found_out_by_ten():
    """Before anything was answered ten suffice; later they must have been sent after the first failure."""
    judge = rules()
    assert [judge.on_failure(NOT_SENT, 0.0, 1.0) for _ in range(10)] == [None] * 9 + ["unreachable"]
    later = rules()
    later.on_success("m")
    assert {later.on_failure(NOT_SENT, 0.0, 1.0) for _ in range(20)} == {None}
    assert not later.was_never_reached


def test_a_hundred_failures_stop_unless_told_to_keep_going():
    """Whatever they are; a saved item begins the count anew."""
    judge, patient = rules(), rules(keep_going=True)
    assert [judge.on_failure(BAD, 0, 1) for _ in range(99)] == [None] * 99
    judge.on_saved()
    assert [judge.on_failure(BAD, 0, 1) for _ in range(100)] == [None] * 99 + ["failing"]
    assert {patient.on_failure(BAD, 0, 1) for _ in range(300)} == {None}
