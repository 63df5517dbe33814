"""Pictures side by side in the output of a notebook's cell: HTML that runs nothing and asks nobody.

Pure. What is shown becomes part of the notebook's file, so that it is bounded in number and in size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from hinow_async._markup import text

MOST: Final = 12
"""Pictures in one output; of the others only the number is said."""
MOST_CHARACTERS: Final = 1_000_000
"""Of all pictures in one output; those beyond are named only."""
_LONGEST: Final = 300
"""Characters of a caption or a prompt that are shown."""
_WIDTH: Final = 240
"""Pixels of a picture among others, at most."""


@attrs.frozen
class Figure:
    """A picture and what stands below it."""

    uri: str | None
    """`data:image/...;base64,...`, made by us; None: it cannot be shown."""
    caption: str
    """Text from anywhere, as all text here."""
    about: str = ""
    """Its prompt, for those who cannot see it."""


def figures(shown: Sequence[Figure], total: int | None = None) -> str:
    """Return pictures side by side.

    Args:
        shown: The first ones.
        total: How many there are, where not all are in *shown*.
    """
    pieces = [_figure(figure, is_alone=len(shown) == 1) for figure in bounded(shown)]
    more = (len(shown) if total is None else total) - len(pieces)
    if more > 0:
        pieces.append(f"<p>and {more:,} more</p>")
    return f"<div>{''.join(pieces)}</div>" if pieces else ""


def bounded(shown: Sequence[Figure]) -> list[Figure]:
    """Return as many as one output has; those that would make it too large are only named."""
    left, kept = MOST_CHARACTERS, []
    for figure in shown[:MOST]:
        fits = figure.uri is not None and len(figure.uri) <= left
        left -= len(figure.uri or "") if fits else 0
        kept.append(figure if fits else attrs.evolve(figure, uri=None))
    return kept


def paragraph(bold: str, prompt: str) -> str:
    """Return a line of text: how it begins, and a prompt or another text from anywhere."""
    return f"<p><b>{text(cut(bold))}</b>: {text(cut(prompt))}</p>"


def cut(value: str, most: int = _LONGEST) -> str:
    """Return as much of a text as is shown: *most* characters."""
    return value if len(value) <= most else f"{value[:most]}..."


def _figure(figure: Figure, *, is_alone: bool) -> str:
    width = "100%" if is_alone else f"{_WIDTH}px"
    about = text(cut(figure.about))
    image = f'<img src="{figure.uri}" alt="{about}" title="{about}" style="max-width: 100%">'
    style = f"display: inline-block; vertical-align: top; max-width: {width}; margin: 0 8px 8px 0"
    return (
        f'<figure style="{style}">'
        f"{image if figure.uri else ''}"
        f'<figcaption style="overflow-wrap: anywhere"><small>{text(cut(figure.caption))}</small></figcaption>'
        "</figure>"
    )
