"""The commands and their options. What they do lies in modules of their own, imported when it is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import click

from hinow_async._version import __version__
from hinow_async.cli import exits, options
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings

_EXAMPLES: Final = """
\b
Examples:
  hinow generate "A lighthouse at dawn" --sandbox
  hinow batch prompts.jsonl out --dry-run
  hinow batch prompts.jsonl out --max-usd 20

The key is taken from the variable HINOW_API_KEY; with --sandbox none is needed.
"""

_EXIT_CODES: Final = """
\b
Exit codes: 0 all done; 1 something failed; 2 wrong usage, source or configuration;
3 stopped by budget or balance; 4 refused (key, permission); 130 interrupted.
"""

_FOLDER: Final = click.Path(path_type=Path)
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXAMPLES,
)
@click.version_option(__version__, prog_name="hinow", message="%(prog)s %(version)s")
@click.pass_context
def hinow(context: click.Context) -> None:
    """Turn prompts into pictures on disk through HInow.ai."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@hinow.command(epilog=_EXIT_CODES)
@click.argument("prompt")
@click.option("--out", type=_FOLDER, default=Path(), help="Folder for the pictures; by default this one.")
@click.option("--name", help="Begin of the file names; by default made of the prompt.")
@click.option("--overwrite", is_flag=True, help="Replace files of the same names.")
@options.request
@options.connection
@options.screen
def generate(
    *,
    prompt: str,
    out: Path,
    name: str | None,
    overwrite: bool,
    fields: dict[str, Any],
    settings: Settings,
    screen: Screen,
) -> int:
    """Make the pictures of one PROMPT (- reads it from standard input) and print their paths."""
    from hinow_async.cli import generate as command  # noqa: PLC0415

    where = command.Where(out, name, overwrite)
    return command.run(_text(prompt), fields, where, settings, screen)


@hinow.command(epilog=_EXIT_CODES)
@click.argument("prompt", nargs=-1, required=True)
@click.option("--model", "models", multiple=True, help="A column: an id with its namespace; several times.")
@click.option(
    "--vary",
    multiple=True,
    metavar="FIELD=VALUE,VALUE",
    help="A column for each value, and each model: --vary quality=low,high.",
)
@click.option(
    "--out", type=_FOLDER, default=Path(), help="Folder for pictures and page; by default this one."
)
@options.parameters
@options.connection
@options.screen
def compare(
    *,
    prompt: tuple[str, ...],
    models: tuple[str, ...],
    vary: tuple[str, ...],
    out: Path,
    fields: dict[str, Any],
    settings: Settings,
    screen: Screen,
) -> int:
    """Make the pictures of each PROMPT (- reads one from standard input) with each model, side by side.

    Prints the paths of the pictures, and of comparison.html, a page that shows them in a table. What is there
    already is never overwritten: the next page is comparison-2.html.
    """
    from hinow_async.cli import compare as command  # noqa: PLC0415

    wanted = command.Wanted([*map(_text, prompt)], models, vary, fields)
    return command.run(wanted, out, settings, screen)


@hinow.command(epilog=_EXIT_CODES)
@click.argument("source")
@click.argument("out", type=_FOLDER)
@click.option("--dry-run", is_flag=True, help="Count items, pictures, estimated cost and time; send nothing.")
@click.option(
    "--resend-unknown",
    is_flag=True,
    help="Send again what may have been billed without an answer: it may be paid twice.",
)
@click.option(
    "--pay-again",
    is_flag=True,
    help="Have pictures made again that were paid for, and whose links are dead: they are paid twice.",
)
@click.option(
    "--on-change",
    type=click.Choice(["error", "new"]),
    default="error",
    help="What becomes of an id with another request than the one that was paid for.",
)
@click.option(
    "--skip-bad-lines", is_flag=True, help="Pass over wrong lines and rows; failures.jsonl names them."
)
@click.option("--keep-going", is_flag=True, help="Do not stop after 100 failures in succession.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Fill what lines leave out: --set quality=high.",
)
@options.connection
@options.screen
def batch(
    *,
    source: str,
    out: Path,
    dry_run: bool,
    resend_unknown: bool,
    pay_again: bool,
    on_change: Literal["error", "new"],
    skip_bad_lines: bool,
    keep_going: bool,
    sets: tuple[str, ...],
    settings: Settings,
    screen: Screen,
) -> int:
    """Make the pictures of all prompts of SOURCE, and keep them in the folder OUT.

    SOURCE is a file of JSON lines (prompt, id, quality, ...), of CSV or Parquet with such columns, or of
    prompts, a line each; - is standard input. The same command again goes on where it stopped: what is
    there is not made, nor paid, again.
    """
    from hinow_async.cli import batch as command  # noqa: PLC0415

    job = command.Job(
        source, out, resend_unknown, pay_again, on_change, skip_bad_lines, keep_going, _defaults(sets)
    )
    return (command.dry_run if dry_run else command.run)(job, settings, screen)


@hinow.command(epilog=_EXIT_CODES)
@click.argument("out", type=_FOLDER)
@options.screen
def gallery(out: Path, screen: Screen) -> int:
    """Write pages to look at into OUT, the folder of a batch, and print their paths.

    A page has up to 500 pictures, and needs no server and no network: open it in a browser. The pages of an
    earlier gallery are replaced. It costs nothing, and may be done while the batch is running.
    """
    from hinow_async.cli import gallery as command  # noqa: PLC0415

    return command.run(out, screen)


