"""Medians with their spread, and how one client's figures stand beside another's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

Figures = Mapping[str, float]
"""What one run of one client came to: a metric's name, and its value."""

How = Literal["value", "ratio", "difference"]


@attrs.frozen
class Spread:
    """The middle of several rounds, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """None of no values."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1]) if found else None

    def show(self, form: str) -> str:
        """`median; least to most`; the median alone of a single round."""
        if self.least == self.most:
            return format(self.median, form)
        return f"{self.median:{form}}; {self.least:{form}} to {self.most:{form}}"


Rounds = Sequence[Figures | None]
"""A client's figures in each round; None where it failed."""


def values(rounds: Rounds, metric: str) -> list[float]:
    """What was measured, of the rounds in which it was."""
    return [figures[metric] for figures in rounds if figures is not None and metric in figures]


def compared(mine: Rounds, theirs: Rounds, metric: str, how: How) -> list[float]:
    """Ratios or differences, each within its round: what else the machine does changes with time."""
    if how == "value":
        return values(mine, metric)
    pairs = [
        (a[metric], b[metric])
        for a, b in zip(mine, theirs, strict=True)
        if a is not None and b is not None and metric in a and metric in b
    ]
    if how == "difference":
        return [a - b for a, b in pairs]
    return [a / b for a, b in pairs if b]
