"""What is promised about speed, memory and import, and where it is measured."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benchmarks.figures import How, Spread, compared
from benchmarks.results import Result


@attrs.frozen(kw_only=True)
class Promise:
    """A figure that must not be passed."""

    text: str
    most: float
    benchmark: str
    case: str
    client: str = "ours"
    base: str = "aiohttp"
    """Whom `how` compares with."""
    metric: str
    how: How = "ratio"
    unit: str = ""

    def reached(self, result: Result | None) -> Spread | None:
        """What was measured; None: nothing was, or it failed."""
        case = result.cases.get(self.case, {}) if result is not None else {}
        mine, theirs = case.get(self.client, []), case.get(self.base, [])
        return Spread.of(compared(mine, theirs if self.how != "value" else mine, self.metric, self.how))


def _calls(text: str, most: float, case: str) -> Promise:
    return Promise(text=text, most=most, benchmark="calls", case=case, metric="cpu_us")


def _memory(text: str, most: float, case: str, **more: str) -> Promise:
    return Promise(text=text, most=most, benchmark="memory", case=case, metric="kib", **more)  # type: ignore[arg-type]


def _start(text: str, most: float, client: str) -> Promise:
    return Promise(text=text, most=most, benchmark="start", case="import", client=client, metric="cpu_ms")


def _admission(text: str, most: float, case: str, client: str) -> Promise:
    return Promise(
        text=text,
        most=most,
        benchmark="admission",
        case=case,
        client=client,
        base="asyncio.Semaphore",
        metric="cpu_us",
    )


def _download(text: str, most: float, case: str) -> Promise:
    return Promise(text=text, most=most, benchmark="downloads", case=case, base="by hand", metric="cpu_ms")


def _growth(text: str, case: str) -> Promise:
    return Promise(text=text, most=4, benchmark="downloads", case=case, metric="mib", how="value", unit="MiB")


PROMISES = (
    _calls("CPU of `images.generate` over aiohttp + json, 1 in flight", 1.3, "image, 1 in flight"),
    _calls("the same, 64 in flight", 1.4, "image, 64 in flight"),
    _calls("the same, 512 in flight", 1.4, "image, 512 in flight"),
    Promise(
        text="CPU of `generate_many` over plain `generate`",
        most=1.25,
        benchmark="many",
        case="64 in flight",
        client="generate_many",
        base="generate",
        metric="cpu_us",
    ),
    _memory("memory of a call in flight over aiohttp's, 1,000 in flight", 1.6, "1,000 in flight"),
    _memory("the same, 5,000 in flight", 1.6, "5,000 in flight"),
    _memory("memory of a waiting call", 6, "5,000 waiting", how="value", unit="KiB"),
    _memory("growth over 200,000 calls", 1024, "growth", how="value", unit="KiB"),
    _start("`import hinow_async` over `import aiohttp`", 0.5, "ours"),
    _start("the same with a client made", 1.4, "ours, a client made"),
    Promise(
        text="a stream of 10,000 chunks over aiohttp by lines + json",
        most=1.0,
        benchmark="streams",
        case="10,000 chunks",
        metric="cpu_us",
    ),
    _download("a download of 200 MiB, hashed, over the best loop by hand", 1.2, "one of 200 MiB"),
    _download("500 files of 2 MiB, hashed, synced, renamed, over the same", 1.3, "500 of 2 MiB"),
    _growth("growth of memory per download, 64 of 64 MiB at once", "64 of 64 MiB at once"),
    _growth("the same, one of 200 MiB", "one of 200 MiB"),
    _admission("one admission over `asyncio.Semaphore`, free, adaptive off", 2, "free", "adaptive off"),
    _admission("the same, adaptive on", 6, "free", "adaptive on"),
    _admission("a waiter among 1,000, half of them cancelled, adaptive off", 1.5, "waiting", "adaptive off"),
    _admission("the same, adaptive on", 1.5, "waiting", "adaptive on"),
    Promise(
        text="CPU of a durable change of the ledger, at 1,000 a second",
        most=65,
        benchmark="ledger",
        case="1,000 changes a second",
        base="undurable",
        metric="cpu_us",
        how="difference",
        unit="µs",
    ),
    Promise(
        text="CPU of a batch per item, without the download, over a bare request",
        most=3.0,
        benchmark="batch",
        case="per item",
        client="without the download",
        metric="cpu_us",
    ),
    Promise(
        text="memory of a batch at 100,000 prompts over that at 10,000",
        most=1.1,
        benchmark="batch",
        case="size",
        client="100,000",
        base="10,000",
        metric="mib",
    ),
)


def table(read: Callable[[str], Result | None]) -> str:
    """All promises beside what was measured, in Markdown."""
    lines = ["| promise | at most | measured (median; least to most) | kept |", "|---|---|---|---|"]
    lines += [_row(promise, read(promise.benchmark)) for promise in PROMISES]
    return "\n".join(lines)


def _row(promise: Promise, result: Result | None) -> str:
    reached = promise.reached(result)
    if result is None or reached is None:
        return f"| {promise.text} | {_figure(promise, f'{promise.most:g}')} | not measured | |"
    form = ".2f" if promise.most < 10 else ".0f"
    kept = "yes" if reached.median <= promise.most else "**no**"
    short = ", short form" if result.is_quick else ""
    said = f"{_figure(promise, reached.show(form))}{short}"
    return f"| {promise.text} | {_figure(promise, f'{promise.most:g}')} | {said} | {kept} |"


def _figure(promise: Promise, shown: str) -> str:
    return f"{shown} {promise.unit}".rstrip()
