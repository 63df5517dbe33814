"""Our values as the service's JSON, and the service's JSON as our values (contract: shared wire page).

Answers are hostile until checked: what cannot be what it should be is a `WireError`; what is unknown is kept
in `.extra`. These functions are what runs; `converter` joins them for whoever wants any value as JSON.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from hinow_async._models.account import Balance, Model, ModelCost
from hinow_async._models.chat import (
    CHAT_OPTIONS,
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
    Choice,
    Message,
    Usage,
    new_chunk,
)
from hinow_async._models.images import PARAMETERS, GeneratedImage, ImageDoor, ImageRequest
from hinow_async._protocol import json
from hinow_async._protocol.chat_images import find_images

T = TypeVar("T")

MAX_IMAGES = 1000
"""More pictures than this in one answer is no answer to any request (the contract's largest is 10)."""


class WireError(ValueError):
    """An answer that cannot be what it should be."""

    def __init__(self, message: str, *, code: str | None = None, type: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.type = type


class UnsuccessfulError(WireError):
    """A 2xx whose envelope says `success: false`."""


@attrs.define  # not frozen: one is made per call, and only to be taken apart
class ImageAnswer:
    """What an image answer says, before it is joined with its request."""

    images: tuple[GeneratedImage, ...]
    model: str | None = None
    provider: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict)


# -- requests ----------------------------------------------------------------------------------------------


def image_request_to_wire(request: ImageRequest) -> dict[str, Any]:
    """Options travel in `parameters`, and only those that were set; *extra* goes beside them untouched."""
    parameters: dict[str, Any] = {}
    for name in PARAMETERS:
        value = getattr(request, name)
        if value is not None:
            parameters[name] = value
    parameters.update(request.extra)
    body: dict[str, Any] = {"model": request.model, "prompt": request.prompt}
    if parameters:
        body["parameters"] = parameters
    return body


def image_request_from_wire(body: Mapping[str, Any], _: Any = None) -> ImageRequest:
    """Read a request back from its wire form (the inverse of `image_request_to_wire`)."""
    parameters = dict(body.get("parameters", {}))
    known = {name: parameters.pop(name) for name in PARAMETERS if name in parameters}
    return ImageRequest(body["prompt"], model=body["model"], extra=parameters, **known)


def message_to_wire(message: Message) -> dict[str, Any]:
    """Write one message; `content` is there even when it is None, as the protocol wants it."""
    content = message.content
    body: dict[str, Any] = {
        "role": message.role,
        "content": list(content) if isinstance(content, tuple) else content,
    }
    if message.tool_calls:
        body["tool_calls"] = list(message.tool_calls)
    return {**body, **message.extra}


def chat_request_to_wire(request: ChatRequest) -> dict[str, Any]:
    """Every option sits at the root: this endpoint ignores a `parameters` object."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [message_to_wire(message) for message in request.messages],
    }
    for name in CHAT_OPTIONS:
        value = getattr(request, name)
        if value is not None:
            body[name] = list(value) if isinstance(value, tuple) else value
    return {**body, **request.extra}


def chat_request_from_wire(body: Mapping[str, Any], _: Any = None) -> ChatRequest:
    """Read a request back from its wire form (the inverse of `chat_request_to_wire`)."""
    known = {name: body[name] for name in CHAT_OPTIONS if name in body}
    extra = {key: value for key, value in body.items() if key not in {"model", "messages", *known}}
    return ChatRequest(body["messages"], model=body["model"], extra=extra, **known)


def fingerprint(wire: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a request as sent, 64 hex digits."""
    return hashlib.sha256(json.canonical(wire)).hexdigest()


# -- answers -----------------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _rest(raw: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in known}


def _open_envelope(raw: Any) -> tuple[Any, dict[str, Any]]:
    """Return the data and the envelope's other fields; the envelope may be missing."""
    if not isinstance(raw, dict):
        raise WireError(f"the answer is no JSON object but {_kind(raw)}")
    if raw.get("success") is False:
        message, code, kind = error_fields(raw)
        raise UnsuccessfulError(message or "success is false", code=code, type=kind)
    if "data" not in raw:
        return raw, {}
    outer = dict(raw)
    data = outer.pop("data")
    outer.pop("success", None)
    return data, outer


def _kind(value: Any) -> str:
    return (
        "null"
        if value is None
        else {"dict": "an object", "list": "a list"}.get(type(value).__name__, f"a {type(value).__name__}")
    )


def image_answer(raw: Any, door: ImageDoor | None = None) -> ImageAnswer:
    """Read the answer of POST /v1/images: envelope, bare data, or OpenAI's form.

    Args:
        raw: Decoded JSON.
        door: What the pictures are to ask when they are read.

    Raises:
        WireError: it names no picture.
    """
    data, outer = _open_envelope(raw)
    if isinstance(data, dict):
        inner = dict(data)
        items: Any = inner.pop("urls", None)
        if items is None:
            items = inner.pop("images", None)
        inner.pop("success", None)
    elif isinstance(data, list):
        items, inner, outer = data, outer, {}
    else:
        raise WireError(f"data should hold pictures, but is {_kind(data)}")
    if not isinstance(items, list) or not items:
        raise WireError("the answer names no pictures")
    if len(items) > MAX_IMAGES:
        raise WireError(f"the answer names {len(items)} pictures: no request asks for so many")
    images = tuple([_image(item, index, door) for index, item in enumerate(items)])
    model = inner.pop("model") if isinstance(inner.get("model"), str) else None
    provider = inner.pop("provider") if isinstance(inner.get("provider"), str) else None
    return ImageAnswer(images, model, provider, {**outer, **inner} if outer else inner)


def _image(item: Any, index: int, door: ImageDoor | None) -> GeneratedImage:
    if isinstance(item, str):
        return picture(item, index, door=door)
    if isinstance(item, dict):
        if isinstance(item.get("url"), str):
            return picture(item["url"], index, _rest(item, "url"), door=door)
        if isinstance(item.get("b64_json"), str):
            extra = _rest(item, "b64_json")
            return GeneratedImage(index=index, encoded=item["b64_json"], extra=extra, door=door)
    raise WireError(f"picture {index} is neither a URL nor base64")


def picture(
    url: str, index: int, extra: Mapping[str, Any] | None = None, *, door: ImageDoor | None = None
) -> GeneratedImage:
    """Make the picture of a URL; a `data:` URI is a picture that came inline."""
    if url[:5].lower() == "data:":
        return GeneratedImage(index=index, encoded=url, extra=extra or {}, door=door)
    return GeneratedImage(url, index=index, extra=extra or {}, door=door)


def _object(raw: Any, what: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise WireError(f"{what} should be an object, but is {_kind(raw)}")
    return raw


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read(raw: dict[str, Any], readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Read known fields; one of an impossible type stays in *extra*, like an unknown one."""
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in raw.items():
        read = readers.get(key)
        known = read(value) if read is not None else None
        if known is None and not (read is not None and value is None):
            extra[key] = value
        else:
            fields[key] = known
    return {**fields, "extra": extra}


def _strings(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None


def model_cost(raw: Any, _: Any = None) -> ModelCost:
    """Read the `cost` of a model."""
    return ModelCost(
        **_read(_object(raw, "cost"), {"type": _text, "total": _finite, "input": _finite, "output": _finite})
    )


_MODEL = {
    "id": _text,
    "object": _text,
    "name": _text,
    "category": _strings,
    "created": _whole,
    "owned_by": _text,
    "endpoint": _text,
    "cost": lambda value: model_cost(value) if isinstance(value, dict) else None,
}


def model(raw: Any, _: Any = None) -> Model:
    """Read one model of the catalogue, with or without the envelope."""
    entry = _object(raw, "a model")
    if "id" not in entry and isinstance(entry.get("data"), dict):
        entry = entry["data"]
    if not isinstance(entry.get("id"), str):
        raise WireError("a model has no id")
    fields = _read(entry, _MODEL)
    if fields.get("category", ()) is None:
        del fields["category"]
    return Model(**fields)


def models(raw: Any) -> tuple[Model, ...]:
    """Read the catalogue."""
    data, _ = _open_envelope(raw) if isinstance(raw, dict) else (raw, {})
    if not isinstance(data, list):
        raise WireError("the catalogue is no list")
    return tuple(model(entry) for entry in data)


def balance(raw: Any, _: Any = None) -> Balance:
    """Read the balance, in US dollars."""
    data, outer = _open_envelope(raw)
    fields = _read(
        {**outer, **_object(data, "the balance")},
        {"balance": _finite, "account_id": _text, "project_id": _text},
    )
    if fields.get("balance") is None:
        raise WireError("the balance is no number")
    return Balance(**fields)


def message(raw: Any, _: Any = None) -> Message:
    """Read one message of an answer; unknown roles, parts and fields survive."""
    entry = _object(raw, "a message")
    content = entry.get("content")
    if isinstance(content, list):
        content = tuple(content)
    elif content is not None and not isinstance(content, str):
        raise WireError(f"content should be text or parts, but is {_kind(content)}")
    fields = _read(_rest(entry, "content"), {"role": _text, "tool_calls": _listed})
    return Message(
        role=fields.get("role") or "assistant",
        content=content,
        tool_calls=fields.get("tool_calls") or (),
        extra=fields["extra"],
    )


def _listed(value: Any) -> tuple[Any, ...] | None:
    return tuple(value) if isinstance(value, list) else None


def choice(raw: Any, _: Any = None) -> Choice:
    """Read one choice."""
    entry = _object(raw, "a choice")
    fields = _read(_rest(entry, "message"), {"index": _whole, "finish_reason": _text})
    return Choice(
        index=fields.get("index") or 0,
        message=message(entry.get("message")),
        finish_reason=fields.get("finish_reason"),
        extra=fields["extra"],
    )


def usage(raw: Any, _: Any = None) -> Usage:
    """Read the token counts."""
    readers = {"prompt_tokens": _whole, "completion_tokens": _whole, "total_tokens": _whole}
    return Usage(**_read(_object(raw, "usage"), readers))


def chat_completion(raw: Any, door: ImageDoor | None = None) -> ChatCompletion:
    """Read a whole chat answer, with the pictures found anywhere in its first choice.

    Args:
        raw: Decoded JSON.
        door: What the pictures are to ask when they are read.

    Raises:
        WireError: it has no choices.
    """
    entry = _object(raw, "the answer")
    if entry.get("success") is False or ("choices" not in entry and isinstance(entry.get("data"), dict)):
        data, outer = _open_envelope(entry)
        entry = {**outer, **_object(data, "data")}
    choices = entry.get("choices")
    if not isinstance(choices, list) or not choices:
        raise WireError("the answer has no choices")
    read = tuple(choice(item) for item in choices)
    return ChatCompletion(
        id=_text(entry.get("id")),
        model=_text(entry.get("model")),
        choices=read,
        usage=usage(entry["usage"]) if isinstance(entry.get("usage"), dict) else None,
        created=_whole(entry.get("created")),
        object=_text(entry.get("object")),
        images=chat_images(read[0].message, door),
        extra=_rest(entry, "success", *_CHUNK_FIELDS),
        door=door,
    )


def chat_images(message: Message, door: ImageDoor | None) -> tuple[GeneratedImage, ...]:
    """Make the pictures of a message, wherever they stand in it."""
    return tuple([picture(url, index, door=door) for index, url in enumerate(find_images(message))])


_CHUNK_FIELDS = frozenset({"id", "model", "choices", "usage", "created", "object"})


def chat_chunk(raw: Any) -> ChatCompletionChunk:
    """Read one chunk of a stream; by hand, for there are thousands of them in one answer.

    Raises:
        WireError: it is none.
    """
    if type(raw) is not dict:
        raise WireError(f"a chunk should be an object, but is {_kind(raw)}")
    get = raw.get
    name, model_id, choices, counted = get("id"), get("model"), get("choices"), get("usage")
    if type(choices) is list:
        for item in choices:
            if type(item) is not dict or type(item.get("delta")) not in _DELTAS:
                raise WireError("a choice has no delta that could be read")
    elif choices is not None:
        raise WireError(f"choices should be a list, but is {_kind(choices)}")
    return new_chunk(
        name if type(name) is str else None,
        model_id if type(model_id) is str else None,
        tuple(choices or ()),
        usage(counted) if type(counted) is dict else None,
        _whole(get("created")),
        _text(get("object")),
        {} if _CHUNK_FIELDS.issuperset(raw) else _rest(raw, *_CHUNK_FIELDS),
    )


_DELTAS = frozenset({dict, type(None)})


def chunk_of_completion(completion: ChatCompletion) -> ChatCompletionChunk:
    """Give a whole answer as the one chunk of a stream: what a service that cannot stream answers."""
    choices = [
        {
            "index": item.index,
            "delta": message_to_wire(item.message),
            "finish_reason": item.finish_reason or "stop",
            **item.extra,
        }
        for item in completion.choices
    ]
    return ChatCompletionChunk(
        id=completion.id,
        model=completion.model,
        choices=tuple(choices),
        usage=completion.usage,
        created=completion.created,
        object=completion.object,
        extra=completion.extra,
    )


# -- errors ------------------------------------------------------------------------------------------------


def error_fields(raw: Any) -> tuple[str | None, str | None, str | None]:
    """Return message, code and type of an error body, with or without its `error` wrapper."""
    if not isinstance(raw, dict):
        return None, None, None
    inner = raw.get("error")
    if isinstance(inner, str):
        return inner, _code(raw.get("code")), _text(raw.get("type"))
    entry = inner if isinstance(inner, dict) else raw
    message_text = entry.get("message", entry.get("detail"))
    if message_text is not None and not isinstance(message_text, str):
        message_text = _shown(message_text)
    return message_text, _code(entry.get("code")), _text(entry.get("type"))


def _shown(value: Any) -> str | None:
    """Write a message that is no text; None, where it is no JSON either (NaN) or nested too deeply."""
    try:
        return json.canonical(value).decode()
    except (ValueError, RecursionError):
        return None


def _code(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
