"""The catalogue and the balance: `client.models`, `client.balance`."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

from hinow_async._fetch import Fetch
from hinow_async._limiter import Admission
from hinow_async._models.account import Balance, Model
from hinow_async._models.images import check_model
from hinow_async._protocol import catalogue
from hinow_async._resources.base import UNSET, CallDefaults, Runtime, call_options


class Models:
    """`client.models`."""

    def __init__(self, runtime: Runtime, defaults: CallDefaults) -> None:
        self._runtime = runtime
        self._defaults = defaults

    async def list(
        self, *, timeout: float | None = UNSET, headers: Mapping[str, str] | None = None
    ) -> tuple[Model, ...]:
        """Fetch the catalogue; its prices are used for estimates from then on.

        Raises:
            APIError: no usable answer came. Nothing is ever billed.
        """
        options = call_options(self._defaults, timeout, None, headers)
        await self._runtime.enter()
        models = await self._runtime.models(
            retry=self._defaults.retry, timeout=options.timeout, headers=options.headers
        )
        self._runtime.engine.purse.prices.learn(models)
        return models

    async def retrieve(
        self, model: str, *, timeout: float | None = UNSET, headers: Mapping[str, str] | None = None
    ) -> Model:
        """Fetch one model of the catalogue.

        Raises:
            NotFoundError: there is no such model.
            APIError: no usable answer came. Nothing is ever billed.
            ValueError: *model* is no id.
        """
        check_model(model)
        options = call_options(self._defaults, timeout, None, headers)
        await self._runtime.enter()
        # Each segment is escaped on its own: an escaped slash answers 404 (contract, GET /v1/models/{id}).
        path = "/".join(urllib.parse.quote(part, safe="") for part in model.split("/"))
        return await Fetch(
            engine=self._runtime.engine,
            account=self._runtime.engine.limiter.accounts[0],
            path=f"/models/{path}",
            decode=catalogue.model,
            retry=self._defaults.retry,
            timeout=options.timeout,
            headers=options.headers,
        ).run()


async def fetch_balance(
    runtime: Runtime, defaults: CallDefaults, account: Admission, timeout: Any, headers: Any
) -> Balance:
    """Fetch what is left on *account*."""
    options = call_options(defaults, timeout, None, headers)
    await runtime.enter()
    return await Fetch(
        engine=runtime.engine,
        account=account,
        path="/balance",
        decode=catalogue.balance,
        retry=defaults.retry,
        timeout=options.timeout,
        headers=options.headers,
    ).run()
