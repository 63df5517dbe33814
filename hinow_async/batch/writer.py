"""Group commits: one thread owns the connection that writes, and what comes together is committed together.

With `synchronous=FULL` a commit costs an fsync, which takes longer than all else that the ledger does. So
changes queue up while one is under way, and go into the next together. When it is quiet a change is committed
at once; under load the thread waits a moment, so that more come together.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from hinow_async._errors import LedgerCorruptError

Change = Callable[..., None]
"""Executes its statements with a cursor, and the arguments that it is handed over with; it begins and ends no
transaction. A function with its arguments, for each variable of a closure is one more object."""

GATHER: Final = 0.006
"""Seconds that changes are gathered under load."""
MOST: Final = 256
"""Changes in one transaction."""

_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@attrs.define
class _Entry:
    change: Change
    args: tuple[Any, ...]
    waiter: asyncio.Future[None] | Callable[[Exception | None], None] | None
    """Who waits until it is durable, or what is called in the thread; None: nobody waits, and a full disk
    does not lose it."""
    then: Callable[..., None] | None = None
    """Called in the thread, with the same arguments, once it is durable."""


class Writer:
    """Commits changes in their order, in a thread of its own."""

    def __init__(self, connection: sqlite3.Connection, name: str, after: Callable[[], None]) -> None:
        """Begin; made and used on one event loop.

        Args:
            connection: Nobody else uses it from now on.
            name: How messages call the database.
            after: Called in the thread after each commit, and what its changes have to be called then.
        """
        self._cursor = connection.cursor()
        self._name = name
        self._after = after
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._late: list[_Entry] = []
        """Changes that nobody waits for, and that could not be committed yet."""
        self._problem: Exception | None = None
        self._has_ended = False
        self._thread = threading.Thread(target=self._work, name="hinow-ledger", daemon=True)
        self._thread.start()

    def put(self, change: Change, *args: Any, then: Callable[..., None] | None = None) -> None:
        """Commit *change* after all that came before it, soon; nobody waits."""
        self._hand_over(_Entry(change, args, None, then))

    def commit(self, change: Change, *args: Any) -> asyncio.Future[None]:
        """Commit *change*; it is durable when what is returned is done. Cancelling that takes nothing back.

        Raises:
            OSError: it could not be written.
            LedgerCorruptError: the database turned out to be damaged.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._hand_over(_Entry(change, args, waiter))
        return waiter

    def commit_and_tell(self, told: Callable[[Exception | None], None], change: Change, *args: Any) -> None:
        """Like `commit`, for threads: *told* is called in the writer's, with what was wrong, if it was."""
        self._hand_over(_Entry(change, args, told))

    def _hand_over(self, entry: _Entry) -> None:
        self._queue.put(entry)
        if self._has_ended:  # looked at after it was put: either the thread finds it, or this does
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Say of what came after the end that it was not committed: who waits would wait for ever."""
        left: list[_Entry | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                left.append(self._queue.get_nowait())
        closed = OSError(errno.EBADF, "the ledger is closed", self._name)
        self._wake([entry for entry in left if entry is not None], closed)

    def close(self) -> None:
        """Commit what is left, and end the thread; blocks.

        Raises:
            OSError: something could not be written.
        """
        self.end()
        if self._late and self._problem is not None:
            raise self._problem

    def end(self) -> None:
        """Commit what can be, and end the thread; blocks."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    # -- in the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        is_busy = is_ending = False
        while not is_ending:
            group: list[_Entry | None] = []
            if is_busy:
                # Asleep and not waiting for the next one, so that under load nobody has to wake this thread.
                time.sleep(GATHER)
                self._gather(group)
            if not group:
                group.append(self._queue.get())
                self._gather(group)
            is_ending = group[-1] is None
            entries = [entry for entry in group if entry is not None]
            is_busy = len(entries) > 1
            self._commit(entries)
        self._has_ended = True
        self._refuse_rest()

    def _gather(self, group: list[_Entry | None]) -> None:
        """Take what has come by now."""
        with contextlib.suppress(queue.Empty):
            while len(group) < MOST and None not in group[-1:]:
                group.append(self._queue.get_nowait())

    def _commit(self, entries: list[_Entry]) -> None:
        entries = [*self._late, *entries]
        self._late = []
        if not entries:
            return
        problem: Exception | None = None
        try:
            self._execute(entries)
        except Exception as error:  # every kind of it goes to those who wait
            problem = self._problem = self._translated(error)
            self._late = [entry for entry in entries if entry.waiter is None]
        else:
            for entry in entries:
                if entry.then is not None:
                    entry.then(*entry.args)
            self._after()
        self._wake(entries, problem)

    def _execute(self, entries: Iterable[_Entry]) -> None:
        cursor = self._cursor
        cursor.execute("BEGIN IMMEDIATE")
        try:
            for entry in entries:
                entry.change(cursor, *entry.args)
            cursor.execute("COMMIT")
        except BaseException:
            if cursor.connection.in_transaction:  # some failures have rolled it back already
                cursor.execute("ROLLBACK")
            raise

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _CORRUPT:
            return LedgerCorruptError(
                f"{self._name} is damaged ({error}): nothing more was sent, nothing was deleted;"
                " restore it from a copy, or choose another folder"
            )
        number = errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
        return OSError(number, f"the ledger cannot be written to: {error}", self._name)

    def _wake(self, entries: Iterable[_Entry], problem: Exception | None) -> None:
        waiting = []
        for entry in entries:
            if isinstance(entry.waiter, asyncio.Future):
                waiting.append(entry.waiter)
            elif entry.waiter is not None:
                entry.waiter(problem)
        if waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle_all, waiting, problem)


def _settle_all(waiters: Iterable[asyncio.Future[None]], problem: Exception | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if problem is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(problem)
