"""What listens to calls: objects with any of `call_started`, `attempt_ended`, `call_ended`.

They are plain functions that must not wait. One that raises is logged once, and never harms a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from hinow_async._errors import ConfigurationError

_log = logging.getLogger("hinow_async")

EVENTS = ("call_started", "attempt_ended", "call_ended")


class Hooks:
    """All hooks of a client, by event. An event that nobody listens to has an empty list."""

    def __init__(self, hooks: Iterable[Any]) -> None:
        self.call_started: list[Callable[[Any], Any]] = []
        self.attempt_ended: list[Callable[[Any], Any]] = []
        self.call_ended: list[Callable[[Any], Any]] = []
        self._blamed: set[Callable[[Any], Any]] = set()
        for hook in hooks:
            self._add(hook)

    def _add(self, hook: Any) -> None:
        found = [event for event in EVENTS if callable(getattr(hook, event, None))]
        if not found:
            raise ConfigurationError(f"hooks: {hook!r} has none of {', '.join(EVENTS)}")
        for event in found:
            getattr(self, event).append(getattr(hook, event))

    def tell(self, listeners: list[Callable[[Any], Any]], record: Any) -> None:
        """Hand *record* to each listener."""
        for listener in listeners:
            try:
                listener(record)
            except Exception as error:
                if listener not in self._blamed:
                    self._blamed.add(listener)
                    _log.warning("a hook raised %s and is ignored: %s", type(error).__name__, error)
