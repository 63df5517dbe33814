"""From the chunks of a stream to the whole answer that they are pieces of.

Fragments are kept as they come and joined once, at the end: adding is linear, whatever is streamed. Fields
that this library does not know are put together too: texts are joined, lists are extended, objects are
merged, and of anything else the last counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hinow_async._models.chat import ChatCompletion, ChatCompletionChunk, ChatRequest, Choice, Message, Usage
from hinow_async._models.images import ImageDoor
from hinow_async._protocol.chat_wire import chat_images
from hinow_async._protocol.fields import WireError

_DEPTH: Final = 4
"""Objects within objects that are merged; what lies deeper is replaced."""

_SAID_ONCE: Final = frozenset({"role", "id", "type", "index", "format"})
"""Texts that are not continued by a further fragment, but said again by some services."""


class _Pieces(list[str]):
    """A text that comes in fragments."""


class Assembler:
    """Puts the chunks of one answer together."""

    __slots__ = ("_choices", "_created", "_extra", "_id", "_model", "_usage")

    def __init__(self) -> None:
        self._id: str | None = None
        self._model: str | None = None
        self._created: int | None = None
        self._usage: Usage | None = None
        self._extra: dict[str, Any] = {}
        self._choices: dict[int, _Draft] = {}

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take the next chunk.

        Raises:
            WireError: it holds what cannot belong to an answer.
        """
        if self._id is None:
            self._id, self._model, self._created = chunk.id, chunk.model, chunk.created
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.extra:
            self._extra.update(chunk.extra)
        for choice in chunk.choices:
            index = choice.get("index")
            if type(index) is not int:
                index = 0
            draft = self._choices.get(index)
            if draft is None:
                draft = self._choices[index] = _Draft()
            draft.add(choice)

    @property
    def is_finished(self) -> bool:
        """Whether every choice so far has its finish reason."""
        return bool(self._choices) and all(draft.finish_reason for draft in self._choices.values())

    def completion(self, *, request: ChatRequest, call: Any, door: ImageDoor | None) -> ChatCompletion:
        """Return what has come so far, as if it had been answered whole."""
        choices = tuple(draft.choice(index) for index, draft in sorted(self._choices.items()))
        return ChatCompletion(
            id=self._id,
            model=self._model,
            choices=choices,
            usage=self._usage,
            created=self._created,
            object="chat.completion",
            images=chat_images(choices[0].message, door) if choices else (),
            request=request,
            call=call,
            extra=dict(self._extra),
            door=door,
        )


class _Draft:
    """One choice in the making."""

    __slots__ = (
        "_by_index", "_calls", "_extra", "_message_extra", "_parts", "_role", "_texts", "finish_reason",
    )  # fmt: skip

    def __init__(self) -> None:
        self._role: str | None = None
        self._texts: list[str] = []
        self._parts: list[Any] = []
        self._calls: list[dict[str, Any]] = []
        self._by_index: dict[int | None, dict[str, Any]] = {}
        self._message_extra: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self.finish_reason: str | None = None

    def add(self, choice: Mapping[str, Any]) -> None:
        for key, value in choice.items():
            if value is None or key == "index":
                continue
            if key == "delta":
                self._add_delta(value)
            elif key == "finish_reason":
                self.finish_reason = value if isinstance(value, str) else str(value)
            else:
                self._extra[key] = _merged(self._extra.get(key), value, key)

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            if key == "content":
                if type(value) is str:
                    self._texts.append(value)
                elif value is not None:
                    self._add_parts(value)
            elif value is None:
                continue
            elif key == "role":
                self._role = self._role or (value if isinstance(value, str) else None)
            elif key == "tool_calls":
                self._add_calls(value)
            else:
                self._message_extra[key] = _merged(self._message_extra.get(key), value, key)

    def _add_parts(self, value: Any) -> None:
        if not isinstance(value, list):
            raise WireError("content should be text or parts")
        self._parts.extend(value)

    def _add_calls(self, fragments: Any) -> None:
        if not isinstance(fragments, list) or not all(isinstance(item, dict) for item in fragments):
            raise WireError("tool_calls should be a list of objects")
        for fragment in fragments:
            self._add_call(fragment)

    def _add_call(self, fragment: dict[str, Any]) -> None:
        draft = self._call_of(fragment)
        for name, value in fragment.items():
            if name != "index" and value is not None:
                draft[name] = _merged(draft.get(name), value, name)

    def _call_of(self, fragment: dict[str, Any]) -> dict[str, Any]:
        """Find the call that a fragment continues: that of its index, else the last one.

        Services that number no calls, or all of them 0, are known by a new id.
        """
        index, name = fragment.get("index"), fragment.get("id")
        if not isinstance(index, int):
            index = None
        draft = self._by_index.get(index)
        if draft is None and index is None and self._calls and not name:
            draft = self._calls[-1]
        if draft is None or (name and draft.get("id") not in (None, [""], [name])):
            draft = self._by_index[index] = {}
            self._calls.append(draft)
        return draft

    def choice(self, index: int) -> Choice:
        text = _joined(self._texts)
        content: str | tuple[Any, ...] | None = text if self._texts else None
        if self._parts:
            content = (*([{"type": "text", "text": text}] if text else []), *self._parts)
        elif not text and self._calls:
            content = None  # as the protocol has it: words, or calls
        message = Message(
            role=self._role or "assistant",
            content=content,
            tool_calls=tuple(_whole(call) for call in self._calls),
            extra=_whole(self._message_extra),
        )
        return Choice(
            index=index, message=message, finish_reason=self.finish_reason, extra=_whole(self._extra)
        )


def _merged(old: Any, new: Any, key: str, depth: int = 0) -> Any:
    """Return *old* continued by *new*; what is continued is changed in place."""
    if isinstance(new, str):
        return _continued(old, new, key)
    if isinstance(new, list):
        if isinstance(old, list) and not isinstance(old, _Pieces):
            old.extend(new)
            return old
        return list(new)
    if isinstance(new, dict) and depth < _DEPTH:
        merged = old if isinstance(old, dict) else {}
        for name, value in new.items():
            if value is not None or name not in merged:
                merged[name] = _merged(merged.get(name), value, name, depth + 1)
        return merged
    return new


def _continued(old: Any, new: str, key: str) -> Any:
    if not isinstance(old, _Pieces):
        return _Pieces([new])
    is_repeated = key == "name" and old == [new]
    if key in _SAID_ONCE:
        if old == [""]:
            old[:] = [new]
    elif not is_repeated:
        old.append(new)
    return old


def _whole(value: Any, depth: int = 0) -> Any:
    if isinstance(value, _Pieces):
        return _joined(value)
    # What lies deeper was taken as it came, and may be nested as deeply as JSON is read.
    if isinstance(value, dict) and depth <= _DEPTH + 1:
        return {key: _whole(item, depth + 1) for key, item in value.items()}
    return list(value) if isinstance(value, list) else value


def _joined(pieces: list[str]) -> str:
    """Join fragments; the two halves of a character that was cut between them become one again."""
    text = "".join(pieces)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text
