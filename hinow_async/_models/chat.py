"""Chat: OpenAI's protocol as values (contract, POST /v1/chat/completions)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from hinow_async._errors import HinowError
from hinow_async._figures import cut
from hinow_async._markup import output, text
from hinow_async._models.display import grid, saved_of
from hinow_async._models.images import (
    Clientless,
    GeneratedImage,
    ImageDoor,
    OnProgress,
    SavedImage,
    check_extra,
    check_model,
    door_of,
    not_saved,
    unwrapped,
)

CHAT_OPTIONS = (
    "temperature",
    "max_tokens",
    "top_p",
    "repetition_penalty",
    "seed",
    "stop",
    "response_format",
    "tools",
    "tool_choice",
)
"""Fields of `ChatRequest` that stand at the root of the body when they were set."""
_LONGEST_SHOWN = 20_000
"""Characters of an answer that a notebook shows."""


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _own_dict(value: Any) -> Any:
    """Copy a mapping, so that what the caller changes in it afterwards changes no request."""
    return dict(value) if isinstance(value, Mapping) else value


Part = Mapping[str, Any] | str | bytes | os.PathLike[str]


@attrs.frozen
class Message:
    """One message: a role, and text or a list of parts."""

    role: str
    content: str | Sequence[Part] | None = attrs.field(default=None, converter=_tuple, hash=False)
    """Text, or parts as the protocol has them (`text`, `image_url`, ...); None with tool calls.

    In a request a part may also be a text, or a picture of your own: a `Path`, or its bytes (PNG, JPEG or
    WebP, up to 20 MiB). These may stand for the `url` of an `image_url` part, too. They are sent as
    `data:` URIs.
    """
    tool_calls: tuple[Mapping[str, Any], ...] = attrs.field(default=(), converter=_tuple, hash=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    """Further fields, kept and sent as they are (`name`, `tool_call_id`, `images`, ...)."""

    @property
    def text(self) -> str:
        """The text of the message, of all its text parts in their order."""
        if isinstance(self.content, str):
            return self.content
        parts = self.content or ()
        return "".join(
            part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )


def as_messages(value: Any) -> tuple[Message, ...]:
    """Take a prompt, a message, mappings or `Message` objects as the messages of a request."""
    if isinstance(value, str):
        value = (Message(role="user", content=value),)
    elif isinstance(value, Message | Mapping):
        value = (value,)
    if not isinstance(value, Iterable):
        raise ValueError(f"messages must be a string or a list of messages, not {value!r}")
    messages = tuple(_message(item, f"messages[{number}]") for number, item in enumerate(value))
    if not messages:
        raise ValueError("messages is empty: say something")
    return messages


def _message(item: Any, where: str) -> Message:
    """Take a message, or a mapping for one; check it, and write its parts as the protocol has them."""
    if isinstance(item, Message):
        return _checked(item, where)
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} must be a mapping with a role (user, system, ...), not {item!r:.200}")
    known = {"role", "content", "tool_calls"}
    message = Message(
        role=item.get("role", ""),
        content=item.get("content"),
        tool_calls=item.get("tool_calls") or (),
        extra={key: value for key, value in item.items() if key not in known},
    )
    return _checked(message, where)


def _checked(item: Message, where: str) -> Message:
    if not isinstance(item.role, str) or not item.role:
        raise ValueError(f"{where}.role must be a text (user, system, ...), not {item.role!r:.200}")
    if not isinstance(item.tool_calls, tuple):
        raise ValueError(f"{where}.tool_calls must be a list, not {item.tool_calls!r:.200}")
    content = item.content
    if content is None or isinstance(content, str):
        return item
    if not isinstance(content, tuple):
        raise ValueError(f"{where}.content must be a text or a list of parts, not {content!r:.200}")
    if all(isinstance(part, Mapping) for part in content):
        return item
    return attrs.evolve(
        item, content=tuple(_part(part, f"{where}.content[{n}]") for n, part in enumerate(content))
    )


def _part(part: Any, where: str) -> Mapping[str, Any]:
    if isinstance(part, Mapping):
        return part
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, bytes | bytearray | memoryview | os.PathLike):
        return {"type": "image_url", "image_url": {"url": part}}
    raise ValueError(f"{where} must be a part (a mapping), a text, a path or bytes, not {part!r:.200}")


@attrs.frozen
class ChatRequest:
    """Messages and how to answer them; whatever is None is left to the service."""

    messages: tuple[Message, ...] = attrs.field(converter=as_messages)
    """A string stands for one message of the user."""
    model: str = attrs.field(kw_only=True)
    """The model's id with its namespace, e.g. `hinow/himax`."""
    temperature: float | None = attrs.field(default=None, kw_only=True)
    max_tokens: int | None = attrs.field(default=None, kw_only=True)
    top_p: float | None = attrs.field(default=None, kw_only=True)
    repetition_penalty: float | None = attrs.field(default=None, kw_only=True)
    seed: int | None = attrs.field(default=None, kw_only=True)
    stop: str | tuple[str, ...] | None = attrs.field(default=None, converter=_tuple, kw_only=True)
    response_format: Mapping[str, Any] | None = attrs.field(default=None, kw_only=True, hash=False)
    tools: tuple[Mapping[str, Any], ...] | None = attrs.field(
        default=None, converter=_tuple, kw_only=True, hash=False
    )
    tool_choice: str | Mapping[str, Any] | None = attrs.field(default=None, kw_only=True, hash=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=_own_dict, kw_only=True, hash=False)
    """Fields that this library does not know, sent untouched at the root of the body."""

    def __attrs_post_init__(self) -> None:
        check_model(self.model)
        _check_range("temperature", self.temperature, 0.0)
        _check_range("top_p", self.top_p, 0.0, 1.0)
        _check_whole("max_tokens", self.max_tokens, 1)
        if self.repetition_penalty is not None:
            _check_range("repetition_penalty", self.repetition_penalty)
        if self.seed is not None:
            _check_whole("seed", self.seed)
        _check_stop(self.stop)
        _check_tools(self.tools)
        if self.response_format is not None and not isinstance(self.response_format, Mapping):
            raise ValueError(f"response_format must be a mapping, not {self.response_format!r}")
        if self.tool_choice is not None and not isinstance(self.tool_choice, str | Mapping):
            raise ValueError(f"tool_choice must be a text or a mapping, not {self.tool_choice!r}")
        check_extra(self.extra, ("messages", "model", "stream", "parameters", *CHAT_OPTIONS))

    @property
    def images_asked(self) -> int:
        """What the request weighs: a chat counts as one."""
        return 1

    @property
    def prompt(self) -> str:
        """The text of the last message of the user, else of the last message."""
        asked = [message for message in self.messages if message.role == "user"]
        return (asked or self.messages)[-1].text


