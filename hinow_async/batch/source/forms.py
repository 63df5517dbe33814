"""What the lines of a text file are: JSON objects, or prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hinow_async._protocol import json
from hinow_async.batch.source.lines import decoded


class Form(Protocol):
    """Turns lines into items, told them line by line."""

    @property
    def is_open(self) -> bool:
        """Whether the item goes on in the next line."""

    def take(self, line: bytes) -> Mapping[str, Any] | str | None:
        """Take the next line; return the item that it ends, if it does.

        Raises:
            ValueError: the item is none; the next line begins another.
            UnreadableError: nobody can tell where the next one begins.
        """


class JsonLines:
    """A line is a JSON object with the fields of a request."""

    is_open = False

    def take(self, line: bytes) -> dict[str, Any] | None:
        """Take the next line."""
        text = decoded(line).strip()
        return json_object(text) if text else None


class PlainText:
    """A line is a prompt."""

    is_open = False

    def take(self, line: bytes) -> str | None:
        """Take the next line."""
        return decoded(line).strip() or None


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text.encode("utf-8", "surrogatepass"))
    except json.MalformedJSONError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
