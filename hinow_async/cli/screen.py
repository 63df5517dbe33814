"""What goes to the terminal: answers to standard output, everything human to standard error.

Nothing from outside reaches a terminal raw: control characters, escape sequences and characters that turn
the direction of writing are escaped.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import unicodedata
from pathlib import Path
from typing import Any, Final

import attrs

_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Joiners belong to Persian, to the scripts of India and to emoji.
_SAFE: Final = frozenset("\n\t\u200c\u200d")
_ONE_LINE: Final = frozenset("\u200c\u200d")


def safe(text: str, *, lines: bool = True) -> str:
    """Return *text* without anything that could move a cursor, or turn what is written.

    Args:
        text: From anywhere.
        lines: Whether it may have several lines, and tabs.
    """
    kept = _SAFE if lines else _ONE_LINE
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in kept or _is_safe(char) else _escaped(char) for char in text)


def _is_safe(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) not in _UNSAFE


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


@attrs.define
class Screen:
    """Where a command writes."""

    is_quiet: bool = False
    verbosity: int = 0
    is_json: bool = False
    has_color: bool = True

    def answer(self, text: str) -> None:
        """Write a human answer: to standard output, or to standard error where that is for JSON."""
        if self.is_json:
            self.say(text)
        else:
            sys.stdout.write(f"{_encodable(safe(text), sys.stdout)}\n")

    def piece(self, text: str) -> None:
        """Write a piece of an answer as it comes.

        Each character is made safe on its own, so that an escape sequence cut in two is none either.
        """
        sys.stdout.write(_encodable(safe(text), sys.stdout))
        sys.stdout.flush()

    def path(self, path: Path) -> None:
        """Write a path, on a line of its own; as it is, where another program reads it."""
        if sys.stdout.isatty():
            self.answer(safe(str(path), lines=False))
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")

    def json(self, value: Any) -> None:
        """Write one JSON object; in ASCII, which is safe on every terminal. NaN and infinities are null."""
        text = json.dumps(value, default=str)
        if "NaN" in text or "Infinity" in text:  # as numbers, or within a text
            text = json.dumps(json.loads(text, parse_constant=lambda _: None))
        sys.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """Write to the user, unless he wants quiet."""
        if not self.is_quiet:
            self._write(safe(text))

    def error(self, error: Exception, message: str) -> None:
        """Write what went wrong."""
        if self.verbosity >= 2:
            self._write(safe("".join(traceback.format_exception(error))))
        self._write(safe(f"hinow: {message}"))

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def listen_to_log(self) -> None:
        """Show what the library logs: warnings, with -v more, with --quiet only errors."""
        log = logging.getLogger("hinow_async")
        log.handlers[:] = [_LogHandler(self)]
        log.propagate = False
        levels = (logging.WARNING, logging.INFO, logging.DEBUG)
        log.setLevel(logging.ERROR if self.is_quiet else levels[min(self.verbosity, 2)])


class _LogHandler(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            self._screen._write(safe(f"hinow: {record.levelname.lower()}: {text}", lines=False))
        except OSError:
            self.handleError(record)


def _encodable(text: str, stream: Any) -> str:
    """Return *text* with what the terminal's encoding does not have escaped."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