@hinow.command(epilog=_EXIT_CODES)
@click.argument("out", type=_FOLDER)
@click.option("--deep", is_flag=True, help="Decode every picture to its last pixel, too.")
@options.screen
def verify(*, out: Path, deep: bool, screen: Screen) -> int:
    """Hold every file of the folder OUT against its manifest and its ledger; change nothing.

    Each difference is a line: bytes that changed, missing and surplus files, records that disagree.
    """
    from hinow_async.cli import verify as command  # noqa: PLC0415

    return command.run(out, is_deep=deep, screen=screen)


@hinow.command(epilog=_EXIT_CODES)
@click.argument("prompt", nargs=-1)
@click.option("--model", required=True, help="Id with its namespace, e.g. hinow/himax.")
@click.option("--file", "files", type=_FILE, multiple=True, help="A text file that belongs to the prompt.")
@click.option("--system", help="What the model is told before the prompt.")
@click.option("--image", "images", type=_FILE, multiple=True, help="A picture that belongs to the prompt.")
@click.option("--save", "folder", type=_FOLDER, help="Folder for the pictures of the answer.")
@options.chat_connection
@options.screen
def chat(
    *,
    prompt: tuple[str, ...],
    model: str,
    files: tuple[Path, ...],
    system: str | None,
    images: tuple[Path, ...],
    folder: Path | None,
    settings: Settings,
    screen: Screen,
) -> int:
    """Have a PROMPT answered in words, written as they come.

    - is standard input. Several prompts, and then the files, are joined to one, with empty lines in
    between: hinow chat "Sum this up:" - < notes.txt
    """
    from hinow_async.cli import chat as command  # noqa: PLC0415

    texts = [*map(_text, prompt), *map(_file_text, files)]
    question = command.Question("\n\n".join(texts), model, system, images)
    return command.run(question, folder, settings, screen)


@hinow.command(epilog=_EXIT_CODES)
@click.argument("model", required=False)
@options.free_connection
@options.screen
def models(model: str | None, settings: Settings, screen: Screen) -> int:
    """List the models and what they cost; or show one MODEL."""
    from hinow_async.cli import account as command  # noqa: PLC0415

    return command.models(model, settings, screen)


@hinow.command(epilog=_EXIT_CODES)
@options.free_connection
@options.screen
def balance(settings: Settings, screen: Screen) -> int:
    """Show what is left on the account, in US dollars."""
    from hinow_async.cli import account as command  # noqa: PLC0415

    return command.balance(settings, screen)


_AT_LEAST_0: Final = click.FloatRange(min=0)
_ABOVE_0: Final = click.FloatRange(min=0, min_open=True)
_MOST_TEXT: Final = 16 * 2**20
"""Bytes of a file, or of standard input, that become a prompt."""


@hinow.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On 127.0.0.1; 0: a free one.")
@click.option("--latency", type=_AT_LEAST_0, default=0.0, help="Seconds that an answer takes.")
@click.option(
    "--latency-jitter", type=_AT_LEAST_0, default=0.0, help="Seconds added at most to each latency."
)
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Requests at once; one more gets 429.")
@click.option("--requests-per-minute", type=_ABOVE_0, help="One more gets 429.")
@click.option("--images-per-minute", type=_ABOVE_0, help="One more gets 429.")
@click.option("--balance", type=_AT_LEAST_0, help="US dollars on the account; what it cannot pay gets 402.")
@click.option("--picture-size", type=click.IntRange(min=16), help="Long edge of all pictures, in pixels.")
@click.option("--urls-expire", type=_AT_LEAST_0, help="Seconds after which links of pictures are dead.")
@click.option("--bandwidth", type=_ABOVE_0, help="Of a download, in bytes per second.")
@options.screen
def sandbox(port: int, screen: Screen, **behaviour: Any) -> int:
    """Run the service in small on this machine until Ctrl-C, and print how programs find it."""
    from hinow_async.cli import sandbox as command  # noqa: PLC0415

    return command.run(port, behaviour, screen)


# -- arguments -------------------------------------------------------------------------------------------


def _text(prompt: str) -> str:
    """Return the prompt, or standard input where it is `-`."""
    return prompt if prompt != "-" else _read_text(sys.stdin.buffer, "standard input")


def _file_text(path: Path) -> str:
    with path.open("rb") as file:
        return _read_text(file, str(path))


def _read_text(file: BinaryIO, name: str) -> str:
    """Read a text to its end, unless it has none: `yes |`, a device."""
    data = file.read(_MOST_TEXT + 1)
    if len(data) > _MOST_TEXT:
        raise click.UsageError(f"{name} is longer than {_MOST_TEXT // 2**20} MiB: that is no prompt")
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise click.UsageError(f"{name} is not UTF-8") from None


def _defaults(sets: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes FIELD=VALUE, not {text!r}")
        values[name.strip().replace("-", "_")] = value
    if "extra" in values:
        values["extra"] = options.json_object(values["extra"], "--set extra")
    if "num_images" in values:
        try:
            values["num_images"] = json.loads(values["num_images"])
        except (ValueError, RecursionError):
            raise click.UsageError("--set num_images takes a number") from None
    return values


# -- from arguments to exit code -------------------------------------------------------------------------


def run(args: Sequence[str] | None) -> int:
    """Run a command; return its exit code."""
    try:
        result = hinow.main(args, prog_name="hinow", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    return result if isinstance(result, int) else exits.OK
