"""A batch that may be killed, the service it buys from, and what must hold whatever happened to it.

The ledger is read by SQLite alone, from a copy, as somebody else would read it. The invariants are numbered:

1. no item is billed twice (but those that were maybe paid, after consent);
2. no item that was billed looks as if it had not been sent;
3. an item that was billed and has no answer in the ledger is maybe paid; a kill makes no more of those than
   calls were in flight;
4. each saved file is there and has the server's bytes, and after a clean end there is nothing else;
5. saved, failed, maybe paid and lost items are all items of the source;
6. the spend that the ledger reports covers what was billed, and that never exceeds the budget;
7. with consent all is made, and only what was maybe paid is billed a second time.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from decimal import Decimal
from pathlib import Path

import attrs
from relay import Relay

from hinow_async.sandbox import Behaviour, Sandbox

KILLED = -signal.SIGKILL
_ENDED = ("saved", "failed", "maybe_paid", "paid_lost")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def environment(service, relay=None):
    """The variables that lead a command to the service."""
    base_url = service.base_url if relay is None else relay.base_url
    return {**os.environ, "HINOW_BASE_URL": base_url, "HINOW_API_KEY": service.api_key}


class Zygote:
    """Starts commands that may be killed."""

    def __init__(self, folder, env, *options, inside=()):
        self.process = subprocess.Popen(
            [*inside, sys.executable, Path(__file__).parent / "zygote.py", *options],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *args, die_at=None, timeouts=None):
        job = {"args": [str(arg) for arg in args], "die_at": die_at, "timeouts": timeouts}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self):
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def kill(pid):
    """End it as `kill -9` does; it may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def opened(out, copy):
    """Open a copy of a folder's ledger, with the log that a dead process left; None: there is none."""
    copy.mkdir(exist_ok=True)
    for name in ("ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-journal"):
        (copy / name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(out / ".hinow" / name, copy)
    if not (copy / "ledger.sqlite3").exists():
        yield None
        return
    with contextlib.closing(sqlite3.connect(copy / "ledger.sqlite3")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        yield db if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] else None


@attrs.define
class Scene:
    """A source, a folder, a service, and how often its client was killed or stopped."""

    folder: Path
    service: Sandbox
    zygote: Zygote
    items: int
    limit: int
    relay: Relay | None = None
    place: str = "out"
    """The batch's folder, as its command sees it."""
    view: Path | None = None
    """The same as seen from here, where that is another path."""
    budget: Decimal | None = None
    kills: int = 0
    stops: int = 0

    @property
    def out(self):
        return self.view or self.folder / self.place

    @property
    def ids(self):
        return [f"item-{number}" for number in range(self.items)]

    def write(self):
        rows = (
            {"id": item, "prompt": f"prompt {number}", "num_images": number % 3 + 1}
            for number, item in enumerate(self.ids)
        )
        (self.folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def arguments(self, *options):
        spend = () if self.budget is None else ("--max-usd", self.budget)
        return (
            "batch", "prompts.jsonl", self.place, "--max-in-flight", self.limit, "--quiet", *spend, *options,
        )  # fmt: skip

    def start(self, *options, **more):
        return self.zygote.start(*self.arguments(*options), **more)

    def run(self, *options, **more):
        self.start(*options, **more)
        return self.zygote.ended()

    def begin_anew(self):
        """Another folder, and a service that has billed nothing."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.begin_bills()
        self.kills = 0

    def begin_bills(self):
        """Let the service forget what it billed."""
        self.service.billing.by_prompt.clear()
        self.service.billing.usd = Decimal(0)

    # -- what is known -----------------------------------------------------------------------------

    def billed(self, item):
        return self.service.billing.by_prompt[f"prompt {item.removeprefix('item-')}"]

    def ledger(self):
        return opened(self.out, self.folder / "copy")

    def states(self):
        with self.ledger() as db:
            return {} if db is None else dict(db.execute("SELECT id, state FROM items"))

    @property
    def is_done(self):
        """Whether no run will find anything to do without consent."""
        states = self.states()
        return len(states) == self.items and set(states.values()) <= {"saved", "maybe_paid"}

    def keys(self, items):
        with self.ledger() as db:
            rows = db.execute(
                "SELECT id, key FROM attempts JOIN items USING (item) WHERE attempts.state <> 'unbilled'"
            )
            return {(item, key) for item, key in rows if item in items}

    # -- what must hold ----------------------------------------------------------------------------

    def check_killed(self):
        """What must hold at any moment: invariants 1, 2, 3, 4 and 6."""
        billed = {item: self.billed(item) for item in self.ids}
        usd = self.service.billing.usd  # before the ledger is read: what is billed later is in later checks
        states = self.states()
        assert {item: count for item, count in billed.items() if count > 1} == {}
        looks_unsent = {
            item for item in billed if billed[item] and states.get(item, "planned") in {"planned", "failed"}
        }
        assert looks_unsent == set()
        assert self.budget is None or usd <= self.budget
        with self.ledger() as db:
            if db is None:
                return
            answered = {item for (item,) in db.execute("SELECT id FROM answers JOIN items USING (item)")}
            open_items = {item for item, state in states.items() if state in {"sent", "maybe_paid"}}
            assert {item for item in billed if billed[item]} <= answered | open_items
            assert spent(db) >= usd
            self._check_files(db)

    def _check_files(self, db):
        for file, digest in db.execute("SELECT file, sha256 FROM files WHERE state = 'saved'"):
            assert hashlib.sha256((self.out / file).read_bytes()).hexdigest() == digest

    def check_ended(self, *, most_billed=1):
        """What must hold when a run came to its end: invariants 1 to 6."""
        self.check_bills(most_billed)
        states = Counter(self.states().values())
        assert sum(states[state] for state in _ENDED) == self.items
        self.check_folder(states)
        return states

    def check_bills(self, most_billed=1):
        assert {item: self.billed(item) for item in self.ids if self.billed(item) > most_billed} == {}

    def check_folder(self, states):
        """The folder is as a clean end leaves it."""
        with self.ledger() as db:
            saved = set(db.execute("SELECT file, sha256 FROM files WHERE state = 'saved'"))
            assert db.execute("SELECT count(*) FROM attempts WHERE state = 'open'").fetchone() == (0,)
            assert spent(db) >= self.service.billing.usd
            self._check_files(db)
        manifest = [json.loads(line) for line in (self.out / "manifest.jsonl").read_text().splitlines()]
        assert len(manifest) == len(saved)
        assert {(row["file"], row["sha256"]) for row in manifest} == saved
        images = self.out / "images"
        assert {f"images/{name}" for name in (names(images) if images.exists() else ())} == {
            file for file, _ in saved
        }
        assert set(names(self.out)) - {"images"} == {".hinow", "failures.jsonl", "manifest.jsonl"}
        assert set(names(self.out / ".hinow")) - {"answers"} == {"ledger.sqlite3", "lock"}
        self._check_failures(states)

    def _check_failures(self, states):
        failures = [json.loads(line) for line in (self.out / "failures.jsonl").read_text().splitlines()]
        assert Counter(row["outcome"] for row in failures)["unknown"] == states["maybe_paid"]
        assert all(row["prompt"] and row["at"] for row in failures)
        died = sum(row["error"] == "ProcessDied" for row in failures)
        assert died <= self.kills * self.limit
        assert states["maybe_paid"] - died <= self.stops * self.limit + self.items // 10

    def check_pictures(self):
        """Each saved picture has the bytes that the service has for it; its faults are over."""
        with self.ledger() as db:
            rows = db.execute(
                "SELECT body, picture, sha256 FROM files JOIN answers USING (item) WHERE state = 'saved'"
            ).fetchall()
        for body, picture, digest in rows:
            with urllib.request.urlopen(json.loads(body)["data"]["urls"][picture]) as answer:
                assert hashlib.sha256(answer.read()).hexdigest() == digest

    def check_resent(self):
        """With consent all is made, and only what was maybe paid is billed again: invariant 7."""
        before = {item for item, state in self.states().items() if state == "maybe_paid"}
        keys = self.keys(before)
        self.service.change(faults=(), latency=0.0, latency_jitter=0.0)
        self.budget = None
        assert self.run("--resend-unknown") == 0
        states = self.check_ended(most_billed=2)
        assert states == {"saved": self.items}
        assert {item for item in self.ids if self.billed(item) == 2} <= before
        assert self.keys(before) == keys
        self.check_pictures()
        return states


def spent(db):
    rows = db.execute("SELECT usd FROM attempts WHERE state <> 'unbilled'")
    return sum((Decimal(usd) for (usd,) in rows), Decimal(0))


@contextlib.contextmanager
def setting(folder, items, *, limit=8, is_relayed=False, seed=None, disk=None, budget=None, **behaviour):
    """Set a scene.

    Args:
        folder: An empty one.
        items: Items of the source.
        limit: Calls in flight.
        is_relayed: Put a relay before the service, which tells how far each exchange is.
        seed: Let the wall clock of the commands jump; None: it is left alone.
        disk: Bytes of the disk that the batch's folder lies on, one of its own; None: no such disk.
        budget: US dollars for all runs together.
        **behaviour: Of the service.

    Raises:
        NotADirectoryError: a disk cannot be made here.
    """
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Sandbox.in_thread(Behaviour(**{"picture_size": 64, **behaviour})))
        relay = stack.enter_context(Relay(service.origin)) if is_relayed else None
        options = () if seed is None else ("--jumping-clock", str(seed))
        inside = () if disk is None else _own_disk(folder, disk)
        zygote = Zygote(folder, environment(service, relay), *options, inside=inside)
        stack.callback(zygote.close)
        scene = Scene(folder, service, zygote, items, limit, relay, budget=budget)
        if disk is not None:
            scene.place = "disk/out"
            scene.view = Path(f"/proc/{zygote.process.pid}/root{folder.resolve()}/disk/out")
        scene.write()
        yield scene


def may_mount():
    """Whether a disk of one's own can be had here."""
    try:
        return subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _own_disk(folder, size):
    (folder / "disk").mkdir()
    script = f'mount -t tmpfs -o size={size} tmpfs disk && exec "$@"'
    return ("unshare", "-Urm", "sh", "-c", script, "sh")
