"""All values as JSON and back, by one cattrs converter; for whoever keeps or hands on answers as they are.

A call does not need it, and `cattrs` takes a tenth of the time that making a client does: so it is imported
by those alone who use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from cattrs import Converter

from hinow_async._models.account import Balance, Model, ModelCost
from hinow_async._models.chat import ChatCompletion, ChatCompletionChunk, ChatRequest, Choice, Message, Usage
from hinow_async._models.images import GeneratedImage, ImageRequest
from hinow_async._protocol import catalogue, chat_wire, wire

converter = Converter()


def _drop_unset(value: Any, **more: Any) -> dict[str, Any]:
    known = {
        field.name: getattr(value, field.name)
        for field in attrs.fields(type(value))
        if field.name != "extra" and field.name not in more
    }
    return {
        **{name: item for name, item in {**known, **more}.items() if item is not None and item != ()},
        **value.extra,
    }


def _image_to_wire(image: GeneratedImage) -> dict[str, Any]:
    if image.url is not None:
        return {"url": image.url, **image.extra}
    text = image.encoded or ""
    return {"url" if text[:5].lower() == "data:" else "b64_json": text, **image.extra}


def _image_answer_to_wire(answer: wire.ImageAnswer) -> dict[str, Any]:
    data = {"urls": [_image_to_wire(image) for image in answer.images], **answer.extra}
    named = {"model": answer.model, "provider": answer.provider}
    return {"success": True, "data": data | {k: v for k, v in named.items() if v is not None}}


def _completion_to_wire(completion: ChatCompletion) -> dict[str, Any]:
    known = {name: getattr(completion, name) for name in ("id", "model", "created", "object")}
    return {
        **{name: value for name, value in known.items() if value is not None},
        "choices": [converter.unstructure(item) for item in completion.choices],
        **({"usage": converter.unstructure(completion.usage)} if completion.usage else {}),
        **completion.extra,
    }


def _chunk_to_wire(chunk: ChatCompletionChunk) -> dict[str, Any]:
    return {
        **_drop_unset(chunk, choices=list(chunk.choices), usage=chunk.usage and _drop_unset(chunk.usage)),
        "choices": list(chunk.choices),
    }


def _register() -> None:
    structure: dict[type[Any], Callable[[Any, Any], Any]] = {
        ImageRequest: wire.image_request_from_wire,
        ChatRequest: chat_wire.chat_request_from_wire,
        wire.ImageAnswer: lambda raw, _: wire.image_answer(raw),
        ChatCompletion: lambda raw, _: chat_wire.chat_completion(raw),
        ChatCompletionChunk: lambda raw, _: chat_wire.chat_chunk(raw),
        Choice: chat_wire.choice,
        Message: chat_wire.message,
        Usage: chat_wire.usage,
        Model: catalogue.model,
        ModelCost: catalogue.model_cost,
        Balance: catalogue.balance,
    }
    unstructure: dict[type[Any], Callable[[Any], Any]] = {
        ImageRequest: wire.image_request_to_wire,
        ChatRequest: chat_wire.chat_request_to_wire,
        wire.ImageAnswer: _image_answer_to_wire,
        ChatCompletion: _completion_to_wire,
        ChatCompletionChunk: _chunk_to_wire,
        Choice: lambda item: {
            "index": item.index,
            "message": chat_wire.message_to_wire(item.message),
            "finish_reason": item.finish_reason,
            **item.extra,
        },
        Message: chat_wire.message_to_wire,
        Usage: _drop_unset,
        ModelCost: _drop_unset,
        Model: lambda item: _drop_unset(
            item,
            category=list(item.category),
            cost=_drop_unset(item.cost) if item.cost is not None else None,
        ),
        Balance: _drop_unset,
    }
    for cls, read in structure.items():
        converter.register_structure_hook(cls, read)
    for cls, write in unstructure.items():
        converter.register_unstructure_hook(cls, write)


_register()
