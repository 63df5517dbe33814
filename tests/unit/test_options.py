"""Options: every impossible value is refused by name when it is said, not when it is used."""

import pickle
from datetime import timedelta
from decimal import Decimal

import attrs
import pytest

from hinow_async import (
    Account,
    AsyncHinow,
    Budget,
    ConfigurationError,
    DownloadPolicy,
    ImageRequest,
    Limits,
    Network,
    RetryPolicy,
    Timeouts,
)
from hinow_async._budget import Prices
from hinow_async._options import UNBILLED_STATUSES, deadline_seconds

KEY = "hi_" + "k" * 40
NAN, INF = float("nan"), float("inf")

IMPOSSIBLE = [
    (Limits, "max_in_flight", [0, -1, 1.5, "8", None, True]),
    (Limits, "requests_per_minute", [0, -1, NAN, INF, "60", True, Decimal(60), 10**400]),
    (Limits, "images_per_minute", [0, -1, NAN, INF, "60", True]),
    (Limits, "burst", [-1, NAN, INF, "1", timedelta(seconds=-1)]),
    (Limits, "adaptive", [None, 1, 0, "yes"]),
    (RetryPolicy, "attempts", [0, -1, 1.0, None, True]),
    (RetryPolicy, "wait_initial", [-1, NAN, INF, None, "1", Decimal(1)]),
    (RetryPolicy, "wait_max", [-1, NAN, INF, None]),
    (RetryPolicy, "throttled_max", [-1, NAN, INF, None]),
    (RetryPolicy, "unbilled_statuses", [503, "503", [200], [399], [600], ["503"], None]),
    (RetryPolicy, "unknown_outcome", ["retry", None, True]),
    (Timeouts, "connect", [0, -1, NAN, INF, "1", Decimal(1), timedelta(0)]),
    (Timeouts, "response", [0, -1, NAN]),
    (Timeouts, "idle", [0, -1, NAN]),
    (DownloadPolicy, "max_in_flight", [0, 1.5, None]),
    (DownloadPolicy, "max_bytes", [0, 1e6, None]),
    (DownloadPolicy, "attempts", [0, None]),
    (DownloadPolicy, "timeout", [0, NAN]),
    (DownloadPolicy, "allowed_origins", ["files.example.com", ["ftp://x"], ["https://"], [7]]),
    (Network, "trust_env", [None, 1]),
    (Network, "headers", [{"Authorization": "x"}, {"X": "a\nb"}, {"a b": "c"}, {"X": 1}]),
    (Budget, "usd_per_image", [-1, NAN, "0.1", True]),
    (Budget, "usd_per_chat", [-1, INF]),
]


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [(cls, field, value) for cls, field, values in IMPOSSIBLE for value in values],
    ids=lambda value: getattr(value, "__name__", None) or repr(value)[:30],
)
def test_an_impossible_value_is_refused_by_name(cls, field, value):
    """A ValueError that names the field."""
    given = {"max_usd": 1} if cls is Budget else {}

    with pytest.raises(ValueError, match=field):
        cls(**given, **{field: value})


@pytest.mark.parametrize(
    ("options", "field", "seconds"),
    [
        (Timeouts(connect=timedelta(milliseconds=1500)), "connect", 1.5),
        (RetryPolicy(wait_max=timedelta(minutes=1)), "wait_max", 60.0),
        (Limits(burst=timedelta(seconds=2)), "burst", 2.0),
        (Limits(burst=None), "burst", None),
        (Timeouts(response=None), "response", None),
    ],
)
def test_durations_are_seconds_or_timedeltas(options, field, seconds):
    """Both are kept as seconds."""
    assert getattr(options, field) == seconds


def test_the_defaults_are_those_that_the_docs_name():
    """A change of one is a change of behaviour."""
    assert Limits() == Limits(256, None, None, 1.0, True)
    assert RetryPolicy() == RetryPolicy(4, 0.5, 20, 600, {408, 409, 425, 429, 503, 529}, "raise")
    assert Timeouts() == Timeouts(10, 300, 60)
    assert DownloadPolicy() == DownloadPolicy(16, 256 * 2**20, 5, 600, ())
    assert Network() == Network(None, None, False, None, None)


@pytest.mark.parametrize(
    "options", [Limits(), RetryPolicy(), Timeouts(), DownloadPolicy(), Network(), Budget(1)]
)
def test_options_are_frozen_values(options):
    """They can be compared, pickled and evolved, and not changed."""
    assert pickle.loads(pickle.dumps(options)) == options == attrs.evolve(options)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        options.max_usd = 2


def test_statuses_come_in_any_collection():
    """And are kept as a set."""
    assert RetryPolicy(unbilled_statuses=[500, 503]).unbilled_statuses == frozenset({500, 503})
    assert RetryPolicy(unbilled_statuses=(*UNBILLED_STATUSES, 500)).unbilled_statuses == UNBILLED_STATUSES | {
        500
    }


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(None, None), (1, 1.0), (0.5, 0.5), (INF, None), (10**400, None), (timedelta(minutes=1), 60.0)],
)
def test_a_deadline_is_a_number_of_seconds_above_zero(timeout, seconds):
    """None and infinity: there is none."""
    assert deadline_seconds(timeout) == seconds


