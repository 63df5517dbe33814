"""One billable call, from its start to its end: reserve, admit, send, judge, settle, retry, decode.

The order of things is the order of the money. What could be spent is reserved before anything else; the
right to send is had before the first byte; what a failure means for money is decided before anything is
tried again; and whatever happens at any `await`, a cancel or a crash included, the reservation, the slot
and the connection are given back exactly once, or kept as spent where the call may have been billed.
"""

from __future__ import annotations

import asyncio
import copy
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import attrs

from hinow_async._alarm import Alarm
from hinow_async._budget import Purse
from hinow_async._errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    BudgetExceededError,
    HinowError,
    Outcome,
    RateLimitError,
)
from hinow_async._hooks import Hooks
from hinow_async._limiter import Admission, Grant, Limiter, NotAdmittedError
from hinow_async._models.calls import AttemptOutcome, AttemptRecord, CallInfo, CallRecord
from hinow_async._options import RetryPolicy, Timeouts
from hinow_async._pool import Pool, RequestBody, Sizes, TransportError
from hinow_async._protocol import json, judge
from hinow_async._protocol.backoff import backoff
from hinow_async._protocol.failures import request_id
from hinow_async._protocol.fields import WireError
from hinow_async._protocol.judge import Failure
from hinow_async._protocol.outcome import Event
from hinow_async._secrets import Secret

T = TypeVar("T")

ZERO = Decimal(0)


class Journal(Protocol):
    """Who must know durably what happens to a call: the ledger of a batch."""

    def sending(self, attempt: int, key: str, account: str) -> Awaitable[None]:
        """Record a try; awaited after its grant and before its first byte."""

    async def unbilled(self, attempt: int) -> None:
        """Close a try that cost nothing: no byte of it left, or it was refused."""

    def answered(self, raw: bytes) -> Awaitable[None]:
        """Record a success; awaited before anything else is done with the answer."""


class Watcher(Protocol):
    """Who follows a call from outside: `generate_many` and batches."""

    def on_granted(self, call: Call[Any]) -> None:
        """A try is about to be sent."""

    def may_send(self) -> bool:
        """Whether the call may be tried again."""


# What never leaves the library is not compared or shown: such methods take half of the time to make a class.
# And these two are not frozen: they are made for each call, and a frozen one takes thrice as long.
@attrs.define(kw_only=True, eq=False, repr=False)
class Plan(Generic[T]):
    """What to send, and how to read the answer."""

    path: str
    request: Any
    """The request as the caller gave it, for errors and prices."""
    model: str
    body: bytes
    weight: int
    kind: Hashable
    """Tells calls of one usual latency from others."""
    decode: Callable[[Any], T]
    count: Callable[[T], int]
    """Pictures that an answer delivered."""
    sizes: Sizes


@attrs.define(kw_only=True, eq=False, repr=False)
class CallOptions:
    """What the caller said about one call."""

    timeout: float | None
    """Seconds for the whole call; None: no deadline."""
    retry: RetryPolicy
    idempotency_key: str | None = None
    headers: Mapping[str, str] | None = None
    journal: Journal | None = None
    watcher: Watcher | None = None
    account: str | None = None
    """Name of the one account that it may be sent to: a resend of what an earlier call may have paid for."""

    def watched_by(self, watcher: Watcher) -> CallOptions:
        """Return the same with a watcher: for each of many items, and in a fifth of `attrs.evolve`'s time."""
        return CallOptions(
            timeout=self.timeout,
            retry=self.retry,
            idempotency_key=self.idempotency_key,
            headers=self.headers,
            journal=self.journal,
            watcher=watcher,
            account=self.account,
        )


@attrs.frozen(eq=False, repr=False)
class Engine:
    """The parts that calls work with; made and closed by the client."""

    pool: Pool
    limiter: Limiter
    purse: Purse
    keys: Sequence[Secret]
    timeouts: Timeouts
    hooks: Hooks
    alarm: Alarm
    """Rings when no answer came within `Timeouts.response`."""
    clock: Callable[[], float] = time.monotonic


