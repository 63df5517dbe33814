"""A batch at work: source, verdicts, ledger and the client's stream of calls, joined.

The source is pulled by the stream's workers, each only when one more call can be of use, so that memory is
that of the work in flight; a worker keeps its item until the pictures lie in the folder, and frees its place
in the queue as soon as its call is sent, so that downloads overlap generation. What may have been paid for is
in the ledger before anything depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeGuard

import attrs

from hinow_async._budget import exact
from hinow_async._call import CallOptions
from hinow_async._client import AsyncHinow
from hinow_async._download import Kept, state_name, states_in, sweep
from hinow_async._download.folder import make_durable, sync
from hinow_async._errors import APIError, ConfigurationError, DownloadError, HinowError
from hinow_async._files import writable_folder
from hinow_async._models.images import GeneratedImage, ImageResult
from hinow_async._options import RetryPolicy
from hinow_async._protocol.failures import printable
from hinow_async._resources.base import UNSET, call_options
from hinow_async._resources.many import END, Stream
from hinow_async._resources.many import Item as Place
from hinow_async.batch import ledger as ledgers
from hinow_async.batch.aside import Aside, own_thread
from hinow_async.batch.finishing import Outlook, outlook
from hinow_async.batch.haul import Haul
from hinow_async.batch.ledger import Ledger, Problem, Row
from hinow_async.batch.lock import STATE, FolderLock
from hinow_async.batch.paid import Paid, paid_for
from hinow_async.batch.plan import folders_of_pictures
from hinow_async.batch.progress import Meter, OnProgress, Tally, Teller
from hinow_async.batch.reader import KeptFile
from hinow_async.batch.report import BatchProgress, BatchReport, Stopped
from hinow_async.batch.source import BadLine, Entry, Source, open_source
from hinow_async.batch.stops import StopRules
from hinow_async.batch.survey import Survey, survey
from hinow_async.batch.trip import Trip, row_of
from hinow_async.batch.verdicts import Judge, OnChange, Rules, Work

_log = logging.getLogger("hinow_async")

_THROTTLED_MAX: Final = 30 * 86_400.0
"""Seconds that an item waits while the account accepts nothing: throttling fails no item of a batch."""
_BALANCE_TIMEOUT: Final = 15.0
_MOST_SPANS: Final = 500
"""Of the last calls it is kept how long they took."""


class Batch:
    """One run of a batch over a folder; `run` is called once."""

    def __init__(
        self,
        client: AsyncHinow,
        source: Any,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
        resend_unknown: bool = False,
        pay_again: bool = False,
        on_change: OnChange = "error",
        skip_bad_lines: bool = False,
        defaults: Mapping[str, Any] | None = None,
        keep_going: bool = False,
        stop: asyncio.Event | None = None,
        is_folder_bounded: bool = False,
    ) -> None:
        """Prepare; see `generate_batch` for the arguments. Nothing is read or sent yet.

        With *is_folder_bounded* the client's budget is also what all runs over the folder may spend together.
        """
        if on_change not in {"error", "new"}:
            raise ConfigurationError(f"on_change must be 'error' or 'new', not {on_change!r}")
        runtime = client._runtime
        retry = attrs.evolve(client._defaults.retry, throttled_max=_THROTTLED_MAX)
        self._client = client
        self._view = client.with_options(retry=retry)
        self._engine = runtime.engine
        self._downloader = runtime.downloader
        self._origins = runtime.origins
        # `http:` is for loopback alone, and the sandbox speaks nothing else.
        self._is_sandbox = all(scheme == "http" for scheme, _, _ in runtime.origins.values())
        self._source: Source = open_source(source, defaults, skip_bad_lines=skip_bad_lines)
        self._source_rules = Rules(resend_unknown, on_change, skip_bad_lines)
        self._pay_again = pay_again
        self._is_folder_bounded = is_folder_bounded
        self._stop = stop
        self._rules = StopRules(keep_going=keep_going)
        self._teller = Teller(on_progress)
        self._meter = Meter()
        self._tally = Tally()
        self._ending = asyncio.Event()
        self._stream: Stream[None] | None = None
        self._aside: Aside
        self._ledger: Ledger | None = None
        self._swept: dict[str, tuple[Path, frozenset[str]]] = {}
        """Folders of pictures, with the notes in them of downloads that can be gone on with."""
        self._durable: set[str] = set()
        self._settling: dict[str, asyncio.Future[None]] = {}
        self._stopped: Stopped | None = None
        self._elapsed: float | None = None
        self._on_way: set[Trip] = set()
        self._spans: deque[float] = deque(maxlen=_MOST_SPANS)
        self._balance_fell: float | None = None
        self._is_exhausted = False
        self._unsent = 0
        self._folder = Path(directory)
        self._reason: str | None = None
        self._images_there = 0

    # -- the course of a batch ---------------------------------------------------------------------

    async def run(self) -> BatchReport:
        """Work until the source ends or something stops it; see `generate_batch`."""
        watchers = [asyncio.create_task(self._watch()), asyncio.create_task(self._teller.tick(self.progress))]
        try:
            with own_thread() as self._aside:
                await self._run_prepared()
        finally:
            for watcher in watchers:
                watcher.cancel()
        return self.report()

    async def _run_prepared(self) -> None:
        is_new = await self._aside(_prepare, self._folder)
        try:
            with _locked(self._folder):
                await self._run_locked()
        finally:
            if is_new and self._ledger is None:
                await self._aside(_remove_traces, self._folder)

    async def _run_locked(self) -> None:
        found: Survey | None = None
        with _translated(self._folder):
            await self._aside(make_durable, self._folder / STATE)
        if await self._aside(ledgers.exists, self._folder):
            await self._open()
        try:
            if self._source.is_rereadable:
                found = await self._check()
            if self._ledger is None:
                await self._open()
            with _translated(self._folder):
                await self._aside(self._opened.reserve_room)
        except BaseException:
            if self._ledger is not None:
                await self._aside(self._ledger.close)
            raise
        try:
            if found is not None and found.is_nothing_to_do:
                await self._take_over(found)
            else:
                await self._measure_money(has_work=found is None or found.left > 0)
        finally:
            await self._finish()

    async def _open(self) -> None:
        with _translated(self._folder):
            self._ledger = ledger = await self._aside(ledgers.open_ledger, self._folder, self._origin)
        ledger.start(lambda error: self._halt("disk", str(error)))
        if self._is_folder_bounded:
            self._engine.purse.spend(None, await self._aside(ledger.reader.spent))

    @property
    def _origin(self) -> str:
        if self._is_sandbox:
            return ledgers.SANDBOX
        return " ".join(
            sorted({f"{scheme}://{host}:{port}" for scheme, host, port in self._origins.values()})
        )

    async def _take_over(self, found: Survey) -> None:
        """Count what the survey met: there is no need to meet it once more."""
        await self._aside(self._opened.mend)
        self._tally.met, self._tally.reused = found.items, found.reused
        self._tally.maybe_paid = found.maybe_paid
        self._images_there = found.reused_images
        self._is_exhausted = True
        self._settle_stop()

    async def _check(self) -> Survey:
        """Read a file through before anything is sent."""
        prices = self._engine.purse.prices
        found = await survey(self._source, self._judge(), prices.of, ending=self._ending)
        if found.is_whole:
            self._tally.total = found.items
            self._tally.to_come = found.to_come
        return found

    def _judge(self) -> Judge:
        reader = None if self._ledger is None or self._ledger.was_empty else self._ledger.reader
        return Judge(self._source.name, self._folder, reader, self._source_rules)

    async def _measure_money(self, *, has_work: bool) -> None:
        """Work, and read the balance before and after it."""
        before = await self._balance() if has_work and not self._ending.is_set() else None
        await self._aside(self._opened.mend)
        self._teller.tell(self.progress)
        try:
            await self._work()
        finally:
            self._settle_stop()
        after = await self._balance() if before is not None else None
        if before is not None and after is not None:
            self._balance_fell = float(before - after)

    async def _balance(self) -> Decimal | None:
        """Read what all accounts hold together; None where one does not say."""
        view = self._client.with_options(retry=RetryPolicy(attempts=1), timeout=_BALANCE_TIMEOUT)
        try:
            balances = [await view.balance(account=name) for name in self._origins]
        except APIError as error:
            _log.info("the balance cannot be read: %s", error)
            return None
        return sum((exact(balance.balance) for balance in balances), Decimal(0))

    async def _work(self) -> None:
        limiter = self._engine.limiter
        stream: Stream[None] = Stream(
            self._open_items(),
            self._make,
            lambda: limiter.limit,
            sum(account.max_in_flight for account in limiter.accounts),
            ordered=False,
        )
        self._stream = stream
        if self._ending.is_set():
            stream.stop()
        stream.start()
        try:
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    await stream.take()
                    self._teller.tell(self.progress)
        finally:
            await stream.aclose()

    async def _finish(self) -> None:
        """Leave the folder as it is to be found."""
        self._elapsed = self._meter.elapsed
        self._teller.tell(self.progress, is_last=True)
        is_whole = self._is_exhausted and self._stopped is None
        try:
            try:
                if self._stopped != "disk":
                    await self._aside(self._sweep_all)
            finally:
                await self._aside(self._opened.finish, is_whole_source=is_whole)
        except OSError as error:
            # The ledger stands: the next run derives the files from it.
            self._halt("disk", f"the folder cannot be written to: {error}")

    def _sweep_all(self) -> None:
        """Leave no temporary file, also where nothing was to do, nor one that a power cut brings back."""
        folders = {path for path, _ in self._swept.values()}
        if self._opened.is_after_crash:
            folders.update(folders_of_pictures(self._folder))
        for folder in folders:
            if folder.is_dir():
                sweep(folder, resumable=True, root=self._folder)
                sync(folder)

    async def _watch(self) -> None:
        """Wait for the caller's wish to stop."""
        if self._stop is not None:
            await self._stop.wait()
            self._halt("interrupted", None)

    def _halt(self, stopped: Stopped, reason: str | None) -> None:
        """Send nothing more; what is in flight is finished. The first reason stands."""
        if self._stopped is None:
            self._stopped = stopped
            self._reason = reason
            if reason is not None:
                _log.warning("the batch stops (%s): %s", stopped, reason)
        self._ending.set()
        # What waits for a slot has its part of the budget reserved, and may go; else nothing does.
        if stopped != "budget" and self._stream is not None:
            self._stream.stop()

    def _settle_stop(self) -> None:
        if self._stopped == "interrupted" and self._is_exhausted and not self._unsent:
            self._stopped = None  # the wish came when everything was done or on its way
        if self._stopped is None and self._rules.was_never_reached:
            self._stopped = "unreachable"

    @property
    def _opened(self) -> Ledger:
        assert self._ledger is not None  # noqa: S101 - nothing is made before it is opened
        return self._ledger

    # -- what there is to do -----------------------------------------------------------------------

    async def _open_items(self) -> AsyncGenerator[Work, None]:
        """Yield the items that need work, and count the others."""
        judge = self._judge()
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                works, error = await self._aside(judge.judge, chunk)
                for work in works:
                    self._tally.met += 1
                    if self._needs_work(work):
                        if work.item.folder not in self._swept:
                            await self._sweep(work.item.folder)
                        yield work
                    if self._ending.is_set():
                        return
                if error is not None:
                    raise error
                self._teller.tell(self.progress)
        if not self._ending.is_set():
            self._is_exhausted = True
            self._tally.total = self._tally.met

    async def _chunks(self) -> AsyncGenerator[Sequence[Entry | BadLine], None]:
        """Yield the source's entries until it ends, or the batch does: a source may keep one waiting."""
        ending = asyncio.ensure_future(self._ending.wait())
        chunks = self._source.chunks()
        try:
            while not ending.done():
                chunk = await _first(asyncio.ensure_future(anext(chunks, END)), ending)
                if chunk is END:
                    return
                yield chunk
        finally:
            ending.cancel()
            await chunks.aclose()

    def _needs_work(self, work: Work | BadLine) -> TypeGuard[Work]:
        if isinstance(work, BadLine):
            self._tally.failed += 1
            self._opened.skip(work.line, work.message)
            return False
        if work.verdict == "reused":
            self._tally.reused += 1
            self._images_there += len(work.known.files) if work.known is not None else 0
        elif work.verdict == "maybe_paid":
            self._tally.maybe_paid += 1
        return work.verdict in {"make", "fetch"}

    async def _sweep(self, folder: str) -> None:
        """Remove what a dead process left in a folder of pictures, before anything is saved there."""
        path = self._folder / folder
        notes: frozenset[str] = frozenset()
        try:
            notes = await self._aside(_left_after_sweep, path, self._folder)
        except OSError as error:
            self._halt("disk", f"{folder} cannot be used, and must be no link: {error.strerror or error}")
        self._swept[folder] = path, notes

    # -- one item ----------------------------------------------------------------------------------

    async def _make(self, _: int, work: Work, place: Place) -> None:
        """Do what an item needs; whatever becomes of it is recorded, and raises nothing but a wrong use."""
        if work.verdict == "fetch" and await self._fetch(work):
            return
        trip = Trip(self._opened, work, place)
        self._on_way.add(trip)
        try:
            result = await self._call(work, trip)
            if result is not None:
                await self._save(work, trip.as_paid(result))
        finally:
            self._on_way.discard(trip)
        self._settle(work, trip, is_paid=result is not None)

    def _settle(self, work: Work, trip: Trip, *, is_paid: bool) -> None:
        """Learn from an item that came to its end."""
        if is_paid and trip.last_sent_at is not None:
            self._spans.append(time.monotonic() - trip.last_sent_at)
        if work.verdict == "make" and not trip.is_unsent and self._tally.to_come is not None:
            self._tally.settle(self._planned(work, trip))

    def _planned(self, work: Work, trip: Trip) -> Decimal | None:
        """Return what an item was to cost, sent or not."""
        if trip.price is not None:
            return trip.price
        try:
            return self._engine.purse.prices.of(work.item.request)
        except ValueError:  # a callable of the caller's, which had a price before
            return None

    async def _call(self, work: Work, trip: Trip) -> ImageResult | None:
        options = call_options(self._view._defaults, UNSET, None, None)
        options.watcher = options.journal = trip
        if work.is_resend and not await self._bind(work, options):
            return None
        try:
            result = await self._view.images.run(work.item.request, options)
        except asyncio.CancelledError:
            self._on_cancelled(trip)
            raise
        except ConfigurationError:
            raise
        except (HinowError, ValueError) as error:  # first: a call's timeout is an OSError, too
            self._on_failed(work, error, trip)
            return None
        except OSError as error:
            self._on_unrecorded(trip, error)
            return None
        self._rules.on_success(work.item.request.model)
        self._tally.spend(result.call.estimated_usd)
        if result.model is not None and result.model != work.item.request.model:
            self._tally.model_mismatches += 1
        return result

    async def _bind(self, work: Work, options: CallOptions) -> bool:
        """Have a resend go where the first try went, with its key; False: that account is not there."""
        assert work.known is not None  # noqa: S101 - it is sent again
        last = await self._aside(self._opened.reader.unknown_try, work.known.number)
        if last is None:
            return True
        if self._engine.limiter.named(last.account) is None:
            _log.warning(
                "%s stays maybe paid: the account it was sent to is none of the client's", work.item.id
            )
            self._tally.maybe_paid += 1
            return False
        options.idempotency_key, options.account = last.key, last.account
        return True

    def _on_cancelled(self, trip: Trip) -> None:
        if trip.is_answered:
            self._tally.lost += 1  # for now: the next run fetches it for free
        elif trip.place.is_maybe_paid:
            self._tally.maybe_paid += 1
            message = "cancelled while its answer was awaited; it may have been billed"
            trip.end_unknown(_problem("CancelledError", message, "unknown"))
        else:
            self._leave_unsent(trip)

    def _leave_unsent(self, trip: Trip) -> None:
        self._unsent += 1
        trip.is_unsent = True

    def _on_unrecorded(self, trip: Trip, error: OSError) -> None:
        """The ledger takes no more: what was not recorded was not sent, or may have been paid for."""
        if trip.is_sent:
            self._tally.maybe_paid += 1
        else:
            self._leave_unsent(trip)
        self._halt("disk", f"what is paid for cannot be recorded: {error}")

    def _on_failed(self, work: Work, error: Exception, trip: Trip) -> None:
        outcome = error.outcome if isinstance(error, APIError) else "not_sent"
        if isinstance(error, APIError) and error.call is not None:
            self._tally.spend(error.call.estimated_usd, error.call.unknown_outcomes)
        reason = self._rules.reason_of(error, work.item.request.model)
        if reason is not None:
            self._halt(reason, str(error))
        if outcome != "unknown" and (reason is not None or trip.was_denied):
            self._leave_unsent(trip)  # no fault of the item's: it goes on later
            return
        name, code = type(error).__name__, getattr(error, "code", None)
        if outcome == "unknown":
            self._tally.maybe_paid += 1
            trip.end_unknown(_problem(name, str(error), outcome, code=code))
        else:
            self._on_refused(work, trip, _problem(name, str(error), outcome, code=code))
        reason = reason or self._rules.on_failure(error, trip.sent_at, time.monotonic())
        if reason is not None:
            self._halt(reason, str(error))

    def _on_refused(self, work: Work, trip: Trip, problem: Problem) -> None:
        """A refusal of now takes nothing back of what an earlier run may have paid."""
        before = None if work.known is None or work.is_superseding else work.known.state
        if before in {"maybe_paid", "sent"}:
            self._tally.maybe_paid += 1
            problem = attrs.evolve(problem, outcome="unknown")
        elif before in {"paid_lost", "answered", "saved"}:
            self._tally.lost += 1
            problem = attrs.evolve(problem, outcome="lost")
        else:
            self._tally.failed += 1
        self._opened.failed(trip.row, problem)

    # -- its pictures ------------------------------------------------------------------------------

    async def _fetch(self, work: Work) -> bool:
        """Fetch the missing pictures of an answer of an earlier run; False: it is to be paid for again."""
        assert work.known is not None  # noqa: S101 - it was paid for
        ledger = self._opened
        row = row_of(ledger, work)
        paid = await self._aside(paid_for, self._folder, ledger.reader, row, work.known)
        if isinstance(paid, Paid):
            return await self._save(work, paid)
        if self._pay_again and paid.outcome == "lost":
            return False
        if paid.outcome == "lost":
            self._tally.lost += 1
            ledger.lost(row, paid)
        else:
            self._tally.maybe_paid += 1
            ledger.maybe_paid(row, paid)
        return True

    async def _save(self, work: Work, paid: Paid) -> bool:
        """Bring an answer's pictures to the folder, side by side, and record what came of it.

        Returns:
            False: they cannot be had, and are to be paid for again.
        """
        haul = Haul(paid.missing)
        try:
            await haul.fetch(partial(self._keep, work, paid))
        except asyncio.CancelledError:
            await asyncio.shield(self._on_kept(work, paid, haul))
            raise
        return await self._on_kept(work, paid, haul)

    async def _keep(self, work: Work, paid: Paid, image: GeneratedImage) -> KeptFile:
        known = paid.account in self._origins
        origins = (self._origins[paid.account],) if known else self._origins.values()
        item = work.item
        path, notes = self._swept[item.folder]
        kept = await self._downloader.keep(
            image,
            path,
            item.stem,
            exempt=frozenset(origins),
            asked=item.request.output_format,
            placing=partial(self._place, paid.row, item.folder),
            root=self._folder,
            is_new=state_name(item.stem, image.index) not in notes,
        )
        return _kept_file(item.folder, kept)

    def _place(self, row: Row, folder: str, kept: Kept, told: Callable[[Exception | None], None]) -> None:
        """Record the name that a picture is about to get (`Placing`)."""
        self._opened.placing(row, _kept_file(folder, kept), told)

    async def _on_kept(self, work: Work, paid: Paid, haul: Haul) -> bool:
        """Record which pictures are there, and which are paid for and missing."""
        problem = haul.problem
        if self._pay_again and work.verdict == "fetch" and isinstance(problem, DownloadError):
            return False
        reason: Problem | None = None
        if problem is not None:
            reason = _problem(type(problem).__name__, str(problem), "lost")
        try:
            if work.item.folder not in self._durable and (haul.files or paid.adopted):
                await self._settle_folder(work.item.folder)
            self._opened.kept(paid.row, [*paid.adopted, *haul.files], paid.bought, reason)
        except OSError as error:
            problem, reason = error, _problem(type(error).__name__, str(error), "lost")
        self._tally.images += len(haul.files)
        self._images_there += len(haul.files)
        self._tally.bytes += sum(file.size for file in haul.files)
        if reason is None or problem is None:
            self._tally.saved += 1
            self._rules.on_saved()
        else:
            self._on_lost(paid, problem, reason)
        return True

    async def _settle_folder(self, folder: str) -> None:
        """Make the name of a folder of pictures durable, before the ledger says of any that it is there.

        The first ones come together, and are content with one way up to the root.
        """
        settling = self._settling.get(folder)
        if settling is None:
            settling = self._settling[folder] = self._aside(make_durable, self._folder / folder)
        try:
            await asyncio.shield(settling)  # others wait for it, too
            self._durable.add(folder)
        finally:
            if settling.done():
                self._settling.pop(folder, None)

    def _on_lost(self, paid: Paid, problem: BaseException, reason: Problem) -> None:
        """Pictures are paid for and missing: the next run asks their links, and sends nothing."""
        self._tally.lost += 1
        if isinstance(problem, DownloadError):
            self._opened.lost(paid.row, reason)
        else:
            self._opened.put_off(paid.row, reason)
        stopped = self._rules.on_lost()
        if isinstance(problem, OSError):
            stopped = "disk"
        if stopped is not None:
            self._halt(stopped, str(problem))

    # -- how far it is -----------------------------------------------------------------------------

    def progress(self) -> BatchProgress:
        """Return how far the batch is now."""
        tally, limiter = self._tally, self._engine.limiter
        done = tally.saved + tally.reused
        failed = tally.failed + tally.maybe_paid + tally.lost
        rate = self._meter.rate(tally.worked)
        is_known = tally.total is not None and rate > 0
        return BatchProgress(
            total=tally.total,
            done=done,
            failed=failed,
            in_flight=limiter.in_flight,
            waiting=limiter.waiting,
            images=tally.images,
            bytes=tally.bytes,
            elapsed=self._meter.elapsed if self._elapsed is None else self._elapsed,
            rate=rate,
            remaining=((tally.total or 0) - done - failed) / rate if is_known else None,
            estimated_usd=tally.estimated_usd,
            limit=limiter.limit,
            remaining_usd=None if tally.to_come is None else float(tally.to_come),
        )

    def outlook(self) -> Outlook:
        """Return how long it takes to finish what is on its way."""
        now = time.monotonic()
        sent = (trip.last_sent_at for trip in self._on_way if trip.is_sent)
        return outlook(self._spans, [now - at for at in sent if at is not None])

    def report(self) -> BatchReport:
        """Return what the batch came to, so far."""
        tally = self._tally
        return BatchReport(
            total=tally.met if tally.total is None else tally.total,
            saved=tally.saved,
            reused=tally.reused,
            failed=tally.failed,
            maybe_paid=tally.maybe_paid,
            lost=tally.lost,
            images=tally.images,
            bytes=tally.bytes,
            elapsed=self._meter.elapsed if self._elapsed is None else self._elapsed,
            estimated_usd=tally.estimated_usd,
            balance_fell_usd=self._balance_fell,
            model_mismatches=tally.model_mismatches,
            stopped=self._stopped,
            reason=self._reason,
            images_there=self._images_there,
            out=os.fspath(self._folder),
            sandbox=self._is_sandbox,
        )


