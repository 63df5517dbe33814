"""The catalogue and the balance (contract, GET /v1/models and GET /v1/balance)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class ModelCost:
    """What a model costs, as the catalogue says; the unit is unknown unless *type* says it."""

    type: str | None = None
    total: float | None = None
    """US dollars."""
    input: float | None = None
    output: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class Model:
    """One model of the catalogue."""

    id: str
    """With its namespace, e.g. `hinow/himax`."""
    object: str | None = None
    name: str | None = None
    category: tuple[str, ...] = ()
    """E.g. `text_to_image`."""
    created: int | None = None
    """Unix time, seconds."""
    owned_by: str | None = None
    endpoint: str | None = None
    cost: ModelCost | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    """Fields that this library does not know."""


@attrs.frozen(kw_only=True)
class Balance:
    """What is left on the account."""

    balance: float
    """US dollars, nearest to the service's figure."""
    account_id: str | None = None
    project_id: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    """Fields that this library does not know."""