class Call(Generic[T]):
    """The state of one call. It is also what the limiter is asked with (`_limiter.Demand`)."""

    __slots__ = (
        "_amount", "_cost", "_engine", "_held", "_is_overdue", "_key", "_last_failure", "_options", "_plan",
        "_queued", "_request_id", "_response_due", "_resting", "_scope", "_status", "_tried",
        "account", "arrival", "arrived_at", "attempts", "bound", "deadline", "is_paid", "kind",
        "model", "throttled_max", "unknown_outcomes", "weight",
    )  # fmt: skip

    def __init__(self, engine: Engine, plan: Plan[T], options: CallOptions) -> None:
        self._engine = engine
        self._plan = plan
        self._options = options
        self._key = options.idempotency_key or secrets.token_hex(16)
        self.arrived_at = engine.clock()
        self.deadline = None if options.timeout is None else self.arrived_at + options.timeout
        self.arrival = engine.limiter.next_arrival()
        self.weight = plan.weight
        self.kind = plan.kind
        self.model = plan.model
        self.bound: Admission | None = engine.limiter.named(options.account)
        self.throttled_max = options.retry.throttled_max
        self.attempts = 0
        self.unknown_outcomes = 0
        self.account: Admission | None = None
        self._tried = 0  # tries that count against `RetryPolicy.attempts`
        self._queued = 0.0
        self._request_id: str | None = None
        self._status: int | None = None
        self._last_failure: Failure | None = None
        self._scope: asyncio.Timeout | None = None
        self._resting: asyncio.Future[None] | None = None
        self._response_due: float | None = None
        self._is_overdue = False
        self._amount = engine.purse.price(plan.request)
        self._cost = ZERO
        self._held = False
        self.is_paid = False

    @property
    def body(self) -> bytes:
        """What is sent."""
        return self._plan.body

    @property
    def price(self) -> Decimal | None:
        """US dollars that it could cost; None: nobody knows."""
        return self._amount

    # -- the course of a call ----------------------------------------------------------------------

    async def run(self) -> tuple[T, CallRecord]:
        """Make the call.

        Returns:
            The decoded answer, and the record of the call.

        Raises:
            APIError: it failed; `.outcome` says what that means for money.
            BudgetExceededError: it could go over the budget; nothing was sent.
            ValueError: it is heavier than a whole limit per minute.
        """
        self._begin()
        try:
            answer = await self._answered()
            return answer, self.record()
        finally:
            self._tell_ended()
            # Who follows it knows it, too: only the garbage collector would free such a cycle.
            self._options.watcher = self._options.journal = None

    def _begin(self) -> None:
        self._engine.limiter.check_weight(self.weight)
        self._reserve()
        if self._engine.hooks.call_started:
            self._tell_started()

    async def _answered(self) -> T:
        """Try until there is an answer; otherwise the books are closed."""
        try:
            while True:
                result = await self._try_once()
                if not isinstance(result, Failure):
                    return result[0]
                await self._before_next_try(result)
        except HinowError as error:
            self._give_back()
            if isinstance(error, APIError):
                error.request = self._plan.request
                error.call = self.record()
            raise
        except BaseException:
            self._give_back()
            raise

    async def _try_once(self) -> tuple[T] | Failure:
        grant = await self._admit()
        self.account = grant.account
        self.attempts += 1
        if self.attempts > 1:
            grant.account.retries += 1
        held = self._amount or ZERO
        grant.account.reserved += held
        try:
            result = await self._send(grant)
        finally:
            grant.account.reserved -= held
        if isinstance(result, Failure):
            await self._note_failure(result)
        if self._engine.hooks.attempt_ended:
            self._on_tried(grant, result)
        return result

    async def _admit(self) -> Grant:
        """Have the right to send once more; a call that is not to be tried again raises its failure."""
        last, limiter = self._last_failure, self._engine.limiter
        if last is not None and not self._may_send():
            raise self._verdict(last)
        grant = limiter.acquire_nowait(self) or await self._wait_for_grant()
        if last is not None and not self._may_send():  # it was stopped in the moment of its grant
            limiter.release(grant, Event.CANCELLED)
            raise self._verdict(last)
        if self._options.watcher is not None:
            self._options.watcher.on_granted(self)
        return grant

    async def _wait_for_grant(self) -> Grant:
        engine = self._engine
        begun = engine.clock()
        try:
            return await engine.limiter.acquire(self)
        except NotAdmittedError as error:
            reason, wait = error.reason, error.wait
        finally:
            self._queued += engine.clock() - begun
        self._raise_not_admitted(reason, wait)

    async def _send(self, grant: Grant) -> tuple[T] | Failure:
        """Send once and read the answer; the grant is given back whatever happens."""
        limiter = self._engine.limiter
        body = RequestBody(self._plan.body, self._on_sent)
        reply: Any = None
        problem: TransportError | None = None
        try:
            if self._options.journal is not None:
                await self._options.journal.sending(self.attempts, self._key, grant.account.name)
            reply = await self._exchange(grant, body)
        except TransportError as error:
            problem = error
        except BaseException:
            limiter.release(grant, Event.LOST if body.was_sent else Event.CANCELLED)
            await self._on_abandoned(body)
            raise
        if reply is not None:
            try:
                return await self._judge(grant, reply)
            except BaseException:
                limiter.release(grant, Event.ANSWERED)  # nothing, where it was given back before
                if self._held:
                    self._note_unknown()  # it was answered, so it may have been billed
                raise
        failure = self._no_answer(body, problem)
        limiter.release(grant, failure.event)
        return failure

    async def _exchange(self, grant: Grant, body: RequestBody) -> Any:
        """Send and read under the call's timers; None: one of them ran out."""
        self._response_due, self._is_overdue = None, False
        scope = self._scope = asyncio.timeout_at(self._deadline_in_loop())
        try:
            async with scope:
                return await self._ask(
                    grant.account.index, self._plan.path, body, self._headers(), self._plan.sizes
                )
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._scope = None
            self._engine.alarm.clear(self)
        return None

    @property
    def _ask(self) -> Callable[..., Awaitable[Any]]:
        """How a request is sent, and how much of its answer is read before it is judged."""
        return self._engine.pool.post

    def _on_sent(self) -> None:
        """The first byte is about to leave: from now on the response timeout runs."""
        if self._scope is not None and not self._scope.expired():  # else time ran out before it was written
            self._response_due = self._engine.alarm.set(self)

    def on_alarm(self) -> None:
        """No answer came in time (`_alarm.Sleeper`)."""
        if self._scope is not None and not self._scope.expired():
            self._is_overdue = True
            self._scope.reschedule(asyncio.get_running_loop().time())

    def _deadline_in_loop(self) -> float | None:
        if self.deadline is None:
            return None
        return asyncio.get_running_loop().time() + (self.deadline - self._engine.clock())

    def _headers(self) -> dict[str, str]:
        headers = {"Idempotency-Key": self._key}
        if self._options.headers:
            headers.update(self._options.headers)
        return headers

    # -- judging -----------------------------------------------------------------------------------

    async def _judge(self, grant: Grant, reply: Any) -> tuple[T] | Failure:
        self._request_id = request_id(reply.headers, self._redact)
        self._status = reply.status
        if reply.is_success:
            return await self._read_success(grant, reply)
        unbilled = self._options.retry.unbilled_statuses
        failure = judge.of_status(reply, unbilled, time.time(), self._redact)
        self._engine.limiter.release(grant, failure.event, failure.retry_after)
        return failure

    async def _read_success(self, grant: Grant, reply: Any) -> tuple[T] | Failure:
        """Decode a success. It is paid: nothing may come between it and its record."""
        engine = self._engine
        latency = engine.clock() - grant.at
        for key in engine.keys:  # should the service have echoed it: no ledger and no result holds one
            reply.body = key.redact_bytes(reply.body)
        if self._options.journal is not None:
            await self._record_answer(grant, self._options.journal, reply.body, latency)
        try:
            answer = self._plan.decode(json.loads(reply.body))
        except (json.MalformedJSONError, WireError) as error:
            failure = judge.of_unreadable(reply, error, self._redact)
            engine.limiter.release(grant, failure.event)
            return failure
        engine.limiter.release(grant, Event.SUCCESS, latency)
        self._settle(answer)
        if grant.account.parking.reasons:
            grant.account.parking.clear(self.model)
        return (answer,)

    async def _record_answer(self, grant: Grant, journal: Journal, raw: bytes, latency: float) -> None:
        try:
            await journal.answered(raw)
        except BaseException:
            self._engine.limiter.release(grant, Event.SUCCESS, latency)
            self._note_unknown()
            raise

    def _redact(self, text: str) -> str:
        for key in self._engine.keys:
            text = key.redact(text)
        return text

    def _no_answer(self, body: RequestBody, problem: TransportError | None) -> Failure:
        """Judge a try that brought no answer, by whether anything of it was sent."""
        if problem is not None:
            return judge.of_no_answer(
                self._redact(str(problem)),
                was_sent=body.was_sent,
                is_final=problem.is_final,
                is_timeout=problem.is_timeout,
            )
        allowed = self._engine.timeouts.response
        if self._is_overdue and allowed is not None:
            return judge.of_timeout(allowed)
        return judge.of_deadline(was_sent=body.was_sent)

    # -- what next ---------------------------------------------------------------------------------

    async def _before_next_try(self, failure: Failure) -> None:
        """Wait until the call may be tried again, or raise the failure."""
        self._last_failure = failure
        if failure.parks and len(self._engine.limiter.accounts) > 1:
            self._move_on(failure)
            return
        self._check_worth(failure)
        if failure.outcome == "unknown":
            self._reserve_anew(failure)
        if not failure.waits_at_gate:
            await self._back_off(failure)

    def _check_worth(self, failure: Failure) -> None:
        policy = self._options.retry
        if failure.is_final or policy.attempts == 1 or not self._may_send():
            raise self._verdict(failure)
        if failure.outcome == "unknown" and policy.unknown_outcome != "resend":
            raise self._verdict(failure)
        if not failure.is_throttled:
            self._tried += 1
            if self._tried >= policy.attempts:
                raise self._verdict(failure)
        if failure.status is not None and failure.status >= 500 and not self._take_retry():
            raise self._verdict(failure)
        asked = failure.retry_after or 0.0
        if asked > policy.throttled_max or self._is_too_late(asked):
            raise self._verdict(failure)

    def _may_send(self) -> bool:
        return self._options.watcher is None or self._options.watcher.may_send()

    def _take_retry(self) -> bool:
        return self.account is not None and self.account.take_retry()

    def _is_too_late(self, wait: float) -> bool:
        return self.deadline is not None and self._engine.clock() + wait >= self.deadline

    def _move_on(self, failure: Failure) -> None:
        """Park the account that refused the key, and let the call go to another at once."""
        account = self.account
        assert account is not None  # noqa: S101 - a failure has an account
        model = self.model if failure.status == 403 else None
        # A copy: the error itself may be raised, and then names what all accounts were parked for.
        self._engine.limiter.park(account, model, copy.copy(failure.error))
        if self._options.retry.attempts == 1 or self.bound is not None:
            raise self._verdict(failure)
        if not self._engine.limiter.usable(self.model, self.weight):
            self._raise_all_parked(failure.error)

    def _parked_error(self) -> APIError:
        """The error that an account was parked for, as that of a call which was never sent."""
        errors = [e for a in self._engine.limiter.accounts for e in a.parking.reasons.values()]
        error = copy.copy(errors[-1])
        error.outcome = "not_sent"
        return error

    def _raise_all_parked(self, error: APIError) -> NoReturn:
        said = "; ".join(
            f"{account.name}: {reason}"
            for account in self._engine.limiter.accounts
            for reason in account.parking.reasons.values()
        )
        error.args = (f"no account is left ({said})",)
        raise error

    async def _back_off(self, failure: Failure) -> None:
        policy = self._options.retry
        wait = backoff(self._tried, policy.wait_initial, policy.wait_max, random.random())  # noqa: S311
        if failure.retry_after:
            # Jitter is added to what was asked for, never taken from it.
            wait = max(wait, failure.retry_after + 0.25 * wait * random.random())  # noqa: S311
        if not self._is_too_late(wait):
            await self._rest(wait)
            return
        assert self.deadline is not None  # noqa: S101 - what has no deadline is never too late
        await asyncio.sleep(max(0.0, self.deadline - self._engine.clock()))
        raise APITimeoutError(
            f"the call's deadline ended while it waited to be tried again: {failure.error}",
            outcome=self._outcome(failure.outcome),
        )

    async def _rest(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._resting = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._resting
        finally:
            timer.cancel()
            self._resting = None

    def _wake(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    def give_up(self) -> None:
        """Wait no longer to be tried again: whoever watches the call will not have it sent."""
        self._wake()
        self._engine.limiter.give_up(self)

    def _verdict(self, failure: Failure) -> APIError:
        error = failure.error
        error.outcome = self._outcome(error.outcome)
        return error

    def _outcome(self, last: Outcome) -> Outcome:
        """A call with one unknown try stays unknown, whatever came after."""
        return "unknown" if self.unknown_outcomes else last

    def _raise_not_admitted(self, reason: str, wait: float) -> NoReturn:
        last = self._last_failure
        state = self._outcome(last.outcome if last is not None else "not_sent")
        if reason == "stopped" and last is not None:
            raise self._verdict(last)
        if reason == "parked":
            self._raise_all_parked(last.error if last is not None else self._parked_error())
        if reason == "throttled":
            if last is not None and isinstance(last.error, APIStatusError):
                raise self._verdict(last)
            raise RateLimitError(
                f"the account has accepted nothing for {self.throttled_max:g} s"
                f" (RetryPolicy.throttled_max); it opens again in {wait:.1f} s",
                status=429, retry_after=wait, outcome=state,
            )  # fmt: skip
        if reason == "gate":
            message = (
                f"the account is throttled for another {wait:.1f} s, which is beyond the call's deadline"
            )
        else:
            message = "the call's deadline ended while it waited for a slot"
        raise APITimeoutError(message, outcome=state)

    # -- money -------------------------------------------------------------------------------------

    def _reserve(self) -> None:
        self._engine.purse.reserve(self._amount)
        self._held = True

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._engine.purse.give_back(self._amount)

    async def _note_failure(self, failure: Failure) -> None:
        if failure.outcome == "unknown":
            self._note_unknown()
        elif self._options.journal is not None:
            await self._options.journal.unbilled(self.attempts)

    def _note_unknown(self) -> None:
        """What may have been billed counts as spent."""
        self.unknown_outcomes += 1
        if self.account is not None:
            self.account.unknown_outcomes += 1
        if self._held:
            self._spend(self._amount)

    def _spend(self, cost: Decimal | None) -> None:
        self._held = False
        self._engine.purse.spend(self._amount, cost)
        if cost is not None:
            self._cost += cost
            if self.account is not None:
                self.account.spent += cost

    def _reserve_anew(self, failure: Failure) -> None:
        """A resend may be billed once more; it goes to the same account, with the same key."""
        try:
            self._reserve()
        except BudgetExceededError as refusal:
            error = self._verdict(failure)
            error.add_note(f"it was not sent again: {refusal}")
            raise error from None
        self.bound = self.account

    def _settle(self, answer: T) -> None:
        """Spend what was asked for, or delivered, whichever is more."""
        purse = self._engine.purse
        delivered = self._plan.count(answer)
        cost = self._amount
        if delivered > self.weight and cost is not None:
            cost = max(cost, purse.prices.of_delivered(self._plan.request, delivered) or cost)
        self.is_paid = True
        self._spend(cost)

    async def _on_abandoned(self, body: RequestBody) -> None:
        """The caller gave up: money that may be gone stays spent, a try that never left is closed."""
        if body.was_sent:
            self._note_unknown()
        elif self._options.journal is not None:
            await self._options.journal.unbilled(self.attempts)

    # -- records -----------------------------------------------------------------------------------

    @property
    def request_id(self) -> str | None:
        """What the service called the last try that it answered."""
        return self._request_id

    def record(self) -> CallRecord:
        """Return what the call has done so far."""
        return CallRecord(
            request_id=self._request_id,
            attempts=self.attempts,
            elapsed=self._engine.clock() - self.arrived_at,
            queued=self._queued,
            unknown_outcomes=self.unknown_outcomes,
            estimated_usd=None if self._amount is None else float(self._cost),
            account=None if self.account is None else self.account.name,
            idempotency_key=self._key,
        )

    def _tell_started(self) -> None:
        hooks, plan = self._engine.hooks, self._plan
        info = CallInfo(endpoint=plan.path, model=plan.model, weight=plan.weight, idempotency_key=self._key)
        hooks.tell(hooks.call_started, info)

    def _tell_ended(self) -> None:
        if self._engine.hooks.call_ended:
            self._engine.hooks.tell(self._engine.hooks.call_ended, self.record())

    def _on_tried(self, grant: Grant, result: tuple[T] | Failure) -> None:
        if not isinstance(result, Failure):
            self._tell_attempt(grant, "success", self._status)
            return
        is_final = result.outcome == "refused" and result.is_final
        self._tell_attempt(grant, "final" if is_final else result.outcome, result.status, result.retry_after)

    def _tell_attempt(
        self, grant: Grant, ended: AttemptOutcome, status: int | None, retry_after: float | None = None
    ) -> None:
        record = AttemptRecord(
            idempotency_key=self._key,
            attempt=self.attempts,
            account=grant.account.name,
            outcome=ended,
            status=status,
            elapsed=self._engine.clock() - grant.at,
            retry_after=retry_after,
        )
        self._engine.hooks.tell(self._engine.hooks.attempt_ended, record)
