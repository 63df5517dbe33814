"""`hinow chat`: one prompt, its answer as it comes, and its pictures."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from hinow_async._client import AsyncHinow
from hinow_async._errors import DownloadError
from hinow_async._models.chat import ChatCompletion, ChatRequest, Message
from hinow_async._models.images import SavedImage
from hinow_async.cli import exits, running
from hinow_async.cli.connection import connect
from hinow_async.cli.folders import check_folder
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings
from hinow_async.cli.shortening import Shortener


@attrs.frozen
class Question:
    """What is asked."""

    prompt: str
    model: str
    system: str | None = None
    images: Sequence[Path] = ()

    def request(self) -> ChatRequest:
        """Return it as a request.

        Raises:
            ValueError: it is empty.
        """
        if not self.prompt.strip():
            raise ValueError("prompt is empty: say something")
        messages = [] if self.system is None else [Message("system", self.system)]
        content = self.prompt if not self.images else (self.prompt, *self.images)
        return ChatRequest((*messages, Message("user", content)), model=self.model)


def run(question: Question, folder: Path | None, settings: Settings, screen: Screen) -> int:
    """Run the command; return its exit code."""
    request = question.request()
    if folder is not None:
        check_folder(folder)

    async def work(stop: running.Stop) -> int:
        async with connect(settings, screen) as client:
            if screen.is_json or folder is not None:
                stop.on_first(_finishing(client))
            completion = await _answered(client, request, screen)
            try:
                saved = await completion.save(folder) if folder is not None else ()
            except DownloadError as error:
                _show(completion, error.saved, folder, screen)
                raise
        _show(completion, saved, folder, screen)
        return exits.OK if stop.number is None else stop.code

    return running.run(work, screen)


def _finishing(client: AsyncHinow) -> Any:
    """Say what the first Ctrl-C lets finish: what is paid for, where it is not read as it comes."""

    def finish() -> str | None:
        # A call that holds no slot was not sent: there is nothing to be finished.
        return "the answer that is paid for is awaited" if client.stats().in_flight else None

    return finish


async def _answered(client: AsyncHinow, request: ChatRequest, screen: Screen) -> ChatCompletion:
    """Read the answer, and write its text as it comes."""
    async with client.chat.completions.stream(request) as stream:
        if not screen.is_json:
            await _write(stream.text, screen)
        return await stream.completion()


async def _write(text: AsyncIterator[str], screen: Screen) -> None:
    shortener = Shortener()
    is_mid_line = False

    def show(words: str) -> None:
        nonlocal is_mid_line
        if words:
            screen.piece(words)
            is_mid_line = not words.endswith("\n")

    try:
        async for piece in text:
            show(shortener.feed(piece))
    finally:
        show(shortener.end())
        if is_mid_line:  # also where it broke off: what is said next begins a line
            screen.piece("\n")


def _show(
    completion: ChatCompletion, saved: Sequence[SavedImage], folder: Path | None, screen: Screen
) -> None:
    if screen.is_json:
        screen.json(_as_json(completion, saved))
        return
    for image in saved:
        screen.path(image.path)
    if completion.images and folder is None:
        screen.say(f"The answer holds {len(completion.images)} picture(s): --save DIR would keep them.")


def _as_json(completion: ChatCompletion, saved: Sequence[SavedImage]) -> dict[str, Any]:
    usage = completion.usage
    return {
        "text": completion.text,
        "model": completion.model,
        "id": completion.id,
        "finish_reason": completion.finish_reason,
        "tool_calls": [call for choice in completion.choices for call in choice.message.tool_calls],
        "images": len(completion.images),
        "saved": [{**attrs.asdict(image), "path": os.fspath(image.path)} for image in saved],
        "usage": {
            "prompt_tokens": usage and usage.prompt_tokens,
            "completion_tokens": usage and usage.completion_tokens,
            "total_tokens": usage and usage.total_tokens,
        },
        "request_id": completion.call.request_id,
        "estimated_usd": completion.call.estimated_usd,
    }
