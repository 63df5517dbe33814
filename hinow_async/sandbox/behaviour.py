"""How a sandbox behaves: one frozen object of options."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import attrs

from hinow_async.sandbox.faults import Fault

AnswerForm = Literal["envelope", "bare", "openai", "openai_b64", "data_uris"]
LimitKind = Literal["bucket", "fixed", "sliding"]
RetryAfter = Literal["right", "none"] | float
Dollars = float | str | Decimal
Latency = float | Callable[[Mapping[str, Any]], float]


def _dollars(value: Dollars, names: str) -> Decimal:
    """Exact dollars: 0.1 is a tenth, not the binary number next to it."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{names} must be a number of at least 0, not {value!r}")
    return amount


def _balance(value: Dollars | None) -> Decimal | None:
    return None if value is None else _dollars(value, "balance")


def _price(value: Dollars) -> Decimal:
    return _dollars(value, "a price (price_per_image, price_per_chat)")


def _names(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ValueError(f"models and hosts must be sequences, not the single text {values!r}")
    return tuple(values)


def _faults(values: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(values)


def _number(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{attribute.name} must be a number of at least 0, not {value!r}")


def _number_or_callable(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if not callable(value):
        _number(instance, attribute, value)


def _number_or_word(*words: str) -> Any:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if value not in words:
            _number(instance, attribute, value)

    return check


def _above_zero(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    _number(instance, attribute, value)
    if value == 0:
        raise ValueError(f"{attribute.name} must be above 0")


def _whole(least: int) -> Any:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{attribute.name} must be a whole number of at least {least}, not {value!r}")

    return check


_optional = attrs.validators.optional
_in = attrs.validators.in_


@attrs.frozen(kw_only=True)
class Behaviour:
    """What a sandbox does. Durations are seconds, sizes bytes, money US dollars; None means no limit.

    Raises:
        ValueError: an option has an impossible value; the message names it.
    """

    latency: Latency = attrs.field(default=0.0, validator=_number_or_callable)
    """From accepting a request for pictures or a chat to its answer; or a callable that is given the body."""
    latency_jitter: float = attrs.field(default=0.0, validator=_number)
    """At most so much is added to each latency, evenly spread, the same draws for the same ``seed``."""
    seed: int = 0

    max_in_flight: int | None = attrs.field(default=None, validator=_optional(_whole(1)))
    """Accepted requests in flight (pictures and chats); one more is answered with 429."""
    requests_per_minute: float | None = attrs.field(default=None, validator=_optional(_above_zero))
    images_per_minute: float | None = attrs.field(default=None, validator=_optional(_above_zero))
    limit_kind: LimitKind = attrs.field(default="bucket", validator=_in(("bucket", "fixed", "sliding")))
    """How the limits per minute count: a token bucket, a fixed window from the start, or a sliding log."""
    burst: float = attrs.field(default=60.0, validator=_above_zero)
    """What a full bucket holds, in seconds of its limit: 60, a minute's worth. Windows have none."""
    retry_after: RetryAfter = attrs.field(default="right", validator=_number_or_word("right", "none"))
    """What a 429 says: when there is room (limits per minute alone, whole seconds), nothing, a number."""

    status: int = attrs.field(default=200, validator=_in(range(200, 300)))
    """The status of a success."""
    answer_form: AnswerForm = attrs.field(
        default="envelope", validator=_in(("envelope", "bare", "openai", "openai_b64", "data_uris"))
    )
    """Of pictures: the contract's envelope, its data alone, OpenAI's form with URLs or with base64, or the
    envelope with data: URIs for URLs."""

    balance: Decimal | None = attrs.field(default=None, converter=_balance)
    """What the account holds at the start; a request that it cannot pay gets 402. None: enough."""
    price_per_image: Decimal = attrs.field(default=Decimal("0.087"), converter=_price)
    price_per_chat: Decimal = attrs.field(default=Decimal(0), converter=_price)

    models: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """Models known beside the catalogue's own; they draw and they chat, and take any parameters."""
    chat_reply: str | None = None
    """What every chat answers; None: an answer made of the question."""
    chunk_delay: float = attrs.field(default=0.0, validator=_number)
    """Between two chunks of a streamed chat."""

    picture_size: int | None = attrs.field(default=None, validator=_optional(_whole(16)))
    """The long edge of all pictures, in pixels, whatever was asked for: small pictures make quick tests."""
    urls_expire: float | None = attrs.field(default=None, validator=_optional(_number))
    """So long after an answer its URLs are refused with 403."""
    bandwidth: float | None = attrs.field(default=None, validator=_optional(_above_zero))
    """Of the download of a picture, in bytes per second."""
    ranges: bool = True
    """Whether a download can be resumed; without it ``Range`` is ignored and the whole is sent."""

    hosts: tuple[str, ...] = attrs.field(default=(), converter=_names)
    """``Host`` headers accepted beside the sandbox's own, as ``name:port``: for a relay in front of it."""
    faults: tuple[Fault, ...] = attrs.field(
        default=(),
        converter=_faults,
        validator=attrs.validators.deep_iterable(attrs.validators.instance_of(Fault)),
    )
    """What goes wrong, and when."""
