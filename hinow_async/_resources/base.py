"""What the resources share: the client's parts, and what the caller said for all calls of a view."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from hinow_async._call import CallOptions, Engine
from hinow_async._errors import APIError, APITimeoutError, ConfigurationError
from hinow_async._notebook import keep_awake
from hinow_async._options import DownloadPolicy, RetryPolicy, check_headers, deadline_seconds
from hinow_async._protocol.urls import Origin

if TYPE_CHECKING:
    from hinow_async._download import Downloader
    from hinow_async._models.account import Model

_log = logging.getLogger("hinow_async")

UNSET: Any = object()


@attrs.define(eq=False, repr=False)
class Runtime:
    """The parts of a client, shared by all its views."""

    engine: Engine
    policy: DownloadPolicy
    origins: Mapping[str, Origin]
    """Origin of the API by name of the account: exempt from the rules for result URLs."""
    is_closed: bool = False
    _learning: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    _downloader: Downloader | None = attrs.field(default=None, init=False)

    @property
    def downloader(self) -> Downloader:
        """What fetches pictures; made with the first of them, for it takes a while to import.

        Raises:
            ConfigurationError: the policy cannot be followed.
        """
        if self._downloader is None:
            from hinow_async._download import Downloader  # noqa: PLC0415

            self._downloader = Downloader(self.engine.pool, self.policy, self.engine.timeouts.idle)
        return self._downloader

    def close_downloader(self) -> None:
        """Let its threads go, where there are any."""
        if self._downloader is not None:
            self._downloader.close()

    @property
    def is_ready(self) -> bool:
        """Whether `enter` has nothing to do; it is asked before every call."""
        return not self.is_closed and self.engine.pool.is_ready()

    async def enter(self) -> None:
        """Make ready for a call in the running event loop.

        Raises:
            ConfigurationError: the client is closed, or in use by another loop.
        """
        if self.is_closed:
            raise ConfigurationError("the client is closed: make a new one")
        pool = self.engine.pool
        if not pool.is_ready():
            await pool.enter()
            self._learning = asyncio.Lock()  # one that was waited for belongs to its loop
            self.engine.limiter.bind(asyncio.get_running_loop())
            runtime = weakref.ref(self)  # a client that is forgotten unclosed may go
            keep_awake(lambda: (there := runtime()) is not None and not there.is_closed)

    async def learn_prices(self, request: Any, options: CallOptions) -> CallOptions:
        """Read the catalogue's prices, once, in the time that a call has; return what it has left.

        Raises:
            APITimeoutError: the call's deadline ended; nothing was sent.
        """
        clock = self.engine.clock
        begun = clock()
        scope = asyncio.timeout(options.timeout)
        try:
            async with scope:
                await self._learn(options.retry)
        except TimeoutError:
            if not scope.expired():
                raise
        if scope.expired():
            message = "the call's deadline ended while the catalogue, which prices are read from, was fetched"
            raise APITimeoutError(message, request=request)
        if options.timeout is None:
            return options
        return attrs.evolve(options, timeout=options.timeout - (clock() - begun))

    async def _learn(self, retry: RetryPolicy) -> None:
        """Read the catalogue's prices; without them the model card's stand."""
        prices = self.engine.purse.prices
        async with self._learning:
            if prices.has_catalogue:
                return
            try:
                prices.learn(await self.models(retry=retry))
            except APIError as error:
                prices.learn(())
                _log.warning("the catalogue, which prices are read from, cannot be had: %s", error)

    async def models(self, *, retry: RetryPolicy, **how: Any) -> tuple[Model, ...]:
        """Fetch the catalogue."""
        from hinow_async._fetch import Fetch  # noqa: PLC0415 - few processes ask for it
        from hinow_async._protocol import catalogue  # noqa: PLC0415

        account = self.engine.limiter.accounts[0]
        return await Fetch(
            engine=self.engine, account=account, path="/models", decode=catalogue.models, retry=retry, **how
        ).run()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallDefaults:
    """What `with_options` may change."""

    timeout: float | None = None
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)


def call_options(
    defaults: CallDefaults, timeout: Any, idempotency_key: str | None, headers: Mapping[str, str] | None
) -> CallOptions:
    """Check what was said about one call.

    Raises:
        ValueError: the timeout, the key or a header could not be sent.
    """
    if headers is not None:
        check_headers(headers)
    if idempotency_key is not None and not _is_header_safe(idempotency_key):
        raise ValueError(
            "idempotency_key must be 1 to 255 printable ASCII characters without spaces,"
            f" not {idempotency_key!r}"
        )
    return CallOptions(
        timeout=defaults.timeout if timeout is UNSET else deadline_seconds(timeout),
        retry=defaults.retry,
        idempotency_key=idempotency_key,
        headers=headers,
    )


def _is_header_safe(key: object) -> bool:
    return (
        isinstance(key, str)
        and 1 <= len(key) <= 255
        and key.isascii()
        and key.isprintable()
        and " " not in key
    )
