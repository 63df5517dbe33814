"""`AsyncHinow`: joins the parts and owns their lifetime."""

from __future__ import annotations

import functools
import logging
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import attrs

from hinow_async._alarm import Alarm
from hinow_async._budget import Purse
from hinow_async._call import Engine
from hinow_async._errors import ConfigurationError
from hinow_async._hooks import Hooks
from hinow_async._limiter import Admission, Limiter
from hinow_async._options import (
    Account,
    Budget,
    DownloadPolicy,
    Limits,
    Network,
    RetryPolicy,
    Timeouts,
    deadline_seconds,
)
from hinow_async._pool import Pool
from hinow_async._protocol.adaptive import Controller
from hinow_async._protocol.pacing import Pacing
from hinow_async._protocol.urls import parse_base_url
from hinow_async._resources.base import UNSET, CallDefaults, Runtime
from hinow_async._resources.images import Door, Images
from hinow_async._secrets import Secret, as_secret

if TYPE_CHECKING:
    from hinow_async._models.account import Balance
    from hinow_async._models.stats import ClientStats
    from hinow_async._resources.account import Models
    from hinow_async._resources.chat import Chat

_log = logging.getLogger("hinow_async")

DEFAULT_BASE_URL = "https://api.hinow.ai/v1"


class AsyncHinow:
    """The HInow.ai service: pictures, chats, the catalogue and the balance.

    Use it with `async with`, or close it with `await client.aclose()`. It may be made outside of a running
    event loop, and be used by one loop after another, not by two at once.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        accounts: Sequence[Account] | None = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        downloads: DownloadPolicy | None = None,
        network: Network | None = None,
        hooks: Iterable[Any] = (),
    ) -> None:
        """Make a client; nothing is sent and no connection opened.

        Args:
            api_key: The key (`hi_...`); None: the environment's `HINOW_API_KEY`.
            base_url: Root of the API, with or without `/v1`; None: `HINOW_BASE_URL`, else HInow's own.
            accounts: Several accounts instead of one key, served from one queue.
            limits: Per account: what may be asked at once and per minute.
            retry: How failed calls are tried again.
            timeouts: Limits on waiting for the network, in seconds.
            timeout: Deadline of every call in seconds, unless the call names its own; None: none.
            budget: The most this client may spend, in US dollars.
            downloads: How pictures are fetched.
            network: Proxy, TLS, local address, extra headers.
            hooks: Objects with any of `call_started`, `attempt_ended`, `call_ended`.

        Raises:
            ConfigurationError: no key, or options that cannot be.
        """
        key = None if api_key is None else as_secret(api_key)
        del api_key  # a traceback that shows locals must not show it
        chosen = _accounts(key, accounts)
        limits = _of(Limits, limits, "limits")
        timeouts = _of(Timeouts, timeouts, "timeouts")
        policy = _of(DownloadPolicy, downloads, "downloads")
        network = _of(Network, network, "network")
        if budget is not None:
            _of(Budget, budget, "budget")
        default_base = base_url or os.environ.get("HINOW_BASE_URL") or DEFAULT_BASE_URL
        bases = [parse_base_url(account.base_url or default_base) for account in chosen]
        admissions = [_admission(i, account, limits) for i, account in enumerate(chosen)]
        pool = Pool(
            [(account.api_key, base) for account, (base, _) in zip(chosen, bases, strict=True)],
            network,
            timeouts,
        )
        engine = Engine(
            pool=pool,
            limiter=Limiter(admissions),
            purse=Purse(budget),
            keys=[account.api_key for account in chosen],
            timeouts=timeouts,
            hooks=Hooks(hooks),
            alarm=Alarm(timeouts.response),
        )
        origins = {a.name: origin for a, (_, origin) in zip(admissions, bases, strict=True)}
        self._runtime = Runtime(engine, policy, origins)
        if downloads is not None:
            _ = self._runtime.downloader  # a policy that cannot be followed is refused here, not once paid
        self._is_view = False
        self._defaults = _checked_defaults(CallDefaults(), timeout, retry)

    # Made, and what it is made of imported, when first asked for: few processes need all of it.

    @functools.cached_property
    def images(self) -> Images:
        """`generate`, `generate_many`."""
        return Images(self._runtime, self._defaults)

    @functools.cached_property
    def chat(self) -> Chat:
        """`completions.create`, `completions.stream`, `completions.create_many`."""
        from hinow_async._resources.chat import Chat  # noqa: PLC0415

        return Chat(self._runtime, self._defaults, Door(self._runtime))

    @functools.cached_property
    def models(self) -> Models:
        """`list`, `retrieve`."""
        from hinow_async._resources.account import Models  # noqa: PLC0415

        return Models(self._runtime, self._defaults)

    def with_options(self, *, timeout: float | None = UNSET, retry: RetryPolicy | None = None) -> AsyncHinow:
        """Return a view of this client with another deadline or retry policy, that shares everything else.

        Closing is left to the client itself: closing a view does nothing.
        """
        view = object.__new__(type(self))
        view._runtime = self._runtime
        view._is_view = True
        view._defaults = _checked_defaults(self._defaults, timeout, retry)
        return view

    async def balance(
        self,
        *,
        account: str | None = None,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Balance:
        """Fetch what is left on an account, in US dollars.

        Args:
            account: Its name; None: the first.
            timeout: Seconds; None: no deadline.
            headers: Extra headers.

        Raises:
            APIError: no usable answer came. Nothing is ever billed.
            ValueError: there is no such account.
        """
        from hinow_async._resources.account import fetch_balance  # noqa: PLC0415 - as for `models`

        admissions = self._runtime.engine.limiter.accounts
        found = [a for a in admissions if account is None or a.name == account]
        if not found:
            names = ", ".join(a.name for a in admissions)
            raise ValueError(f"account must be one of {names}, not {account!r}")
        return await fetch_balance(self._runtime, self._defaults, found[0], timeout, headers)

    def stats(self) -> ClientStats:
        """Return the client's numbers now, as a snapshot that does not change."""
        from hinow_async._models.stats import ClientStats  # noqa: PLC0415 - few processes ask for them

        engine = self._runtime.engine
        accounts = dict(engine.limiter.snapshot())
        return ClientStats(
            in_flight=engine.limiter.in_flight,
            waiting=engine.limiter.waiting,
            oldest_wait=engine.limiter.oldest_wait,
            limit=engine.limiter.limit,
            throttled=sum(a.throttled for a in accounts.values()),
            retries=sum(a.retries for a in accounts.values()),
            unknown_outcomes=sum(a.unknown_outcomes for a in accounts.values()),
            spent_usd=float(engine.purse.spent),
            reserved_usd=float(engine.purse.reserved),
            accounts=accounts,
        )

    async def aclose(self) -> None:
        """Close every connection. Calls made afterwards are a `ConfigurationError`. Closing twice is fine."""
        if self._is_view or self._runtime.is_closed:
            return
        self._runtime.is_closed = True
        self._runtime.close_downloader()
        await self._runtime.engine.pool.aclose()
        self._runtime.engine.alarm.close()

    async def __aenter__(self) -> Self:
        await self._runtime.enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_runtime"):
            return f"<{type(self).__name__}, not made>"  # shown by a traceback of its own construction
        names = ", ".join(account.name for account in self._runtime.engine.limiter.accounts)
        return f"<{type(self).__name__} {names}{' closed' if self._runtime.is_closed else ''}>"


