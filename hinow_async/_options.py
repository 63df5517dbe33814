"""Options: a few frozen objects, validated once. Durations are seconds (or timedeltas), money is US dollars.

An impossible value is a `ValueError` that names the field and the value.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, get_args

import attrs

from hinow_async._errors import ConfigurationError
from hinow_async._secrets import MASK, Secret, as_secret

if TYPE_CHECKING:
    import ssl as ssl_module

MIB = 1024 * 1024

Price = float | int | Decimal | Callable[[Any], float | int | Decimal]
"""US dollars for one image or one chat; or a callable that is given the request and returns that number."""

UnknownOutcome = Literal["raise", "resend"]


def seconds(value: Any) -> Any:
    """Turn a timedelta into seconds; leave anything else for the validator."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def _is_number(value: Any, kinds: Any = numbers.Real) -> bool:
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_money(value: Any) -> bool:
    """Whether *value* is an amount: a fraction has no digits, and seconds are no Decimals."""
    is_fraction = isinstance(value, numbers.Rational) and not isinstance(value, numbers.Integral)
    return not is_fraction and _is_number(value, numbers.Real | Decimal)


def _number_above(
    minimum: float,
    *,
    inclusive: bool = False,
    optional: bool = False,
    is_number: Callable[[Any], bool] = _is_number,
) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not is_number(value) or value < minimum or (value == minimum and not inclusive):
            bound = "of at least" if inclusive else "above"
            none = ", or None" if optional else ""
            raise ValueError(
                f"{type(instance).__name__}.{attribute.name} must be a number {bound} {minimum:g}{none},"
                f" not {value!r}"
            )

    return check


def _whole_number(minimum: int) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(
                f"{type(instance).__name__}.{attribute.name} must be a whole number of at least {minimum},"
                f" not {value!r}"
            )

    return check


def _one_of(*allowed: object) -> Any:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not any(value is item or (type(value) is type(item) and value == item) for item in allowed):
            options = ", ".join(repr(item) for item in allowed)
            raise ValueError(
                f"{type(instance).__name__}.{attribute.name} must be one of {options}, not {value!r}"
            )

    return check


def deadline_seconds(timeout: Any) -> float | None:
    """Check a `timeout=` argument: a number of seconds above 0, or None for no deadline."""
    timeout = seconds(timeout)
    if timeout is None:
        return None
    is_number = isinstance(timeout, numbers.Real) and not isinstance(timeout, bool)
    if not is_number or not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds above 0, or None, not {timeout!r}")
    return float(timeout) if _is_number(timeout) else None  # infinite, or as good as that


@attrs.frozen
class Limits:
    """How much one account may be asked at once and per minute."""

    max_in_flight: int = attrs.field(default=256, validator=_whole_number(1))
    """Calls in flight together: the ceiling of the search; with `adaptive=False` the limit itself."""
    requests_per_minute: float | None = attrs.field(default=None, validator=_number_above(0, optional=True))
    """Never passed in any 60 s. None: not limited by the caller."""
    images_per_minute: float | None = attrs.field(default=None, validator=_number_above(0, optional=True))
    """Never passed in any 60 s; a call weighs its `num_images`. None: not limited by the caller."""
    burst: float | None = attrs.field(
        default=1.0, converter=seconds, validator=_number_above(0, inclusive=True, optional=True)
    )
    """Seconds' worth of the per-minute limits that may go at once, and the call let through then.
    The credit starts empty. None: no spreading."""
    adaptive: bool = attrs.field(default=True, validator=_one_of(True, False))
    """Search for what the account allows. False: go by the numbers above alone."""


def _statuses(value: Any) -> Any:
    return frozenset(value) if isinstance(value, Collection) and not isinstance(value, str) else value


def _http_statuses(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, frozenset) or not all(
        isinstance(status, int) and 400 <= status <= 599 for status in value
    ):
        raise ValueError(
            f"RetryPolicy.{attribute.name} must be a set of HTTP statuses from 400 to 599, not {value!r}"
        )


