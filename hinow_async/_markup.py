"""Text from anywhere, made safe to stand in a page or in the output of a notebook.

Everything that these show passes through `text`. What is left is one of HTML's own five characters,
escaped, or a character that changes nothing but itself.
"""

from __future__ import annotations

import html
import re
from typing import Final
from urllib.parse import quote

# Embeddings, overrides and isolates (UAX #9, 2.1 to 2.4): they turn what follows. The marks (LRM, RLM, ALM)
# do not, and Hebrew and Arabic need them.
_TURNING: Final = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
# Control characters have pictures of their own; a tab and a line end are what they are.
_CONTROLS: Final = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
_SHOWN: Final = {**_CONTROLS, 0x7F: "\u2421", **dict.fromkeys(range(0x80, 0xA0), "\ufffd"), **_TURNING}
_NO_FORMULAS: Final = "mathjax_ignore tex2jax_ignore"  # the first is that of MathJax 3 and 4, the other of 2
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def shown(value: str) -> str:
    """Return a text as a page shows it: with nothing that turns, cannot be written, or has no shape."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATES.sub("\ufffd", value.translate(_SHOWN))


def text(value: str) -> str:
    """Return a text as it stands in an element, or in an attribute in quotes."""
    return html.escape(shown(value), quote=True)


def output(content: str) -> str:
    r"""Return what a value shows in a notebook, as a box whose text stands as it is.

    Notebooks have MathJax read every output: without this the words between two prices would be set as a
    formula, and `$\href{...}$` in a prompt would be a link.
    """
    return f'<div class="{_NO_FORMULAS}">{content}</div>' if content else ""


def link(file: str) -> str:
    """Return a relative path as an attribute: nothing in it can be taken for a scheme, a host or a query."""
    return text(quote(file, safe="/", errors="replace"))
