"""All benchmarks, or those that are named.

    python -m benchmarks                      all of them; tables to the terminal
    python -m benchmarks calls memory --rounds 7
    python -m benchmarks --quick              short forms, one round: does everything still run?
    python -m benchmarks --write              figures and page into docs, as `make bench` does
    python -m benchmarks report               the page anew, from the figures that are there

Each runs us and the peers alternately, in processes of their own against the same server, and takes ratios
within a round. What else there is, with options of its own: `python -m benchmarks.limits` (unknown limits
in real time), `python -m benchmarks.simulation` (the same, simulated), `python -m benchmarks.sandbox_rate`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

from benchmarks.harness import run_case
from benchmarks.report import section, write_page
from benchmarks.results import Result, load, machine, today, versions

BENCHMARKS = (
    "start",
    "calls",
    "latency",
    "memory",
    "streams",
    "many",
    "admission",
    "replacements",
    "ledger",
    "batch",
    "downloads",
)
ELSEWHERE = {"limits": "benchmarks.limits", "simulation": "benchmarks.simulation.__main__"}
"""What is not a matter of CPU, and has options of its own."""
ROUNDS = 5


def run(name: str, module: ModuleType, rounds: int, *, quick: bool, command: str) -> Result:
    """Measure all cases of one benchmark."""
    before = load()
    cases = {
        case.name: run_case(name, case, 1 if quick else rounds, quick=quick, say=_say)
        for case in module.CASES
    }
    return Result(
        benchmark=name,
        command=command,
        when=today(),
        is_quick=quick,
        load=(before, load()),
        machine=machine(),
        versions=versions(),
        cases=cases,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, or write the page."""
    if (elsewhere := ELSEWHERE.get("".join(sys.argv[1:2]))) is not None:
        del sys.argv[1]
        sys.exit(importlib.import_module(elsewhere).main())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=", ".join((*BENCHMARKS, *ELSEWHERE, "report"))
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="short forms, one round")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks and docs/benchmarks.md")
    options = parser.parse_args()
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in BENCHMARKS}
    if options.names == ["report"]:
        write_page(modules)
        return
    if unknown := set(options.names) - set(modules):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    for name in options.names or BENCHMARKS:
        how = "--quick" if options.quick else f"--rounds {options.rounds}"
        command = f"python -m benchmarks {name} {how}"
        result = run(name, modules[name], options.rounds, quick=options.quick, command=command)
        print(section(modules[name], result), flush=True)
        if options.write:
            result.save()
    if options.write:
        write_page(modules)


if __name__ == "__main__":
    main()