@pytest.mark.parametrize("timeout", [0, -1, NAN, "5", True, Decimal(1), timedelta(0), [], -INF])
def test_an_impossible_deadline_is_a_value_error(timeout):
    """It names the argument."""
    with pytest.raises(ValueError, match="timeout"):
        deadline_seconds(timeout)


# -- the client --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def without_environment(monkeypatch):
    for name in ("HINOW_API_KEY", "HINOW_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_missing_key_names_the_variable_and_the_sandbox():
    """At construction, as a ConfigurationError, which is a ValueError too."""
    with pytest.raises(ConfigurationError, match=r"HINOW_API_KEY.*sandbox") as caught:
        AsyncHinow()

    assert isinstance(caught.value, ValueError)


def test_key_and_base_url_come_from_the_environment(monkeypatch):
    """What is said in code goes before it."""
    monkeypatch.setenv("HINOW_API_KEY", KEY)
    monkeypatch.setenv("HINOW_BASE_URL", "http://localhost:9")

    assert AsyncHinow()._runtime.engine.pool._bases == ("http://localhost:9/v1",)
    assert AsyncHinow(base_url="https://a.example")._runtime.engine.pool._bases == ("https://a.example/v1",)


@pytest.mark.parametrize(
    "base", ["https://a.example", "https://a.example/", "https://a.example/v1", "https://a.example/v1/"]
)
def test_every_spelling_of_the_root_is_the_same(base):
    """With or without /v1, with or without a trailing slash."""
    assert AsyncHinow(api_key=KEY, base_url=base)._runtime.engine.pool._bases == ("https://a.example/v1",)


@pytest.mark.parametrize(
    "base",
    [
        "a.example",
        "//a.example",
        "https://",
        "ftp://a.example",
        "http://a.example",
        "https://u:p@a.example",
        "https://a.example?x=1",
        "https://a.example/#x",
        "https://a.example\n",
        "http://127.0.0.1.evil.example",
    ],
)
def test_a_base_url_that_cannot_be_one_is_refused(base):
    """No scheme, no host, userinfo, a query, or plain http outside loopback, where all could read the key."""
    with pytest.raises(ConfigurationError):
        AsyncHinow(api_key=KEY, base_url=base)


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": KEY, "accounts": [Account(KEY)]},
        {"accounts": []},
        {"accounts": [KEY]},
        {"accounts": [Account(KEY, name="a"), Account(KEY, name="a")]},
        {"api_key": KEY, "limits": 8},
        {"api_key": KEY, "retry": 3},
        {"api_key": KEY, "timeouts": 30},
        {"api_key": KEY, "budget": 5},
        {"api_key": KEY, "network": {}},
        {"api_key": KEY, "downloads": "out"},
        {"api_key": KEY, "hooks": [object()]},
    ],
    ids=str,
)
def test_options_of_a_wrong_kind_are_a_configuration_error(options):
    """Before a loop runs or anything is opened."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncHinow(**options)

    assert KEY not in str(caught.value)


def test_with_options_changes_a_view_alone():
    """Limits, budget and statistics are shared."""
    client = AsyncHinow(api_key=KEY, timeout=5)
    view = client.with_options(timeout=None, retry=RetryPolicy(attempts=1))

    assert (view._defaults.timeout, client._defaults.timeout) == (None, 5.0)
    assert (view._defaults.retry.attempts, client._defaults.retry.attempts) == (1, 4)
    assert view._runtime is client._runtime
    with pytest.raises(ValueError, match="timeout"):
        client.with_options(timeout=-1)
    with pytest.raises(ConfigurationError, match="retry"):
        client.with_options(retry=2)


def test_accounts_without_a_name_are_numbered():
    """The names stand in records and statistics."""
    client = AsyncHinow(accounts=[Account(KEY), Account(KEY, name="b"), Account(KEY)])

    assert list(client.stats().accounts) == ["account-1", "b", "account-3"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "a\ud800"}, "Account.name"),
        ({"name": ""}, "Account.name"),
        ({"name": 5}, "Account.name"),
        ({"name": "a\nb"}, "Account.name"),
        ({"limits": 5}, "Account.limits"),
    ],
)
def test_an_account_that_cannot_be_is_refused_by_its_field(options, named):
    """Its name stands in ledgers and reports."""
    with pytest.raises(ValueError, match=named):
        Account("hi_" + "k" * 40, **options)


def test_headers_that_are_no_mapping_are_refused():
    """By name."""
    with pytest.raises(ValueError, match="headers must be a mapping"):
        Network(headers=5)


def test_a_price_beyond_all_bounds_is_refused():
    """Sums of it would overflow."""
    prices = Prices(Budget(max_usd=5, usd_per_image=lambda request: "9e999999"))
    with pytest.raises(ValueError, match="usd_per_image must return US dollars from 0 to 1,000,000,000"):
        prices.of(ImageRequest("a", num_images=2))
