"""The downloader's threads: everything that is handed to them is done, and its caller is told, once."""

import asyncio
import os
import threading

import pytest

from hinow_async._download import threads as module
from hinow_async._download.threads import Threads


@pytest.fixture
def threads():
    threads = Threads(3)
    yield threads
    threads.close()


def doubled(number, wait):
    """Steps that wait in between."""
    yield wait
    return 2 * number


async def test_results_and_errors_reach_who_waits(threads):
    """Also an error that no future takes."""
    assert await threads.run(int, "12") == 12
    with pytest.raises(ValueError, match="abc"):
        await threads.run(int, "abc")
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(next, iter(()))


async def test_no_more_threads_work_than_were_allowed(threads):
    """As many works as there are threads run side by side, and the others wait for them."""
    meeting, running, most = threading.Barrier(3), [0], [0]
    lock = threading.Lock()

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        meeting.wait(30)  # only three that run at once get on
        with lock:
            running[0] -= 1

    await asyncio.gather(*(threads.run(work) for _ in range(30)))
    assert most == [3]


async def test_nothing_waits_for_a_thread_that_is_held_up(threads):
    """One that hangs, a disk that is gone for instance, holds up itself; the other threads go on."""
    let_go = threading.Event()
    hanging = threads.run(let_go.wait, 30)
    assert [await threads.run(abs, -number) for number in range(500)] == list(range(500))
    assert not hanging.done()
    let_go.set()
    assert await hanging


async def test_all_is_done_however_it_comes(threads):
    """One at a time or thousands at once, and after an end too."""
    done = []
    for size in (1, 2, 5, 1, 4000, 1, 3):
        await asyncio.gather(*(threads.run(done.append, 0) for _ in range(size)))
        threads.close()
    assert len(done) == 4013


async def test_threads_that_are_no_more_needed_end(threads):
    """Each goes back to its pool when there was nothing for it for a while."""
    await asyncio.gather(*(threads.run(abs, number) for number in range(50)))
    async with asyncio.timeout(30):
        while threads._crew._there:
            await asyncio.sleep(0.01)
    assert await threads.run(abs, -1) == 1


async def test_steps_need_no_thread_while_they_wait(threads):
    """Many more wait than there are threads, and other works are done meanwhile."""
    told = []
    steps = [threads.run_steps(doubled(number, told.append)) for number in range(100)]
    while len(told) < 100:
        await asyncio.sleep(0)
    assert await threads.run(abs, -1) == 1
    for tell in reversed(told):
        tell(None)
    assert await asyncio.gather(*steps) == [2 * number for number in range(100)]


async def test_steps_are_told_what_was_wrong(threads):
    """Where they wait: they may mend it, or end with it."""
    failing = threads.run_steps(doubled(1, lambda tell: tell(OSError("disk"))))
    with pytest.raises(OSError, match="disk"):
        await failing

    def failed(tell):
        raise OSError("never begun")

    with pytest.raises(OSError, match="never begun"):
        await threads.run_steps(doubled(1, failed))


async def test_steps_that_wait_go_on_after_the_threads_were_closed(threads):
    """What is under way comes to its end."""
    told = []
    steps = [threads.run_steps(doubled(number, told.append)) for number in range(5)]
    while len(told) < 5:
        await asyncio.sleep(0)
    threads.close()
    await asyncio.sleep(4 * module._LINGER)
    for tell in told:
        tell(None)
    assert await asyncio.gather(*steps) == [0, 2, 4, 6, 8]


async def test_steps_that_were_begun_are_brought_to_their_end(threads):
    """Whether or not their caller still waits."""
    told, seen = [], []

    def steps():
        yield told.append
        seen.append("went on")

    waiting = threads.run_steps(steps())
    while not told:
        await asyncio.sleep(0)
    waiting.cancel()
    told[0](None)
    while not seen:
        await asyncio.sleep(0)
    assert seen == ["went on"]


async def test_what_is_cancelled_before_it_begins_is_not_done(threads):
    """And what was begun is, though nobody waits for it; an error of it is no news."""
    let_go, done = threading.Event(), []
    hanging = [threads.run(let_go.wait, 30) for _ in range(3)]
    waiting = threads.run(done.append, 0)
    waiting.cancel()
    hanging[0].cancel()
    let_go.set()
    await asyncio.wait({*hanging, threads.run(done.append, 1)})
    assert done == [1]
    threads.run(int, "abc")
    await threads.run(done.append, 2)


def test_a_loop_that_is_closed_is_told_nothing(threads):
    """What was under way in it ends, and the next loop has the same threads."""
    let_go, done = threading.Event(), threading.Event()

    def work():
        let_go.wait(30)
        done.set()

    async def leave():
        threads.run(work)

    async def come():
        return await threads.run(int, "3")

    asyncio.run(leave())
    let_go.set()
    assert done.wait(30)
    assert asyncio.run(come()) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(threads):
    """Its parent's are not there."""

    async def ask():
        return await threads.run(os.getpid)

    assert asyncio.run(ask()) == os.getpid()
    child = os.fork()
    if not child:
        os._exit(0 if asyncio.run(ask()) == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0
