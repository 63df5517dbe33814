"""What costs nothing: catalogue and balance. Such a request is tried again after unknown outcomes too.

It takes no slot and no place in the queue, but counts in the account's request log; a 429 to it delays
only itself.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from hinow_async._call import Engine
from hinow_async._errors import APIError, APITimeoutError
from hinow_async._limiter import Admission
from hinow_async._options import RetryPolicy
from hinow_async._pool import Sizes, TransportError
from hinow_async._protocol import json, judge
from hinow_async._protocol.backoff import backoff
from hinow_async._protocol.failures import MAY_BE_BILLED
from hinow_async._protocol.fields import WireError
from hinow_async._protocol.judge import Failure

T = TypeVar("T")

SIZES = Sizes(of_success=64 * 2**20, of_error=64 * 2**20)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Fetch(Generic[T]):
    """One GET of the API, over all its tries."""

    engine: Engine
    account: Admission
    """Whose key is sent."""
    path: str
    """Below the API's root, escaped."""
    decode: Callable[[Any], T]
    """Reads the JSON, or raises `WireError`."""
    retry: RetryPolicy
    timeout: float | None = None
    """Seconds for all tries together; None: no end."""
    headers: Mapping[str, str] | None = None

    async def run(self) -> T:
        """Fetch and decode.

        Raises:
            APIError: no usable answer came.
        """
        scope = asyncio.timeout(self.timeout)
        try:
            async with scope:
                return await self._try_on()
        except TimeoutError:
            if not scope.expired():
                raise
        raise APITimeoutError(
            f"no answer to GET {self.path} came within {self.timeout:g} s", outcome="not_sent"
        )

    async def _try_on(self) -> T:
        tries = 0
        deadline = math.inf if self.timeout is None else self.engine.clock() + self.timeout
        while True:
            tries += 1
            result = await self._try_once()
            if not isinstance(result, Failure):
                return result[0]
            asked = result.retry_after or 0.0
            is_pointless = asked > self.retry.throttled_max or self.engine.clock() + asked >= deadline
            if result.is_final or tries >= self.retry.attempts or is_pointless:
                raise _costless(result.error)
            jitter = random.random()  # noqa: S311 - not a secret
            wait = backoff(tries, self.retry.wait_initial, self.retry.wait_max, jitter)
            await asyncio.sleep(max(wait, asked + 0.25 * wait * jitter))

    async def _try_once(self) -> tuple[T] | Failure:
        engine = self.engine
        engine.limiter.count_request(self.account)
        redact = engine.keys[self.account.index].redact
        try:
            async with asyncio.timeout(engine.timeouts.response):
                reply = await engine.pool.get(self.account.index, self.path, self.headers, SIZES)
        except TransportError as error:
            return judge.of_no_answer(
                redact(str(error)), was_sent=False, is_final=error.is_final, is_timeout=error.is_timeout
            )
        except TimeoutError:
            return judge.of_no_answer("it took too long", was_sent=False, is_final=False, is_timeout=True)
        if not reply.is_success:
            return judge.of_status(reply, self.retry.unbilled_statuses, time.time(), redact)
        try:
            return (self.decode(json.loads(reply.body)),)
        except (json.MalformedJSONError, WireError) as error:
            return judge.of_unreadable(reply, error, redact)


def _costless(error: APIError) -> APIError:
    """A GET is never billed, whatever became of it."""
    if error.outcome == "unknown":
        error.outcome = "refused"
        error.args = (str(error).replace(f" ({MAY_BE_BILLED})", ""),)
    return error