def _of(cls: type[Any], value: Any, name: str) -> Any:
    if value is None:
        return cls()
    if not isinstance(value, cls):
        raise ConfigurationError(f"{name} must be a {cls.__name__}, not {value!r}")
    return value


def _accounts(key: Secret | None, accounts: Sequence[Account] | None) -> list[Account]:
    if accounts is None:
        return [_account_of(key)]
    if key is not None:
        raise ConfigurationError("api_key and accounts exclude each other: name the key in an Account")
    chosen = list(accounts)
    if not chosen or not all(isinstance(account, Account) for account in chosen):
        raise ConfigurationError("accounts must be a list of at least one Account")
    named = [
        attrs.evolve(account, name=account.name or f"account-{number}")
        for number, account in enumerate(chosen, 1)
    ]
    if len({account.name for account in named}) < len(named):
        raise ConfigurationError("accounts must have different names")
    return named


def _account_of(key: Secret | None) -> Account:
    key = key if key is not None else Secret(os.environ.get("HINOW_API_KEY") or "")
    if not key.reveal():
        raise ConfigurationError(
            "no API key: set the environment variable HINOW_API_KEY or pass api_key=..."
            " (to try everything without a key, use hinow_async.sandbox, or `hinow ... --sandbox`)"
        )
    return Account(key, name="default")


def _admission(index: int, account: Account, default: Limits) -> Admission:
    limits = account.limits or default
    has_pacing = limits.requests_per_minute is not None or limits.images_per_minute is not None
    return Admission(
        index,
        str(account.name),
        Controller(limits.max_in_flight, adaptive=limits.adaptive, jitter=random.random),
        Pacing(limits.requests_per_minute, limits.images_per_minute, limits.burst) if has_pacing else None,
        limits.max_in_flight,
    )


def _checked_defaults(old: CallDefaults, timeout: Any, retry: RetryPolicy | None) -> CallDefaults:
    changed: dict[str, Any] = {}
    if timeout is not UNSET:
        changed["timeout"] = deadline_seconds(timeout)
    if retry is not None:
        changed["retry"] = _of(RetryPolicy, retry, "retry")
    return attrs.evolve(old, **changed)
