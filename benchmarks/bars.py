"""Bars beside each other, as SVG: a group for each case, on a scale of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

import attrs

from benchmarks.figures import Spread

WIDTH, LEFT, HEIGHT, GAP, TITLE = 720, 190, 16, 4, 30  # pixels
ROOM = 110  # for the figure behind a bar
OURS, THEIRS, SPREAD = "#1d4ed8", "#9ca3af", "#111827"
PEERS = {
    "aiohttp", "httpx", "openai", "curl", "aria2c", "huggingface_hub", "blocks", "inline", "naive",
    "generate", "undurable",
}  # fmt: skip


@attrs.frozen
class Bar:
    """One client's figure; bars of one title stand together."""

    title: str
    client: str
    spread: Spread


def draw(bars: Sequence[Bar]) -> str:
    """Return a picture of all of them."""
    parts, y = [], 10
    for title, group in groupby(bars, key=lambda bar: bar.title):
        drawn, y = _group(title, list(group), y)
        parts += drawn
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
            ' font-family="sans-serif" font-size="11" fill="#222">',
            f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _group(title: str, bars: Sequence[Bar], y: float) -> tuple[list[str], float]:
    parts = [f'<text x="8" y="{y + 15}" font-weight="bold">{escape(title)}</text>']
    y += TITLE - 6
    top = max(1e-9, *(bar.spread.most for bar in bars))
    for bar in bars:
        parts += _bar(bar, y, (WIDTH - LEFT - ROOM) / top)
        y += HEIGHT + GAP
    return parts, y + 8


def _bar(bar: Bar, y: float, scale: float) -> list[str]:
    spread = bar.spread
    length, least, most = (max(0.0, value * scale) for value in (spread.median, spread.least, spread.most))
    x, middle = LEFT + most + 6, y + HEIGHT / 2
    colour = THEIRS if bar.client in PEERS or "Semaphore" in bar.client else OURS
    return [
        f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(bar.client)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{HEIGHT}" fill="{colour}"/>',
        f'<path d="M{LEFT + least:.1f} {middle}H{LEFT + most:.1f}" stroke="{SPREAD}"/>',
        f'<text x="{x:.1f}" y="{middle + 4}">{_figure(spread.median)}</text>',
    ]


def _figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
