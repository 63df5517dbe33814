"""The scenarios, and what is required of the adaptive controller in each."""

from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.simulation.services import (
    CHANGE,
    WAY,
    Bucket,
    FixedWindow,
    Hint,
    InFlight,
    Kind,
    Level,
    Limit,
    Model,
    SlidingLog,
    halved,
    long_hint,
    no_hint,
    right_hint,
    short_hint,
    steady,
)

MINUTES = 60.0
MIXED_IMAGES = (1, 1, 2, 4, 4, 8, 10)


@attrs.frozen(kw_only=True)
class Required:
    """The least goodput and the most of everything else; None: nothing is required."""

    goodput: float
    within: float | None
    refused: float
    latency: float | None = None
    """Median latency in units of the unloaded mean."""
    halved: float | None = None
    """Goodput from 80 s after the limit was halved until it is doubled back."""
    doubled: float | None = None
    """Seconds from there until 90 %."""
    lost: int | None = None
    recovered: float | None = None
    """Seconds after an outage until 90 %."""
    fairness: float | None = None
    """Jain's index over the last 20 minutes."""


@attrs.frozen(kw_only=True)
class Scenario:
    """A service, the calls that are made, how long, and what an oracle would reach."""

    name: str
    model: Model
    kinds: tuple[Kind, ...]
    oracle: Level
    """Images (or calls) per second that a client reaches which knows the limit."""
    required: Required | None = None
    """None: the row is in the record, but nothing is promised."""
    duration: float = 30 * MINUTES
    processes: int = 1
    changes: bool = False
    """Whether the limits are halved at 400 s and doubled back at 800 s."""

    @property
    def latency(self) -> float:
        """The unloaded mean, by calls."""
        shares = sum(kind.share for kind in self.kinds)
        return sum(kind.share * kind.latency for kind in self.kinds) / shares + 2 * WAY


def pictures(latency: float) -> tuple[Kind, ...]:
    return (Kind("picture", latency),)


MIXED = tuple(
    Kind(n, 15 * (1 + 0.1 * (n - 1)), weight=n, share=MIXED_IMAGES.count(n))
    for n in sorted(set(MIXED_IMAGES))
)
CHATS = (Kind("chat", 2, share=0.2), Kind("picture", 20, share=0.8))


def limited(*limits: Callable[[], Limit], hint: Hint = no_hint, **more: Any) -> Model:
    return Model(limits=limits, hint=hint, **more)


def cap_row(
    cap: int,
    kinds: tuple[Kind, ...],
    need: Required,
    name: str = "",
    level: Callable[[float], Level] = steady,
    outage: tuple[float, float] | None = None,
    **more: Any,
) -> Scenario:
    latency = Scenario(name="", model=Model(), kinds=kinds, oracle=steady(0)).latency
    return Scenario(
        name=name or f"in flight {cap}, {kinds[0].latency:g} s",
        model=limited(lambda: InFlight(level(cap)), outage=outage),
        kinds=kinds,
        oracle=level(cap / latency),
        required=need,
        **more,
    )


MODELS: dict[str, Callable[[Level], Limit]] = {
    "bucket": Bucket,
    "small bucket": lambda level: Bucket(level, burst=1.0),
    "fixed": FixedWindow,
    "sliding": SlidingLog,
}
HINTS: dict[str, Hint] = {"none": no_hint, "right": right_hint, "long": long_hint, "short": short_hint}


def rate_row(
    per_minute: int,
    limit: str,
    hint: str,
    latency: float,
    need: Required | None,
    name: str = "",
    level: Callable[[float], Level] = steady,
    kinds: tuple[Kind, ...] = (),
    **more: Any,
) -> Scenario:
    return Scenario(
        name=name or f"{per_minute}/min {limit}, RA {hint}, {latency:g} s",
        model=limited(lambda: MODELS[limit](level(per_minute)), hint=HINTS[hint]),
        kinds=kinds or pictures(latency),
        oracle=level(per_minute / 60),
        required=need,
        **more,
    )


def need(goodput: float, within: float | None, refused: float, **more: Any) -> Required:
    """*refused* in percent of the successes."""
    return Required(goodput=goodput, within=within, refused=refused / 100, **more)


CAPS = [
    cap_row(4, pictures(20), need(0.96, 60, 10)),
    cap_row(16, pictures(20), need(0.96, 20, 3.5)),
    cap_row(40, pictures(20), need(0.96, 15, 1.5)),
    cap_row(200, pictures(20), need(0.94, 55, 0.5)),
    cap_row(40, pictures(0.3), need(0.94, 15, 0.5), duration=15 * MINUTES),
    cap_row(200, pictures(0.3), need(0.84, 15, 0.5), duration=15 * MINUTES),
    cap_row(16, pictures(60), need(0.96, 70, 8.5)),
    cap_row(200, pictures(60), need(0.96, 180, 1)),
]

