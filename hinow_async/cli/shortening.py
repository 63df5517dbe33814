"""An answer's text without the pictures in it: a `data:` URI of megabytes is nothing to read on a terminal.

Pure. The text comes in pieces that may be cut anywhere. At most the beginning of a URI is held back until it
is known whether it is one; of what follows only the length is kept.
"""

from __future__ import annotations

import re
from typing import Final

_MOST: Final = 200
"""Characters between `data:` and `;base64,`; more is no URI that anybody means."""
_HEAD: Final = re.compile(rf"data:([\w.+/;=-]{{0,{_MOST}}}?);base64,", re.ASCII | re.IGNORECASE)
_UNFINISHED: Final = re.compile(
    rf"(?:d|da|dat|data|data:[\w.+/;=-]{{0,{_MOST + len(';base64')}}})\Z", re.ASCII | re.IGNORECASE
)
_HELD: Final = len("data:") + _MOST + len(";base64")
_BODY: Final = re.compile(r"[A-Za-z0-9+/_=%-]*")


class Shortener:
    """Takes an answer piece by piece and gives it back with `[picture, 1.2 MB]` for each picture in it."""

    def __init__(self) -> None:
        self._held = ""
        self._kind: str | None = None
        self._length = 0

    def feed(self, piece: str) -> str:
        """Return what is to be shown by now."""
        return "".join(self._shown(self._held + piece))

    def end(self) -> str:
        """Return what was held back."""
        rest = self._held if self._kind is None else self._placeholder()
        self._held, self._kind = "", None
        return rest

    def _shown(self, text: str) -> list[str]:
        shown: list[str] = []
        at = 0
        self._held = ""
        while at < len(text):
            if self._kind is not None:
                at = self._skip(text, at, shown)
            elif (head := _HEAD.search(text, at)) is not None:
                shown.append(text[at : head.start()])
                self._kind, self._length = head[1], 0
                at = head.end()
            else:
                kept = _UNFINISHED.search(text, max(at, len(text) - _HELD))
                until = len(text) if kept is None else kept.start()
                shown.append(text[at:until])
                self._held = text[until:]
                break
        return shown

    def _skip(self, text: str, at: int, shown: list[str]) -> int:
        """Go to the end of the URI, if it is there."""
        body = _BODY.match(text, at)
        until = at if body is None else body.end()
        self._length += until - at
        if until < len(text):
            shown.append(self._placeholder())
            self._kind = None
        return until

    def _placeholder(self) -> str:
        what = "picture" if (self._kind or "").lower().startswith("image/") else "data"
        size = self._length * 3 // 4
        return f"[{what}, {size / 1e6:,.1f} MB]" if size >= 1e5 else f"[{what}, {size / 1e3:,.1f} kB]"
