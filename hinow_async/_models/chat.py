"""Chat: OpenAI's protocol as values (contract, POST /v1/chat/completions)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from hinow_async._models.images import GeneratedImage, check_extra, check_model

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


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _own_dict(value: Any) -> Any:
    """Copy a mapping, so that what the caller changes in it afterwards changes no request."""
    return dict(value) if isinstance(value, Mapping) else value


@attrs.frozen
class Message:
    """One message: a role, and text or a list of parts."""

    role: str
    content: str | tuple[Mapping[str, Any], ...] | None = attrs.field(
        default=None, converter=_tuple, hash=False
    )
    """Text, or parts as the protocol has them (`text`, `image_url`, ...); None with tool calls."""
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
    messages = tuple(_message(item) for item in value)
    if not messages:
        raise ValueError("messages is empty: say something")
    return messages


def _message(item: Any) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping) or not isinstance(item.get("role"), str):
        raise ValueError(f"a message must be a mapping with a role (user, system, ...), not {item!r}")
    known = {"role", "content", "tool_calls"}
    return Message(
        role=item["role"],
        content=item.get("content"),
        tool_calls=item.get("tool_calls") or (),
        extra={key: value for key, value in item.items() if key not in known},
    )


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
        _check_range("max_tokens", self.max_tokens, 1)
        check_extra(self.extra, ("messages", "model", "stream", "parameters", *CHAT_OPTIONS))

    @property
    def images_asked(self) -> int:
        """What the request weighs: a chat counts as one."""
        return 1


def _check_range(name: str, value: Any, low: float, high: float | None = None) -> None:
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value < low or (high is not None and value > high):
        span = f"of at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be a number {span}, not {value!r}")


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


@attrs.frozen(kw_only=True)
class ChatCompletion:
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

    @property
    def text(self) -> str:
        """The text of the first choice; empty where there is none."""
        return self.choices[0].message.text if self.choices else ""


@attrs.frozen(kw_only=True)
class ChatCompletionChunk:
    """One piece of a streamed answer."""

    id: str | None
    model: str | None
    choices: tuple[Mapping[str, Any], ...] = attrs.field(default=(), hash=False)
    """As the protocol has them: `index`, `delta`, `finish_reason`."""
    usage: Usage | None = None
    created: int | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    @property
    def text(self) -> str:
        """The text this piece adds to the first choice."""
        for choice in self.choices:
            delta = choice.get("delta")
            if choice.get("index", 0) == 0 and isinstance(delta, Mapping):
                content = delta.get("content")
                return content if isinstance(content, str) else ""
        return ""