RATES = [
    rate_row(60, "bucket", "none", 20, None),
    rate_row(60, "bucket", "right", 20, need(0.96, 15, 2.5)),
    rate_row(600, "bucket", "none", 20, need(0.97, 25, 1)),
    rate_row(600, "bucket", "right", 20, None),
    rate_row(60, "fixed", "none", 20, need(0.96, 15, 7.5)),
    rate_row(60, "fixed", "right", 20, need(0.96, 15, 2)),
    rate_row(600, "fixed", "none", 20, need(0.92, 25, 1.5)),
    rate_row(600, "fixed", "right", 20, need(0.92, 25, 0.5)),
    rate_row(60, "sliding", "none", 20, need(0.94, 15, 2)),
    rate_row(60, "sliding", "right", 20, need(0.94, 15, 2)),
    rate_row(600, "sliding", "none", 20, need(0.92, 30, 0.5)),
    rate_row(600, "sliding", "right", 20, need(0.92, 30, 0.5)),
    rate_row(600, "small bucket", "none", 20, need(0.84, 465, 0.5)),
    rate_row(600, "fixed", "long", 20, need(0.48, 25, 0.5)),
    rate_row(600, "fixed", "short", 20, None),
    rate_row(600, "sliding", "long", 20, need(0.66, None, 0.5)),
    rate_row(600, "bucket", "long", 20, need(0.97, 25, 0.5)),
    rate_row(600, "bucket", "short", 20, None),
    rate_row(600, "bucket", "none", 0.3, need(0.96, 15, 0.5)),
    rate_row(600, "fixed", "right", 0.3, need(0.94, 15, 0.5)),
    rate_row(60, "sliding", "none", 0.3, need(0.92, 15, 2)),
    rate_row(60, "bucket", "right", 60, need(0.96, 35, 2.5)),
]

IMAGES = [
    rate_row(300, "bucket", "none", 0, need(0.96, 15, 2.5), "300 images/min bucket, RA none", kinds=MIXED),
    rate_row(300, "fixed", "right", 0, need(0.94, 15, 2), "300 images/min fixed, RA right", kinds=MIXED),
    rate_row(300, "sliding", "none", 0, need(0.90, 15, 2.5), "300 images/min sliding, RA none", kinds=MIXED),
]

QUEUES = [
    Scenario(
        name="queue of 40 slots, no refusals",
        model=Model(servers=40),
        kinds=pictures(20),
        duration=20 * MINUTES,
        oracle=steady(40 / 20),
        required=need(0.97, 15, 0.5, latency=4),
    ),
    Scenario(
        name="queue of 40, 503 beyond 20 waiting",
        model=Model(servers=40, queue=20),
        kinds=pictures(20),
        duration=20 * MINUTES,
        oracle=steady(40 / 20),
        required=need(0.97, 15, 1, latency=1.4),
    ),
]

CHANGING = [
    Scenario(
        name="in flight 40 and 60/min fixed",
        model=limited(lambda: InFlight(steady(40)), lambda: FixedWindow(steady(60))),
        kinds=pictures(20),
        oracle=steady(1),
        required=need(0.94, 15, 8.5),
    ),
    cap_row(
        40,
        pictures(20),
        need(0.96, 15, 3.5, halved=0.84, doubled=150),
        "in flight 40, halved at 400, doubled at 800",
        halved,
        changes=True,
    ),
    rate_row(
        600,
        "sliding",
        "none",
        20,
        need(0.90, 30, 1, halved=0.82, doubled=130),
        "600/min sliding, halved at 400, doubled at 800",
        halved,
        changes=True,
    ),
    rate_row(
        600,
        "bucket",
        "none",
        20,
        need(0.96, 45, 1, halved=0.96, doubled=100),
        "600/min bucket, halved at 400, doubled at 800",
        halved,
        changes=True,
    ),
]

KINDS = [
    Scenario(
        name="20% chats of 2 s, pictures of 20 s, unlimited",
        model=Model(),
        kinds=CHATS,
        oracle=steady(512 / (0.2 * 2 + 0.8 * 20 + 2 * WAY)),
        required=need(0.96, 60, 0),
    ),
    cap_row(40, CHATS, need(0.94, 15, 1.5), "20% chats of 2 s, pictures of 20 s, in flight 40"),
]

OUTAGES = [
    cap_row(
        cap,
        pictures(20),
        need(0.94, within, refused, lost=lost, recovered=recovered),
        f"in flight {cap}, every connection reset from 400 to 460 s",
        outage=(CHANGE, CHANGE + 60),
        duration=15 * MINUTES,
    )
    for cap, within, refused, lost, recovered in ((40, 15, 1.5, 60, 60), (200, 55, 0.5, 220, 120))
]

PROCESSES = [
    cap_row(
        40,
        pictures(20),
        need(0.92, 15, 10.5, fairness=0.50),
        "4 processes, in flight 40",
        processes=4,
    ),
    rate_row(
        600,
        "bucket",
        "none",
        20,
        need(0.96, 45, 2, fairness=0.85),
        "4 processes, 600/min bucket",
        processes=4,
    ),
    rate_row(
        600,
        "sliding",
        "right",
        20,
        need(0.94, 30, 1.5, fairness=0.90),
        "4 processes, 600/min sliding RA right",
        processes=4,
    ),
]

SCENARIOS = {
    scenario.name: scenario
    for scenario in (*CAPS, *RATES, *IMAGES, *QUEUES, *CHANGING, *KINDS, *OUTAGES, *PROCESSES)
}
