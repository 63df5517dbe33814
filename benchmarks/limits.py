"""Unknown limits in real time: how much of them is used, and how often the service has to refuse.

    python -m benchmarks.limits [--seconds 300] [--write]   the sandbox's three kinds, and limits of the user
    python -m benchmarks.limits --nginx [--write]           nginx in front, with limit_conn and limit_req

Every client runs in a process of its own against a sandbox in another, all of them at the same time: calls
take about two seconds, so they cost little. There is always another picture to ask for. Beside ours run
callers who each back off alone (0.5 s, doubled up to 8 s, a quarter of jitter, Retry-After obeyed: the habit
of the usual SDKs), 64 of them (a fixed semaphore) and 256 (as many as ours may have in flight at most).
`--write` puts the tables into docs/benchmarks/limits.md and draws the pictures beside it, and those of the
simulation's fixed semaphores of 8, 64 and 512.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from benchmarks import __file__ as here
from benchmarks.nginx import free_port, limiting_proxy
from benchmarks.page import write_section
from benchmarks.strips import Column, draw
from hinow_async import AsyncHinow, Limits, __version__
from hinow_async.sandbox import Behaviour, Sandbox
from hinow_async.sandbox import limits as sandbox_limits

PAGES = Path(here).parent.parent / "docs" / "benchmarks"
WARM_UP = 60.0  # seconds that do not count for the goodput
SPAN = 60  # seconds over which 90 % must be held to count as reached
LATENCY, JITTER = 1.5, 1.0  # seconds: evenly spread from 1.5 to 2.5
MEAN = LATENCY + JITTER / 2
CAP = 40
PER_MINUTE = 600
MOST = 256  # in flight, ours and those of the callers who are alone
MODEL = "openai/gpt-image-2-2026-04-21"


@attrs.frozen(kw_only=True)
class Model:
    """A service with a limit."""

    title: str
    behaviour: dict[str, Any]
    allows: float
    """Successes per second."""
    minute: float = 60.0
    """What the sandbox takes for a minute, in seconds."""
    rule: str | None = None
    """Of nginx in front of it."""
    limits: dict[str, Any] = attrs.field(factory=dict)
    """What the user of our client says about it."""


UNKNOWN = {
    "in-flight": Model(title=f"{CAP} in flight", behaviour={"max_in_flight": CAP}, allows=CAP / MEAN),
    "bucket": Model(
        title=f"token bucket, {PER_MINUTE} a minute",
        behaviour={"requests_per_minute": PER_MINUTE, "limit_kind": "bucket"},
        allows=PER_MINUTE / 60,
    ),
    "fixed": Model(
        title=f"fixed window, {PER_MINUTE} a minute",
        behaviour={"requests_per_minute": PER_MINUTE, "limit_kind": "fixed"},
        allows=PER_MINUTE / 60,
    ),
}
BY_USER = {
    name: Model(
        title=title,
        behaviour={"requests_per_minute": 20, "limit_kind": kind, "burst": 1.0},
        minute=1.0,
        allows=20.0,
        limits={"requests_per_minute": 1200, **more},
    )
    for name, kind, title, more in (
        ("second-bucket", "bucket", "bucket of 20, 20 a second", {}),
        ("second-fixed", "fixed", "20 in each second of the clock", {}),
        ("second-sliding", "sliding", "20 in any second", {}),
        ("second-strict", "sliding", "20 in any second, and we with `burst=0`", {"burst": 0}),
    )
}
NGINX = {
    "limit-conn": Model(
        title=f"nginx, limit_conn {CAP}", behaviour={}, rule=f"limit_conn calls {CAP};", allows=CAP / MEAN
    ),
    "limit-req": Model(
        title="nginx, limit_req 10r/s burst=20 nodelay",
        behaviour={},
        rule="limit_req zone=rate burst=20 nodelay;",
        allows=10.0,
    ),
}
MODELS = {**UNKNOWN, **BY_USER, **NGINX}
CLIENTS = {"ours": "hinow-async", "alone-64": "64 callers alone", "alone-256": "256 callers alone"}


# -- one run, in a process of its own ----------------------------------------------------------------


@attrs.define
class Record:
    """What a client saw; times in seconds from the start."""

    successes: list[float] = attrs.field(factory=list)
    refusals: list[float] = attrs.field(factory=list)
    impatient: int = 0
    """Calls that were refused more than twice: the usual SDK gives them up."""
    samples: list[tuple[float, int, int]] = attrs.field(factory=list)
    """Each second: when, the limit, in flight."""
    billed: int = 0
    billed_twice: int = 0
    errors: list[str] = attrs.field(factory=list)
    """Of calls that failed before the run was ended."""


def _serve(pipe: Connection, options: dict[str, Any], minute: float) -> None:
    """The process of a sandbox: says where it is, later what it billed."""
    sandbox_limits.MINUTE = minute
    with Sandbox.in_thread(Behaviour(**options)) as sandbox:
        pipe.send((sandbox.origin, sandbox.api_key))
        pipe.recv()
        billing = sandbox.billing
        pipe.send((billing.requests, sum(times > 1 for times in billing.by_prompt.values())))


@contextlib.contextmanager
def service(model: Model) -> Iterator[tuple[str, str, Connection]]:
    """A sandbox, behind nginx if the model says so; yields its root, its key, and whom to ask."""
    port = free_port()
    options = {"latency": LATENCY, "latency_jitter": JITTER, "hosts": (f"127.0.0.1:{port}",)}
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, {**options, **model.behaviour}, model.minute), daemon=True
    )
    process.start()
    try:
        origin, key = ours.recv()
        with contextlib.ExitStack() as stack:
            if model.rule is not None:
                upstream = int(origin.rpartition(":")[2])
                stack.enter_context(limiting_proxy(port, upstream, model.rule))
                origin = f"http://127.0.0.1:{port}"
            yield f"{origin}/v1", key, ours
    finally:
        process.terminate()
        process.join(10)


class _Tries:
    """A hook that notes what came of each try."""

    def __init__(self, record: Record, begun: float) -> None:
        self._record = record
        self._begun = begun

    def attempt_ended(self, attempt: Any) -> None:
        now = time.monotonic() - self._begun
        if attempt.outcome == "success":
            self._record.successes.append(now)
            self._record.impatient += attempt.attempt > 3
        elif attempt.status in {429, 503}:
            self._record.refusals.append(now)


async def _sample(record: Record, begun: float, look: Any) -> None:
    for second in count():
        await asyncio.sleep(max(0.0, begun + second - time.monotonic()))
        record.samples.append((second, *look()))


async def run_ours(model: Model, base: str, key: str, seconds: float, begun: float, record: Record) -> None:
    limits = Limits(max_in_flight=MOST, **model.limits)
    hooks = [_Tries(record, begun)]
    prompts = (f"Lighthouse {number}" for number in count())
    async with AsyncHinow(base_url=base, api_key=key, limits=limits, hooks=hooks) as client:

        def look() -> tuple[int, int]:
            stats = client.stats()
            return stats.limit, stats.in_flight

        async with (
            _alongside(_sample(record, begun, look)),
            client.images.generate_many(prompts) as outcomes,
        ):
            asyncio.get_running_loop().call_later(seconds, outcomes.stop)
            async for outcome in outcomes:
                if outcome.error is not None and time.monotonic() - begun < seconds:
                    record.errors.append(repr(outcome.error))


class Lonely:
    """So many callers, each of whom backs off alone."""

    BACKOFF, BACKOFF_MAX, JITTER = 0.5, 8.0, 0.25

    def __init__(self, session: aiohttp.ClientSession, url: str, begun: float, record: Record) -> None:
        self._session = session
        self._url = url
        self._begun = begun
        self._record = record
        self._numbers = count()
        self._luck = random.Random(1)
        self.in_flight = 0

    async def call_on(self) -> None:
        for number in self._numbers:
            await self._call(f"Lighthouse {number}")

    async def _call(self, prompt: str) -> None:
        for refused in count():
            status, retry_after = await self._post(prompt)
            now = time.monotonic() - self._begun
            if status == 200:
                self._record.successes.append(now)
                self._record.impatient += refused > 2
                return
            self._record.refusals.append(now)
            backoff = min(self.BACKOFF_MAX, self.BACKOFF * 2 ** min(refused, 10))
            await asyncio.sleep(retry_after or backoff * (1 - self.JITTER * self._luck.random()))

    async def _post(self, prompt: str) -> tuple[int, float]:
        self.in_flight += 1
        try:
            async with self._session.post(self._url, json={"model": MODEL, "prompt": prompt}) as response:
                await response.read()
                return response.status, float(response.headers.get("Retry-After", 0))
        finally:
            self.in_flight -= 1


async def run_alone(callers: int, base: str, key: str, seconds: float, begun: float, record: Record) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        lonely = Lonely(session, f"{base}/images", begun, record)
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(seconds),
                _alongside(_sample(record, begun, lambda: (callers, lonely.in_flight))),
                asyncio.TaskGroup() as group,
            ):
                for _ in range(callers):
                    group.create_task(lonely.call_on())


@contextlib.asynccontextmanager
async def _alongside(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(model: Model, client: str, seconds: float) -> Record:
    """One client against one service."""
    record = Record()
    with service(model) as (base, key, pipe):
        begun = time.monotonic()
        if client == "ours":
            asyncio.run(run_ours(model, base, key, seconds, begun, record))
        else:
            asyncio.run(run_alone(int(client.rpartition("-")[2]), base, key, seconds, begun, record))
        pipe.send("billing")
        record.billed, record.billed_twice = pipe.recv()
    return record


# -- all of them, and what they came to --------------------------------------------------------------


@attrs.frozen
class Figures:
    """What one run came to."""

    goodput: float
    refused: float
    refused_later: float
    within: float | None
    impatient: float


def figures(record: Record, allows: float, seconds: float) -> Figures:
    per_second = [0] * (int(seconds) + 1)
    for at in record.successes:
        if at < seconds:
            per_second[int(at)] += 1
    first, last = int(WARM_UP), int(seconds)
    within = next(
        (
            float(start)
            for start in range(last - SPAN)
            if sum(per_second[start : start + SPAN]) >= 0.9 * SPAN * allows
        ),
        None,
    )
    later = sum(at >= WARM_UP for at in record.successes)
    return Figures(
        goodput=sum(per_second[first:last]) / (allows * (last - first)),
        refused=100 * len(record.refusals) / max(1, len(record.successes)),
        refused_later=100 * sum(at >= WARM_UP for at in record.refusals) / max(1, later),
        within=within,
        impatient=100 * record.impatient / max(1, len(record.successes)),
    )


def run_all(names: list[tuple[str, str]], seconds: float) -> dict[tuple[str, str], Record]:
    """All at the same time, each in a process of its own."""
    started = {}
    for model, client in names:
        command = [sys.executable, "-m", "benchmarks.limits", "--run", model, client]
        command += ["--seconds", str(seconds)]
        started[model, client] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    records = {}
    for name, process in started.items():
        out, _ = process.communicate(timeout=seconds + 120)
        if process.returncode:
            raise RuntimeError(f"{name} failed")
        records[name] = Record(**json.loads(out))
    return records


HEAD = (
    "| service | client | goodput after the first minute | refused per 100 successes | of these after"
    " the first minute | 90 % within, s | calls refused more than twice |\n|---|---|---|---|---|---|---|"
)


def table(records: dict[tuple[str, str], Record], seconds: float) -> str:
    lines = [HEAD]
    for (model, client), record in records.items():
        got = figures(record, MODELS[model].allows, seconds)
        within = "never" if got.within is None else f"{got.within:.0f}"
        lines.append(
            f"| {MODELS[model].title} | {CLIENTS[client]} | {got.goodput:.2f} | {got.refused:.1f}"
            f" | {got.refused_later:.1f} | {within} | {got.impatient:.1f} % |"
        )
    return "\n".join(lines)


def faults(records: dict[tuple[str, str], Record]) -> str:
    """What must not happen to our calls."""
    ours = [record for (_, client), record in records.items() if client == "ours"]
    errors = [error for record in ours for error in record.errors]
    calls, twice = sum(record.billed for record in ours), sum(record.billed_twice for record in ours)
    named = f" ({'; '.join(errors)})" if errors else ""
    return f"Of our {calls} calls {len(errors)} failed{named}, {twice} were billed twice."


def picture(records: dict[tuple[str, str], Record], model: str, seconds: float) -> str:
    columns = [
        Column(CLIENTS[client], record.samples, record.successes, record.refusals)
        for (name, client), record in records.items()
        if name == model
    ]
    return draw(MODELS[model].title, columns, MODELS[model].allows, seconds)


# -- the simulation's fixed semaphores ---------------------------------------------------------------


def simulated(scenario_name: str, seconds: float) -> str:
    """A picture of one scenario: the adaptive client beside fixed semaphores."""
    from benchmarks.simulation.clients import AdaptiveClient, Callers, LonelyClient
    from benchmarks.simulation.engine import Loop
    from benchmarks.simulation.scenarios import SCENARIOS
    from benchmarks.simulation.services import Service

    scenario = SCENARIOS[scenario_name]
    columns = []
    for size in (None, 8, 64, 512):
        loop = Loop()
        inner = Service(loop, random.Random("service 1"), scenario.model)
        counted = Counted(inner)
        callers = Callers(random.Random("callers 0 1"), scenario.kinds)
        if size is None:
            client: Any = AdaptiveClient(loop, counted, callers, 512)
        else:
            client = LonelyClient(loop, counted, callers, size)
        client.start()
        samples = []
        for second in range(int(seconds)):
            loop.run(second)
            ended = len(client.record.answers) + len(client.record.refusals) + client.record.lost
            limit = client.controller.limit if size is None else size
            samples.append((float(second), limit, counted.sent - ended))
        title = "hinow-async" if size is None else f"fixed semaphore of {size}"
        answers = [at for at, _ in client.record.answers]
        columns.append(Column(title, samples, answers, client.record.refusals))
    return draw(f"{scenario_name} (simulated)", columns, scenario.oracle(0), seconds)


class Counted:
    """A service that counts what it is sent."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sent = 0

    def send(self, call: Any) -> None:
        self.sent += 1
        self._inner.send(call)


