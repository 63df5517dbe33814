"""The result files: known by their motif, drawn when they are first fetched, kept while there is room."""

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import attrs

from hinow_async.sandbox.answers import Answer, of_type
from hinow_async.sandbox.pictures import Motif, draw
from hinow_async.sandbox.ranges import Unsatisfiable, read_range

CACHE_BYTES = 64 * 1024 * 1024
KNOWN_REQUESTS = (
    200_000  # whose links work; the oldest die first, so that a long run does not fill the memory
)
_DRAWING_THREADS = 2

_NAME = re.compile(r"([0-9a-f]{32})-(\d{1,2})\.(png|jpg|webp)", re.ASCII)
_SIGNATURES = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))


@attrs.frozen
class Picture:
    """An encoded picture as it is served."""

    content: bytes
    etag: str
    """Strong, with its quotes."""
    media_type: str
    """What it truly is, whatever its URL says."""


def _finished(content: bytes) -> Picture:
    kind = next(
        (name for start, name in _SIGNATURES if content.startswith(start)), "application/octet-stream"
    )
    return Picture(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', kind)


def _draw(motif: Motif, index: int) -> Picture:
    return _finished(draw(motif, index))


@attrs.define
class _Known:
    motif: Motif
    count: int
    issued: float


class FileGone(Exception):  # noqa: N818 - what became of the file
    """The link has expired."""


class Files:
    """The files of one sandbox. Their paths hold a token that cannot be guessed."""

    def __init__(self) -> None:
        self.prefix = f"/files/{secrets.token_urlsafe(16)}/"
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._cache: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._cached_bytes = 0
        self._drawing: dict[tuple[str, int], asyncio.Future[Picture]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def publish(self, motif: Motif, count: int, now: float) -> list[str]:
        """The paths of a request's *count* pictures; the same request gets the same ones."""
        known = self._known.get(motif.digest)
        if known is None:
            self._known[motif.digest] = _Known(motif, count, now)
            if len(self._known) > KNOWN_REQUESTS:
                self._known.popitem(last=False)
        else:
            known.issued = now
            self._known.move_to_end(motif.digest)
        stem = f"{self.prefix}{motif.digest}"
        return [f"{stem}-{index}.{motif.extension}" for index in range(count)]

    async def fetch(self, path: str, now: float, expire: float | None) -> Picture | None:
        """The picture at *path*, or None if there is no such file.

        Raises:
            FileGone: its URL was issued more than *expire* seconds before *now*.
        """
        match = _NAME.fullmatch(path[len(self.prefix) :]) if path.startswith(self.prefix) else None
        known = None if match is None else self._known.get(match[1])
        if match is None or known is None or int(match[2]) >= known.count:
            return None
        if match[3] != known.motif.extension:
            return None
        if expire is not None and now > known.issued + expire:
            raise FileGone
        return await self.picture(known.motif, int(match[2]))

    async def picture(self, motif: Motif, index: int) -> Picture:
        """Picture *index* of *motif*: from the cache, or drawn in a thread, once for all who ask."""
        key = (motif.digest, index)
        if (cached := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return cached
        drawing = self._drawing.get(key)
        if drawing is None:
            drawing = self._drawing[key] = self._start_drawing(motif, index)
            drawing.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(drawing)  # one who goes away does not stop it for the others

    def _start_drawing(self, motif: Motif, index: int) -> asyncio.Future[Picture]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_DRAWING_THREADS, thread_name_prefix="hinow-sandbox-draw")
        return asyncio.get_running_loop().run_in_executor(self._threads, _draw, motif, index)

    def _keep(self, key: tuple[str, int], done: asyncio.Future[Picture]) -> None:
        del self._drawing[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._cache[key] = done.result()
        self._cached_bytes += len(done.result().content)
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1].content)

    async def aclose(self) -> None:
        """End the threads, after the pictures that are being drawn."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        await asyncio.sleep(0)  # the callbacks of cancelled drawings


def part_of(picture: Picture, wanted: str | None, condition: str | None) -> Answer:
    """The whole of *picture*, or the part that its ``Range`` header wants (RFC 9110, sections 14 and 15.3.7).

    *condition* is ``If-Range``: when it names another ETag, or a date, the whole is sent.
    """
    size = len(picture.content)
    try:
        part = read_range(wanted, size) if condition in (None, picture.etag) else None
    except Unsatisfiable:
        return Answer.error(
            416, "the range lies beyond the end", headers=(("Content-Range", f"bytes */{size}"),)
        )
    headers = (*of_type(picture.media_type), ("ETag", picture.etag), ("Accept-Ranges", "bytes"))
    if part is None:
        return Answer(200, picture.content, headers)
    place = ("Content-Range", f"bytes {part.start}-{part.stop - 1}/{size}")
    return Answer(206, picture.content[part.start : part.stop], (*headers, place))
