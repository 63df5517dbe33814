"""`hinow sandbox`: the service in small, for other programs of this machine."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from hinow_async._errors import ConfigurationError
from hinow_async.cli import exits, running
from hinow_async.cli.screen import Screen
from hinow_async.sandbox import Behaviour, Sandbox


def run(port: int, behaviour: dict[str, Any], screen: Screen) -> int:
    """Run the command; return its exit code. Ctrl-C is its regular end."""
    chosen = Behaviour(**behaviour)

    async def work(stop: running.Stop) -> int:
        sandbox = Sandbox(chosen, port=port)
        stop.on_first(lambda: "the sandbox closes")
        try:
            await sandbox.start()
        except OSError as error:
            raise ConfigurationError(f"port {port} cannot be used: {error.strerror or error}") from None
        try:
            _show(sandbox, screen)
            await stop.event.wait()
        finally:
            await sandbox.aclose()
        billing = sandbox.billing
        screen.say(
            f"Requests: {billing.requests}, pictures: {billing.images}; they would have cost ${billing.usd}."
        )
        return exits.OK

    return running.run(work, screen)


def _show(sandbox: Sandbox, screen: Screen) -> None:
    if screen.is_json:
        screen.json({"base_url": sandbox.base_url, "api_key": sandbox.api_key})
    else:
        screen.answer(f"export HINOW_BASE_URL={shlex.quote(sandbox.base_url)}")
        screen.answer(f"export HINOW_API_KEY={shlex.quote(sandbox.api_key)}")
    sys.stdout.flush()
    screen.say("The sandbox runs until Ctrl-C. Programs that are given these two variables speak to it.")
