"""Ways to interrupt a batch, each going on until it ends by itself, with the invariants checked every time.

    python tests/batch/kills.py [--kills 200] [--write]

kills a batch of 500 prompts at 200 random moments, then others at each of the service's moments, and prints
the table of docs/benchmarks/kills.md; `--write` puts it there.
"""

import argparse
import contextlib
import os
import platform
import random
import signal
import sqlite3
import sys
import tempfile
import time
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path

import aiohttp
import attrs
from relay import MOMENTS
from scene import KILLED, kill, setting, spent  # noqa: F401 - for those who read a ledger

from hinow_async._version import __version__
from hinow_async.sandbox import Fault

PRICE = Decimal("0.087")
PAGE = Path(__file__).parents[2] / "docs/benchmarks/kills.md"

TROUBLE = (
    Fault(probability=0.1, seed=1, status=429, headers={"retry-after-ms": "30"}),
    Fault(probability=0.03, seed=2, drop="after"),
    Fault(path="files", probability=0.2, seed=3, stall=0.05, truncate=300),
)
BRIEF_TROUBLE = (attrs.evolve(TROUBLE[0], times=2), *TROUBLE[1:])
"""The same for short runs: refusals have a client look for a pace, which takes its time."""
FAST, SLOW = (0.005, 0.075), (0.2, 0.3)
"""Latency and jitter of the service, seconds."""
PHASE = 10
"""Kills until the service changes from fast to slow, or back."""


def at_random(scene, kills, within, seed):
    """Start it again and again, and kill it within so many seconds of its start, or of its first request."""
    rng = random.Random(seed)
    while True:
        received = scene.service.billing.received
        if scene.kills % PHASE == 0 and scene.kills < kills:
            latency, jitter = SLOW if scene.kills // PHASE % 2 else FAST
            scene.service.change(latency=latency, latency_jitter=jitter)
        pid = scene.start()
        if scene.kills < kills:
            if rng.random() < 0.8:
                wait_for_request(scene, received)
            time.sleep(rng.uniform(0, within))
            kill(pid)
        if not has_been_killed(scene):
            return


def wait_for_request(scene, received):
    until = time.monotonic() + 10
    while scene.service.billing.received == received and time.monotonic() < until:
        time.sleep(0.002)


def has_been_killed(scene):
    """Wait for the end of a run, and check; False: it ended by itself."""
    code = scene.zygote.ended()
    scene.check_killed()
    if code != KILLED:
        assert code in {0, 1, 3}
        return False
    scene.kills += 1
    return True


def at_moment(scene, moment, kills, seed):
    """Kill it so many times at a moment that the service knows, and let it end."""
    rng = random.Random(f"{moment}/{seed}")
    for _ in range(kills):
        scene.relay.aim(moment, rng.randint(1, 3), rng.choice((0, rng.uniform(0, 0.004))))
        scene.relay.at(scene.start())
        if not has_been_killed(scene):
            break
    scene.relay.aim(None, 0)
    assert scene.run() in {0, 1}
    scene.check_killed()


def stopped_at_random(scene, stops, kills, seed):
    """Stop it for longer than its timeouts, so many times, and kill it now and then; let it end."""
    rng = random.Random(seed)
    timeouts = {"response": 0.4, "idle": 0.2}
    while True:
        received = scene.service.billing.received
        pid = scene.start(timeouts=timeouts)
        with contextlib.suppress(ProcessLookupError):
            wait_for_request(scene, received)
            while scene.stops < stops and rng.random() < 0.7:
                time.sleep(rng.uniform(0.01, 0.15))
                os.kill(pid, signal.SIGSTOP)
                scene.stops += 1
                time.sleep(0.5)
                os.kill(pid, signal.SIGCONT)
            if scene.kills < kills:
                time.sleep(rng.uniform(0, 0.1))
                kill(pid)
        if not has_been_killed(scene) and (scene.stops >= stops or scene.is_done):
            return


def with_full_disk(scene, rounds, seed):
    """Fill the disk in the midst of each run, let it end by itself or kill it, and give the room back."""
    rng = random.Random(seed)
    ballast = scene.out.parent / "ballast"
    for number in range(rounds):
        received = scene.service.billing.received
        pid = scene.start()
        wait_for_request(scene, received)
        time.sleep(rng.uniform(0, 0.15))
        fill(ballast)
        if number % 2:
            time.sleep(rng.uniform(0, 0.1))
            kill(pid)
        if not has_been_killed(scene):
            assert len(scene.states()) < scene.items or set(scene.states().values()) != {"saved"}
        ballast.unlink()
    assert scene.run() in {0, 1}
    scene.check_killed()


