"""docs/benchmarks.md: the promises, and a section for each benchmark, from what was measured last."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import ModuleType

from benchmarks import bars
from benchmarks.case import Case, Metric
from benchmarks.figures import Rounds, Spread, compared, values
from benchmarks.page import write_section
from benchmarks.promises import table as table_of_promises
from benchmarks.results import PAGES, Result

PAGE = PAGES.with_suffix(".md")


def write_page(modules: Mapping[str, ModuleType]) -> None:
    """Write everything that comes from figures anew."""
    write_section(PAGE, "promises", table_of_promises(cache(Result.read)))
    results = {name: Result.read(name) for name in modules}
    measured = {name: result for name, result in results.items() if result is not None}
    sections = []
    for name, result in measured.items():
        drawn = bars.draw(_bars(modules[name], result))
        (PAGES / f"{name}.svg").write_text(drawn, "utf-8")
        sections.append(
            f"{section(modules[name], result)}\n\n![{_title(modules[name])}](benchmarks/{name}.svg)"
        )
    write_section(PAGE, "benchmarks", "\n\n".join(sections))


def section(module: ModuleType, result: Result) -> str:
    """One benchmark in Markdown."""
    about = inspect.cleandoc(module.__doc__ or "").split("\n\n", 1)
    parts = [f"## {_title(module)}", *about[1:], _table(module, result)]
    if result.is_quick:
        parts.append("**A short form**: it shows that all works; its figures are not to be relied on.")
    return "\n\n".join([*parts, result.circumstances])


def _title(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().split("\n")[0].rstrip(".")


def _table(module: ModuleType, result: Result) -> str:
    metrics = _measured(module, result)
    heads = ["case", "client"]
    for metric in metrics.values():
        heads += [metric.title] if metric.how == "value" else [metric.title, _over(metric)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for case in module.CASES:
        for client in case.clients:
            rounds = result.cases.get(case.name, {})
            lines.append(_row(case, client, rounds, metrics))
    return "\n".join(lines)


def _measured(module: ModuleType, result: Result) -> dict[str, Metric]:
    """The metrics that any run has told."""
    told = {
        name
        for case in result.cases.values()
        for rounds in case.values()
        for figures in rounds
        for name in figures or ()
    }
    return {name: metric for name, metric in module.METRICS.items() if name in told}


def _over(metric: Metric) -> str:
    return "times the base" if metric.how == "ratio" else "beyond the base"


def _row(case: Case, client: str, rounds: Mapping[str, Rounds], metrics: Mapping[str, Metric]) -> str:
    mine = rounds.get(client, [])
    theirs = rounds.get(case.base or "", [])
    cells = [case.name, f"{client} (base)" if client == case.base else client]
    for name, metric in metrics.items():
        found = Spread.of(values(mine, name))
        cells.append(found.show(metric.form) if found else "" if any(mine) else "did not finish")
        if metric.how != "value":
            beside = Spread.of(compared(mine, theirs, name, metric.how)) if theirs else None
            form = ".2f" if metric.how == "ratio" else metric.form
            cells.append(beside.show(form) if beside and client != case.base else "")
    return f"| {' | '.join(cells)} |"


def _bars(module: ModuleType, result: Result) -> list[bars.Bar]:
    """What a picture shows: the first metric that is compared, else the first."""
    metrics = _measured(module, result)
    name, metric = next(
        ((name, metric) for name, metric in metrics.items() if metric.how == "ratio"),
        next(iter(metrics.items())),
    )
    found = []
    for case in module.CASES:
        rounds = result.cases.get(case.name, {})
        for client in case.clients:
            mine, base = rounds.get(client, []), rounds.get(case.base or "")
            how = metric.how if base is not None else "value"
            spread = Spread.of(compared(mine, base if base is not None else mine, name, how))
            if spread is not None:
                title = f"times {case.base}" if how == "ratio" else metric.title
                found.append(bars.Bar(f"{case.name}: {title}", client, spread))
    return found
