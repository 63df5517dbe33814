"""Options that several commands have."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import attrs
import click

from hinow_async._models.images import PARAMETERS
from hinow_async.cli import exits
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings

_Command = Callable[..., Any]

_POSITIVE: Final = click.FloatRange(min=0, min_open=True)
_FROM_ZERO: Final = click.FloatRange(min=0)

_SANDBOX: Final = click.option(
    "--sandbox", is_flag=True, help="Run against an embedded sandbox: no key, no cost, test pictures."
)
_LIMITS: Final = (
    click.option("--max-in-flight", type=click.IntRange(min=1), help="Calls at once, at most."),
    click.option("--requests-per-minute", type=_POSITIVE, help="Never more in any 60 seconds."),
    click.option("--images-per-minute", type=_POSITIVE, help="Never more in any 60 seconds."),
    click.option("--max-usd", type=_FROM_ZERO, help="Spend no more than these US dollars."),
)
_PER_IMAGE: Final = click.option(
    "--usd-per-image", type=_FROM_ZERO, help="What a picture costs you, for --max-usd, where you know better."
)
_PER_CHAT: Final = click.option(
    "--usd-per-chat", type=_FROM_ZERO, help="What an answer costs you, for --max-usd, where you know better."
)
_SCREEN: Final = (
    click.option("--json", "is_json", is_flag=True, help="Answer with one JSON object."),
    click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Say nothing but answers and errors."),
    click.option(
        "-v", "--verbose", "verbosity", count=True, help="Say more; -vv shows where errors came from."
    ),
    click.option("--no-color", is_flag=True, help="No colours (also: the variable NO_COLOR)."),
)
_MODEL: Final = click.option(
    "--model", help="Id with its namespace; the pinned snapshot of GPT Image 2 if left out."
)
_PARAMETERS: Final = (
    click.option("--quality", help="low, medium or high."),
    click.option("--aspect-ratio", help="1:1, 16:9, 9:16, 4:3, 3:4, 3:2 or 2:3."),
    click.option("--resolution", help="1k, 2k or 4k."),
    click.option("--output-format", help="png, jpeg or webp."),
    click.option("--num-images", type=int, help="1 to 10."),
    click.option("--extra", metavar="JSON", help="Further parameters, as a JSON object, sent untouched."),
)


def screen(command: _Command) -> _Command:
    """Give a command its `screen`, made of the options for it, and make exit codes of its errors."""

    @functools.wraps(command)
    def wrapped(is_json: bool, is_quiet: bool, verbosity: int, no_color: bool, **rest: Any) -> int:
        screen = Screen(is_quiet, verbosity, is_json, not no_color)
        screen.listen_to_log()
        try:
            code: int = command(screen=screen, **rest)
            sys.stdout.flush()
        except BrokenPipeError:
            _abandon_stdout()
            return exits.BROKEN_PIPE
        except click.ClickException:
            raise
        except Exception as error:  # the last place where it can become a readable paragraph
            screen.error(error, exits.message_of(error))
            return exits.code_of(error)
        return code

    return _with(wrapped, _SCREEN)


def _abandon_stdout() -> None:
    """Whoever read our answer went away (`| head`): the interpreter's last flush must not fail for it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def connection(command: _Command) -> _Command:
    """Give a command that buys pictures its `settings`: the sandbox, the limits, the price."""
    return _connected(command, _PER_IMAGE)


def chat_connection(command: _Command) -> _Command:
    """Give a command that buys answers its `settings`: the sandbox, the limits, the price."""
    return _connected(command, _PER_CHAT)


def _connected(command: _Command, price: Callable[[_Command], _Command]) -> _Command:
    @functools.wraps(command)
    def wrapped(**rest: Any) -> Any:
        names = [field.name for field in attrs.fields(Settings) if field.name in rest]
        settings = Settings(**{name: rest.pop(name) for name in names})
        if settings.max_usd is None and (settings.usd_per_image, settings.usd_per_chat) != (None, None):
            raise click.UsageError("a price is for --max-usd, which is not there")
        return command(settings=settings, **rest)

    return _with(wrapped, (_SANDBOX, *_LIMITS, price))


def free_connection(command: _Command) -> _Command:
    """Give a command that costs nothing its `settings`: the sandbox alone."""

    @functools.wraps(command)
    def wrapped(sandbox: bool, **rest: Any) -> Any:
        return command(settings=Settings(sandbox=sandbox), **rest)

    return _with(wrapped, (_SANDBOX,))


def request(command: _Command) -> _Command:
    """Give a command the `fields` of a request that were set."""

    @functools.wraps(command)
    def wrapped(model: str | None, fields: dict[str, Any], **rest: Any) -> Any:
        return command(fields=fields if model is None else {"model": model, **fields}, **rest)

    return _with(parameters(wrapped), (_MODEL,))


def parameters(command: _Command) -> _Command:
    """Give a command the `fields` of a request that were set, but for its model."""

    @functools.wraps(command)
    def wrapped(extra: str | None, **rest: Any) -> Any:
        fields = {name: rest.pop(name) for name in PARAMETERS}
        fields = {name: value for name, value in fields.items() if value is not None}
        if extra is not None:
            fields["extra"] = json_object(extra, "--extra")
        return command(fields=fields, **rest)

    return _with(wrapped, _PARAMETERS)


def json_object(text: str, option: str) -> dict[str, Any]:
    """Read an option that is a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f"{option} must be a JSON object")
    return value


def _with(command: _Command, options: tuple[Callable[[_Command], _Command], ...]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