def _check_stop(stop: Any) -> None:
    texts = (stop,) if isinstance(stop, str) else stop
    if texts is not None and not (isinstance(texts, tuple) and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"stop must be a text or a list of texts, not {stop!r}")


def _check_tools(tools: Any) -> None:
    if tools is not None and not (
        isinstance(tools, tuple) and all(isinstance(tool, Mapping) for tool in tools)
    ):
        raise ValueError(f"tools must be a list of mappings, not {tools!r:.200}")


def _check_range(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if not is_number or not low <= value <= high:
        span = f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}"
        raise ValueError(f"{name} must be a number{span if low > -math.inf else ''}, not {value!r}")


def _check_whole(name: str, value: Any, low: float = -math.inf) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        least = f" of at least {low:g}" if low > -math.inf else ""
        raise ValueError(f"{name} must be a whole number{least}, not {value!r}")


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens, as the service counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True)
class Choice:
    """One of the answers."""

    index: int
    message: Message
    finish_reason: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen(kw_only=True, getstate_setstate=False)
class ChatCompletion(Clientless):
    """The whole answer to a chat request."""

    id: str | None
    model: str | None
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None
    object: str | None = None
    images: tuple[GeneratedImage, ...] = attrs.field(default=(), repr=False)
    """Pictures found anywhere in the first choice's message."""
    request: ChatRequest | None = attrs.field(default=None, repr=False)
    call: Any = attrs.field(default=None, eq=False)
    """The `CallRecord` of the call."""
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    _door: ImageDoor | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The text of the first choice; empty where there is none."""
        return self.choices[0].message.text if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended (`stop`, `length`, `tool_calls`, ...); None: it did not say."""
        return self.choices[0].finish_reason if self.choices else None

    async def save(
        self,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write every picture of the answer into *directory*; see `ImageResult.save`.

        Raises:
            DownloadError: the first picture that could not be kept; `.saved` holds the others.
            OSError: the folder cannot be written to.
        """
        door = door_of(self, "client.images.save(reply, directory)")
        return await door.save(self, directory, name=name, overwrite=overwrite, on_progress=on_progress)

    def _repr_html_(self) -> str:
        """Show it in a notebook: as text, for Markdown of a model may load pictures from anywhere."""
        saved = saved_of(self)
        there = {picture.index for picture in saved}
        left = [image for image in self.images if image.index not in there]
        said = text(cut(self.text, _LONGEST_SHOWN))
        pictures = grid(saved, self.request.prompt if self.request else "") + not_saved(left, "", "reply")
        return output(f'<div style="white-space: pre-wrap">{said}</div>{pictures}')


@attrs.frozen(kw_only=True)
class ChatCompletionChunk:
    """One piece of a streamed answer."""

    id: str | None
    model: str | None
    choices: tuple[Mapping[str, Any], ...] = attrs.field(default=(), hash=False)
    """As the protocol has them: `index`, `delta`, `finish_reason`."""
    usage: Usage | None = None
    created: int | None = None
    object: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    @property
    def text(self) -> str:
        """The text this piece adds to the first choice."""
        for choice in self.choices:
            delta = choice.get("delta")
            if delta and not choice.get("index"):
                content = delta.get("content")
                return content if isinstance(content, str) else ""
        return ""


_new = object.__new__
_set_id, _set_model, _set_choices, _set_usage, _set_created, _set_object, _set_extra = (
    getattr(ChatCompletionChunk, item.name).__set__ for item in attrs.fields(ChatCompletionChunk)
)


def new_chunk(  # noqa: PLR0917 - names would cost half of what this saves
    id: str | None,
    model: str | None,
    choices: tuple[Mapping[str, Any], ...],
    usage: Usage | None,
    created: int | None,
    kind: str | None,
    extra: Mapping[str, Any],
) -> ChatCompletionChunk:
    """Make a chunk past its frozen `__init__`, which takes twice as long: an answer has thousands of them."""
    chunk = _new(ChatCompletionChunk)
    _set_id(chunk, id)
    _set_model(chunk, model)
    _set_choices(chunk, choices)
    _set_usage(chunk, usage)
    _set_created(chunk, created)
    _set_object(chunk, kind)
    _set_extra(chunk, extra)
    return chunk


@attrs.frozen(kw_only=True)
class ChatOutcome:
    """What became of one request of `create_many`; it may carry *result*, *saved* and *error* together."""

    index: int
    """The request's position in the source, from 0."""
    request: ChatRequest
    result: ChatCompletion | None = None
    saved: tuple[SavedImage, ...] = ()
    """The files, where `save_to` was given."""
    error: HinowError | OSError | ValueError | None = None

    def unwrap(self) -> ChatCompletion:
        """Return the result, or raise the error."""
        return unwrapped(self.result, self.error)
