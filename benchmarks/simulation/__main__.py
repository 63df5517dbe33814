"""`python -m benchmarks.simulation`: the table of what is required and what is reached."""

import argparse
import math
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.simulation.measure import Figures, adaptive, lonely_64, lonely_512, mean, run
from benchmarks.simulation.scenarios import SCENARIOS, Required, Scenario

MAKERS = {"adaptive": adaptive, "lonely-64": lonely_64, "lonely-512": lonely_512}
LEAST = {"goodput", "halved", "fairness"}  # the other figures are required to be at most so much
FORMS = defaultdict(lambda: ".3f", refused=".2%", within=".0f", doubled=".0f", recovered=".0f", lost=".0f")


@attrs.frozen
class Check:
    """One figure that is required, beside the one that was reached."""

    name: str
    required: float
    reached: float

    @property
    def passed(self) -> bool:
        least = self.name in LEAST
        return self.reached >= self.required if least else self.reached <= self.required

    def __str__(self) -> str:
        form = FORMS[self.name]
        reached = "-" if math.isinf(self.reached) else format(self.reached, form)
        return f"{self.name} {reached}/{self.required:{form}}{'' if self.passed else ' (!)'}"


def checks(need: Required | None, reached: Figures) -> list[Check]:
    """All figures that are required."""
    if need is None:
        return []
    wanted = attrs.asdict(need, filter=lambda _, value: value is not None)
    return [Check(name, value, getattr(reached, name)) for name, value in wanted.items()]


def row(scenario: Scenario, reached: Figures, judged: Sequence[Check]) -> str:
    """One line of the table; the figures that are required as reached/required."""
    verdict, cells = "    ", [f"goodput {reached.goodput:.3f}", f"refused {reached.refused:.2%}"]
    if judged:
        verdict = "PASS" if all(check.passed for check in judged) else "FAIL"
        cells = [str(check) for check in judged]
    more = (
        f"throughout: goodput {reached.goodput_throughout:.3f}, refused {reached.refused_throughout:.2%}; "
        f"median latency {reached.latency:.2f}; over four tries {reached.impatient:.2%}"
    )
    return f"{verdict}  {scenario.name:<52}  {'  '.join(cells)}  ({more})"


def _task(task: tuple[str, int, str]) -> tuple[str, Figures]:
    name, seed, maker = task
    return name, run(SCENARIOS[name], seed, MAKERS[maker])


def _effort(name: str) -> float:
    return SCENARIOS[name].duration * SCENARIOS[name].oracle(0)


def measured(names: Sequence[str], seeds: Sequence[int], maker: str) -> Iterator[tuple[str, Figures]]:
    """The mean over *seeds* of each scenario, as it becomes known, on all cores."""
    tasks = [(name, seed, maker) for name in sorted(names, key=_effort, reverse=True) for seed in seeds]
    runs: dict[str, list[Figures]] = defaultdict(list)
    with multiprocessing.Pool() as pool:
        for name, figures in pool.imap_unordered(_task, tasks):
            runs[name].append(figures)
            if len(runs[name]) == len(seeds):
                yield name, mean(runs[name])


def main() -> int:
    """Print the table; 1 if anything that is required was not reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--row", action="append", help="only rows whose name contains this")
    parser.add_argument("--client", choices=MAKERS, default="adaptive", help="who is to find the limits")
    options = parser.parse_args()
    names = [name for name in SCENARIOS if not options.row or any(part in name for part in options.row)]
    began = time.perf_counter()
    reached = dict(measured(names, options.seeds, options.client))
    failed = required = 0
    for name in names:
        # What is required is required of the adaptive client alone.
        judged = checks(SCENARIOS[name].required, reached[name]) if options.client == "adaptive" else []
        print(row(SCENARIOS[name], reached[name], judged))
        required += bool(judged)
        failed += any(not check.passed for check in judged)
    print(f"{required - failed} of {required} required rows pass; {time.perf_counter() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