def fill(path):
    """Leave no byte free."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(64 * 1024)):
            pass
        while True:
            file.write(b"\0")


def dated_refusals():
    """Refusals that name a date: one second on, by the service's clock."""
    return Fault(
        probability=0.1, seed=4, status=429, headers={"Retry-After": formatdate(time.time() + 1, usegmt=True)}
    )


# -- the table -------------------------------------------------------------------------------------------


@attrs.frozen
class Row:
    """What a campaign came to."""

    name: str
    prompts: int
    kills: int
    saved: int
    maybe_paid: int
    open: int
    """Items that failed or lost their pictures."""
    billed: int
    twice: int
    unseen: int
    """Billed items that look unsent, and saved pictures that are not there: money lost."""
    resent: int
    """Items billed a second time, with consent."""


def campaign(name, scene):
    """Let it end, and count; then have all made with consent."""
    states = scene.check_ended()
    by_item = {item: scene.billed(item) for item in scene.ids}
    known = scene.states()
    unseen = [item for item in scene.ids if by_item[item] and known.get(item) in {None, "planned", "failed"}]
    twice = sum(count > 1 for count in by_item.values())
    billed, kills = sum(by_item.values()), scene.kills
    scene.check_resent()
    resent = sum(scene.billed(item) == 2 for item in scene.ids)
    return Row(
        name=name,
        prompts=scene.items,
        kills=kills,
        saved=states["saved"],
        maybe_paid=states["maybe_paid"],
        open=states["failed"] + states["paid_lost"],
        billed=billed,
        twice=twice,
        unseen=len(unseen),
        resent=resent,
    )


def at_random_moments(folder, *, items=500, limit=2, kills=200, within=0.35, seed=500, faults=TROUBLE):
    """Kill a batch at random moments, in fast and slow phases, with faults."""
    with setting(folder, items, limit=limit, faults=faults) as scene:
        at_random(scene, kills, within, seed)
        assert scene.kills >= kills // 2
        return campaign("any, at random", scene)


def at_a_moment(folder, moment, *, items=60, limit=3, kills=10, seed=1):
    """Kill a batch at one of the service's moments."""
    with setting(folder, items, limit=limit, latency=0.005, is_relayed=True, faults=TROUBLE) as scene:
        at_moment(scene, moment, kills, seed)
        assert scene.kills == kills
        return campaign(moment, scene)


def table(rows):
    """Markdown."""
    head = (
        "killed when", "prompts", "kills", "saved", "maybe paid", "failed or lost", "billed", "billed twice",
        "paid and unseen", "billed again, with consent",
    )  # fmt: skip
    lines = [head, ("---",) * len(head), *(attrs.astuple(row) for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def circumstances(seconds, loads):
    return (
        f"`{' '.join(['python', 'tests/batch/kills.py', *sys.argv[1:]])}`, {seconds:.0f} s;"
        f" {time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
        f" {platform.release().split('-')[0]}, load {loads[0]:.1f} before and {loads[1]:.1f} after; Python"
        f" {platform.python_version()}, SQLite {sqlite3.sqlite_version}, aiohttp {aiohttp.__version__},"
        f" hinow-async {__version__}."
    )


def write(text):
    head, begin, rest = PAGE.read_text("utf-8").partition("<!-- begin kills -->")
    _, end, tail = rest.partition("<!-- end kills -->")
    PAGE.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", "utf-8")


def main():
    parser = argparse.ArgumentParser(description="Kill batches, and print what became of them.")
    parser.add_argument("--kills", type=int, default=200, help="at random moments")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks/kills.md")
    args = parser.parse_args()
    load, begun = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:

        def new(name):
            made = Path(folder, name)
            made.mkdir()
            return made

        rows = [at_random_moments(new("random"), kills=args.kills)]
        rows += [at_a_moment(new(moment), moment) for moment in MOMENTS]
    said = circumstances(time.monotonic() - begun, (load, os.getloadavg()[0]))
    text = f"{table(rows)}\n\n{said}"
    print(text)  # noqa: T201
    if args.write:
        write(text)


if __name__ == "__main__":
    main()
