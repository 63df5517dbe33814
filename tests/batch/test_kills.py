"""Batches that are killed: what the ledger says afterwards, beside what the service billed.

The ledger is read by SQLite alone, from a copy, as somebody else would read it.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from hinow_async.sandbox import Behaviour, Fault, Sandbox

PRICE = Decimal("0.087")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Zygote:
    """Starts commands that may be killed."""

    def __init__(self, folder, service):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "zygote.py"],
            cwd=folder,
            env={**os.environ, "HINOW_BASE_URL": service.base_url, "HINOW_API_KEY": service.api_key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *args, die_at=None):
        self.process.stdin.write(json.dumps({"args": [str(arg) for arg in args], "die_at": die_at}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self):
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@attrs.define
class Scene:
    """A source, a folder, a service, and how often its client was killed."""

    folder: Path
    service: Sandbox
    zygote: Zygote
    items: int
    limit: int
    kills: int = 0

    @property
    def out(self):
        return self.folder / "out"

    def write(self):
        rows = (
            {"id": f"item-{n}", "prompt": f"prompt {n}", "num_images": n % 3 + 1} for n in range(self.items)
        )
        (self.folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, *options, **more):
        return self.zygote.start(
            "batch", "prompts.jsonl", "out", "--max-in-flight", self.limit, "--quiet", *options, **more
        )

    def run(self, *options):
        self.start(*options)
        return self.zygote.ended()

    def billed(self, item):
        return self.service.billing.by_prompt[f"prompt {item.removeprefix('item-')}"]

    @contextlib.contextmanager
    def ledger(self):
        """Open a copy of the ledger, with the log that a dead process left."""
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for name in ("ledger.sqlite3", "ledger.sqlite3-wal"):
            (copy / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.out / ".hinow" / name, copy)
        if not (copy / "ledger.sqlite3").exists() or not (copy / "ledger.sqlite3").stat().st_size:
            yield None
            return
        with contextlib.closing(sqlite3.connect(copy / "ledger.sqlite3")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            yield db if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] else None

    def states(self):
        with self.ledger() as db:
            return {} if db is None else dict(db.execute("SELECT id, state FROM items"))

    def check_killed(self):
        """What must hold at any moment."""
        states = self.states()
        for number in range(self.items):
            item = f"item-{number}"
            billed = self.billed(item)
            assert billed <= 1, f"{item} was paid {billed} times"
            if billed:
                assert states.get(item, "planned") not in {"planned", "failed"}, f"{item}: {states.get(item)}"
        with self.ledger() as db:
            if db is None:
                return
            for file, digest in db.execute("SELECT file, sha256 FROM files WHERE state = 'saved'"):
                assert hashlib.sha256((self.out / file).read_bytes()).hexdigest() == digest

    def check_ended(self, *, most_billed=1):
        """What must hold when a run came to its end."""
        states = Counter(self.states().values())
        assert sum(states[state] for state in ("saved", "failed", "maybe_paid", "paid_lost")) == self.items
        assert states["maybe_paid"] <= self.kills * self.limit + self.items // 10
        with self.ledger() as db:
            saved = set(db.execute("SELECT file, sha256 FROM files WHERE state = 'saved'"))
            spent = sum(
                (Decimal(usd) for (usd,) in db.execute("SELECT usd FROM attempts WHERE state <> 'unbilled'")),
                Decimal(0),
            )
            assert db.execute("SELECT count(*) FROM attempts WHERE state = 'open'").fetchone() == (0,)
        manifest = [json.loads(line) for line in (self.out / "manifest.jsonl").read_text().splitlines()]
        assert len(manifest) == len(saved)
        assert {(row["file"], row["sha256"]) for row in manifest} == saved
        lying = {f"images/{path.name}" for path in (self.out / "images").iterdir()}
        assert lying == {file for file, _ in saved}
        assert names(self.out) == [".hinow", "failures.jsonl", "images", "manifest.jsonl"]
        assert names(self.out / ".hinow") == ["ledger.sqlite3", "lock"]
        assert spent >= self.service.billing.usd
        failures = [json.loads(line) for line in (self.out / "failures.jsonl").read_text().splitlines()]
        assert Counter(row["outcome"] for row in failures)["unknown"] == states["maybe_paid"]
        assert all(row["prompt"] and row["at"] for row in failures)
        assert all(self.billed(f"item-{number}") <= most_billed for number in range(self.items))
        return states

    def check_resent(self):
        """With consent all is made, and only what was maybe paid may have been paid twice."""
        before = {item for item, state in self.states().items() if state == "maybe_paid"}
        keys = self.keys(before)
        self.service.change(faults=(), latency=0.0, latency_jitter=0.0)
        assert self.run("--resend-unknown") == 0
        states = self.check_ended(most_billed=2)
        assert states == {"saved": self.items}
        twice = {f"item-{n}" for n in range(self.items) if self.billed(f"item-{n}") == 2}
        assert twice <= before
        assert self.keys(before) == keys

    def keys(self, items):
        with self.ledger() as db:
            rows = db.execute(
                "SELECT id, key FROM attempts JOIN items USING (item) WHERE attempts.state <> 'unbilled'"
            )
            return {(item, key) for item, key in rows if item in items}


@pytest.fixture
def stage(tmp_path):
    """Set a scene: so many items, and how the service behaves."""
    with contextlib.ExitStack() as stack:

        def make(items, limit=8, **behaviour):
            service = stack.enter_context(Sandbox.in_thread(Behaviour(picture_size=64, **behaviour)))
            zygote = Zygote(tmp_path, service)
            stack.callback(zygote.close)
            scene = Scene(tmp_path, service, zygote, items, limit)
            scene.write()
            return scene

        yield make


TROUBLE = (
    Fault(probability=0.1, seed=1, status=429, headers={"retry-after-ms": "30"}),
    Fault(probability=0.03, seed=2, drop="after"),
    Fault(path="files", probability=0.2, seed=3, stall=0.05, truncate=300),
)


def kill_at_random(scene, kills, within, seed):
    """Start it again and again, and kill it within so many seconds of its first sign of life."""
    rng = random.Random(seed)
    while True:
        received = scene.service.billing.received
        pid = scene.start()
        if scene.kills < kills:
            until = time.monotonic() + 10
            while scene.service.billing.received == received and time.monotonic() < until:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, within))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = scene.zygote.ended()
        scene.check_killed()
        if code != -signal.SIGKILL:
            return
        scene.kills += 1


@pytest.mark.parametrize(
    ("items", "limit", "kills", "within"),
    [(150, 8, 20, 0.25), pytest.param(500, 2, 200, 0.2, marks=pytest.mark.slow)],
    ids=["20", "200"],
)
def test_kill_9_at_random_moments(stage, items, limit, kills, within):
    """No paid item ever looks unsent; every item is saved or reported; with consent all is made."""
    scene = stage(items, limit, latency=0.005, latency_jitter=0.075, faults=TROUBLE)
    kill_at_random(scene, kills, within, seed=items)
    assert scene.kills >= kills // 2
    scene.check_ended()
    scene.check_resent()


@pytest.mark.parametrize(
    "first", [pytest.param(7), *(pytest.param(n, marks=pytest.mark.slow) for n in range(7))]
)
def test_kill_9_at_every_durable_step(stage, first):
    """Before and after each fsync, link, rename and commit: each in a folder of its own."""
    scene = stage(2)
    for number in range(first + 1, 1000, 8):
        shutil.rmtree(scene.out, ignore_errors=True)
        scene.service.billing.by_prompt.clear()
        scene.start(die_at=number)
        code = scene.zygote.ended()
        if code != -signal.SIGKILL:
            assert number > 40
            return
        scene.check_killed()
        assert scene.run() in {0, 1}
        scene.check_killed()
        maybe = sum(state == "maybe_paid" for state in scene.states().values())
        assert scene.run("--resend-unknown") == 0
        assert set(scene.states().values()) == {"saved"}
        assert sum(scene.service.billing.by_prompt.values()) <= 2 + maybe
    raise AssertionError("it never ended by itself")
