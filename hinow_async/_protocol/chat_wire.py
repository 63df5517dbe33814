"""Chats as the service's JSON, and the service's JSON as chats (contract, POST /v1/chat/completions).

Apart from `wire`, so that who only asks for pictures does not load what chats are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
from hinow_async._models.images import GeneratedImage, ImageDoor
from hinow_async._protocol.chat_images import find_images
from hinow_async._protocol.fields import (
    WireError,
    kind_of,
    object_of,
    open_envelope,
    read_fields,
    rest,
    text,
    whole,
)
from hinow_async._protocol.wire import picture

# -- requests ----------------------------------------------------------------------------------------------


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


# -- answers -----------------------------------------------------------------------------------------------


def message(raw: Any, _: Any = None) -> Message:
    """Read one message of an answer; unknown roles, parts and fields survive."""
    entry = object_of(raw, "a message")
    content = entry.get("content")
    if isinstance(content, list):
        content = tuple(content)
    elif content is not None and not isinstance(content, str):
        raise WireError(f"content should be text or parts, but is {kind_of(content)}")
    fields = read_fields(rest(entry, "content"), {"role": text, "tool_calls": _listed})
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
    entry = object_of(raw, "a choice")
    fields = read_fields(rest(entry, "message"), {"index": whole, "finish_reason": text})
    return Choice(
        index=fields.get("index") or 0,
        message=message(entry.get("message")),
        finish_reason=fields.get("finish_reason"),
        extra=fields["extra"],
    )


def usage(raw: Any, _: Any = None) -> Usage:
    """Read the token counts."""
    readers = {"prompt_tokens": whole, "completion_tokens": whole, "total_tokens": whole}
    return Usage(**read_fields(object_of(raw, "usage"), readers))


def chat_completion(raw: Any, door: ImageDoor | None = None) -> ChatCompletion:
    """Read a whole chat answer, with the pictures found anywhere in its first choice.

    Args:
        raw: Decoded JSON.
        door: What the pictures are to ask when they are read.

    Raises:
        WireError: it has no choices.
    """
    entry = object_of(raw, "the answer")
    if entry.get("success") is False or ("choices" not in entry and isinstance(entry.get("data"), dict)):
        data, outer = open_envelope(entry)
        entry = {**outer, **object_of(data, "data")}
    choices = entry.get("choices")
    if not isinstance(choices, list) or not choices:
        raise WireError("the answer has no choices")
    read = tuple(choice(item) for item in choices)
    return ChatCompletion(
        id=text(entry.get("id")),
        model=text(entry.get("model")),
        choices=read,
        usage=usage(entry["usage"]) if isinstance(entry.get("usage"), dict) else None,
        created=whole(entry.get("created")),
        object=text(entry.get("object")),
        images=chat_images(read[0].message, door),
        extra=rest(entry, "success", *_CHUNK_FIELDS),
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
        raise WireError(f"a chunk should be an object, but is {kind_of(raw)}")
    get = raw.get
    name, model_id, choices, counted = get("id"), get("model"), get("choices"), get("usage")
    if type(choices) is list:
        for item in choices:
            if type(item) is not dict or type(item.get("delta")) not in _DELTAS:
                raise WireError("a choice has no delta that could be read")
    elif choices is not None:
        raise WireError(f"choices should be a list, but is {kind_of(choices)}")
    return new_chunk(
        name if type(name) is str else None,
        model_id if type(model_id) is str else None,
        tuple(choices or ()),
        usage(counted) if type(counted) is dict else None,
        whole(get("created")),
        text(get("object")),
        {} if _CHUNK_FIELDS.issuperset(raw) else rest(raw, *_CHUNK_FIELDS),
    )


_DELTAS = frozenset({dict, type(None)})


def chunk_of_completion(completion: ChatCompletion) -> ChatCompletionChunk:
    """Give a whole answer as the one chunk of a stream: what a service that cannot stream answers."""
    choices = [
        {
            **item.extra,  # first: it may hold a `delta` of its own
            "index": item.index,
            "delta": message_to_wire(item.message),
            "finish_reason": item.finish_reason or "stop",
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