SIMULATED = {
    "simulated-in-flight": "in flight 40, 20 s",
    "simulated-bucket": "600/min bucket, RA right, 20 s",
    "simulated-fixed": "600/min fixed, RA right, 20 s",
}


# -- the page ----------------------------------------------------------------------------------------


def circumstances(loads: list[float]) -> str:
    """Machine and versions."""
    return (
        f"{time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores, {platform.machine()}, load"
        f" {loads[0]:.1f} before and {loads[1]:.1f} after; Python {platform.python_version()},"
        f" aiohttp {aiohttp.__version__}, hinow-async {__version__}."
    )


def measure(models: dict[str, Model], clients: list[str], seconds: float) -> dict[tuple[str, str], Record]:
    return run_all([(model, client) for model in models for client in clients], seconds)


def show(
    section: str, records: dict[tuple[str, str], Record], seconds: float, said: str, write: bool
) -> None:
    text = "\n\n".join((table(records, seconds), faults(records), said))
    print(f"{text}\n", flush=True)
    if write:
        write_section(PAGES / "limits.md", section, text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--nginx", action="store_true", help="nginx instead of the sandbox's own limits")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(attrs.asdict(run(MODELS[args.run[0]], args.run[1], args.seconds))))
        return
    if args.seconds < WARM_UP + SPAN:
        parser.error(f"--seconds must be at least {WARM_UP + SPAN:.0f}")
    unknown = NGINX if args.nginx else UNKNOWN
    names = [(model, client) for model in unknown for client in CLIENTS]
    names += [] if args.nginx else [(model, "ours") for model in BY_USER]
    load = os.getloadavg()[0]
    records = run_all(names, args.seconds)
    said = f"{args.seconds:.0f} s; {circumstances([load, os.getloadavg()[0]])}"
    of_unknown = {name: record for name, record in records.items() if name[0] in unknown}
    show("nginx" if args.nginx else "unknown", of_unknown, args.seconds, said, args.write)
    if not args.nginx:
        by_user = {name: record for name, record in records.items() if name[0] in BY_USER}
        show("user", by_user, args.seconds, said, args.write)
    if args.write:
        for model in unknown:
            (PAGES / f"limits-{model}.svg").write_text(picture(of_unknown, model, args.seconds), "utf-8")
        for name, scenario in SIMULATED.items() if not args.nginx else ():
            (PAGES / f"limits-{name}.svg").write_text(simulated(scenario, 600), "utf-8")


if __name__ == "__main__":
    main()
