"""The benchmarks' own arithmetic, and that each promise is measured by one of them."""

import importlib

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.figures import Spread, compared
from benchmarks.page import write_section
from benchmarks.promises import PROMISES


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: f"{promise.benchmark}: {promise.text}")
def test_each_promise_is_measured(promise):
    """A promise names a benchmark, a case of it, clients that run in it, and a metric that is shown."""
    assert promise.benchmark in BENCHMARKS
    module = importlib.import_module(f"benchmarks.{promise.benchmark}")
    (case,) = (case for case in module.CASES if case.name == promise.case)
    assert promise.client in case.clients
    assert promise.how == "value" or promise.base in {*case.clients, *case.best}
    assert promise.metric in module.METRICS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_cases_have_their_own_names(name):
    """Figures are found by a case's name, and each case compares with somebody who runs in it."""
    cases = importlib.import_module(f"benchmarks.{name}").CASES
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.base is None or case.base in {*case.clients, *case.best} for case in cases)
    assert all(set(case.quick) <= set(case.options) for case in cases)


def test_ratios_are_taken_within_a_round():
    """A round in which either failed is left out, and no figure is compared with another round's."""
    mine = [{"cpu": 2.0}, {"cpu": 30.0}, None, {"cpu": 5.0}]
    theirs = [{"cpu": 1.0}, {"cpu": 10.0}, {"cpu": 1.0}, None]
    assert compared(mine, theirs, "cpu", "ratio") == [2.0, 3.0]
    assert compared(mine, theirs, "cpu", "difference") == [1.0, 20.0]
    assert compared(mine, theirs, "cpu", "value") == [2.0, 30.0, 5.0]


def test_a_spread_is_the_median_and_its_bounds():
    """One figure stands alone, several with their least and most, none is nothing."""
    assert Spread.of([3.0, 1.0, 2.0]).show(".1f") == "2.0; 1.0 to 3.0"
    assert Spread.of([2.0]).show(".1f") == "2.0"
    assert Spread.of([]) is None


def test_a_section_replaces_itself_alone(tmp_path):
    """What is written by hand stays, and a page without the section is refused."""
    page = tmp_path / "page.md"
    page.write_text("by hand\n<!-- begin a -->\nold\n<!-- end a -->\nby hand, too\n", "utf-8")
    write_section(page, "a", "new")
    assert page.read_text("utf-8") == ("by hand\n<!-- begin a -->\n\nnew\n\n<!-- end a -->\nby hand, too\n")
    with pytest.raises(ValueError, match="no section b"):
        write_section(page, "b", "new")
