"""A process that has imported everything and forks a `hinow` for each line it reads, so that killing hundreds
of them costs no hundreds of imports.

A line is JSON: the arguments, and the number of the durable step at which the child kills itself (or null).
It answers with the child's pid, and with its exit status once that is gone.
"""

import itertools
import json
import os
import signal
import sys

from hinow_async import cli
from hinow_async.batch import runner, writer  # noqa: F401 - imported before the fork
from hinow_async.cli import batch  # noqa: F401 - imported before the fork


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


def run(job):
    """Be the command."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    if job["die_at"] is not None:
        die_at(job["die_at"])
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
