"""Runs the cases of a benchmark: rounds, clients in alternation, each run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.case import Case
from benchmarks.figures import Figures

Say = Callable[[str], None]


def run_case(
    benchmark: str, case: Case, rounds: int, *, quick: bool, say: Say
) -> dict[str, list[Figures | None]]:
    """Measure every client in every round.

    Returns:
        By client its figures of each round; None where it failed or took too long.
    """
    options = {**case.options, **(case.quick if quick else {})}
    found: dict[str, list[Figures | None]] = {client: [] for client in case.clients}
    with case.serve() as where:
        for number in range(min(rounds, case.rounds or rounds)):
            # To and fro, so that nobody always comes after the same one.
            for client in case.clients if number % 2 == 0 else case.clients[::-1]:
                say(f"{benchmark}: {case.name}, round {number + 1}, {client}")
                found[client].append(_run(benchmark, client, where, options, case.timeout, say))
    best = {
        name: [_best(turn) for turn in zip(*(found[c] for c in of), strict=True)]
        for name, of in case.best.items()
    }
    return found | best


def _best(turn: Sequence[Figures | None]) -> Figures | None:
    """The one with the least first metric, of one round."""
    done = [figures for figures in turn if figures is not None]
    return min(done, key=lambda figures: next(iter(figures.values()))) if done else None


def _run(
    benchmark: str, client: str, where: Any, options: Mapping[str, Any], timeout: float, say: Say
) -> Figures | None:
    task = {"benchmark": benchmark, "client": client, "where": where, "options": dict(options)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.child"],
            input=json.dumps(task),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # or the layout of dicts differs from run to run
        )
    except subprocess.TimeoutExpired:
        say(f"  {client} was not done after {timeout:.0f} s")
        return None
    if done.returncode:
        say(f"  {client} failed: {done.stderr.strip()[-2000:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])
