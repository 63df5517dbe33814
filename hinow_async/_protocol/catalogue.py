"""The catalogue and the balance, read from the service's JSON (contract, GET /v1/models, GET /v1/balance)."""

from __future__ import annotations

from typing import Any

from hinow_async._models.account import Balance, Model, ModelCost
from hinow_async._protocol.fields import (
    WireError,
    finite,
    object_of,
    open_envelope,
    read_fields,
    strings,
    text,
    whole,
)


def model_cost(raw: Any, _: Any = None) -> ModelCost:
    """Read the `cost` of a model."""
    return ModelCost(
        **read_fields(
            object_of(raw, "cost"), {"type": text, "total": finite, "input": finite, "output": finite}
        )
    )


_MODEL = {
    "id": text,
    "object": text,
    "name": text,
    "category": strings,
    "created": whole,
    "owned_by": text,
    "endpoint": text,
    "cost": lambda value: model_cost(value) if isinstance(value, dict) else None,
}


def model(raw: Any, _: Any = None) -> Model:
    """Read one model of the catalogue, with or without the envelope."""
    entry = object_of(raw, "a model")
    if "id" not in entry and isinstance(entry.get("data"), dict):
        entry = entry["data"]
    if not isinstance(entry.get("id"), str):
        raise WireError("a model has no id")
    fields = read_fields(entry, _MODEL)
    if fields.get("category", ()) is None:
        del fields["category"]
    return Model(**fields)


def models(raw: Any) -> tuple[Model, ...]:
    """Read the catalogue."""
    data, _ = open_envelope(raw) if isinstance(raw, dict) else (raw, {})
    if not isinstance(data, list):
        raise WireError("the catalogue is no list")
    return tuple(model(entry) for entry in data)


def balance(raw: Any, _: Any = None) -> Balance:
    """Read the balance, in US dollars."""
    data, outer = open_envelope(raw)
    fields = read_fields(
        {**outer, **object_of(data, "the balance")},
        {"balance": finite, "account_id": text, "project_id": text},
    )
    if fields.get("balance") is None:
        raise WireError("the balance is no number")
    return Balance(**fields)
