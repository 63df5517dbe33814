"""What the models this library knows by name accept (contract, POST /v1/images), and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

PINNED_MODEL = "openai/gpt-image-2-2026-04-21"
"""The snapshot that `ImageRequest.model` defaults to; changing that is a breaking change."""

Quality = Literal["low", "medium", "high"]
AspectRatio = Literal["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "4:5", "5:4", "21:9"]
Resolution = Literal["1k", "2k", "4k"]
OutputFormat = Literal["png", "jpeg", "webp"]

CARD_USD = Decimal("0.087")
"""The model card's `total` for the pinned snapshot; its unit is not published, so it is read per image."""


class Choices(NamedTuple):
    """The allowed values of one model's parameters."""

    fields: dict[str, tuple[str, ...]]
    max_images: int


_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")


def _choices(*more_ratios: str) -> Choices:
    return Choices(
        fields={
            "quality": ("low", "medium", "high"),
            "aspect_ratio": _RATIOS + more_ratios,
            "resolution": ("1k", "2k", "4k"),
            "output_format": ("png", "jpeg", "webp"),
        },
        max_images=10,
    )


KNOWN_MODELS = {
    PINNED_MODEL: _choices(),
    "openai/gpt-image-2": _choices(),
    "openai/gpt-image-2-edit": _choices("4:5", "5:4", "21:9"),
}

CARD_PRICES = {PINNED_MODEL: CARD_USD}
"""US dollars per image, estimated, for models whose card names a price."""
