"""From the body of a request to an order: checked field by field, as the contract says."""

import hashlib
import json
from typing import Any

import attrs

from hinow_async.sandbox.answers import Refused
from hinow_async.sandbox.catalogue import Catalogue, KnownModel
from hinow_async.sandbox.pictures import Motif, size_of

MAX_IMAGES = 10
_LONGEST_EDGE = 8192  # of pictures sized by width and height: a bigger one would only eat memory


@attrs.frozen
class Order:
    """One accepted request: what is drawn or said, and what it weighs."""

    model: KnownModel
    prompt: str
    count: int
    """Pictures; 0 for a chat in words."""
    motif: Motif | None = None


def invalid(message: str) -> Refused:
    """A request that is wrong; *message* names the field."""
    return Refused(400, message)


def read_json(raw: bytes) -> dict[str, Any]:
    """The body of a POST.

    Raises:
        Refused: it is no JSON object.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise invalid("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body


def find_model(body: dict[str, Any], catalogue: Catalogue) -> KnownModel:
    """The model that *body* names.

    Raises:
        Refused: there is none of that name.
    """
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise invalid("model: a string is required")
    model = catalogue.find(name)
    if model is None:
        hint = "" if "/" in name else " (the namespace is missing)"
        raise Refused(404, f"model: there is no model {name[:200]!r}{hint}", "model_not_found")
    return model


def _check_choices(model: KnownModel, parameters: dict[str, Any]) -> None:
    for field, allowed in model.allowed.items():
        value = parameters.get(field)
        if value is not None and value not in allowed:
            raise invalid(f"parameters.{field}: {str(value)[:80]!r} is not one of {', '.join(allowed)}")


def _count(parameters: dict[str, Any]) -> int:
    field = "num_images" if parameters.get("num_images") is not None else "n"
    count = parameters.get(field, 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_IMAGES:
        raise invalid(f"parameters.{field}: must be a whole number from 1 to {MAX_IMAGES}")
    return count


def _own_size(parameters: dict[str, Any]) -> tuple[int, int] | None:
    """Models behind the gateway may be told a width and a height instead of a ratio."""
    sides = (parameters.get("width"), parameters.get("height"))
    if all(isinstance(side, int) and 16 <= side <= _LONGEST_EDGE for side in sides):
        return sides  # type: ignore[return-value]  # two ints, as was just asked
    return None


def _choice(parameters: dict[str, Any], field: str, fallback: str) -> str:
    value = parameters.get(field)
    return value if isinstance(value, str) else fallback


def motif_of(model: KnownModel, prompt: str, parameters: dict[str, Any], long_edge: int | None) -> Motif:
    """What to draw: the same for the same request. *long_edge* overrides the size, in pixels."""
    ratio = _choice(parameters, "aspect_ratio", "1:1")
    resolution = _choice(parameters, "resolution", "1k")
    quality = _choice(parameters, "quality", "medium")
    width, height = (None if model.allowed else _own_size(parameters)) or size_of(ratio, resolution)
    if long_edge is not None:
        scale = long_edge / max(width, height)
        width, height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
    identity = json.dumps([model.id, prompt, parameters, long_edge], sort_keys=True)
    return Motif(
        digest=hashlib.sha256(identity.encode()).hexdigest()[:32],
        prompt=prompt,
        caption=f"{model.id} · {quality} · {ratio} · {resolution}",
        width=width,
        height=height,
        format=_choice(parameters, "output_format", "png"),
    )


def read_image_order(body: dict[str, Any], catalogue: Catalogue, long_edge: int | None) -> Order:
    """The order of a ``POST /v1/images``.

    Raises:
        Refused: with the status of the contract and a message that names the field.
    """
    model = find_model(body, catalogue)
    if not model.draws:
        raise invalid(f"model: {model.id} does not draw")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise invalid("prompt: a text is required")
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise invalid("parameters: must be an object")
    _check_choices(model, parameters)
    return Order(model, prompt, _count(parameters), motif_of(model, prompt, parameters, long_edge))
