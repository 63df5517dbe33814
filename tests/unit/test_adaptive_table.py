"""What the adaptive limits must reach, in simulated services (`python -m benchmarks.simulation`)."""

import pytest

from benchmarks.simulation.__main__ import checks
from benchmarks.simulation.measure import lonely_64, mean, run
from benchmarks.simulation.scenarios import SCENARIOS, Scenario

SEEDS = (1, 2, 3)
FEW_CALLS = 10_000  # that an oracle makes: such rows take tenths of a second
REQUIRED = [scenario for scenario in SCENARIOS.values() if scenario.required]
QUICK = [scenario for scenario in REQUIRED if scenario.duration * scenario.oracle(0) < FEW_CALLS]
TELLING = [
    SCENARIOS[name]
    for name in (
        "600/min bucket, RA none, 20 s",
        "600/min sliding, RA right, 20 s",
        "600/min small bucket, RA none, 20 s",
    )
]


def missed(scenario: Scenario) -> list[str]:
    """What is required of *scenario* and not reached."""
    reached = mean([run(scenario, seed) for seed in SEEDS])
    return [str(check) for check in checks(scenario.required, reached) if not check.passed]


def named(scenario: Scenario) -> str:
    return scenario.name


@pytest.mark.parametrize("scenario", [*QUICK, *TELLING], ids=named)
def test_reaches_what_is_required(scenario: Scenario) -> None:
    """Goodput, time to it, refusals and the rest are within the figures of the row."""
    assert missed(scenario) == []


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [row for row in REQUIRED if row not in [*QUICK, *TELLING]], ids=named)
def test_reaches_what_is_required_of_many_calls(scenario: Scenario) -> None:
    """The same for the rows of many calls: with the rows above it is the whole table."""
    assert missed(scenario) == []


def test_runs_of_one_seed_are_equal() -> None:
    """The table can be replayed: nothing in it depends on anything but the seed."""
    scenario = SCENARIOS["in flight 16, 20 s"]

    assert repr(run(scenario, 1)) == repr(run(scenario, 1))
    assert repr(run(scenario, 1)) != repr(run(scenario, 2))


def test_callers_that_back_off_alone_are_refused_many_times_as_often() -> None:
    """The simulation tells good from bad: 64 callers alone fill a cap of 16 at the price of refusals."""
    scenario = SCENARIOS["in flight 16, 20 s"]

    alone = run(scenario, 1, lonely_64)

    assert alone.goodput > 0.95
    assert alone.refused > 100 * run(scenario, 1).refused
