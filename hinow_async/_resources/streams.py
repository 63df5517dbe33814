"""A chat that is streamed: its chunks as they come, its text, and in the end the whole answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

from hinow_async._errors import APIError, ConfigurationError
from hinow_async._models.calls import CallRecord
from hinow_async._models.chat import ChatCompletion, ChatCompletionChunk, ChatRequest
from hinow_async._models.images import ImageDoor
from hinow_async._pool import Incoming
from hinow_async._protocol.chat_stream import ChatReader, StreamProblem
from hinow_async._protocol.judge import Failure
from hinow_async._streaming import StreamBrokenError, StreamCall

_CUT = StreamProblem("it ended without [DONE] and without a finish reason")


class ChatStream:
    """An answer while it comes: iterate it for chunks, or its `text`; `completion()` is the whole.

    Leaving it closes its connection at once and gives its slot back: by the end of its `async with` block
    or by `aclose()`; outside of such a block also by leaving the iteration, with `break` or an error. What
    was sent stays paid.
    """

    def __init__(self, call: StreamCall, incoming: Incoming, request: ChatRequest, door: ImageDoor) -> None:
        self._call = call
        self._request = request
        self._door = door
        self._reader = ChatReader(is_json=incoming.is_json)
        self._ready: deque[ChatCompletionChunk] = deque()
        self._loop = asyncio.get_running_loop()
        self._is_read = False
        self._is_held = False
        self._is_left = False
        self._lingers = False
        self._error: APIError | None = None

    # -- what users see ----------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        return self._chunks()

    @property
    def text(self) -> AsyncIterator[str]:
        """The text of the first choice, piece by piece as it comes.

        Raises:
            APIError: the stream failed; `.partial` of it holds what had come.
        """
        return self._texts()

    async def completion(self) -> ChatCompletion:
        """Read what is left, and return the whole answer, put together.

        Raises:
            APIError: the stream failed; `.partial` of it holds what had come.
            ConfigurationError: the stream was left before its end.
        """
        while await self._fill():
            self._ready.clear()
        if self._is_left:
            raise ConfigurationError("the stream was left before its end: what had come is in `.partial`")
        return self.partial

    @property
    def partial(self) -> ChatCompletion:
        """What has come so far, put together."""
        return self._reader.completion(request=self._request, call=self.call, door=self._door)

    @property
    def call(self) -> CallRecord:
        """What the call has done so far."""
        return self._call.record()

    async def aclose(self) -> None:
        """Leave the stream: its connection is closed, its slot given back. Any number of times."""
        self._leave()

    async def __aenter__(self) -> Self:
        self._is_held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def __del__(self) -> None:
        # Forgotten, not left. The collector may run in any thread, and here nothing may touch the loop.
        if hasattr(self, "_lingers") and not self._call.is_over and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call.close)

    # -- reading -----------------------------------------------------------------------------------

    async def _chunks(self) -> AsyncIterator[ChatCompletionChunk]:
        ready = self._ready
        try:
            while ready or await self._fill():
                yield ready.popleft()
        finally:
            self._on_iteration_left()

    async def _texts(self) -> AsyncIterator[str]:
        ready = self._ready
        try:
            while ready or await self._fill():
                if text := ready.popleft().text:
                    yield text
        finally:
            self._on_iteration_left()

    def _on_iteration_left(self) -> None:
        if not self._is_held:
            self._leave()

    async def _fill(self) -> bool:
        """Have chunks ready; return whether there are any more."""
        if self._is_read:
            raise ConfigurationError("this stream is being read by another task")
        self._is_read = True
        try:
            while not self._ready and not self._call.is_over:
                await self._read()
            if not self._ready and self._lingers:
                self._lingers = False
                await self._call.linger()
                self._call.close()
        except BaseException:
            self._leave()
            raise
        finally:
            self._is_read = False
        if not self._ready and self._error is not None:
            raise self._error
        return bool(self._ready)

    async def _read(self) -> None:
        reader = self._reader
        if reader.problem is not None:
            self._fail(self._call.problem(reader.problem, has_begun=reader.has_chunks))
            return
        try:
            data = await self._call.read()
        except StreamBrokenError as error:
            self._end(error.failure)
            return
        if data:
            self._ready.extend(reader.feed(data))
            if reader.is_done:
                self._lingers = True
                self._call.succeed()
        else:
            self._ready.extend(reader.end())
            self._end(None)

    def _end(self, broken: Failure | None) -> None:
        """No more bytes come: because the stream ended, or because it broke."""
        problem = self._reader.problem
        if self._reader.is_complete:
            self._call.succeed()
            self._call.close()
        elif problem is None and broken is not None:
            self._fail(broken)
        else:
            self._fail(self._call.problem(problem or _CUT, has_begun=self._reader.has_chunks))

    def _fail(self, failure: Failure) -> None:
        self._error = self._call.fail(failure)
        self._error.partial = self.partial

    def _leave(self) -> None:
        if not self._call.is_over:
            self._is_left = True
        self._ready.clear()
        self._call.close()


class OpeningStream:
    """What `stream` returns: enter it with `async with`, which sends the request."""

    def __init__(self, open_stream: Callable[[], Awaitable[ChatStream]]) -> None:
        self._open = open_stream
        self._stream: ChatStream | None = None

    async def __aenter__(self) -> ChatStream:
        if self._stream is not None:
            raise ConfigurationError("this stream was entered before: call stream again")
        self._stream = await self._open()
        return await self._stream.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        if self._stream is not None:
            await self._stream.aclose()
