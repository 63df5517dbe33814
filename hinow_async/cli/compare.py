"""`hinow compare`: prompts over models and settings, their pictures, and a page that shows them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs
import click

from hinow_async._download.folder import Folder, claim
from hinow_async._models.comparison import ImageComparison
from hinow_async._models.images import PARAMETERS, ImageOutcome, SavedImage
from hinow_async._models.side_by_side import call_of, seconds_of, table_of
from hinow_async._resources.comparing import grid
from hinow_async.batch.gallery.cards import Thumbnail
from hinow_async.batch.gallery.thumbnails import thumbnail
from hinow_async.batch.gallery.writing import A_PAGE, threads, write_file
from hinow_async.batch.words import duration
from hinow_async.cli import compare_page, exits, running
from hinow_async.cli.compare_page import Page
from hinow_async.cli.connection import connect
from hinow_async.cli.folders import check_folder
from hinow_async.cli.progress import Sight, shown
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings

PAGE: Final = "comparison"
"""Begins the name of the page, `comparison.html`; one that is there stays, and the next is `-2`."""


@attrs.frozen
class Wanted:
    """What the arguments say."""

    prompts: Sequence[str]
    models: Sequence[str]
    vary: Sequence[str]
    fields: Mapping[str, Any]

    def variants(self) -> dict[str, dict[str, Any]]:
        """Return the columns: each model with each value of what is varied, and what is the same for all.

        Raises:
            UsageError: there is nothing to compare, or a field cannot be varied.
        """
        axes = [_axis(text, self.fields) for text in self.vary]
        names = [name for name, _ in axes]
        if len(set(names)) < len(names):
            raise click.UsageError("--vary names a field twice: --vary quality=low,high has all its values")
        axes = [*([("model", list(self.models))] if self.models else []), *axes]
        chosen = [
            dict(zip([name for name, _ in axes], values, strict=True))
            for values in itertools.product(*(values for _, values in axes))
        ]
        if len(chosen) < 2:
            raise click.UsageError("one column compares nothing: name two --model, or --vary a field")
        has_models = len(self.models) > 1
        columns = {_label(fields, has_models=has_models): {**self.fields, **fields} for fields in chosen}
        if len(columns) < len(chosen):
            raise click.UsageError("--model or --vary has a value twice")
        return columns


def _axis(text: str, fields: Mapping[str, Any]) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in PARAMETERS:
        raise click.UsageError(
            f"--vary takes FIELD=VALUE,VALUE with a field of {', '.join(PARAMETERS)}, not {text!r}"
        )
    if name in fields:
        raise click.UsageError(f"--vary {name} and --{name.replace('_', '-')} contradict each other")
    return name, [_value(name, value.strip()) for value in values.split(",")]


def _value(name: str, value: str) -> Any:
    if name != "num_images":
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise click.UsageError(f"--vary num_images takes numbers, not {value!r}") from None


def _label(fields: Mapping[str, Any], *, has_models: bool) -> str:
    shown = {name: value for name, value in fields.items() if name != "model"}
    words = [f"{name}={value}" for name, value in shown.items()]
    return ", ".join([fields["model"], *words] if has_models or not words else words)


def run(wanted: Wanted, out: Path, settings: Settings, screen: Screen) -> int:
    """Run the command; return its exit code."""
    variants = wanted.variants()
    grid(wanted.prompts, variants)  # what cannot be is said before a folder is made
    check_folder(out)

    async def work(stop: running.Stop) -> int:
        async with connect(settings, screen) as client:
            comparing = client.images.comparing(wanted.prompts, variants, save_to=out)
            begun = time.monotonic()

            def look() -> Sight:
                line = f"{comparing.done} of {comparing.total} done, {duration(time.monotonic() - begun)}"
                return Sight(line, comparing.done / comparing.total)

            def finish() -> str:
                comparing.stop()
                return "what is paid for is finished and saved"

            stop.on_first(finish)
            async with shown(look, screen):
                made = await comparing.run()
                page, problem = await _page(made, out, is_sandbox=settings.sandbox)
        _tell(made, page, settings, screen)
        if problem is not None:
            screen.error(problem, f"the page could not be written: {exits.message_of(problem)}")
        code = _code(made) if stop.number is None else stop.code
        return exits.FAILED if problem is not None and code == exits.OK else code

    return running.run(work, screen)


def _code(made: ImageComparison) -> int:
    """Return the code that all failures share, else the one for several."""
    codes = {exits.code_of(outcome.error) for outcome in made.outcomes if outcome.error is not None}
    if not codes:
        return exits.OK
    return codes.pop() if len(codes) == 1 else exits.FAILED


# -- the page --------------------------------------------------------------------------------------------


async def _page(made: ImageComparison, out: Path, *, is_sandbox: bool) -> tuple[Path | None, OSError | None]:
    """Write the page, if there is something to show; or return why it cannot be written."""
    if not made.saved:
        return None, None
    try:
        return await asyncio.to_thread(_write, made, out, is_sandbox=is_sandbox), None
    except OSError as error:  # the pictures are there all the same, and are told
        return None, error


def _write(made: ImageComparison, out: Path, *, is_sandbox: bool) -> Path:
    """Write the page beside the pictures; one of another run keeps its name."""
    title = out.resolve().name or str(out)
    page = Page(title, made, _thumbnails(made.saved[:A_PAGE], out), is_sandbox)
    part = f".{PAGE}.html.{secrets.token_hex(4)}.part"
    try:
        write_file(out / part, compare_page.html(page))
        with contextlib.closing(Folder(out)) as folder:
            name = next(name for name in _names() if claim(folder, part, name))
            folder.sync()
    finally:
        (out / part).unlink(missing_ok=True)
    return out / name


def _names() -> Iterator[str]:
    yield f"{PAGE}.html"
    yield from (f"{PAGE}-{number}.html" for number in itertools.count(2))


def _thumbnails(pictures: Sequence[SavedImage], out: Path) -> list[Thumbnail]:
    with ThreadPoolExecutor(threads(), "hinow-compare") as pool:
        return list(pool.map(lambda picture: thumbnail(out, picture.path.name), pictures))


# -- what is told ----------------------------------------------------------------------------------------


def _tell(made: ImageComparison, page: Path | None, settings: Settings, screen: Screen) -> None:
    screen.say(table_of(made))
    if screen.is_json:
        screen.json(_as_json(made, page, settings))
        return
    for picture in made.saved:
        screen.path(picture.path)
    if page is not None:
        screen.path(page)


def _as_json(made: ImageComparison, page: Path | None, settings: Settings) -> dict[str, Any]:
    width = len(made.labels)
    return {
        "prompts": made.prompts,
        "labels": made.labels,
        "cells": [
            {"row": number // width, "label": made.labels[number % width], **_cell(outcome)}
            for number, outcome in enumerate(made.outcomes)
        ],
        "estimated_usd": made.estimated_usd,
        "page": None if page is None else os.fspath(page),
        "sandbox": settings.sandbox,
    }


def _cell(outcome: ImageOutcome) -> dict[str, Any]:
    result, call, error = outcome.result, call_of(outcome), outcome.error
    return {
        "asked_model": outcome.request.model,
        "model": result.model if result is not None else None,
        "provider": result.provider if result is not None else None,
        "request_id": call.request_id if call is not None else None,
        "seconds": seconds_of(outcome),
        "estimated_usd": call.estimated_usd if call is not None else None,
        "saved": [{**attrs.asdict(image), "path": os.fspath(image.path)} for image in outcome.saved],
        "error": None if error is None else _error(error),
    }


def _error(error: Exception) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "message": exits.message_of(error),
        "outcome": getattr(error, "outcome", None),
    }
