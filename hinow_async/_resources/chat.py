"""Chat: `client.chat.completions`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Literal, TypedDict, Unpack, overload

import attrs

from hinow_async._call import Call, CallOptions, Plan
from hinow_async._errors import HinowError
from hinow_async._models.chat import CHAT_OPTIONS, ChatCompletion, ChatOutcome, ChatRequest, Message
from hinow_async._pool import Sizes
from hinow_async._protocol import chat_wire, json
from hinow_async._resources.attachments import attached
from hinow_async._resources.base import UNSET, CallDefaults, Runtime, call_options
from hinow_async._resources.many import Item, Outcomes
from hinow_async._resources.outcomes import Keeper, KeepingDoor, outcomes
from hinow_async._resources.streams import ChatStream, OpeningStream
from hinow_async._streaming import StreamCall

SIZES = Sizes(of_success=64 * 2**20, of_error=64 * 2**20)

Messages = str | Message | Mapping[str, Any] | Iterable[Message | Mapping[str, Any]]

_NAMES = ("model", *CHAT_OPTIONS, "extra")


class ChatOptions(TypedDict, total=False):
    """What may be said about one chat; see `Completions.create`."""

    model: str
    temperature: float | None
    max_tokens: int | None
    top_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | Iterable[str] | None
    response_format: Mapping[str, Any] | None
    tools: Iterable[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    extra: Mapping[str, Any]
    timeout: float | None
    idempotency_key: str | None
    headers: Mapping[str, str] | None


class Completions:
    """`client.chat.completions`."""

    def __init__(self, runtime: Runtime, defaults: CallDefaults, door: KeepingDoor) -> None:
        self._runtime = runtime
        self._defaults = defaults
        self._door = door

    @overload
    async def create(
        self,
        messages: Messages | ChatRequest,
        *,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self, messages: Messages | ChatRequest, *, stream: Literal[True], **options: Unpack[ChatOptions]
    ) -> ChatStream: ...

    @overload
    async def create(
        self, messages: Messages | ChatRequest, *, stream: bool, **options: Unpack[ChatOptions]
    ) -> ChatCompletion | ChatStream: ...

    async def create(
        self,
        messages: Messages | ChatRequest,
        *,
        stream: bool = False,
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
    ) -> ChatCompletion | ChatStream:
        """Have messages answered, whole, or with *stream* piece by piece.

        Args:
            messages: A prompt, messages, or a whole request, whose fields the keywords override.
            stream: Return a `ChatStream` as soon as the answer begins: `async for chunk in ...`.
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
            timeout: Seconds for the whole call, queueing, retries and stream included; None: no deadline.
            idempotency_key: Sent with every try; by default a new one for each call.
            headers: Extra headers.

        Raises:
            ValueError: a value is impossible (before anything is sent).
            APIError: the call failed; `.outcome` says whether it may have been billed.
            BudgetExceededError: it could go over the budget; nothing was sent.
        """
        if not isinstance(stream, bool):
            raise ValueError(f"stream must be True or False, not {stream!r}")
        request = _request(
            messages, model, temperature, max_tokens, top_p, repetition_penalty, seed, stop,
            response_format, tools, tool_choice, extra,
        )  # fmt: skip
        options = call_options(self._defaults, timeout, idempotency_key, headers)
        return await (self._open(request, options) if stream else self.run(request, options))

    def stream(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> OpeningStream:
        """Have messages answered piece by piece: `async with ...stream(...) as stream`.

        The request is sent on entering, and `stream` is then a `ChatStream`. Arguments, and what is raised
        on entering, are those of `create`.
        """
        values = {name: options.get(name, UNSET) for name in _NAMES}
        request = _request(messages, *values.values())
        calling = call_options(
            self._defaults,
            options.get("timeout", UNSET),
            options.get("idempotency_key"),
            options.get("headers"),
        )
        _check_names(options)
        return OpeningStream(lambda: self._open(request, calling))

    def create_many(
        self,
        requests: Iterable[Messages | ChatRequest] | AsyncIterable[Messages | ChatRequest],
        *,
        model: str = UNSET,
        save_to: str | os.PathLike[str] | None = None,
        ordered: bool = False,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Outcomes[ChatOutcome]:
        """Have many chats answered, as fast as the limits allow.

        Enter what is returned with `async with`, then iterate it with `async for`: outcomes come as they
        finish, failures too. Memory is that of the work in flight.

        Args:
            requests: Requests, or with *model* also prompts or messages, from any iterable; pulled no
                further than the work needs.
            model: Id with its namespace, for all that name none.
            save_to: A folder for the pictures of the answers, named `<position, six digits>-<index>.<ext>`.
                In a notebook, progress is then shown.
            ordered: Keep the order of the source.
            timeout: Seconds per item, from its pull; None: no deadline.
            headers: Extra headers.
        """
        options = call_options(self._defaults, timeout, None, headers)
        keeper = Keeper(self._door, save_to)

        async def make(index: int, item: Any, state: Item) -> ChatOutcome:
            request = item if isinstance(item, ChatRequest) else _given(item, {"model": model})
            try:
                result = await self.run(request, options.watched_by(state))
            except (HinowError, ValueError) as error:
                return ChatOutcome(index=index, request=request, error=error)
            saved, problem = await keeper.keep(index, result, state)
            return ChatOutcome(index=index, request=request, result=result, saved=saved, error=problem)

        name = "client.chat.completions.create_many"
        return outcomes(self._runtime, requests, make, keeper, ordered=ordered, name=name)

    async def run(self, request: ChatRequest, options: CallOptions) -> ChatCompletion:
        """Make the call of a checked request, whole (what `create_many` builds on)."""
        request, options = await self._prepared(request, options)
        plan: Plan[ChatCompletion] = _plan(request, self._decode)
        completion, record = await Call(self._runtime.engine, plan, options).run()
        return attrs.evolve(completion, request=request, call=record)

    async def _open(self, request: ChatRequest, options: CallOptions) -> ChatStream:
        request, options = await self._prepared(request, options)
        plan = _plan(request, _no_decoding, streams=True)
        call = StreamCall(self._runtime.engine, plan, options)
        return ChatStream(call, await call.open(), request, self._door)

    async def _prepared(self, request: ChatRequest, options: CallOptions) -> tuple[ChatRequest, CallOptions]:
        await self._runtime.enter()
        request = await attached(request)
        if self._runtime.engine.purse.needs_catalogue(request):
            options = await self._runtime.learn_prices(request, options)
        return request, options

    def _decode(self, raw: Any) -> ChatCompletion:
        return chat_wire.chat_completion(raw, self._door)


class Chat:
    """`client.chat`."""

    def __init__(self, runtime: Runtime, defaults: CallDefaults, door: KeepingDoor) -> None:
        self.completions = Completions(runtime, defaults, door)
        """`client.chat.completions`."""


def _plan(request: ChatRequest, decode: Any, *, streams: bool = False) -> Plan[Any]:
    body = chat_wire.chat_request_to_wire(request)
    if streams:
        body["stream"] = True
    try:
        raw = json.dumps(body)
    except ValueError:
        raise ValueError(_fault(body)) from None
    return Plan(
        path="/chat/completions",
        request=request,
        model=request.model,
        body=raw,
        weight=1,
        kind=("stream" if streams else "chat", request.model),
        decode=decode,
        count=_one,
        sizes=SIZES,
    )


def _fault(body: Mapping[str, Any]) -> str:
    """Say which field cannot be sent, and why."""
    for name, value in body.items():
        try:
            json.dumps(value)
        except ValueError as error:
            return f"{name}: {error}"
    return "the request is not JSON"  # a subclass of a text or a number, perhaps, that is not always the same


def _one(_: object) -> int:
    return 1


def _no_decoding(raw: object) -> object:
    return raw


def _request(messages: Messages | ChatRequest, *values: Any) -> ChatRequest:
    given = {name: value for name, value in zip(_NAMES, values, strict=True) if value is not UNSET}
    for name in ("stop", "tools"):
        if isinstance(given.get(name), Iterable) and not isinstance(given[name], str):
            given[name] = tuple(given[name])
    if isinstance(messages, ChatRequest):
        return attrs.evolve(messages, **given) if given else messages
    return _given(messages, given)


def _given(messages: Messages, fields: Mapping[str, Any]) -> ChatRequest:
    if fields.get("model", UNSET) is UNSET:
        raise ValueError("model is missing: name one with its namespace, e.g. model='hinow/himax'")
    return ChatRequest(messages, **fields)


def _check_names(options: ChatOptions) -> None:
    """Refuse keywords that nobody knows: a signature made of a TypedDict takes them all."""
    for name in options:
        if name not in ChatOptions.__annotations__:
            raise TypeError(f"stream() got an unexpected keyword argument {name!r}")
