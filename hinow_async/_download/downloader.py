"""The downloader: pictures to disk, into memory, or through, with as many side by side as the policy says."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import logging
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio
import attrs

from hinow_async._download.decode import decode_fully, require_decoder
from hinow_async._download.folder import Folders
from hinow_async._download.part import Judge, Kept, NotDurableError, Part, Placing
from hinow_async._download.threads import Threads
from hinow_async._download.transfer import BLOCK, DownloadSessions, Piece, Transfer
from hinow_async._errors import DownloadError, DownloadTooLargeError, IntegrityError
from hinow_async._models.images import GeneratedImage, ImageFormat, SavedImage
from hinow_async._options import DownloadPolicy
from hinow_async._protocol.backoff import backoff
from hinow_async._protocol.pictures import PictureCheck
from hinow_async._protocol.urls import Origin, check_url, origin_of

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there, and how many there will be, if known. It must not wait."""

_T = TypeVar("_T")
_Write = Callable[[Piece], Awaitable[None] | None]

_CLEANING: Final = 5.0
"""Seconds that a cancelled caller waits for its temporary file to go; a disk that hangs does it later."""
_MOST_THREADS: Final = 32
_LARGEST_KEPT: Final = 4 * 1024 * 1024
"""Bytes of the largest block that the allocator keeps for the next one, once it has freed one like it."""

logger = logging.getLogger("hinow_async")


def jittered_pause(tries: int) -> float:
    """Seconds before a file is asked for again: half a second at first, ten at most."""
    return backoff(tries, 0.5, 10.0, random.random())  # noqa: S311 - spreads tries, hides nothing


@functools.cache
def _keep_freed_blocks() -> None:
    """Free one large block, so that glibc hands smaller ones back to us and not to the system.

    It takes the size of what is freed for one that the program often uses (mallopt(3), M_MMAP_THRESHOLD).
    Without this each block that is read comes from the system, page by page: a tenth of a download's CPU.
    """
    bytes(_LARGEST_KEPT)  # zeroed by the system, so that no page of it is touched


class _Memory:
    """Bytes that stay in memory."""

    def __init__(self, judge: Judge | None, threads: Threads) -> None:
        self._judge = judge
        self._threads = threads
        self.check = PictureCheck()
        self.blocks: list[bytes] = []

    def write(self, piece: Piece) -> None:
        if piece.offset == 0:
            self.check, self.blocks = PictureCheck(), []
        for block in piece.blocks:
            self.check.feed(block)
        self.blocks += piece.blocks

    async def finish(self, last: Piece | None) -> bytes:
        if last is not None:
            self.write(last)
        facts = self.check.finish()
        data = self.blocks[0] if len(self.blocks) == 1 else b"".join(self.blocks)
        if self._judge is not None:
            await self._threads.run(self._judge, io.BytesIO(data), facts)
        return data


@attrs.frozen
class _Job:
    """One picture to be kept, and how."""

    image: GeneratedImage
    directory: Path
    stem: str
    exempt: frozenset[Origin]
    overwrite: bool
    report: Progress | None
    placing: Placing | None
    is_new: bool
    root: Path | None