UNBILLED_STATUSES = frozenset({408, 409, 425, 429, 503, 529})


@attrs.frozen
class RetryPolicy:
    """How a failed call is tried again. Durations are seconds or timedeltas."""

    attempts: int = attrs.field(default=4, validator=_whole_number(1))
    """All tries, the first included. 1: nothing is ever sent twice, nor to another account, not even after
    a 429. Otherwise a 429 of the rate kind costs no attempt."""
    wait_initial: float = attrs.field(
        default=0.5, converter=seconds, validator=_number_above(0, inclusive=True)
    )
    """The first backoff; each further one is twice as long."""
    wait_max: float = attrs.field(default=20.0, converter=seconds, validator=_number_above(0, inclusive=True))
    """The longest backoff, unless the service itself asked for more."""
    throttled_max: float = attrs.field(
        default=600.0, converter=seconds, validator=_number_above(0, inclusive=True)
    )
    """How long a call waits for a throttled account while that account accepts nothing at all."""
    unbilled_statuses: frozenset[int] = attrs.field(
        default=UNBILLED_STATUSES, converter=_statuses, validator=_http_statuses
    )
    """Statuses known not to be billed, and therefore tried again."""
    unknown_outcome: UnknownOutcome = attrs.field(
        default="raise", validator=_one_of(*get_args(UnknownOutcome))
    )
    """What to do when a call may have been billed: "raise", or "resend" (which may pay twice)."""


@attrs.frozen
class Timeouts:
    """Limits on waiting for the network, in seconds or timedeltas; None: no limit.

    Time spent waiting for a slot counts against none of them (`timeout=` of a call does count it).
    """

    connect: float | None = attrs.field(
        default=10.0, converter=seconds, validator=_number_above(0, optional=True)
    )
    """To connect: name look-up, TCP and TLS."""
    response: float | None = attrs.field(
        default=300.0, converter=seconds, validator=_number_above(0, optional=True)
    )
    """From sending to the whole JSON answer, or to a stream's first byte."""
    idle: float | None = attrs.field(
        default=60.0, converter=seconds, validator=_number_above(0, optional=True)
    )
    """Between two pieces of a body that has begun; streams and downloads only."""


DEAREST = 10**9
"""US dollars that a picture or a call may be said to cost; sums stay far from where decimals overflow."""


def _price(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None or callable(value) or (_is_money(value) and 0 <= value <= DEAREST):
        return
    raise ValueError(
        f"Budget.{attribute.name} must be a number of US dollars from 0 to {DEAREST:,}, a callable or None,"
        f" not {value!r}"
    )


@attrs.frozen
class Budget:
    """The most that this client may spend. Calls that could go over are refused before they are sent."""

    max_usd: float | int | Decimal = attrs.field(
        validator=_number_above(0, inclusive=True, is_number=_is_money)
    )
    """US dollars."""
    usd_per_image: Price | None = attrs.field(default=None, validator=_price)
    """What one image costs. None: the catalogue's figure, else the model card's: estimates."""
    usd_per_chat: Price | None = attrs.field(default=None, validator=_price)
    """What one chat call costs. None: the catalogue's figure, where it is one per request."""


def _origins(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value)


def _origin_texts(instance: Any, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    for origin in value:
        scheme, separator, rest = str(origin).partition("://")
        if not separator or scheme.lower() not in {"http", "https"} or not rest.strip("/"):
            raise ValueError(
                f"DownloadPolicy.{attribute.name} takes origins such as 'https://files.example.com',"
                f" not {origin!r}"
            )


@attrs.frozen
class DownloadPolicy:
    """How pictures are fetched."""

    max_in_flight: int = attrs.field(default=16, validator=_whole_number(1))
    """Downloads side by side, over the whole client."""
    max_bytes: int = attrs.field(default=256 * MIB, validator=_whole_number(1))
    """The largest picture, in bytes."""
    attempts: int = attrs.field(default=5, validator=_whole_number(1))
    """Tries in succession that bring nothing new."""
    timeout: float | None = attrs.field(
        default=600.0, converter=seconds, validator=_number_above(0, optional=True)
    )
    """Seconds for one picture, all tries together; None: no end."""
    allowed_origins: Sequence[str] = attrs.field(default=(), converter=_origins, validator=_origin_texts)
    """Origins (`https://host`, `http://host:port`) that are exempt from the public-address and port rules."""
    full_decode: bool = attrs.field(default=False, validator=_one_of(True, False))
    """Decode every picture to its last pixel before it counts as whole (`stream` excepted). Needs Pillow
    (extra `sandbox`), and 20 to 560 ms of a thread a picture. Cut files are found without it, too."""


_OUR_HEADERS = frozenset(
    {
        "authorization", "host", "content-type", "content-length", "content-encoding", "transfer-encoding",
        "idempotency-key", "cookie", "proxy-authorization",
        "expect", "upgrade",  # either would send the headers before the body, and so before we could know
    }
)  # fmt: skip


def check_headers(headers: Mapping[str, str] | None) -> None:
    """Refuse headers that are ours to set, and values that would break out of their line."""
    if headers is not None and not isinstance(headers, Mapping):
        raise ValueError(f"headers must be a mapping of strings to strings, not {headers!r}")
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValueError(f"headers must map strings to strings, not {name!r}")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"headers may not set {name!r}: the library sets it")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"headers: {name!r} is no header name")
        if not value.isprintable():
            raise ValueError(f"headers: the value of {name!r} holds a control character")


