"""A batch put into words: the same on a terminal, in a notebook and in `str(report)`."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hinow_async._protocol.failures import printable
from hinow_async.batch.finishing import Outlook
from hinow_async.batch.ledger import FAILURES, MANIFEST

if TYPE_CHECKING:
    from hinow_async.batch.report import BatchProgress, BatchReport

_STOPPED: Final = {
    "budget": "the budget is used up",
    "balance": "the account has no credit left",
    "key": "the service refused the key",
    "disk": "the disk takes no more",
    "failing": "too many items failed in succession",
    "unreachable": "the service cannot be reached",
    "interrupted": "interrupted",
}


# -- under way -------------------------------------------------------------------------------------------


def progress_line(now: BatchProgress) -> str:
    """Say how far a batch is."""
    total = "" if now.total is None else f" of {now.total:,}"
    parts = [
        f"{now.done:,}{total} done",
        f"{now.in_flight} in flight (limit {now.limit})",
        f"{now.failed:,} failed",
        f"{now.rate:.1f}/s",
    ]
    if now.remaining is not None:
        parts.append(f"{duration(now.remaining)} left")
    if now.estimated_usd is not None:
        parts.append(f"estimated ${now.estimated_usd:,.2f} spent")
    if now.remaining_usd is not None:
        parts.append(f"${now.remaining_usd:,.2f} to come")
    return ", ".join(parts)


def progress_share(now: BatchProgress) -> float | None:
    """Return how much of a batch is done, from 0 to 1; None: not known."""
    return (now.done + now.failed) / now.total if now.total else None


def finishing(in_flight: int, foreseen: Outlook) -> str:
    """Say what is finished before a batch ends, and how long that takes."""
    calls = "1 call is" if in_flight == 1 else f"{in_flight} calls are"
    return f"{calls} in flight and paid for, their pictures are saved first; {_how_long(foreseen)}"


def _how_long(foreseen: Outlook) -> str:
    if foreseen.seconds is None and not foreseen.overdue:
        return "how long that takes is not known yet, for none has ended so far"
    if foreseen.seconds is None:
        return "how long that takes is not known: they have taken longer than any before"
    about = f"that takes about {duration(max(1, math.ceil(foreseen.seconds)))}"
    if foreseen.overdue:
        about += f", but {foreseen.overdue} of them took longer than any before"
    return about


# -- what it came to -------------------------------------------------------------------------------------


def report_lines(report: BatchReport, *, command: str | None = None) -> list[str]:
    """Say what a batch came to.

    Args:
        report: What it came to.
        command: What goes on with it in a shell; None: it was run from Python.
    """
    lines = []
    if report.stopped is not None:
        reason = f": {report.reason}" if report.reason else ""
        lines.append(f"Stopped early, {_STOPPED[report.stopped]}{reason}")
    lines += [_summary(report), _money(report), *_open_lines(report, is_shell=command is not None)]
    if report.model_mismatches:
        lines.append(
            f"{report.model_mismatches} answers name another model than was asked for: see {MANIFEST}"
        )
    lines.append(_next(report, command))
    return lines


def _summary(report: BatchReport) -> str:
    done, there = report.saved + report.reused, report.images_there
    lie = "lies" if there == 1 else "lie"
    made = f"{report.images:,} made now, {size(report.bytes)}, in {duration(report.elapsed)}"
    return (
        f"{done:,} of {count(report.total, 'item')} done: {count(there, 'picture')} {lie} in"
        f" {Path(report.out) / 'images'} ({made})"
    )


def _money(report: BatchReport) -> str:
    if report.estimated_usd is None:
        cost = "Nobody knows what these models cost"
    elif report.sandbox:
        cost = f"It would have cost an estimated ${report.estimated_usd:,.2f}; in the sandbox it cost nothing"
    else:
        cost = f"Estimated cost: ${report.estimated_usd:,.2f}"
    if report.balance_fell_usd is not None and not report.sandbox:
        cost += f"; the balance fell by ${report.balance_fell_usd:,.2f}"
    return cost


def _open_lines(report: BatchReport, *, is_shell: bool) -> Iterator[str]:
    resend, again = ("--resend-unknown", "--pay-again") if is_shell else ("resend_unknown", "pay_again")
    if report.failed:
        yield f"{report.failed:,} failed and cost nothing: the next run tries them again"
    if report.maybe_paid:
        yield (
            f"{report.maybe_paid:,} may have been paid for without an answer: they are sent again only with"
            f" {resend}"
        )
    if report.lost:
        yield (
            f"{report.lost:,} are paid for, but not all their pictures could be fetched: the next run asks"
            f" their links again, which is free; should those be dead, only {again} has them made again"
        )
    if report.failed or report.maybe_paid or report.lost:
        yield f"What is open, and why: {Path(report.out) / FAILURES}"


def _next(report: BatchReport, command: str | None) -> str:
    if report.is_complete:
        return f"Each picture with its prompt: {Path(report.out) / MANIFEST}"
    if command is None:
        return "To go on, run it again with the same source and folder"
    return f"To go on, the same command again, with the same options: {command}"


def report_table(report: BatchReport) -> str:
    """Return what a batch came to as a small table in HTML, which asks nothing of any server."""
    rows = [
        (
            "items done",
            f"{report.saved + report.reused:,} of {report.total:,} ({report.reused:,} from before)",
        ),
        ("pictures made", f"{report.images:,}, {size(report.bytes)}, in {duration(report.elapsed)}"),
        ("failed", f"{report.failed:,}"),
        ("maybe paid", f"{report.maybe_paid:,}"),
        ("lost", f"{report.lost:,}"),
        ("other model than asked for", f"{report.model_mismatches:,}"),
        ("estimated cost", _usd(report.estimated_usd) + (" (sandbox: nothing)" if report.sandbox else "")),
        ("balance fell by", _usd(report.balance_fell_usd)),
        ("stopped", "no" if report.stopped is None else _STOPPED[report.stopped]),
        ("folder", report.out),
    ]
    if report.reason is not None:
        rows.insert(-1, ("because", report.reason))
    cells = (
        f"<tr><th>{name}</th><td>{html.escape(printable(value, 1000))}</td></tr>" for name, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


# -- figures ---------------------------------------------------------------------------------------------


def _usd(usd: float | None) -> str:
    return "not known" if usd is None else f"${usd:,.2f}"


def count(number: int, noun: str) -> str:
    """Say how many: 1 item, 1,000 items."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number: int) -> str:
    """Say how many bytes, roughly: 512 bytes, 3.1 MB."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def duration(seconds: float) -> str:
    """Say how long, roughly: 9 s, 4 min, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours / 24:.1f} days"
