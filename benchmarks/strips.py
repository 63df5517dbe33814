"""Pictures of limits over time, as SVG: a column per client, a strip per quantity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import attrs

WIDTH, HEIGHT = 250, 120  # of one strip, in pixels
LEFT, TOP, GAP, BETWEEN = 56, 64, 34, 34
MEAN_OVER = 5  # seconds
COLOURS = {"limit": "#b45309", "in flight": "#1d4ed8", "throughput": "#15803d", "refused": "#b91c1c"}

Point = tuple[float, float]


@attrs.frozen
class Column:
    """What one client did; times in seconds from the start."""

    title: str
    samples: Sequence[tuple[float, int, int]]
    """When, the limit, in flight."""
    successes: Sequence[float]
    refusals: Sequence[float]


@attrs.frozen
class _Strip:
    """One quantity of all columns."""

    title: str
    unit: str
    lines: dict[str, Callable[[Column], list[Point]]]
    ideal: float | None = None


def rate(times: Sequence[float], seconds: float) -> list[Point]:
    """Events per second, in means over a few seconds."""
    bins = [0] * max(1, int(seconds) // MEAN_OVER)
    for at in times:
        if int(at) // MEAN_OVER < len(bins):
            bins[int(at) // MEAN_OVER] += 1
    return [((number + 0.5) * MEAN_OVER, found / MEAN_OVER) for number, found in enumerate(bins)]


def _seen(column: Column, seconds: float) -> list[tuple[float, int, int]]:
    """The samples of the run, about one per pixel."""
    samples = [sample for sample in column.samples if sample[0] <= seconds]
    return samples[:: max(1, len(samples) // WIDTH)]


def draw(title: str, columns: Sequence[Column], allows: float, seconds: float) -> str:
    """Return a picture of what each client did.

    Args:
        title: Of the whole.
        columns: One per client.
        allows: Successes per second that the service lets through: a dashed line.
        seconds: Of the whole run.
    """
    strips = [
        _Strip(
            "in flight, and the limit",
            "calls",
            {
                "limit": lambda column: [(at, limit) for at, limit, _ in _seen(column, seconds)],
                "in flight": lambda column: [(at, flying) for at, _, flying in _seen(column, seconds)],
            },
        ),
        _Strip(
            "successes", "per s", {"throughput": lambda column: rate(column.successes, seconds)}, ideal=allows
        ),
        _Strip("refusals", "per s", {"refused": lambda column: rate(column.refusals, seconds)}),
    ]
    width = LEFT + len(columns) * (WIDTH + GAP)
    height = TOP + len(strips) * (HEIGHT + BETWEEN) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="11" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for number, column in enumerate(columns):
        x = LEFT + number * (WIDTH + GAP)
        parts.append(f'<text x="{x}" y="42" font-size="13">{escape(column.title)}</text>')
    for number, strip in enumerate(strips):
        parts += _draw_strip(strip, columns, TOP + number * (HEIGHT + BETWEEN), seconds)
    return "\n".join([*parts, "</svg>", ""])


def _draw_strip(strip: _Strip, columns: Sequence[Column], y: float, seconds: float) -> list[str]:
    parts = [
        f'<text x="{LEFT}" y="{y - 5}">{escape(strip.title)}</text>',
        f'<text x="{LEFT - 6}" y="{y + 9}" text-anchor="end" fill="#666">{strip.unit}</text>',
    ]
    if len(strip.lines) > 1:
        parts += _legend(strip.lines, y)
    points = [{name: line(column) for name, line in strip.lines.items()} for column in columns]
    tops = [_top(lines, strip.ideal) for lines in points]
    if strip.ideal is not None:
        tops = [max(tops)] * len(tops)  # to be compared; the other quantities are too far apart
    for number, (lines, top) in enumerate(zip(points, tops, strict=True)):
        parts += _draw_panel(strip, lines, LEFT + number * (WIDTH + GAP), y, seconds, top)
    return parts


def _top(lines: dict[str, list[Point]], ideal: float | None) -> float:
    return _rounded_up(max([1.0, ideal or 0.0, *(value for line in lines.values() for _, value in line)]))


def _draw_panel(
    strip: _Strip, lines: dict[str, list[Point]], x: float, y: float, seconds: float, top: float
) -> list[str]:
    parts = [f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="#f6f6f6"/>']
    if strip.ideal is not None:
        at = y + HEIGHT * (1 - strip.ideal / top)
        parts.append(
            f'<line x1="{x}" x2="{x + WIDTH}" y1="{at:.1f}" y2="{at:.1f}" stroke="#888"'
            ' stroke-dasharray="4 3"/>'
        )
    parts += [_polyline(line, x, y, seconds, top, COLOURS[name]) for name, line in lines.items()]
    parts.append(f'<text x="{x + 3}" y="{y + 11}" fill="#666">{top:g}</text>')
    return parts + _ticks(x, y, seconds)


def _polyline(line: Sequence[Point], x: float, y: float, seconds: float, top: float, colour: str) -> str:
    drawn = " ".join(
        f"{x + WIDTH * at / seconds:.1f},{y + HEIGHT * (1 - value / top):.1f}" for at, value in line
    )
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="{drawn}"/>'


def _ticks(x: float, y: float, seconds: float) -> list[str]:
    step = 60 if seconds <= 300 else 120
    return [
        f'<text x="{x + WIDTH * at / seconds:.1f}" y="{y + HEIGHT + 12}" text-anchor="middle" fill="#666">'
        f"{at}{' s' if at + step > seconds else ''}</text>"
        for at in range(0, int(seconds) + 1, step)
    ]


def _legend(names: dict[str, Callable[[Column], list[Point]]], y: float) -> list[str]:
    return [
        f'<text x="{LEFT + 150 + 60 * number}" y="{y - 5}" fill="{COLOURS[name]}">— {name}</text>'
        for number, name in enumerate(names)
    ]


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ... or one and a half times it less."""
    scale = 1.0
    while scale * 10 < value:
        scale *= 10
    return next(scale * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if scale * step >= value)