def _network_headers(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    check_headers(value)


def _repr_without_password(proxy: Any) -> str:
    scheme, separator, rest = str(proxy).partition("://")
    return repr(proxy) if "@" not in rest else repr(f"{scheme}{separator}{MASK}@{rest.rpartition('@')[2]}")


@attrs.frozen
class Network:
    """How the network is reached."""

    proxy: str | None = attrs.field(default=None, repr=_repr_without_password)
    """URL of an HTTP proxy, for the API and for downloads."""
    ssl: ssl_module.SSLContext | None = attrs.field(default=None)
    """A TLS context of your own, e.g. with a company's certificate authority."""
    trust_env: bool = attrs.field(default=False, validator=_one_of(True, False))
    """Take proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`, ...). `.netrc` is never read."""
    local_address: str | None = attrs.field(default=None)
    """The local IP address to connect from."""
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False, validator=_network_headers)
    """Extra headers for the API; never sent to hosts that pictures are fetched from."""


def _checked_key(instance: Any, attribute: attrs.Attribute[Any], value: Secret) -> None:
    if problem := value.problem():
        raise ConfigurationError(f"Account: {problem}")


def _account_name(_: object, __: attrs.Attribute[Any], value: object) -> None:
    # It stands in ledgers and reports; half of an emoji can be written to neither.
    if value is not None and not (isinstance(value, str) and value and value.isprintable()):
        raise ValueError(f"Account.name must be a text that can be printed, or None, not {value!r}")


def _account_limits(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Limits):
        raise ValueError(f"Account.limits must be Limits(...) or None, not {value!r}")


@attrs.frozen(init=False)
class Account:
    """One key of the service, with limits of its own."""

    api_key: Secret = attrs.field(validator=_checked_key)
    """The key; it is kept masked and is never pickled."""
    base_url: str | None = None
    """Root of the API; None: the client's."""
    name: str | None = attrs.field(default=None, validator=_account_name)
    """How this account is called in records and statistics; None: `account-1`, `account-2`, ..."""
    limits: Limits | None = attrs.field(default=None, validator=_account_limits)
    """None: the client's."""

    def __init__(
        self,
        api_key: str | Secret,
        base_url: str | None = None,
        name: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        secret = as_secret(api_key)
        del api_key  # a traceback that shows locals must not show it, should a validator raise
        self.__attrs_init__(secret, base_url, name, limits)
