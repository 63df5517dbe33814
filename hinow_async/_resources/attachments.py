"""Pictures of one's own in a chat: files and bytes become `data:` URIs, checked before anything is sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import attrs

from hinow_async._models.chat import ChatRequest, Message
from hinow_async._protocol.pictures import data_uri

MAX_PICTURE: Final = 20 * 2**20
"""Bytes of one picture that is sent along."""

MAX_PICTURES: Final = 64 * 2**20
"""Bytes of all pictures of one request."""


async def attached(request: ChatRequest) -> ChatRequest:
    """Return *request* with the pictures of its files and bytes in it; what has none stays as it is.

    Raises:
        ValueError: a file cannot be read, is no whole picture, or is too large.
    """
    if not any(_has_own(message) for message in request.messages):
        return request
    # Reading, checking and encoding megabytes is nothing for the event loop.
    messages = await anyio.to_thread.run_sync(_Album().attach, request.messages)
    return attrs.evolve(request, messages=messages)


def _has_own(message: Message) -> bool:
    return isinstance(message.content, tuple) and any(_is_own(_source(part)) for part in message.content)


def _source(part: Any) -> Any:
    image = part.get("image_url") if isinstance(part, Mapping) else None
    return image.get("url") if isinstance(image, Mapping) else None


def _is_own(source: Any) -> bool:
    return isinstance(source, bytes | bytearray | memoryview | os.PathLike)


class _Album:
    """The pictures of one request, and how many bytes more it may have."""

    def __init__(self) -> None:
        self._left = MAX_PICTURES

    def attach(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Return the messages with all their pictures in them."""
        return tuple(
            self._attach_to(message, f"messages[{number}]") if _has_own(message) else message
            for number, message in enumerate(messages)
        )

    def _attach_to(self, message: Message, where: str) -> Message:
        parts: Iterable[Any] = message.content or ()
        return attrs.evolve(message, content=tuple(self._part(part, where) for part in parts))

    def _part(self, part: Any, where: str) -> Any:
        source = _source(part)
        if not _is_own(source):
            return part
        where = f"{where}, picture {_shown(source)}"
        data = _bytes_of(source, where)
        self._left -= len(data)
        if self._left < 0:
            most = MAX_PICTURES // 2**20
            raise ValueError(f"{where}: all pictures of a request together may have {most} MiB, not more")
        return {**part, "image_url": {**part["image_url"], "url": _encoded(data, where)}}


def _shown(source: Any) -> str:
    return str(source) if isinstance(source, os.PathLike) else f"of {len(source):,} bytes"


def _bytes_of(source: Any, where: str) -> bytes:
    data = _read(source, where) if isinstance(source, os.PathLike) else bytes(source)
    if len(data) > MAX_PICTURE:
        raise ValueError(f"{where}: a picture may have {MAX_PICTURE // 2**20} MiB, not more")
    return data


def _read(path: os.PathLike[Any], where: str) -> bytes:
    try:
        return _content(Path(path))
    except OSError as error:
        raise ValueError(f"{where}: it cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # also a path with a NUL in it
        raise ValueError(f"{where}: {error}") from None


def _content(path: Path) -> bytes:
    """Read a file, and only a file: a pipe or a device might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    with path.open("rb") as file:
        return file.read(MAX_PICTURE + 1)


def _encoded(data: bytes, where: str) -> str:
    try:
        return data_uri(data)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
