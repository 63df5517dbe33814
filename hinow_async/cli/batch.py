"""`hinow batch`: a source of prompts becomes a folder of pictures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shlex
from pathlib import Path
from typing import Any, Final

import attrs

from hinow_async._budget import Prices
from hinow_async._errors import ConfigurationError
from hinow_async.batch import ledger
from hinow_async.batch.ledger import SANDBOX
from hinow_async.batch.reader import Reader
from hinow_async.batch.report import BatchReport
from hinow_async.batch.runner import Batch
from hinow_async.batch.source import open_source
from hinow_async.batch.survey import Survey, survey
from hinow_async.batch.verdicts import Judge, OnChange, Rules
from hinow_async.batch.words import count, duration, finishing, report_lines
from hinow_async.cli import exits, running
from hinow_async.cli.connection import connect
from hinow_async.cli.progress import of_batch, shown
from hinow_async.cli.screen import Screen
from hinow_async.cli.settings import Settings

_SECONDS_A_REQUEST: Final = 30.0
"""What a dry run takes for the time of one request; it says so."""

_STOPPED_CODES: Final = {
    "budget": exits.NO_MONEY,
    "balance": exits.NO_MONEY,
    "key": exits.REFUSED,
    "disk": exits.FAILED,
    "failing": exits.FAILED,
    "unreachable": exits.FAILED,
}


@attrs.frozen
class Job:
    """What the arguments say."""

    source: str
    out: Path
    resend_unknown: bool
    pay_again: bool
    on_change: OnChange
    skip_bad_lines: bool
    keep_going: bool
    defaults: dict[str, Any]


def run(job: Job, settings: Settings, screen: Screen) -> int:
    """Run the command; return its exit code."""

    async def work(stop: running.Stop) -> int:
        async with connect(settings, screen) as client:
            batch = Batch(
                client,
                job.source,
                job.out,
                resend_unknown=job.resend_unknown,
                pay_again=job.pay_again,
                on_change=job.on_change,
                skip_bad_lines=job.skip_bad_lines,
                defaults=job.defaults,
                keep_going=job.keep_going,
                stop=stop.event,
                is_folder_bounded=True,
            )
            stop.on_first(lambda: finishing(batch.progress().in_flight, batch.outlook()))
            try:
                async with shown(lambda: of_batch(batch.progress()), screen):
                    report = await batch.run()
            except asyncio.CancelledError:
                _tell(job, batch.report(), settings, screen)
                raise
        _tell(job, report, settings, screen)
        return _code(report, stop)

    _collect_seldom()
    return running.run(work, screen)


def _collect_seldom() -> None:
    """Have garbage in cycles looked for less often: the process is ours, and its items leave next to none.

    What flies at once are thousands of objects that are looked through again and again, in vain: a tenth of
    a batch's CPU. A library must not do this to its user's process.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _code(report: BatchReport, stop: running.Stop) -> int:
    if report.stopped == "interrupted":
        return stop.code
    if report.stopped is not None:
        return _STOPPED_CODES[report.stopped]
    return exits.OK if report.is_complete else exits.FAILED


# -- what it came to -------------------------------------------------------------------------------------


def _tell(job: Job, report: BatchReport, settings: Settings, screen: Screen) -> None:
    if screen.is_json:
        screen.json(report.to_dict())
    command = ["hinow", "batch", job.source, os.fspath(job.out), *(["--sandbox"] if settings.sandbox else [])]
    for line in report_lines(report, command=shlex.join(command)):
        screen.answer(line)


# -- the dry run -----------------------------------------------------------------------------------------


def dry_run(job: Job, settings: Settings, screen: Screen) -> int:
    """Count what there is to do; no request is made and nothing is written."""
    source = open_source(job.source, job.defaults, skip_bad_lines=job.skip_bad_lines)
    rules = Rules(job.resend_unknown, job.on_change, job.skip_bad_lines)
    is_sandbox = settings.sandbox or os.environ.get("HINOW_BASE_URL", "").startswith("http://")
    prices = Prices(settings.budget)

    async def work(_: running.Stop) -> int:
        if await asyncio.to_thread(job.out.exists) and not await asyncio.to_thread(job.out.is_dir):
            raise ConfigurationError(f"the output folder {job.out} is a file")
        reader = await asyncio.to_thread(ledger.look_into, job.out)
        with contextlib.ExitStack() as stack:
            if reader is not None:
                stack.callback(reader.close)
                _check_origin(job.out, reader, is_sandbox=is_sandbox)
            found = await survey(source, Judge(source.name, job.out, reader, rules), prices.of)
        _tell_plan(found, settings, screen)
        return exits.OK

    return running.run(work, screen)


def _check_origin(out: Path, reader: Reader, *, is_sandbox: bool) -> None:
    """A dry run needs no key, and so knows of the service only that it is none."""
    begun = reader.fact("origin")
    if begun is not None and (begun == SANDBOX) != is_sandbox:
        ledger.check_origin(out, reader, SANDBOX if is_sandbox else "HInow")


def _tell_plan(found: Survey, settings: Settings, screen: Screen) -> None:
    seconds = _time(found, settings)
    usd = None if found.estimated_usd is None else float(found.estimated_usd)
    if screen.is_json:
        screen.json(
            {
                "items": found.items,
                "images": found.images,
                "items_left": found.left,
                "images_left": found.left_images,
                "estimated_usd": 0.0 if not found.left else usd,
                "unpriced_items": found.unpriced,
                "bad_lines": found.bad_lines,
                "estimated_seconds": seconds,
            }
        )
        return
    screen.answer(f"{count(found.items, 'item')}, {count(found.images, 'picture')}")
    if found.left < found.items:
        left = f"{count(found.left, 'item')}, {count(found.left_images, 'picture')}"
        screen.answer(f"Left to be made: {left}")
    if found.bad_lines:
        screen.answer(f"Passed over: {count(found.bad_lines, 'bad line')}")
    if found.fetched:
        screen.answer(f"Paid for, to be fetched: {count(found.fetched, 'item')}")
    if usd is not None:
        screen.answer(f"Estimated cost: ${usd:,.2f}")
    if found.unpriced:
        screen.answer(f"Nobody knows what {found.unpriced:,} of them cost")
    screen.answer(
        f"Estimated time: {duration(seconds)} or more, if the account allows"
        f" {settings.limits.max_in_flight} requests in flight and one takes {_SECONDS_A_REQUEST:.0f} s"
    )
    screen.answer("Nothing was sent.")


def _time(found: Survey, settings: Settings) -> float:
    """Return the seconds that the given limits leave no way around."""
    limits = settings.limits
    waves = -(-found.left // limits.max_in_flight)
    times = [waves * _SECONDS_A_REQUEST]
    if limits.requests_per_minute is not None:
        times.append(60 * found.left / limits.requests_per_minute)
    if limits.images_per_minute is not None:
        times.append(60 * found.left_images / limits.images_per_minute)
    return max(times)