class Downloader:
    """Fetches pictures, whole or not at all. May be used by one event loop after another.

    Args:
        sessions: Gives out the HTTP sessions of the running loop.
        policy: How many at once, how large, how long, how often.
        idle: Seconds between two pieces of a body; None: no limit.
        pause: Seconds to wait after so many tries in succession that brought nothing (1, 2, ...).
    """

    def __init__(
        self,
        sessions: DownloadSessions,
        policy: DownloadPolicy,
        idle: float | None,
        *,
        pause: Callable[[int], float] = jittered_pause,
    ) -> None:
        self._sessions = sessions
        self._policy = policy
        self._idle = idle
        self._pause = pause
        self._allowed = frozenset(origin_of(origin) for origin in policy.allowed_origins)
        self._threads = Threads(min(policy.max_in_flight, _MOST_THREADS))
        self._folders = Folders()
        self._pid = os.getpid()
        self._judge: Judge | None = None
        if policy.full_decode:
            require_decoder("DownloadPolicy.full_decode")
            self._judge = decode_fully
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(policy.max_in_flight)
        self._warned: set[tuple[str, str]] = set()

    async def save(
        self,
        image: GeneratedImage,
        directory: Path,
        stem: str,
        *,
        exempt: frozenset[Origin] = frozenset(),
        overwrite: bool = False,
        asked: ImageFormat | None = None,
        on_progress: Progress | None = None,
    ) -> SavedImage:
        """Keep a picture, as `keep` does, and return it as users see it."""
        kept = await self.keep(
            image,
            directory,
            stem,
            exempt=exempt,
            overwrite=overwrite,
            asked=asked,
            on_progress=on_progress,
        )
        return SavedImage(
            directory / kept.name,
            kept.index,
            kept.sha256,
            kept.size_bytes,
            kept.format,
            kept.width,
            kept.height,
        )

    async def keep(
        self,
        image: GeneratedImage,
        directory: Path,
        stem: str,
        *,
        exempt: frozenset[Origin] = frozenset(),
        overwrite: bool = False,
        asked: ImageFormat | None = None,
        on_progress: Progress | None = None,
        placing: Placing | None = None,
        is_new: bool = False,
        root: Path | None = None,
    ) -> Kept:
        """Write a picture to `<stem>-<index>.<ext>` in *directory*: hashed, checked, durable, in one step.

        Args:
            image: The picture; one that came inline goes the same way.
            directory: Made if it is not there.
            stem: A valid stem of a file name (`safe_name`, `file_stem`).
            exempt: Origins that are fetched from as they are: that of the account that answered.
            overwrite: Replace a file of that name, instead of adopting it or taking the next number.
            asked: The format that was asked for; another one is kept under its true extension, and said.
            on_progress: See `Progress`.
            placing: See `Placing`.
            is_new: No earlier run left anything of it: so nothing is looked for, in a thread.
            root: A folder above *directory*, below which nothing is written through a link.

        Raises:
            DownloadError: it cannot be had whole, with `.url` (without its query) and `.path`.
            OSError: it cannot be kept.
        """
        job = _Job(image, directory, stem, exempt, overwrite, _guarded(on_progress), placing, is_new, root)
        async with self._slot():
            try:
                kept = await self._keep(job)
            except DownloadError as error:
                error.path = directory / f"{stem}-{image.index}"
                raise
        self._compare(asked, kept)
        return kept

    async def read(self, image: GeneratedImage, *, exempt: frozenset[Origin] = frozenset()) -> bytes:
        """Return a picture's bytes, checked to be a whole picture.

        Raises:
            DownloadError: it cannot be had whole.
        """
        async with self._slot():
            if image.url is None:
                return await self._threads.run(self._decode, image)
            memory = _Memory(self._judge, self._threads)
            transfer = self._transfer(image.url, exempt)
            try:
                return await _deliver(transfer, memory.write, memory.finish, None)
            finally:
                transfer.close()

    async def stream(
        self, image: GeneratedImage, *, exempt: frozenset[Origin] = frozenset()
    ) -> AsyncIterator[bytes]:
        """Yield a picture's bytes as they come; the last block only once the whole was checked.

        Raises:
            DownloadError: it cannot be had whole; what was yielded is then of no use.
        """
        async with self._slot():
            if image.url is None:
                data = await self._threads.run(self._decode, image)
                for start in range(0, len(data), BLOCK):
                    yield data[start : start + BLOCK]
                return
            async with contextlib.aclosing(self._stream(image.url, exempt)) as blocks:
                async for block in blocks:
                    yield block

    def close(self) -> None:
        """Let the threads go; downloads under way are finished."""
        self._threads.close()

    # --- the three ways -----------------------------------------------------------------------------------

    async def _keep(self, job: _Job) -> Kept:
        with contextlib.suppress(NotDurableError):
            return await self._keep_once(job)
        try:
            return await self._keep_once(job)
        except NotDurableError as error:
            problem = error.__cause__ or error
        raise problem

    async def _keep_once(self, job: _Job) -> Kept:
        if self._pid != os.getpid():  # a forked child, in which nobody would unlock its parent's folders
            self._folders, self._pid = Folders(), os.getpid()
        part = Part(
            self._folders,
            job.directory,
            job.stem,
            job.image.index,
            job.image.url or "",
            judge=self._judge,
            root=job.root,
        )
        has_ended = False
        try:
            kept = await self._fill(part, job)
            has_ended = True
            return kept
        finally:
            if not has_ended:
                # In its thread, whatever becomes of the waiting, and after all that is under way there.
                # Shielded: a cancelled scope of anyio would cut every wait short, and leave the file behind.
                discarding = self._threads.run_steps(part.discard())
                with anyio.move_on_after(_CLEANING, shield=True):
                    await asyncio.wait({discarding})

    async def _fill(self, part: Part, job: _Job) -> Kept:
        def write(piece: Piece) -> asyncio.Future[None]:
            return self._threads.run(part.write, piece, transfer.version)

        def finish(last: Piece | None) -> asyncio.Future[Kept]:
            steps = part.finish(last, overwrite=job.overwrite, placing=job.placing)
            return self._threads.run_steps(steps)

        if job.image.url is None:
            data = await self._threads.run(self._decode, job.image)
            if job.report is not None:
                job.report(len(data), len(data))
            return await finish(Piece(0, [data], len(data)))
        transfer = self._transfer(job.image.url, job.exempt)
        try:
            if not job.is_new and (left := await self._threads.run(part.resume)):
                transfer.go_on(*left)
            return await _deliver(transfer, write, finish, job.report)
        finally:
            transfer.close()

    async def _stream(self, url: str, exempt: frozenset[Origin]) -> AsyncGenerator[bytes, None]:
        transfer = self._transfer(url, exempt)
        clock = asyncio.get_running_loop().time
        follower = _Follower(transfer)
        try:
            while True:
                try:
                    while (piece := await transfer.next_piece()) is not None:
                        for block in follower.take(piece):
                            before = clock()
                            yield block
                            transfer.extend(clock() - before)
                    follower.check.finish()
                    break
                except IntegrityError as error:
                    if error.url is not None:  # the transfer's own last word
                        raise
                    problem = error
                await transfer.refuse(problem)
            for block in follower.rest():
                yield block
        finally:
            transfer.close()

    # --- parts of them ------------------------------------------------------------------------------------

    def _slot(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # waiters of a loop that was closed are dropped with it
            self._loop, self._slots = loop, asyncio.Semaphore(self._policy.max_in_flight)
        return self._slots

    def _transfer(self, url: str, exempt: frozenset[Origin]) -> Transfer:
        allowed = exempt | self._allowed
        source = check_url(url, allowed)
        _keep_freed_blocks()
        return Transfer(
            self._sessions, source, allowed, policy=self._policy, idle=self._idle, pause=self._pause
        )

    def _decode(self, image: GeneratedImage) -> bytes:
        """Decode a picture that came inline, and judge it. Runs in a thread."""
        most = self._policy.max_bytes
        # Four characters of base64 hold three bytes: what must be too large is not decoded at all.
        if image.encoded is not None and len(image.encoded) * 3 // 4 > most + 1024:
            raise DownloadTooLargeError(f"the inline picture is larger than {most:,} bytes")
        data = image.data
        if data is None:
            raise DownloadError("this picture has neither a URL nor data")
        if len(data) > most:
            raise DownloadTooLargeError(f"the inline picture is larger than {most:,} bytes")
        check = PictureCheck()
        check.feed(data)
        facts = check.finish()
        if self._judge is not None:
            self._judge(io.BytesIO(data), facts)
        return data

    def _compare(self, asked: str | None, kept: Kept) -> None:
        if asked is None or asked == kept.format or (asked, kept.format) in self._warned:
            return
        self._warned.add((asked, kept.format))
        logger.warning(
            "%s was asked for and %s came: pictures are saved under their true extension", asked, kept.format
        )


class _Follower:
    """What `stream` must know to yield no byte twice and no byte of another version."""

    def __init__(self, transfer: Transfer) -> None:
        self.check = PictureCheck()
        self._transfer = transfer
        self._etag: str | None = None
        self._yielded = 0
        self._skip = 0
        self._held: list[bytes] = []

    def take(self, piece: Piece) -> list[bytes]:
        """Take the next bytes; return those that may be yielded now."""
        if piece.offset == 0:
            self._begin()
        ready, fresh = self._held, []
        for block in piece.blocks:
            self.check.feed(block)
            new = block[self._skip :]
            self._skip -= len(block) - len(new)
            fresh += [new] if new else []
        if not fresh:
            return []
        self._held = fresh
        self._yielded += sum(map(len, ready))
        return ready

    def rest(self) -> list[bytes]:
        """Return what was held back."""
        return self._held

    def _begin(self) -> None:
        etag = self._transfer.version.etag
        if self._yielded and (etag is None or etag != self._etag):
            raise DownloadError("the server began the file anew, and part of it had already been handed on")
        self.check, self._etag = PictureCheck(), etag
        self._skip, self._held = self._yielded, []


async def _deliver(
    transfer: Transfer,
    write: _Write,
    finish: Callable[[Piece | None], Awaitable[_T]],
    report: Progress | None,
) -> _T:
    """Bring a whole picture to where it goes; bytes that are no picture are fetched anew."""
    while True:
        try:
            return await finish(await _pump(transfer, write, report))
        except IntegrityError as error:
            if error.url is not None:  # the transfer's own last word
                raise
            problem = error
        await transfer.refuse(problem)


async def _pump(transfer: Transfer, write: _Write, report: Progress | None) -> Piece | None:
    """Write each piece while the next one is read; return the last one, if it is known to be that.

    A slow disk slows the reading: one piece waits for it at most.
    """
    writing: Awaitable[None] | None = None
    while (piece := await transfer.next_piece()) is not None:
        if writing is not None:
            await writing
        if report is not None:
            report(transfer.offset, transfer.version.total)
        if transfer.has_ended:
            return piece
        writing = write(piece)
    if writing is not None:
        await writing
    return None


def _guarded(report: Progress | None) -> Progress | None:
    """A progress callback that fails is logged once and not called again."""
    if report is None:
        return None
    live = [report]

    def call(done: int, total: int | None) -> None:
        try:
            for one in live:
                one(done, total)
        except Exception:
            live.clear()
            logger.exception("on_progress failed, and is not called again for this file")

    return call
