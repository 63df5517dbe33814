"""Chat: `client.chat.completions`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from hinow_async._call import Call, Plan
from hinow_async._models.chat import CHAT_OPTIONS, ChatCompletion, ChatRequest, Message
from hinow_async._models.images import ImageDoor
from hinow_async._pool import Sizes
from hinow_async._protocol import json, wire
from hinow_async._resources.base import UNSET, CallDefaults, Runtime, call_options

SIZES = Sizes(of_success=64 * 2**20, of_error=64 * 2**20)

Messages = str | Message | Mapping[str, Any] | Iterable[Message | Mapping[str, Any]]

_NAMES = ("model", *CHAT_OPTIONS, "extra")


class Completions:
    """`client.chat.completions`."""

    def __init__(self, runtime: Runtime, defaults: CallDefaults, door: ImageDoor) -> None:
        self._runtime = runtime
        self._defaults = defaults
        self._door = door

    async def create(
        self,
        messages: Messages | ChatRequest,
        *,
        model: str = UNSET,
        temperature: float | None = UNSET,
        max_tokens: int | None = UNSET,
        top_p: float | None = UNSET,
        repetition_penalty: float | None = UNSET,
        seed: int | None = UNSET,
        stop: str | Iterable[str] | None = UNSET,
        response_format: Mapping[str, Any] | None = UNSET,
        tools: Iterable[Mapping[str, Any]] | None = UNSET,
        tool_choice: str | Mapping[str, Any] | None = UNSET,
        extra: Mapping[str, Any] = UNSET,
        timeout: float | None = UNSET,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ChatCompletion:
        """Have messages answered, whole.

        Args:
            messages: A prompt, messages, or a whole request, whose fields the keywords override.
            model: Id with its namespace, e.g. `hinow/himax`.
            temperature: At least 0.
            max_tokens: The longest answer, in tokens.
            top_p: From 0 to 1.
            repetition_penalty: As the model takes it.
            seed: For answers that can be repeated, where the model can.
            stop: Texts that end the answer.
            response_format: As the protocol has it.
            tools: As the protocol has them.
            tool_choice: As the protocol has it.
            extra: Fields that this library does not know, sent untouched at the root of the body.
            timeout: Seconds for the whole call, queueing and retries included; None: no deadline.
            idempotency_key: Sent with every try; by default a new one for each call.
            headers: Extra headers.

        Raises:
            ValueError: a value is impossible (before anything is sent).
            APIError: the call failed; `.outcome` says whether it may have been billed.
            BudgetExceededError: it could go over the budget; nothing was sent.
        """
        request = _request(
            messages, model, temperature, max_tokens, top_p, repetition_penalty, seed, stop,
            response_format, tools, tool_choice, extra,
        )  # fmt: skip
        options = call_options(self._defaults, timeout, idempotency_key, headers)
        await self._runtime.enter()
        engine = self._runtime.engine
        if engine.purse.needs_catalogue(request):
            options = await self._runtime.learn_prices(request, options)
        plan = self._plan(request)
        completion, record = await Call(engine, plan, options).run()
        return attrs.evolve(completion, request=request, call=record)

    def _plan(self, request: ChatRequest) -> Plan[ChatCompletion]:
        try:
            body = json.dumps(wire.chat_request_to_wire(request))
        except ValueError as error:
            raise ValueError(f"the request is not JSON: {error}") from None
        return Plan(
            path="/chat/completions",
            request=request,
            model=request.model,
            body=body,
            weight=1,
            kind=("chat", request.model),
            decode=self._decode,
            count=_one,
            sizes=SIZES,
        )

    def _decode(self, raw: Any) -> ChatCompletion:
        return wire.chat_completion(raw, self._door)


class Chat:
    """`client.chat`."""

    def __init__(self, runtime: Runtime, defaults: CallDefaults, door: ImageDoor) -> None:
        self.completions = Completions(runtime, defaults, door)
        """`client.chat.completions`."""


def _one(_: ChatCompletion) -> int:
    return 1


def _request(messages: Messages | ChatRequest, *values: Any) -> ChatRequest:
    given = {name: value for name, value in zip(_NAMES, values, strict=True) if value is not UNSET}
    for name in ("stop", "tools"):
        if isinstance(given.get(name), Iterable) and not isinstance(given[name], str):
            given[name] = tuple(given[name])
    if isinstance(messages, ChatRequest):
        return attrs.evolve(messages, **given) if given else messages
    if "model" not in given:
        raise ValueError("model is missing: name one with its namespace, e.g. model='hinow/himax'")
    return ChatRequest(messages, **given)
