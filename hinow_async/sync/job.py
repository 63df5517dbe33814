"""One call that runs in the loop while its caller waits, and how the two threads tell each other of it.

They meet in `call_soon_threadsafe` and `SimpleQueue` alone, which are not harmed by a `KeyboardInterrupt` at
any moment. `concurrent.futures.Future`, and so anyio's portal, is: struck between the lines of its condition
it stays locked, and the loop that would tell it the result stands still for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from hinow_async._errors import ConfigurationError

T = TypeVar("T")

TIDYING: Final = 5.0
"""Seconds that an interrupted caller waits for its call to tidy up."""
TURN: Final = 0.5
"""Seconds between two looks at signals: Windows does not interrupt who waits for another thread."""

Mail = queue.SimpleQueue[Any]
"""What the loop has for a waiting caller: the job that is over, or errands to do in his thread."""


class Job(Generic[T]):
    """One call that runs in the loop while its caller waits."""

    def __init__(self, call: Callable[[], Awaitable[T]], mail: Mail) -> None:
        self._call: Callable[[], Awaitable[T]] | None = call
        self._mail = mail
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._is_cancelled = False
        self._is_over = False

    async def run(self) -> None:
        """Make the call. Whatever it raises is the caller's: none of it may end the portal."""
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        call, self._call = self._call, None
        try:
            if call is not None and not self._is_cancelled:
                result = await call()
                if not self._is_cancelled:
                    self._result.append(result)
                del result  # else a stream that nobody takes would stay open as long as this frame
        except BaseException as error:
            trace = error.__traceback__
            self._error = error.with_traceback(trace.tb_next if trace is not None else None)
        finally:
            self._is_over = True
            self._task = None
            del call
            self._mail.put(self)

    def outcome(self, thread: threading.Thread) -> T:
        """Wait for the call in the caller's thread, doing errands; return its result or raise its error."""
        while not self._take(thread):
            pass
        if self._result:
            return self._result.pop()  # the job may outlive its caller's interest in what it brought
        error, self._error = self._error, None
        try:
            if error is None or isinstance(error, asyncio.CancelledError):
                raise ConfigurationError("the client was closed while this call was under way")
            raise error
        finally:
            del error  # else its traceback would keep this frame, and the frame the error

    def _take(self, thread: threading.Thread) -> bool:
        """Take the next letter and do what it asks; return whether the call is over."""
        letter = next_letter(self._mail, thread)
        if callable(letter):
            letter()
        return letter is self

    def cancel(self) -> None:
        """Cancel the call, and wait shortly until it has tidied up."""
        self._is_cancelled = True  # where it has not begun yet it never will
        loop = self._loop
        if loop is not None and not self._is_over:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._cancel_task)
            if loop is not _running_loop():
                self._await_end()
        # It may lie in the mail, and the mail in it, until the collector comes.
        self._result.clear()
        self._error = None

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _await_end(self) -> None:
        # An interrupted caller runs no more errands now; they are kept for when he waits again.
        kept = []
        try:
            while not self._is_over:
                letter = self._mail.get(timeout=TIDYING)
                if callable(letter):
                    kept.append(letter)
        except queue.Empty:
            pass  # it takes too long: it will end by itself
        finally:
            for errand in kept:
                self._mail.put(errand)


def next_letter(mail: Mail, thread: threading.Thread) -> Any:
    """Wait for what the loop has to say, as long as its thread lives."""
    while True:
        is_alive = thread.is_alive()
        try:
            return mail.get(timeout=TURN)
        except queue.Empty:
            if not is_alive:
                raise closed_error() from None


def closed_error() -> ConfigurationError:
    """Return what a call of a closed client raises."""
    return ConfigurationError("the client is closed: make a new one")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
