"""The models that the sandbox knows, what they cost, and what they accept (the contract's tables)."""

from collections.abc import Iterable
from typing import Any

import attrs

from hinow_async.sandbox.behaviour import Behaviour

PINNED = "openai/gpt-image-2-2026-04-21"
CREATED = 1_776_729_600  # 2026-04-21, the day of the pinned snapshot

_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
_DRAWING = {
    "quality": ("low", "medium", "high"),
    "aspect_ratio": _RATIOS,
    "resolution": ("1k", "2k", "4k"),
    "output_format": ("png", "jpeg", "webp"),
}
_EDITING = {**_DRAWING, "aspect_ratio": (*_RATIOS, "4:5", "5:4", "21:9")}


@attrs.frozen
class KnownModel:
    """A model: what it can do, and the values it takes for the parameters that it checks."""

    id: str
    name: str
    draws: bool
    draws_in_chat: bool
    """Whether it answers a chat with a picture, not with words."""
    allowed: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    """Empty: anything goes."""

    def entry(self, behaviour: Behaviour) -> dict[str, Any]:
        """The model as the catalogue lists it, with the unit of ``total`` as open as in the contract."""
        total = float(behaviour.price_per_image if self.draws else behaviour.price_per_chat)
        return {
            "id": self.id,
            "object": "model",
            "name": self.name,
            "category": ["text_to_image"] if self.draws else ["chat"],
            "created": CREATED,
            "owned_by": self.id.partition("/")[0],
            "endpoint": "/v1/images" if self.draws else "/v1/chat/completions",
            "cost": {"type": "fixed", "total": total, "input": None, "output": None},
        }


_OWN = (
    KnownModel(PINNED, "GPT Image 2 (2026-04-21)", draws=True, draws_in_chat=True, allowed=_DRAWING),
    KnownModel("openai/gpt-image-2", "GPT Image 2", draws=True, draws_in_chat=True, allowed=_DRAWING),
    KnownModel(
        "openai/gpt-image-2-edit", "GPT Image 2 Edit", draws=True, draws_in_chat=True, allowed=_EDITING
    ),
    KnownModel("hinow/himax", "HiMax", draws=False, draws_in_chat=False),
)


class Catalogue:
    """All models of one sandbox, its own and those that its behaviour adds."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        added = (KnownModel(name, name, draws=True, draws_in_chat=False) for name in extra)
        self._models = {model.id: model for model in (*added, *_OWN)}

    def find(self, name: str) -> KnownModel | None:
        """The model of that id, namespace included."""
        return self._models.get(name)

    def entries(self, behaviour: Behaviour) -> list[dict[str, Any]]:
        """What ``GET /v1/models`` lists."""
        return [model.entry(behaviour) for model in self._models.values()]
