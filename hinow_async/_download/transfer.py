"""A picture's way over the network: tries, redirects, breaks and resumption; its bytes come out in order.

A file may be asked for again and again, for that costs nothing. After a break the transfer goes on with
`Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14) from what its caller has; where the server answers
with the whole file, another version of it or another range, it starts over at offset 0. It never mixes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, Protocol

import aiohttp
import attrs
from yarl import URL

from hinow_async._errors import (
    DownloadError,
    DownloadTooLargeError,
    IntegrityError,
    UnsafeURLError,
    URLExpiredError,
)
from hinow_async._options import DownloadPolicy
from hinow_async._protocol.backoff import retry_after
from hinow_async._protocol.urls import CheckedURL, ForbiddenAddressError, Origin, check_redirect

BLOCK: Final = 768 * 1024
"""Bytes that are handed on together: a thread hop for each small block would cost more than the block."""
SOON: Final = 1.0
"""Seconds after which what came is handed on, though it be little."""
READ_BUFFER: Final = 256 * 1024
"""Half of what the client may read ahead of us before it pauses the connection."""
MOST_REDIRECTS: Final = 5
MOST_REFUSALS: Final = 2
"""How often a file that is whole as files go, but no whole picture, is fetched anew."""
FIRST_BYTE: Final = 60.0
"""Seconds for an answer to begin, at least: `idle` is meant for a body that has begun."""
LONGEST_WAIT: Final = 600.0
"""Seconds of Retry-After that are obeyed where there is no deadline."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({403, 404, 410})
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)


class DownloadSessions(Protocol):
    """What gives out the sessions: no key, no cookies, bound to the running loop."""

    def downloads(self, *, exempt: bool) -> aiohttp.ClientSession:
        """Return a session; unless *exempt*, one that dials public addresses alone."""

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy to fetch *url* through, if any."""


@attrs.define
class Piece:
    """Bytes of the file, from *offset* on. Offset 0 after others: what came before is void."""

    offset: int
    blocks: list[bytes] = attrs.field(factory=list)
    size: int = 0


@attrs.frozen
class Version:
    """Which version of the file the bytes are from, as far as its server says."""

    etag: str | None = None
    """A strong one: equal tags mean equal bytes (RFC 9110, section 8.8.3)."""
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` may carry; None: a part of this file cannot be gone on with."""
        return self.etag or self.modified


