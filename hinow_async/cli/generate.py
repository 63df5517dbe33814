"""`hinow generate`: one prompt, its pictures, their paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from hinow_async._client import AsyncHinow
from hinow_async._errors import DownloadError
from hinow_async._models.images import ImageRequest, ImageResult, SavedImage
from hinow_async.cli import exits, running
from hinow_async.cli.connection import connect
from hinow_async.cli.folders import check_folder
from hinow_async.cli.progress import OnePrompt, shown
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings


@attrs.frozen
class Where:
    """Where the pictures go, and under which names."""

    folder: Path
    name: str | None
    overwrite: bool


def run(prompt: str, fields: dict[str, Any], where: Where, settings: Settings, screen: Screen) -> int:
    """Run the command; return its exit code."""
    request = ImageRequest(prompt, **fields)
    check_folder(where.folder)

    async def work(stop: running.Stop) -> int:
        async with connect(settings, screen) as client:
            sight = OnePrompt(request.images_asked)
            async with shown(sight.look, screen):
                result = await _make(client, request, stop)
                if result is None:
                    screen.say("Stopped; nothing was sent.")
                    return stop.code
                try:
                    saved = await result.save(
                        where.folder,
                        name=where.name,
                        overwrite=where.overwrite,
                        on_progress=sight.on_progress,
                    )
                except DownloadError as error:
                    _show(result, error.saved, settings, screen)
                    raise
            _show(result, saved, settings, screen)
            return exits.OK

    return running.run(work, screen)


async def _make(client: AsyncHinow, request: ImageRequest, stop: running.Stop) -> ImageResult | None:
    """Make the call; None where it was stopped before it was sent."""
    async with client.images.generate_many([request]) as outcomes:

        def finish() -> str:
            outcomes.stop()
            return "what is paid for is finished and saved"

        stop.on_first(finish)
        async for outcome in outcomes:
            return outcome.unwrap()
    return None


def _show(result: ImageResult, saved: Sequence[SavedImage], settings: Settings, screen: Screen) -> None:
    if not screen.is_json:
        for image in saved:
            screen.path(image.path)
        return
    screen.json(
        {
            "saved": [{**attrs.asdict(image), "path": os.fspath(image.path)} for image in saved],
            "model": result.model,
            "provider": result.provider,
            "request_id": result.call.request_id,
            "estimated_usd": result.call.estimated_usd,
            "sandbox": settings.sandbox,
        }
    )
