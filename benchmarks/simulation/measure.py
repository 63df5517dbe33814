"""One run of a scenario, and what it came to."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from statistics import fmean, median

import attrs

from benchmarks.simulation.clients import AdaptiveClient, Callers, LonelyClient, Record, Simulated
from benchmarks.simulation.engine import Loop
from benchmarks.simulation.scenarios import Scenario
from benchmarks.simulation.services import CHANGE, RETURN, Service

MAX_IN_FLIGHT = 512
WARM_UP = 60.0  # seconds, and one latency
APART = 60.0  # seconds between the starts of processes
SETTLED = 80.0  # seconds after a change from which its goodput is measured
SPAN = 60  # seconds over which a goodput of 90 % must be held to count as reached
LAST = 20 * 60.0  # seconds at the end over which processes are compared


def adaptive(loop: Loop, service: Service, callers: Callers) -> Simulated:
    """The client under test."""
    return AdaptiveClient(loop, service, callers, MAX_IN_FLIGHT)


def lonely_64(loop: Loop, service: Service, callers: Callers) -> Simulated:
    """64 callers that back off alone."""
    return LonelyClient(loop, service, callers, 64)


def lonely_512(loop: Loop, service: Service, callers: Callers) -> Simulated:
    """512 callers that back off alone."""
    return LonelyClient(loop, service, callers, 512)


Maker = Callable[[Loop, Service, Callers], Simulated]


@attrs.frozen(kw_only=True)
class Figures:
    """What a run came to, in the units of :class:`Required`; nan where it does not apply."""

    goodput: float
    """After the warm-up, and before the service changes."""
    within: float
    """Infinite if 90 % were never reached."""
    refused: float
    """Per success, after the warm-up."""
    latency: float
    halved: float
    doubled: float
    lost: float
    recovered: float
    fairness: float
    goodput_throughout: float
    """After the warm-up, to the end."""
    refused_throughout: float
    """Per success, from the first call on."""
    impatient: float
    """Share of the calls that needed more than four tries."""


def run(scenario: Scenario, seed: int, maker: Maker = adaptive) -> Figures:
    """Run *scenario* once."""
    loop = Loop()
    service = Service(loop, random.Random(f"service {seed}"), scenario.model)
    clients = []
    for process in range(scenario.processes):
        callers = Callers(random.Random(f"callers {process} {seed}"), scenario.kinds)
        clients.append(maker(loop, service, callers))
        loop.at(process * APART, clients[-1].start)
    loop.run(scenario.duration)
    return _figures(scenario, [client.record for client in clients])


def mean(runs: Sequence[Figures]) -> Figures:
    """The mean of each figure over several seeds."""
    fields = [field.name for field in attrs.fields(Figures)]
    return Figures(**{name: fmean(getattr(run, name) for run in runs) for name in fields})


def _figures(scenario: Scenario, records: Sequence[Record]) -> Figures:
    course = _Course(scenario, [answer for record in records for answer in record.answers])
    warm, end = WARM_UP + scenario.latency, scenario.duration
    changes, outage = scenario.changes, scenario.model.outage
    whole = outage[0] if outage else end  # what an outage refuses is no limit's doing
    latencies = [latency for record in records for time, latency in record.latencies if warm <= time < whole]
    return Figures(
        goodput=course.goodput(warm, CHANGE if changes or outage else end),
        within=course.reached(0),
        refused=_refused(records, warm, whole),
        latency=median(latencies) / scenario.latency if latencies else math.inf,
        halved=course.goodput(CHANGE + SETTLED, RETURN) if changes else math.nan,
        doubled=course.reached(RETURN) if changes else math.nan,
        lost=sum(record.lost for record in records),
        recovered=course.reached(outage[1]) if outage else math.nan,
        fairness=_jain(_last(record, end) for record in records),
        goodput_throughout=course.goodput(warm, end),
        refused_throughout=_refused(records, 0, end),
        impatient=sum(record.impatient for record in records)
        / sum(len(record.answers) for record in records),
    )


def _refused(records: Sequence[Record], start: float, end: float) -> float:
    refused = sum(start <= time < end for record in records for time in record.refusals)
    answered = sum(start <= time < end for record in records for time, _ in record.answers)
    return refused / max(1, answered)


class _Course:
    """Answers and the oracle's, second by second."""

    def __init__(self, scenario: Scenario, answers: Iterable[tuple[float, int]]) -> None:
        seconds = math.ceil(scenario.duration)
        images = [0] * seconds
        for time, weight in answers:
            images[int(time)] += weight
        self._images = [0, *accumulate(images)]
        self._oracle = [0.0, *accumulate(scenario.oracle(second) for second in range(seconds))]

    def goodput(self, start: float, end: float) -> float:
        first, last = math.ceil(start), int(end)
        return (self._images[last] - self._images[first]) / (self._oracle[last] - self._oracle[first])

    def reached(self, start: float) -> float:
        """Seconds from *start* until the next SPAN seconds bring 90 % of the oracle's goodput."""
        for first in range(math.ceil(start), len(self._images) - SPAN):
            if self.goodput(first, first + SPAN) >= 0.9:
                return first - start
        return math.inf


def _last(record: Record, duration: float) -> int:
    return sum(weight for time, weight in record.answers if time >= duration - LAST)


def _jain(shares: Iterable[float]) -> float:
    """Jain's index of fairness: 1 if all are equal, 1/n if one has all."""
    shares = list(shares)
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares) or 1)