class _Break(Exception):  # noqa: N818 - not an error: it is tried again
    """A try failed in a way that another may not."""

    def __init__(
        self, reason: str, kind: type[DownloadError] = DownloadError, wait: float | None = None
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.wait = wait


class Transfer:
    """Fetches one file, with as many tries as its policy allows."""

    def __init__(
        self,
        sessions: DownloadSessions,
        source: CheckedURL,
        exempt: frozenset[Origin],
        *,
        policy: DownloadPolicy,
        idle: float | None,
        pause: Callable[[int], float],
    ) -> None:
        self.offset = 0
        """Bytes given out, which the caller has kept."""
        self.version = Version()
        self._sessions = sessions
        self._source = source
        self._exempt = exempt
        self._policy = policy
        self._idle = idle
        self._pause = pause
        self._time = asyncio.get_running_loop().time
        self._deadline = None if policy.timeout is None else self._time() + policy.timeout
        self._response: aiohttp.ClientResponse | None = None
        self._break: _Break | DownloadError | None = None
        self._is_framed = True
        self.has_ended = False
        """Whether all bytes were given out; known together with the last ones, as a rule."""
        self._furthest = 0
        self._has_moved = False
        self._failures = 0
        self._refusals = 0

    async def next_piece(self) -> Piece | None:
        """Return the next bytes, about `BLOCK` of them; None at the end of the file.

        Raises:
            DownloadError: it cannot be had; the type says why.
        """
        while not self.has_ended:
            try:
                if self._break is not None:
                    raise self._break
                if self._response is None:
                    self._response = await self._open()
                piece = await self._gather(self._response)
            except _Break as problem:
                await self._recover(problem)
            else:
                if piece.size:
                    return piece
        return None

    def go_on(self, offset: int, version: Version) -> None:
        """Begin after bytes that are there from an earlier run."""
        self.offset = self._furthest = offset
        self.version = version

    async def refuse(self, error: IntegrityError) -> None:
        """Say that the bytes are no whole picture, so that they are fetched anew, if that may help.

        Raises:
            IntegrityError: it was of no use.
        """
        if self.has_ended and not self._is_framed:
            # Nothing but the connection's end had said where the file ends: so it was cut, and can go on.
            self.has_ended = False
        else:
            self._refusals += 1
            if self._refusals > min(MOST_REFUSALS, self._policy.attempts - 1):
                self._fail(str(error), IntegrityError)
            self._start_over()
        await self._recover(_Break(str(error), IntegrityError))

    def close(self) -> None:
        """Let go of the connection. An answer that was read to its end has given it back already."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def extend(self, seconds: float) -> None:
        """Put the deadline off: somebody else was waited for."""
        if self._deadline is not None:
            self._deadline += seconds

    # --- one answer ---------------------------------------------------------------------------------------

    async def _open(self) -> aiohttp.ClientResponse:
        self._has_moved = False
        if self.offset and self.version.validator is None:
            self._start_over()
        headers = {"Accept-Encoding": "identity"}
        if self.offset:
            headers |= {"Range": f"bytes={self.offset}-", "If-Range": self.version.validator or ""}
        response = await self._follow(headers)
        try:
            self._judge(response)
        except BaseException:
            response.close()
            raise
        return response

    async def _follow(self, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = self._source
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._get(url, headers)
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.release()
            url = check_redirect(url, location, self._exempt)
        self._fail(f"it redirected more than {MOST_REDIRECTS} times")

    async def _get(self, url: CheckedURL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        session = self._sessions.downloads(exempt=url.origin in self._exempt)
        limit = None if self._idle is None else max(self._idle, FIRST_BYTE)
        try:
            async with asyncio.timeout_at(self._until(limit)):
                return await session.get(
                    URL(url.text, encoded=True),
                    headers=headers,
                    allow_redirects=False,
                    proxy=self._sessions.proxy_for(url.text),
                    timeout=attrs.evolve(session.timeout, total=None, sock_read=None),
                    read_bufsize=READ_BUFFER,
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            is_silence = type(error) is TimeoutError  # ours; aiohttp's own are of other types
            problem = self._silence("no answer came", limit) if is_silence else self._translate(error, url)
        raise problem  # not in the handler: aiohttp's errors hold the whole URL, whose query may be a secret

    def _judge(self, response: aiohttp.ClientResponse) -> None:
        """Decide what an answer is good for, and note which version of the file it brings."""
        status = response.status
        if status in _GONE:
            self._fail(f"the link is dead (HTTP {status}); the picture was paid for", URLExpiredError)
        if status == 429 or status >= 500:
            wait = retry_after(response.headers, time.time())
            raise _Break(f"the server answered HTTP {status}", wait=wait)
        if self.offset and status == 416:
            self._start_over()
            raise _Break("the server would not go on where the file broke off (HTTP 416)")
        if status == 206 and not self.offset:
            raise _Break("the server sent a part, and the whole was asked for")
        if status not in {200, 206}:
            self._fail(f"the server answered HTTP {status}")
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
            self._fail("the server compressed the file, which was not asked for", IntegrityError)
        self._is_framed = response.content_length is not None or "Transfer-Encoding" in response.headers
        if status == 206:
            return self._join(response)
        self._start_over()
        self.version = _version_of(response)
        self._check_size(self.version.total or 0)
        return None

    def _join(self, response: aiohttp.ClientResponse) -> None:
        """Accept a part only if it begins where we are, in the version that we have."""
        parts = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if parts is not None:
            first, last, total = int(parts[1]), int(parts[2]), parts[3]
            length, etag = response.content_length, response.headers.get("ETag")
            if (
                first == self.offset <= last
                and (length is None or length == last - first + 1)
                and (total == "*" or self.version.total in {None, int(total)})
                and (total == "*" or last < int(total))
                and (etag is None or self.version.etag is None or etag == self.version.etag)
            ):
                if total != "*":
                    self.version = attrs.evolve(self.version, total=int(total))
                    self._check_size(int(total))
                return
        self._start_over()
        raise _Break("the server went on with another part or version of the file")

    async def _gather(self, response: aiohttp.ClientResponse) -> Piece:
        """Read about a `BLOCK`; a break is kept for the next call if anything came before it."""
        piece = Piece(self.offset)
        try:
            async with asyncio.timeout(None) as patience:
                await self._read(response.content, piece, patience)
        except TimeoutError:
            self._break = self._silence("nothing came", self._idle)
        except aiohttp.ClientPayloadError:
            self._break = _Break("the file was cut", IntegrityError)
        except (aiohttp.ClientError, OSError, aiohttp.http_exceptions.HttpProcessingError) as error:
            self._break = _Break(f"the connection broke ({type(error).__name__})")
        if self._break is not None:
            self.close()
        self.offset += piece.size
        if self.offset > self._furthest:
            self._furthest, self._has_moved = self.offset, True
        self._check_size(self.offset)
        return piece

    async def _read(self, content: aiohttp.StreamReader, piece: Piece, patience: asyncio.Timeout) -> None:
        armed: float | None = None
        idle = self._idle
        soon = self._time() + SOON
        while piece.size < BLOCK and (now := self._time()) < soon:
            # Moved only now and then, for each move costs as much as a read.
            if armed is None or (idle is not None and now - armed > idle / 64):
                patience.reschedule(self._until(idle if idle is None else idle * 65 / 64))
                armed = now
            if block := await content.readany():
                piece.blocks.append(block)
                piece.size += len(block)
            if content.at_eof():
                self._end(self.offset + piece.size)
                return

    def _end(self, size: int) -> None:
        """The answer is at its end: is the file?"""
        self._response = None
        total = self.version.total
        if total is not None and size < total:
            self._break = _Break(f"the file was cut at {size:,} of {total:,} bytes", IntegrityError)
        elif total is not None and size > total:
            self._fail(f"the file is longer than the {total:,} bytes it was said to have", IntegrityError)
        else:
            self.has_ended = True

    # --- after a break ------------------------------------------------------------------------------------

    def _start_over(self) -> None:
        self.offset = 0
        self.version = Version()
        self.has_ended = False

    async def _recover(self, problem: _Break) -> None:
        """Wait before the next try, or give up."""
        self._break = None
        self.close()
        self._failures = 0 if self._has_moved else self._failures + 1
        self._has_moved = False
        if self._failures >= self._policy.attempts:
            self._fail(f"{problem}, in {self._failures} tries without progress", problem.kind)
        wait = self._pause(max(1, self._failures)) + (problem.wait or 0)
        latest = self._time() + LONGEST_WAIT if self._deadline is None else self._deadline
        if self._time() + wait > latest:
            self._fail(f"{problem}; the next try would be too late, in {wait:.0f} s", problem.kind)
        await asyncio.sleep(wait)

    def _until(self, seconds: float | None) -> float | None:
        """The moment that *seconds* from now, or the deadline if sooner."""
        moments = [self._deadline, None if seconds is None else self._time() + seconds]
        return min((moment for moment in moments if moment is not None), default=None)

    def _silence(self, what: str, limit: float | None) -> _Break | DownloadError:
        if self._deadline is not None and self._time() >= self._deadline:
            return self._error(f"it was not there after {self._policy.timeout:g} s")
        return _Break(f"{what} for {limit:g} s")

    def _translate(self, error: Exception, url: CheckedURL) -> _Break | DownloadError:
        """Tell in words of ours how a connection failed."""
        cause = getattr(error, "os_error", error)
        if isinstance(cause, ForbiddenAddressError):
            return UnsafeURLError(f"{url.shown} may not be fetched: {cause}", url=url.shown)
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return self._error("the server's TLS certificate cannot be trusted")
        if isinstance(error, aiohttp.ClientConnectorError):
            return _Break(f"no connection to {url.origin[1]} ({type(error).__name__})")
        return _Break(f"the connection broke ({type(error).__name__})")

    def _check_size(self, size: int) -> None:
        if size > self._policy.max_bytes:
            self._fail(f"it is larger than {self._policy.max_bytes:,} bytes", DownloadTooLargeError)

    def _error(self, reason: str, kind: type[DownloadError] = DownloadError) -> DownloadError:
        return kind(f"{self._source.shown}: {reason}", url=self._source.shown)

    def _fail(self, reason: str, kind: type[DownloadError] = DownloadError) -> NoReturn:
        self.close()
        raise self._error(reason, kind) from None


def _version_of(response: aiohttp.ClientResponse) -> Version:
    headers = response.headers
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified")
    if not re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):  # weak, or nonsense that must not go into a header
        etag = ""
    # A file changed within this very second could change again unseen (RFC 9110, section 8.8.2.2).
    if modified is None or modified == headers.get("Date") or not re.fullmatch(r"[\w ,:+-]{1,40}", modified):
        modified = None
    return Version(etag or None, modified, response.content_length)
