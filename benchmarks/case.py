"""What a benchmark is: a module with these names, which `benchmarks.__main__` lists.

    \"""Title of its section.

    The text of its section: what is measured, and how to read it.
    \"""
    METRICS = {"cpu_us": Metric("CPU per call, µs", ".0f", how="ratio")}
    CASES = (Case("64 in flight", clients=("ours", "aiohttp"), base="aiohttp", options={"in_flight": 64}),)

    def measure(client: str, where: Any, *, in_flight: int) -> dict[str, float]:
        ...  # in a process of its own: runs *client* once against what `Case.serve` yielded

So that a client's process imports no more than it needs, nothing here and in the benchmarks imports
hinow_async or a peer at the top of a module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import How


@dataclass(frozen=True)
class Metric:
    """One column of a table."""

    title: str
    """With its unit."""
    form: str
    """As `format` takes it."""
    how: How = "value"
    """Whether it is also shown beside that of the case's base."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is run alternately: the same job, by several clients."""

    name: str
    clients: tuple[str, ...]
    """Each is run once a round, in a process of its own."""
    base: str | None = None
    """The client, or the name in `best`, beside whom the others are shown."""
    best: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names for the best of several clients in each round, by the first metric."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For `measure`."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    """What `--quick` changes of them."""
    serve: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What the clients speak to; it yields what they need to find it, as JSON could say it."""
    rounds: int | None = None
    """At most so many, where one takes long."""
    timeout: float = 300
    """Seconds for one run of one client; beyond it, it has failed."""
