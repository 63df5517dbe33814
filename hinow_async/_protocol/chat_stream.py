"""What the bytes of a streamed chat say: its chunks, its end, or what went wrong in it."""

from __future__ import annotations

from typing import Any, Final

import attrs

from hinow_async._models.chat import ChatCompletion, ChatCompletionChunk, ChatRequest
from hinow_async._models.images import ImageDoor
from hinow_async._protocol import chat_wire, json
from hinow_async._protocol.assembly import Assembler
from hinow_async._protocol.fields import WireError, error_fields
from hinow_async._protocol.sse import MAX_EVENT, Decoder, Event, EventTooLargeError

MAX_STREAM: Final = 512 * 2**20
"""Bytes of one stream, comments included: what is assembled of its events lies in memory."""


@attrs.frozen
class StreamProblem:
    """Why a stream cannot go on, as the service said it or as it was found out."""

    message: str
    code: str | None = None
    type: str | None = None
    raw: bytes = b""
    is_said: bool = False
    """Whether the service itself said that it failed."""


class ChatReader:
    """Reads one stream of a chat, and keeps what the whole answer is made of."""

    __slots__ = ("_answer", "_assembler", "_decoder", "_left", "has_chunks", "is_done", "problem")

    def __init__(self, *, is_json: bool = False, max_event: int = MAX_EVENT) -> None:
        """Begin.

        Args:
            is_json: The answer is no stream but one JSON document: from a service that does not stream.
            max_event: The longest event in bytes.
        """
        self._decoder = Decoder(max_event)
        self._assembler = Assembler()
        self._answer: list[bytes] | None = [] if is_json else None
        self._left = MAX_STREAM if not is_json else max_event
        self.has_chunks = False
        self.is_done = False
        """`[DONE]` came: what follows is no part of the answer."""
        self.problem: StreamProblem | None = None
        """What ends the stream, after the chunks that were given."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole: by `[DONE]`, or by the finish reasons of all choices."""
        return self.problem is None and (self.is_done or self._assembler.is_finished)

    def feed(self, data: bytes) -> list[ChatCompletionChunk]:
        """Take bytes as they came; return the chunks that are whole now. Afterwards look at `problem`."""
        self._left -= len(data)
        if self._left < 0:
            self.problem = StreamProblem("it brings more bytes than any answer")
            return []
        if self._answer is not None:
            self._answer.append(data)
            return []
        chunks: list[ChatCompletionChunk] = []
        try:
            for event in self._decoder.feed(data):
                if self.is_done:
                    continue  # the decoder is read to its end, and what it gives is not
                if (chunk := self._read(event)) is not None:
                    self._assembler.add(chunk)
                    chunks.append(chunk)
                elif self.problem is not None:
                    break
        except (EventTooLargeError, WireError) as error:
            if not self.is_done:
                self.problem = StreamProblem(str(error))
        self.has_chunks = self.has_chunks or bool(chunks)
        return chunks

    def _read(self, event: Event) -> ChatCompletionChunk | None:
        """Return the chunk of an event; None, where it holds none: then it said the end, or a problem."""
        data = event.data
        if not data and event.name != "error":
            return None  # it says nothing, and a flood of such events must cost next to nothing
        try:
            raw = json.parse(data)
            if event.name != "error" and not (type(raw) is dict and is_error(raw)):
                return chat_wire.chat_chunk(raw)
            self.problem = _said(raw, data)
        except (json.MalformedJSONError, WireError) as error:
            self._read_odd(event, str(error))
        return None

    def _read_odd(self, event: Event, reason: str) -> None:
        """Make something of data that is no chunk."""
        data = event.data
        if data.strip() == "[DONE]":
            self.is_done = True
        elif event.name == "error":
            self.problem = StreamProblem(data[:500], raw=_raw(data), is_said=True)
        elif not data.isspace():
            self.problem = StreamProblem(reason, raw=_raw(data))

    def end(self) -> list[ChatCompletionChunk]:
        """Nothing more comes; return what that completes."""
        if self._answer is None:
            return []
        body = b"".join(self._answer)
        self._answer = []
        try:
            raw = json.loads(body)
            if isinstance(raw, dict) and is_error(raw):
                self.problem = _said(raw, body)
                return []
            chunk = chat_wire.chunk_of_completion(chat_wire.chat_completion(raw))
            self._assembler.add(chunk)
        except (json.MalformedJSONError, WireError) as error:
            self.problem = StreamProblem(str(error), raw=body)
            return []
        self.is_done = self.has_chunks = True
        return [chunk]

    def completion(self, *, request: ChatRequest, call: Any, door: ImageDoor | None) -> ChatCompletion:
        """Return what has come so far, as if it had been answered whole."""
        return self._assembler.completion(request=request, call=call, door=door)


def is_error(raw: dict[str, Any]) -> object:
    """Whether data says that the service failed."""
    return raw.get("error") or raw.get("success") is False


def _said(raw: Any, data: str | bytes) -> StreamProblem:
    message, code, kind = error_fields(raw)
    return StreamProblem(message or "the service gave no reason", code, kind, _raw(data), is_said=True)


def _raw(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
