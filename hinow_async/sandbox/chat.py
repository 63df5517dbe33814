"""What the sandbox's models say: whole answers, and the same answers in chunks."""

import json
from collections.abc import Iterator
from typing import Any

import attrs

from hinow_async.sandbox.answers import encode
from hinow_async.sandbox.orders import invalid

_DEFAULTS: dict[str, Any] = {
    "string": "sandbox",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "array": [],
    "object": {},
}


def read_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request.

    Raises:
        Refused: there are none, or one has no role.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: a list of at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise invalid(f"messages[{index}].role: a string is required")
        if not isinstance(message.get("content"), (str, list, type(None))):
            raise invalid(f"messages[{index}].content: must be a string or a list of parts")
    return messages


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, its parts joined."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content or () if isinstance(part, dict)]
    return " ".join(part for part in parts if isinstance(part, str))


def last_question(messages: list[dict[str, Any]]) -> str:
    """The text of the last user message, else of the last message."""
    asked = [message for message in messages if message["role"] == "user"]
    return text_of((asked or messages)[-1])


def _chosen_function(body: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The function that the model calls: the one asked for, else the first, unless it was just answered."""
    tools = body.get("tools")
    choice = body.get("tool_choice", "auto")
    if not isinstance(tools, list) or choice == "none":
        return None
    if choice == "auto" and messages[-1]["role"] == "tool":
        return None
    functions = [tool["function"] for tool in tools if isinstance(tool, dict) and "function" in tool]
    wanted = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    named = [one for one in functions if wanted is None or one.get("name") == wanted]
    if wanted is not None and not named:
        raise invalid(f"tool_choice: no tool is named {str(wanted)[:80]!r}")
    return named[0] if named else None


def _arguments(function: dict[str, Any]) -> str:
    schema = function.get("parameters") or {}
    properties = schema.get("properties") or {}
    kinds = {name: (properties.get(name) or {}).get("type") for name in schema.get("required") or ()}
    return json.dumps({name: _DEFAULTS.get(str(kind), "sandbox") for name, kind in kinds.items()})


def reply(body: dict[str, Any], messages: list[dict[str, Any]], words: str | None) -> dict[str, Any]:
    """The assistant's message: *words* when given, a tool call when tools ask for one, else an echo."""
    try:
        function = _chosen_function(body, messages)
        arguments = "" if function is None else _arguments(function)
        name = "" if function is None else function["name"]
    except (AttributeError, KeyError, TypeError):
        raise invalid("tools: each needs a function with a name and a JSON schema") from None
    if function is None:
        echo = f"The sandbox heard: {last_question(messages)}"
        return {"role": "assistant", "content": echo if words is None else words}
    call = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def picture_reply(url: str) -> dict[str, Any]:
    """How the image model answers a chat: the picture in ``message.images``."""
    picture = {"type": "image_url", "image_url": {"url": url}}
    return {"role": "assistant", "content": "", "images": [picture]}


@attrs.frozen
class Talk:
    """A question and its answer, to be sent whole or in chunks."""

    model: str
    messages: list[dict[str, Any]]
    message: dict[str, Any]
    """The assistant's."""
    request_id: str
    created: int
    """Unix seconds."""

    def completion(self) -> bytes:
        """The whole answer."""
        choice = {"index": 0, "message": self.message, "finish_reason": self._finish}
        return encode({**self._root("chat.completion"), "choices": [choice], "usage": self._usage()})

    def stream(self, pause: float) -> tuple[bytes | float, ...]:
        """The answer as server-sent events, a chunk for each word, with *pause* seconds in between."""
        events = list(self._events())
        if pause == 0:
            return (b"".join(events),)
        return tuple(step for event in events for step in (event, pause))[:-1]

    def _events(self) -> Iterator[bytes]:
        root = self._root("chat.completion.chunk")
        for delta in _deltas(self.message):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield b"data: %b\n\n" % encode({**root, "choices": [choice]})
        last = {"index": 0, "delta": {}, "finish_reason": self._finish}
        yield b"data: %b\n\n" % encode({**root, "choices": [last], "usage": self._usage()})
        yield b"data: [DONE]\n\n"

    def _root(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    @property
    def _finish(self) -> str:
        return "tool_calls" if "tool_calls" in self.message else "stop"

    def _usage(self) -> dict[str, int]:
        """A word counts as a token."""
        asked = sum(len(text_of(message).split()) for message in self.messages)
        said = len(text_of(self.message).split())
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    words = text_of(message).split(" ")
    yield from (
        {"content": f" {word}" if index else word} for index, word in enumerate(words) if word or index
    )
    if "images" in message:
        yield {"images": message["images"]}
    for index, call in enumerate(message.get("tool_calls", ())):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        half = len(arguments) // 2  # arguments arrive in fragments, as OpenAI's do
        opening = {"index": index, **call, "function": {"name": name, "arguments": arguments[:half]}}
        yield {"tool_calls": [opening]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}
