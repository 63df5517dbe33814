"""`hinow models` and `hinow balance`: what is offered, and what is left. Both cost nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import attrs

from hinow_async._models.account import Model, ModelCost
from hinow_async.cli import exits, running
from hinow_async.cli.connection import connect
from hinow_async.cli.screen import Screen, safe
from hinow_async.cli.settings import Settings


def models(model: str | None, settings: Settings, screen: Screen) -> int:
    """Run `hinow models`; return its exit code."""

    async def work(_: running.Stop) -> int:
        async with connect(settings, screen) as client:
            if model is not None:
                _show_one(await client.models.retrieve(model), screen)
            else:
                _show_all(await client.models.list(), screen)
        return exits.OK

    return running.run(work, screen)


def balance(settings: Settings, screen: Screen) -> int:
    """Run `hinow balance`; return its exit code."""

    async def work(_: running.Stop) -> int:
        async with connect(settings, screen) as client:
            found = await client.balance()
        if screen.is_json:
            screen.json(_plain(found))
        else:
            screen.answer(f"${found.balance:,.2f}")
        return exits.OK

    return running.run(work, screen)


def _show_one(model: Model, screen: Screen) -> None:
    if screen.is_json:
        screen.json(_plain(model))
        return
    facts = {
        "id": model.id,
        "name": model.name,
        "category": ", ".join(model.category),
        "endpoint": model.endpoint,
        "owned by": model.owned_by,
        "cost": _cost(model.cost),
    }
    for name, value in facts.items():
        if value:
            screen.answer(f"{name:10}{safe(value, lines=False)}")


def _show_all(models: Sequence[Model], screen: Screen) -> None:
    if screen.is_json:
        screen.json({"models": [_plain(model) for model in models]})
        return
    rows = [(model.id, ", ".join(model.category), _cost(model.cost)) for model in models]
    rows = [tuple(safe(cell, lines=False).replace("\t", " ") for cell in row) for row in rows]  # type: ignore[misc]
    if not sys.stdout.isatty():
        for row in rows:
            screen.answer("\t".join(row))
        return
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        screen.answer("  ".join(cells).rstrip())


def _plain(value: Any) -> dict[str, Any]:
    """Return a value's fields, and those of the values in it; what else the service said may be deep."""
    fields = attrs.asdict(value, recurse=False)
    return {name: _plain(field) if attrs.has(type(field)) else field for name, field in fields.items()}


def _cost(cost: ModelCost | None) -> str:
    if cost is None:
        return ""
    parts = {"": cost.total, "input ": cost.input, "output ": cost.output}
    prices = ", ".join(f"{name}${usd:g}" for name, usd in parts.items() if usd is not None)
    return f"{prices} {(cost.type or '').replace('_', ' ')}".strip()
