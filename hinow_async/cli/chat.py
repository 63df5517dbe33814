"""`hinow chat`: one prompt, its answer."""

from __future__ import annotations

from typing import Any

from hinow_async._models.chat import ChatCompletion, ChatRequest
from hinow_async.cli import exits, running
from hinow_async.cli.connection import connect
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings


def run(prompt: str, model: str, system: str | None, settings: Settings, screen: Screen) -> int:
    """Run the command; return its exit code."""
    if not prompt.strip():
        raise ValueError("prompt is empty: say something")
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    request = ChatRequest((*messages, {"role": "user", "content": prompt}), model=model)

    async def work(stop: running.Stop) -> int:
        async with connect(settings, screen) as client:

            def finish() -> str | None:
                # A call that holds no slot was not sent: there is nothing to be finished.
                return "the answer that is paid for is awaited" if client.stats().in_flight else None

            stop.on_first(finish)
            completion = await client.chat.completions.create(request)
        _show(completion, screen)
        return exits.OK

    return running.run(work, screen)


def _show(completion: ChatCompletion, screen: Screen) -> None:
    if not screen.is_json:
        screen.answer(completion.text)
        if completion.images:
            screen.say(f"The answer holds {len(completion.images)} picture(s), which are not shown here.")
        return
    choice = completion.choices[0] if completion.choices else None
    usage = completion.usage
    screen.json(
        {
            "text": completion.text,
            "model": completion.model,
            "id": completion.id,
            "finish_reason": None if choice is None else choice.finish_reason,
            "usage": {
                "prompt_tokens": usage and usage.prompt_tokens,
                "completion_tokens": usage and usage.completion_tokens,
                "total_tokens": usage and usage.total_tokens,
            },
            "request_id": completion.call.request_id,
            "estimated_usd": completion.call.estimated_usd,
        }
    )
