"""Batches that are killed, stopped, or run out of disk: what the ledger says, and what was billed."""

import shutil
from datetime import datetime

import kills
import pytest
from kills import BRIEF_TROUBLE, PHASE, PRICE
from relay import MOMENTS
from scene import KILLED, may_mount, setting


def slow(*values, name):
    return pytest.param(*values, marks=pytest.mark.slow, id=name)


def test_kill_9_at_random_moments(tmp_path):
    """No paid item ever looks unsent; every item is saved or reported; with consent all is made."""
    row = kills.at_random_moments(
        tmp_path, items=120, limit=6, kills=PHASE, within=0.25, seed=120, faults=BRIEF_TROUBLE
    )
    assert (row.twice, row.unseen) == (0, 0)


@pytest.mark.slow
def test_kill_9_at_two_hundred_random_moments(tmp_path):
    """The same with 500 prompts."""
    row = kills.at_random_moments(tmp_path)
    assert (row.twice, row.unseen) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_at_ten_moments_that_the_service_knows(tmp_path, moment):
    """Ten times at each, while others are in flight and faults strike."""
    row = kills.at_a_moment(tmp_path, moment)
    assert (row.kills, row.twice, row.unseen) == (10, 0, 0)


def test_kill_9_at_each_moment_that_the_service_knows(tmp_path):
    """From the accepted connection to half a file: once each, one after another."""
    with setting(tmp_path, 8, limit=2, latency=0.005, is_relayed=True) as scene:
        for moment in MOMENTS:
            kills.at_moment(scene, moment, 1, seed=7)
            scene.kills = 0
            (tmp_path / "out").rename(tmp_path / moment)
            scene.begin_anew()


@pytest.mark.parametrize(
    "first", [pytest.param(7), *(pytest.param(n, marks=pytest.mark.slow) for n in range(7))]
)
def test_kill_9_at_every_durable_step(tmp_path, first):
    """Before and after each fsync, link, rename and commit: each in a folder of its own."""
    with setting(tmp_path, 2) as scene:
        for number in range(first + 1, 1000, 8):
            scene.begin_anew()
            scene.start(die_at=number)
            code = scene.zygote.ended()
            if code != KILLED:
                assert number > 40
                return
            scene.kills = 1
            scene.check_killed()
            assert scene.run() in {0, 1}
            scene.check_killed()
            scene.check_resent()
    raise AssertionError("it never ended by itself")


@pytest.mark.parametrize(
    ("items", "most", "seed"), [pytest.param(20, 2, 1, id="2"), slow(200, 50, 2, name="50")]
)
def test_a_wall_clock_that_jumps(tmp_path, items, most, seed):
    """By hours, to and fro, while it is killed: nothing waits for it, and nothing is billed twice."""
    faults = (kills.dated_refusals(), *BRIEF_TROUBLE[1:])
    with setting(tmp_path, items, limit=3, seed=seed, faults=faults) as scene:
        kills.at_random(scene, most, 0.3, seed)
        scene.check_ended()
        with scene.ledger() as db:
            (first, last) = db.execute("SELECT min(at), max(at) FROM attempts").fetchone()
        assert (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() > 3600
        scene.check_resent()


@pytest.mark.parametrize(
    ("items", "stops", "most", "seed"), [pytest.param(20, 2, 1, 1, id="2"), slow(300, 40, 10, 2, name="40")]
)
def test_a_process_that_is_stopped_for_longer_than_its_timeouts(tmp_path, items, stops, most, seed):
    """Calls that it slept through may have been paid for, and none of them is sent again."""
    with setting(tmp_path, items, limit=3, latency=0.02, latency_jitter=0.06) as scene:
        kills.stopped_at_random(scene, stops, most, seed)
        assert scene.stops >= stops // 2
        scene.check_ended()
        scene.check_resent()


@pytest.mark.parametrize(
    ("items", "rounds", "seed"), [pytest.param(20, 2, 1, id="2"), slow(300, 30, 2, name="30")]
)
def test_a_disk_that_is_full_in_the_midst(tmp_path, items, rounds, seed):
    """Full, killed or not, and room again: what was paid is there, and nothing is billed twice."""
    if not may_mount():
        pytest.skip("no user namespaces here")
    with setting(
        tmp_path, items, limit=3, disk=32_000_000, latency=0.01, latency_jitter=0.05, faults=BRIEF_TROUBLE
    ) as scene:
        kills.with_full_disk(scene, rounds, seed)
        scene.check_ended()
        scene.check_resent()


@pytest.mark.parametrize(("items", "most"), [pytest.param(40, 4, id="4"), slow(400, 60, name="60")])
def test_a_budget_holds_over_runs_that_are_killed(tmp_path, items, most):
    """What was billed never exceeds it, whatever the ledger did not hear of; and it is used to its end."""
    usd = PRICE * items
    with setting(
        tmp_path, items, limit=3, budget=usd, latency=0.01, latency_jitter=0.04, faults=BRIEF_TROUBLE
    ) as scene:
        kills.at_random(scene, most, 0.25, seed=items)
        assert scene.run() == 3
        scene.check_killed()
        scene.check_bills()
        with scene.ledger() as db:
            spent = kills.spent(db)
        assert scene.service.billing.usd <= spent <= usd
        assert usd - spent < 3 * PRICE


def test_a_folder_that_is_carried_elsewhere_goes_on(tmp_path):
    """Killed, copied to another place, removed here: the copy goes on, and no path in it leads back."""
    with setting(tmp_path, 30, limit=3, latency=0.02, is_relayed=True) as scene:
        scene.relay.aim("file half written", 9)
        scene.relay.at(scene.start())
        assert kills.has_been_killed(scene)
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        shutil.copytree(scene.out, tmp_path / "elsewhere/deep/copy")
        shutil.rmtree(scene.out)
        scene.place = "elsewhere/deep/copy"
        assert scene.run() in {0, 1}
        scene.check_ended()
        scene.check_resent()
        assert not (tmp_path / "out").exists()


def test_a_line_that_a_kill_tore(tmp_path):
    """Half a line at the manifest's end: it is cut off, and the ledger tells the rest."""
    with setting(tmp_path, 20, limit=3, latency=0.02, is_relayed=True) as scene:
        scene.relay.aim("file half written", 9)
        scene.relay.at(scene.start())
        assert kills.has_been_killed(scene)
        manifest = scene.out / "manifest.jsonl"
        content = manifest.read_bytes()
        assert content.count(b"\n") > 1
        manifest.write_bytes(content[:-20])
        assert scene.run() in {0, 1}
        scene.check_ended()
