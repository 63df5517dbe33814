"""A process that has imported everything and forks a `hinow` for each line it reads, so that killing hundreds
of them costs no hundreds of imports.

A line is JSON: the arguments, the number of the durable step at which the child kills itself (or null), and
timeouts other than those of the command (or null). It answers with the child's pid, and with its exit status
once that is gone. With `--jumping-clock SEED` the wall clock of the children leaps to and fro.
"""

import asyncio
import datetime
import itertools
import json
import os
import random
import signal
import sys
import time

LEAP = 6 * 3600
"""Seconds that the wall clock is wrong by, at most, either way."""


def let_the_clock_jump(seed):
    """Make the wall clock leap by hours, twenty times a second; the monotonic one is left alone."""
    true_time = time.time

    def jumping():
        moment = f"{seed}/{os.getpid()}/{int(time.monotonic() * 20)}"
        return true_time() + random.Random(moment).uniform(-LEAP, LEAP)

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(jumping(), tz)

    time.time = jumping
    time.time_ns = lambda: int(jumping() * 1e9)
    datetime.datetime = Jumping


if "--jumping-clock" in sys.argv:
    let_the_clock_jump(sys.argv[-1])  # before anything takes the clock's functions by their names

from hinow_async import AsyncHinow, Limits, Timeouts, cli  # noqa: E402
from hinow_async.batch import generate_batch, runner, writer  # noqa: E402, F401 - imported before the fork
from hinow_async.cli import batch  # noqa: E402, F401 - imported before the fork


def die_at(number):
    """Have this process killed before or after a durable step: fsync, link, rename, commit."""
    steps = itertools.count(1)

    def step():
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(function):
        def wrapped(*args, **options):
            step()
            result = function(*args, **options)
            step()
            return result

        return wrapped

    os.fsync = deadly(os.fsync)
    os.replace = deadly(os.replace)
    os.unlink = deadly(os.unlink)
    writer.Writer._execute = deadly(writer.Writer._execute)
    link = deadly(os.link)
    os.supports_dir_fd.add(link)
    os.supports_follow_symlinks.add(link)
    os.link = link


async def with_timeouts(args, timeouts):
    """Do what the command does, with timeouts that it has no options for."""
    _, source, out, _, limit, *_ = args
    limits = Limits(max_in_flight=int(limit))
    async with AsyncHinow(timeouts=Timeouts(**timeouts), limits=limits) as client:
        report = await generate_batch(client, source, out)
    return 0 if report.is_complete else 1


def run(job):
    """Be the command."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    if job["die_at"] is not None:
        die_at(job["die_at"])
    if job["timeouts"] is not None:
        os._exit(asyncio.run(with_timeouts(job["args"], job["timeouts"])))
    os._exit(cli.main(job["args"]))


def main():
    """Fork, tell, wait, again."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            run(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