async def _first(reading: asyncio.Future[Any], ending: asyncio.Future[Any]) -> Any:
    """Return what is read, or END if *ending* comes before it."""
    try:
        await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else END
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _prepare(folder: Path) -> bool:
    """Make the folder and find out whether files can be put into it; return whether it is new.

    Raises:
        ConfigurationError: it is a file, or cannot be written to.
    """
    with _translated(folder):
        is_new = not folder.exists()
        writable_folder(folder)
    return is_new


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Say in the user's words what is wrong with the folder; nothing was sent yet."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the output folder {printable(str(folder), 200)} cannot be used: {error.strerror or error};"
            " nothing was sent"
        ) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with _translated(folder):
            stack.enter_context(FolderLock(folder))
        yield


def _left_after_sweep(folder: Path, root: Path) -> frozenset[str]:
    """Remove what dead processes left in a folder, and return the names of the notes that stay."""
    sweep(folder, root=root)
    return states_in(folder)


def _remove_traces(folder: Path) -> None:
    """Leave no folder behind where nothing was begun."""
    with contextlib.suppress(OSError):
        (folder / STATE / "lock").unlink()
        (folder / STATE).rmdir()
        folder.rmdir()


def _kept_file(folder: str, kept: Kept) -> KeptFile:
    return KeptFile(
        kept.index,
        f"{folder}/{kept.name}",
        kept.sha256,
        kept.size_bytes,
        kept.width,
        kept.height,
        is_saved=True,
    )


def _problem(error: str, message: str, outcome: str, *, code: str | None = None) -> Problem:
    return Problem(
        error=error, message=printable(message, 1000), code=code, outcome=outcome, at=ledgers.now()
    )
