"""Many calls at once, as an ordinary iterator of outcomes.

The source is user code, so it runs in the user's thread: whenever he waits for an outcome, the loop sends
him to fetch what it has use for. A generator may thus hold a database cursor, block, be interrupted, and use
the very client it feeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sized
from typing import Any, Generic, Self, TypeVar, cast

from hinow_async._errors import ConfigurationError
from hinow_async._resources import many
from hinow_async._resources.many import END
from hinow_async.sync.binding import twin
from hinow_async.sync.job import Mail
from hinow_async.sync.portal import Portal

O = TypeVar("O")  # noqa: E741 - an outcome


class Pulled:
    """A synchronous iterable as the loop sees it: each pull is an errand for the thread that reads."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items
        self._iterator: Iterator[Any] | None = None
        self.mail: Mail = queue.SimpleQueue()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self.mail.put(functools.partial(self._fetch, loop, answer))
        item = await answer
        if item is END:
            raise StopAsyncIteration
        return item

    def _fetch(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any]) -> None:
        """Pull one item, in the reader's thread, unless nobody waits for it any more."""
        if answer.cancelled():
            return
        try:
            if self._iterator is None:
                self._iterator = iter(self._items)
            item = next(self._iterator, END)
        except Exception as error:
            _tell(loop, answer, functools.partial(answer.set_exception, error))
        except BaseException:
            _tell(loop, answer, answer.cancel)
            raise
        else:
            _tell(loop, answer, functools.partial(answer.set_result, item))

    def close(self) -> None:
        """Close a generator, so that its `finally` runs now, in the thread that it has run in."""
        if self._iterator is not None and hasattr(self._iterator, "close"):
            self._iterator.close()


class SizedPulled(Pulled):
    """One whose number is known."""

    def __len__(self) -> int:
        return len(cast("Sized", self._items))


def pulled(items: Iterable[Any]) -> Pulled:
    """Return what the loop sees of a source of the user's.

    Raises:
        ValueError: it is no iterable, or an asynchronous one.
    """
    if not isinstance(items, Iterable) or isinstance(items, str | bytes):
        raise ValueError(
            f"requests must be an iterable of prompts or requests, not {type(items).__name__};"
            " asynchronous ones are for AsyncHinow"
        )
    return SizedPulled(items) if isinstance(items, Sized) else Pulled(items)


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], settle: Callable[[], Any]) -> None:
    def settle_once() -> None:
        if not answer.done():
            settle()

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(settle_once)


async def _leave(outcomes: many.Outcomes[Any]) -> None:
    with contextlib.suppress(ConfigurationError):  # Ctrl-C was so early that there is nothing to leave
        await outcomes.__aexit__(None, None, None)


class Outcomes(Generic[O]):
    """What `generate_many` and `create_many` return: enter it with `with`, then iterate it.

    The source is pulled in your thread, whenever you wait for an outcome.
    """

    def __init__(
        self,
        portal: Portal,
        source: Pulled,
        outcomes: many.Outcomes[Any],
        kind: type[O],
    ) -> None:
        self._portal = portal
        self._source = source
        self._inner = outcomes
        self._kind = kind
        self._reading = threading.RLock()  # one left held by Ctrl-C must not shut its own thread out
        self._is_open = False
        self._is_entered = False

    def __enter__(self) -> Self:
        self._is_open = True
        self._portal.run(self._inner.__aenter__)
        self._is_entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._portal.finish(lambda: self._inner.__aexit__(*exc))
        finally:
            self._is_open = False
            self._source.close()

    def __del__(self) -> None:
        # Entered and never left: Ctrl-C came between the two.
        if getattr(self, "_is_open", False):
            self._portal.leave_behind(functools.partial(_leave, self._inner))

    def __iter__(self) -> Iterator[O]:
        self._check_entered()
        return self

    def __next__(self) -> O:
        self._check_entered()
        if not self._reading.acquire(blocking=False):
            raise ConfigurationError("these outcomes are being read by another thread")
        try:
            outcome = self._portal.run(self._inner.__anext__, self._source.mail)
        except StopAsyncIteration:
            raise StopIteration from None
        finally:
            self._reading.release()
        return twin(self._kind, outcome, self._portal)

    def stop(self) -> None:
        """Send nothing more; the iteration ends when what is in flight is done."""
        self._check_entered()
        self._portal.ask(self._inner.stop)

    def _check_entered(self) -> None:
        if not self._is_entered:
            raise ConfigurationError(f"enter the outcomes first: with {self._inner.name}(...) as outcomes")
