"""A batch at work: source, plan, records and the client's stream of calls, joined.

The source is pulled by the stream's workers, each only when one more call can be of use, so that memory is
that of the work in flight; a worker keeps its item until the pictures lie in the folder, and frees its place
in the queue as soon as its call is sent, so that downloads overlap generation. What an item came to is
recorded before anything else happens to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from hinow_async._budget import exact
from hinow_async._call import Call
from hinow_async._client import AsyncHinow
from hinow_async._errors import APIError, ConfigurationError, HinowError
from hinow_async._models.calls import CallRecord
from hinow_async._models.images import GeneratedImage, ImageResult, SavedImage
from hinow_async._options import RetryPolicy
from hinow_async._protocol.failures import printable
from hinow_async._protocol.wire import image_request_to_wire
from hinow_async._resources.base import UNSET, call_options
from hinow_async._resources.images import writable_folder
from hinow_async._resources.many import END, Stream
from hinow_async._resources.many import Item as Place
from hinow_async.batch.lock import STATE, FolderLock
from hinow_async.batch.plan import Item, Planner
from hinow_async.batch.progress import Meter, OnProgress, Tally, Teller
from hinow_async.batch.records import Answer, Failure, Records
from hinow_async.batch.report import BatchProgress, BatchReport, Stopped
from hinow_async.batch.source import Entry, Source, open_source
from hinow_async.batch.stops import StopRules
from hinow_async.batch.survey import survey

_log = logging.getLogger("hinow_async")

_THROTTLED_MAX: Final = 30 * 86_400.0
"""Seconds that an item waits while the account accepts nothing: throttling fails no item of a batch."""
_BALANCE_TIMEOUT: Final = 15.0
_BREATHE: Final = 200
"""Items passed over in one go, before others have their turn."""


class _Trip:
    """What a call reports to: the stream's place, and when it was sent."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.sent_at = time.monotonic()
        self.was_denied = False
        """Whether it was to be tried again when the batch had stopped."""
        self._is_sent = False

    def on_granted(self, call: Call[Any]) -> None:
        """A try is about to be sent; the first one counts."""
        if not self._is_sent:
            self._is_sent = True
            self.sent_at = time.monotonic()
        self.place.on_granted(call)

    def may_send(self) -> bool:
        """Whether the call may be tried again."""
        self.was_denied = not self.place.may_send()
        return not self.was_denied


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
        defaults: Mapping[str, Any] | None = None,
        keep_going: bool = False,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Prepare; see `generate_batch` for the arguments. Nothing is read or sent yet."""
        runtime = client._runtime
        retry = attrs.evolve(client._defaults.retry, throttled_max=_THROTTLED_MAX)
        self._client = client
        self._view = client.with_options(retry=retry)
        self._engine = runtime.engine
        self._downloader = runtime.downloader
        self._origins = runtime.origins
        # `http:` is for loopback alone, and the sandbox speaks nothing else.
        self.is_sandbox = all(scheme == "http" for scheme, _, _ in runtime.origins.values())
        self._source: Source = open_source(source, defaults)
        self._resend_unknown = resend_unknown
        self._stop = stop
        self._rules = StopRules(keep_going=keep_going)
        self._teller = Teller(on_progress)
        self._meter = Meter()
        self._tally = Tally()
        self._ending = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, "hinow-records")  # one thread: records keep their order
        self._stream: Stream[None] | None = None
        self._records: Records | None = None
        self._stopped: Stopped | None = None
        self._elapsed: float | None = None
        self._balance_fell: float | None = None
        self._is_exhausted = False
        self._unsent = 0
        self.folder = Path(directory)
        self.reason: str | None = None
        """What was said where the batch stopped early."""
        self.images_there = 0
        """Pictures of the source's items that lie in the folder, those of earlier runs included."""

    # -- the course of a batch ---------------------------------------------------------------------

    async def run(self) -> BatchReport:
        """Work until the source ends or something stops it; see `generate_batch`."""
        watcher = asyncio.create_task(self._watch())
        try:
            is_new = await asyncio.to_thread(_prepare, self.folder)
            try:
                with _locked(self.folder):
                    await self._run_locked()
            finally:
                if is_new and self._records is None:
                    await asyncio.to_thread(_remove_traces, self.folder)
        finally:
            watcher.cancel()
            self._writer.shutdown(wait=False)
        return self.report()

    async def _run_locked(self) -> None:
        with _translated(self.folder):
            records = await asyncio.to_thread(Records, self.folder, is_sandbox=self.is_sandbox)
        has_work = await self._check(records)
        with _translated(self.folder):
            await asyncio.to_thread(records.open)
        self._records = records
        try:
            await self._measure_money(has_work=has_work)
        finally:
            await self._finish()

    async def _check(self, records: Records) -> bool:
        """Read a file through before anything is sent; return whether there may be something to send."""
        if not self._source.is_rereadable:
            return True
        found = await survey(
            self._source,
            records,
            self._engine.purse.prices.of,
            resend_unknown=self._resend_unknown,
            ending=self._ending,
        )
        self._tally.total = found.items if found.is_whole else None
        return found.left > 0

    async def _measure_money(self, *, has_work: bool) -> None:
        """Work, and read the balance before and after it."""
        before = await self._balance() if has_work and not self._ending.is_set() else None
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
            await self._write(self._opened.finish, is_whole_source=is_whole)
        except OSError as error:
            # The lines appended on the way are still there: the next run reads those.
            self._halt("disk", f"the folder cannot be written to: {error}")

    async def _watch(self) -> None:
        """Wait for the caller's wish to stop."""
        if self._stop is not None:
            await self._stop.wait()
            self._halt("interrupted", None)

    def _halt(self, stopped: Stopped, reason: str | None) -> None:
        """Send nothing more; what is in flight is finished. The first reason stands."""
        if self._stopped is None:
            self._stopped = stopped
            self.reason = reason
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
    def _opened(self) -> Records:
        assert self._records is not None  # noqa: S101 - nothing is made before they are opened
        return self._records

    async def _record(self, failure: Failure) -> None:
        await self._write(self._opened.add_failure, failure)

    async def _write(self, function: Callable[..., None], *args: Any, **options: Any) -> None:
        """Write in the writer's thread; a caller that is cancelled meanwhile takes nothing back."""
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._writer, partial(function, *args, **options)))

    # -- what there is to do -----------------------------------------------------------------------

    async def _open_items(self) -> AsyncGenerator[Item, None]:
        """Yield the items that need work, and count the others."""
        planner = Planner(self._source.name)
        passed = 0
        async with contextlib.aclosing(self._entries()) as entries:
            async for entry in entries:
                item = planner.place(entry)
                self._tally.met += 1
                if self._needs_work(item):
                    yield item
                    if self._ending.is_set():
                        return
                    continue
                passed += 1
                if passed % _BREATHE == 0:
                    await asyncio.sleep(0)
                    self._teller.tell(self.progress)
        if not self._ending.is_set():
            self._is_exhausted = True
            self._tally.total = self._tally.met

    async def _entries(self) -> AsyncGenerator[Entry, None]:
        """Yield the source's entries until it ends, or the batch does: a source may keep one waiting."""
        ending = asyncio.ensure_future(self._ending.wait())
        chunks = self._source.chunks()
        try:
            while not ending.done():
                chunk = await _first(asyncio.ensure_future(anext(chunks, END)), ending)
                if chunk is END:
                    return
                for entry in chunk:
                    yield entry
        finally:
            ending.cancel()
            await chunks.aclose()

    def _needs_work(self, item: Item) -> bool:
        verdict = self._opened.verdict(item, resend_unknown=self._resend_unknown)
        if verdict == "reused":
            self._tally.reused += 1
            self.images_there += self._opened.images_of(item)
            self._opened.failures.resolve(item.id)
        elif verdict == "maybe_paid":
            self._tally.maybe_paid += 1
        elif verdict == "lost":
            self._tally.lost += 1
        return verdict in {"make", "fetch"}

    # -- one item ----------------------------------------------------------------------------------

    async def _make(self, _: int, item: Item, place: Place) -> None:
        """Do what an item needs; whatever becomes of it is recorded, and raises nothing but a wrong use."""
        if self._opened.verdict(item, resend_unknown=self._resend_unknown) == "fetch":
            result = self._paid_result(item)
        else:
            answered = await self._call(item, place)
            if answered is None:
                return
            result = answered
        await self._save(item, result)

    async def _call(self, item: Item, place: Place) -> ImageResult | None:
        trip = _Trip(place)
        options = call_options(self._view._defaults, UNSET, None, None)
        options.watcher = trip
        try:
            result = await self._view.images.run(item.request, options)
        except asyncio.CancelledError:
            await self._on_cancelled(item, place)
            raise
        except ConfigurationError:
            raise
        except (HinowError, ValueError) as error:
            await self._on_failed(item, error, trip)
            return None
        self._rules.on_success(item.request.model)
        self._tally.spend(result.call.estimated_usd)
        if result.model is not None and result.model != item.request.model:
            self._tally.model_mismatches += 1
        return result

    async def _on_cancelled(self, item: Item, place: Place) -> None:
        if not place.is_maybe_paid:
            self._unsent += 1
            return
        self._tally.maybe_paid += 1
        message = "cancelled while its answer was awaited; it may have been billed"
        await self._record(_failure(item, "CancelledError", message, "unknown"))

    async def _on_failed(self, item: Item, error: Exception, trip: _Trip) -> None:
        outcome = error.outcome if isinstance(error, APIError) else "not_sent"
        if isinstance(error, APIError) and error.call is not None:
            self._tally.spend(error.call.estimated_usd, error.call.unknown_outcomes)
        reason = self._rules.reason_of(error, item.request.model)
        if reason is not None:
            self._halt(reason, str(error))
        if outcome != "unknown" and (reason is not None or trip.was_denied):
            self._unsent += 1  # no fault of the item's: it goes on later
            return
        if outcome == "unknown" or self._was_maybe_paid(item):
            outcome = "unknown"
            self._tally.maybe_paid += 1
        else:
            self._tally.failed += 1
        code = getattr(error, "code", None)
        await self._record(_failure(item, type(error).__name__, str(error), outcome, code=code))
        reason = reason or self._rules.on_failure(error, trip.sent_at, time.monotonic())
        if reason is not None:
            self._halt(reason, str(error))

    def _was_maybe_paid(self, item: Item) -> bool:
        """Whether an earlier run may have paid: a refusal of now takes nothing of that back."""
        earlier = self._opened.failures.earlier.get(item.id)
        return earlier is not None and earlier.is_maybe_paid

    # -- its pictures ------------------------------------------------------------------------------

    def _paid_result(self, item: Item) -> ImageResult:
        """Return the answer of an earlier run, as far as its pictures are missing."""
        answer = self._opened.failures.earlier[item.id].answer
        assert answer is not None  # noqa: S101 - it has links
        links = self._opened.links(item)
        return ImageResult(
            item.request,
            tuple(GeneratedImage(url, index=index) for index, url in links.items()),
            answer.model,
            answer.provider,
            _call_record(answer),
        )

    async def _save(self, item: Item, result: ImageResult) -> None:
        """Bring an answer's pictures to the folder, side by side, and record what came of it."""
        saves = [asyncio.ensure_future(self._save_one(item, result, image)) for image in result.images]
        try:
            await asyncio.wait(saves)
        except asyncio.CancelledError:
            for task in saves:
                task.cancel()
            await asyncio.wait(saves)
            await self._on_kept(item, result, saves, asyncio.CancelledError("cancelled while it was saved"))
            raise
        await self._on_kept(item, result, saves, None)

    async def _save_one(self, item: Item, result: ImageResult, image: GeneratedImage) -> SavedImage:
        account = result.call.account
        known = account is not None and account in self._origins
        origins = (self._origins[str(account)],) if known else self._origins.values()
        return await self._downloader.save(
            image,
            self.folder / item.folder,
            item.stem,
            exempt=frozenset(origins),
            asked=item.request.output_format,
        )

    async def _on_kept(
        self,
        item: Item,
        result: ImageResult,
        saves: list[asyncio.Task[SavedImage]],
        problem: BaseException | None,
    ) -> None:
        """Record which pictures are there, and which are paid for and missing."""
        saved: list[SavedImage] = []
        missing: list[GeneratedImage] = []
        for image, task in zip(result.images, saves, strict=True):
            error = None if task.cancelled() else task.exception()
            if task.cancelled() or error is not None:
                missing.append(image)
                problem = problem or error
            else:
                saved.append(task.result())
        try:
            if saved:
                rows = [self._row(item, result, image) for image in saved]
                await self._write(self._opened.manifest.add, item.id, rows)
        except OSError as error:
            saved, missing, problem = [], list(result.images), error
        self._tally.images += len(saved)
        self.images_there += len(saved)
        self._tally.bytes += sum(image.size_bytes for image in saved)
        if missing:
            await self._on_lost(item, result, missing, problem)
            return
        self._tally.saved += 1
        self._rules.on_saved()
        self._opened.failures.resolve(item.id)

    async def _on_lost(
        self, item: Item, result: ImageResult, missing: list[GeneratedImage], problem: BaseException | None
    ) -> None:
        """Keep the links of what is paid for: the next run asks them again, and sends nothing."""
        self._tally.lost += 1
        answer = Answer(
            urls={image.index: image.url for image in missing if image.url is not None},
            images=self._images_of(item, result),
            model=result.model,
            provider=result.provider,
            request_id=result.call.request_id,
            estimated_usd=result.call.estimated_usd,
            account=result.call.account,
        )
        reason = self._rules.on_lost()
        if isinstance(problem, OSError):
            reason = "disk"
        if reason is not None:
            self._halt(reason, str(problem))
        failure = _failure(item, type(problem).__name__, str(problem), "lost", answer=answer)
        try:
            await self._record(failure)
        except OSError as error:
            self._halt("disk", f"what was paid for cannot be recorded: {error}")

    def _images_of(self, item: Item, result: ImageResult) -> int:
        """Return how many pictures the answer had, also where this is what was missing of it."""
        earlier = self._opened.failures.earlier.get(item.id)
        if earlier is not None and earlier.answer is not None and earlier.is_lost:
            return earlier.answer.images
        return len(result.images)

    def _row(self, item: Item, result: ImageResult, image: SavedImage) -> dict[str, Any]:
        """Return a picture's line of the manifest."""
        usd = result.call.estimated_usd
        share = None if usd is None else round(usd / self._images_of(item, result), 6)
        return {
            "id": item.id,
            "index": image.index,
            "request": image_request_to_wire(item.request),
            "fingerprint": item.fingerprint,
            "model": result.model,
            "provider": result.provider,
            "request_id": result.call.request_id,
            "file": f"{item.folder}/{image.path.name}",
            "sha256": image.sha256,
            "bytes": image.size_bytes,
            "width": image.width,
            "height": image.height,
            "estimated_usd": share,
            "created": _now(),
        }

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
        )

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


def _remove_traces(folder: Path) -> None:
    """Leave no folder behind where nothing was begun."""
    with contextlib.suppress(OSError):
        (folder / STATE / "lock").unlink()
        (folder / STATE).rmdir()
        folder.rmdir()


def _failure(
    item: Item,
    error: str,
    message: str,
    outcome: str,
    *,
    code: str | None = None,
    answer: Answer | None = None,
) -> Failure:
    return Failure(
        id=item.id,
        error=error,
        message=printable(message, 1000),
        code=code,
        outcome=outcome,
        prompt=item.request.prompt,
        at=_now(),
        fingerprint=item.fingerprint,
        answer=answer,
    )


def _call_record(answer: Answer) -> CallRecord:
    """Return the record of an earlier run's call, as far as it is known."""
    return CallRecord(
        request_id=answer.request_id,
        attempts=1,
        elapsed=0.0,
        queued=0.0,
        unknown_outcomes=0,
        estimated_usd=answer.estimated_usd,
        account=answer.account,
        idempotency_key="",
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
