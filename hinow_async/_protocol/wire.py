"""Images as the service's JSON, and the service's JSON as images (contract, POST /v1/images).

Answers are hostile until checked: what cannot be what it should be is a `WireError`; what is unknown is kept
in `.extra`. These functions are what runs, with those of `chat_wire` and `catalogue`; `converter` joins them
for whoever wants any value as JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs

from hinow_async._models.images import MOST_IMAGES, PARAMETERS, GeneratedImage, ImageDoor, ImageRequest
from hinow_async._protocol import json
from hinow_async._protocol.fields import WireError, kind_of, open_envelope, rest

_LONGEST_NAME = 200
"""Characters of a model's or provider's name that are kept: they stand in each line of a manifest."""


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
    parameters = _parameters(request)
    body: dict[str, Any] = {"model": request.model, "prompt": request.prompt}
    if parameters:
        body["parameters"] = parameters
    return body


def _parameters(request: ImageRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name in PARAMETERS:
        value = getattr(request, name)
        if value is not None:
            parameters[name] = value
    parameters.update(request.extra)
    return parameters


def image_request_from_wire(body: Mapping[str, Any], _: Any = None) -> ImageRequest:
    """Read a request back from its wire form (the inverse of `image_request_to_wire`)."""
    parameters = dict(body.get("parameters", {}))
    known = {name: parameters.pop(name) for name in PARAMETERS if name in parameters}
    return ImageRequest(body["prompt"], model=body["model"], extra=parameters, **known)


def fingerprint(wire: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a request as sent, 64 hex digits."""
    return hashlib.sha256(json.canonical(wire)).hexdigest()


def image_fingerprint(request: ImageRequest) -> str:
    """`fingerprint` of a request for pictures, at a third of the cost: sources have millions of them.

    Raises:
        TypeError, ValueError, RecursionError: *extra* is no JSON.
    """
    parameters = _parameters(request)
    between = f',"parameters":{json.canonical(parameters).decode()}' if parameters else ""
    model, prompt = json.quoted_ascii(request.model), json.quoted_ascii(request.prompt)
    return hashlib.sha256(f'{{"model":{model}{between},"prompt":{prompt}}}'.encode()).hexdigest()


# -- answers -----------------------------------------------------------------------------------------------


def image_answer(raw: Any, door: ImageDoor | None = None) -> ImageAnswer:
    """Read the answer of POST /v1/images: envelope, bare data, or OpenAI's form.

    Args:
        raw: Decoded JSON.
        door: What the pictures are to ask when they are read.

    Raises:
        WireError: it names no picture.
    """
    data, outer = open_envelope(raw)
    if isinstance(data, dict):
        inner = dict(data)
        items: Any = inner.pop("urls", None)
        if items is None:
            items = inner.pop("images", None)
        inner.pop("success", None)
    elif isinstance(data, list):
        items, inner, outer = data, outer, {}
    else:
        raise WireError(f"data should hold pictures, but is {kind_of(data)}")
    if not isinstance(items, list) or not items:
        raise WireError("the answer names no pictures")
    if len(items) > MOST_IMAGES:
        raise WireError(f"the answer names {len(items)} pictures: no request asks for so many")
    images = tuple([_image(item, index, door) for index, item in enumerate(items)])
    if images[0].url is None and not any(_is_there(image) for image in images):
        raise WireError("no picture of the answer is a URL or base64")
    model = inner.pop("model") if isinstance(inner.get("model"), str) else None
    provider = inner.pop("provider") if isinstance(inner.get("provider"), str) else None
    if not (names := f"{model}{provider}").isascii() or len(names) > _LONGEST_NAME:
        model, provider = _sound(model), _sound(provider)
    return ImageAnswer(images, model, provider, {**outer, **inner} if outer else inner)


def _sound(name: str | None) -> str | None:
    """Cut a name, and put "?" for half of an emoji, which no file and no database takes."""
    return None if name is None else name[:_LONGEST_NAME].encode(errors="replace").decode()


def _is_there(image: GeneratedImage) -> bool:
    return image.url is not None or image.encoded is not None


def _image(item: Any, index: int, door: ImageDoor | None) -> GeneratedImage:
    if isinstance(item, str):
        return picture(item, index, door=door)
    if isinstance(item, dict):
        if isinstance(item.get("url"), str):
            return picture(item["url"], index, rest(item, "url"), door=door)
        if isinstance(item.get("b64_json"), str):
            extra = rest(item, "b64_json")
            return GeneratedImage(index=index, encoded=item["b64_json"], extra=extra, door=door)
    # Those beside it are paid for: reading or saving this one says that it is none.
    return GeneratedImage(index=index, extra=item if isinstance(item, dict) else {"item": item}, door=door)


def picture(
    url: str, index: int, extra: Mapping[str, Any] | None = None, *, door: ImageDoor | None = None
) -> GeneratedImage:
    """Make the picture of a URL; a `data:` URI is a picture that came inline."""
    if url[:5].lower() == "data:":
        return GeneratedImage(index=index, encoded=url, extra=extra or {}, door=door)
    return GeneratedImage(url, index=index, extra=extra or {}, door=door)
