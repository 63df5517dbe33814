"""A comparison put into words, and into a table of pictures for a notebook. All text in it is from anywhere.

Pure but for the pictures, which are made small in threads (`display`). What is shown is bounded: rows and
columns, and of all cells together as many pictures and characters as one output has.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from hinow_async._figures import MOST, Figure, bounded, cut, figures, paragraph
from hinow_async._markup import shown, text
from hinow_async._models.calls import CallRecord
from hinow_async._models.display import Picture, figures_of, saved_of

MOST_ROWS: Final = 24
"""Prompts in one output; of the others only the number is said."""
MOST_COLUMNS: Final = 12
_LONGEST_NAME: Final = 60
"""Characters of a prompt or label in a table of words."""
_GAP: Final = "  "


# -- what a cell says ------------------------------------------------------------------------------------


def call_of(outcome: Any) -> CallRecord | None:
    """Return the record of a cell's call; None where there was none."""
    holder = outcome.result if outcome.result is not None else outcome.error
    return getattr(holder, "call", None)


def seconds_of(outcome: Any) -> float | None:
    """Return the seconds that a cell's call took once it was let through, retries included."""
    call = call_of(outcome)
    return None if call is None or not call.attempts else max(0.0, call.elapsed - call.queued)


def total_usd(outcomes: Iterable[Any]) -> float | None:
    """Return what calls are estimated to have cost; None: of one nobody knows a price."""
    costs = [usd_of(outcome) for outcome in outcomes]
    return None if None in costs else math.fsum(usd for usd in costs if usd is not None)


def usd_of(outcome: Any) -> float | None:
    """Return what a cell's call is estimated to have cost; None: nobody knows its price."""
    call = call_of(outcome)
    if call is None or (outcome.result is None and not call.unknown_outcomes):
        return 0.0
    return call.estimated_usd


def other_model(outcome: Any) -> str | None:
    """Return the model that answered, if it says that it is another than was asked for."""
    result = outcome.result
    if result is None or result.model is None or result.model == outcome.request.model:
        return None
    return str(result.model)


def facts(outcome: Any) -> list[str]:
    """Return what a cell says beside its pictures: time, estimated cost, pictures that differ in number."""
    seconds, usd = seconds_of(outcome), usd_of(outcome)
    said = [] if seconds is None else [f"{seconds:.1f} s"]
    if usd:
        said.append(f"${usd:,.3f}")
    if outcome.result is not None:
        said.append(_pictures(len(outcome.result.images), outcome.request.images_asked))
    return said


def problems(outcome: Any) -> list[str]:
    """Return what went wrong in a cell, and that another model answered."""
    said = []
    if outcome.error is not None:
        said.append(f"{type(outcome.error).__name__}: {outcome.error}")
    if (model := other_model(outcome)) is not None:
        said.append(f"answered by {model}, not by {outcome.request.model}")
    return said


def summary(comparison: Any) -> str:
    """Return what it came to, in a line."""
    prompts, variants = len(comparison.prompts), len(comparison.labels)
    parts = [f"{_count(prompts, 'prompt')} in {_count(variants, 'variant')}", _cost(comparison)]
    if comparison.failed:
        parts.append(f"{len(comparison.failed):,} failed")
    return ", ".join(parts)


def _pictures(count: int, asked: int) -> str:
    return _count(count, "picture") + ("" if count == asked else f" of {asked}")


def _cost(comparison: Any) -> str:
    costs = [usd_of(outcome) for outcome in comparison.outcomes]
    known = [usd for usd in costs if usd is not None]
    rest = len(costs) - len(known)
    unknown = f" and {_count(rest, 'call')} of unknown price" if rest else ""
    return f"estimated ${math.fsum(known):,.3f}{unknown}"


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


# -- words -----------------------------------------------------------------------------------------------


def table_of(comparison: Any) -> str:
    """Return a table of words: prompts as rows, labels as columns; what went wrong stands below it."""
    cells = [
        [_line(prompt), *(_cell(outcome) for outcome in row.values())] for prompt, row in comparison.rows()
    ]
    lines = [*_aligned([["", *map(_line, comparison.labels)], *cells]), *_below(comparison)]
    return "\n".join([*lines, summary(comparison)])


def _cell(outcome: Any) -> str:
    words = [type(outcome.error).__name__] if outcome.error is not None else []
    return ", ".join([*words, *facts(outcome)]) or "-"


def _below(comparison: Any) -> Iterator[str]:
    for row, (_, cells) in enumerate(comparison.rows()):
        for label, outcome in cells.items():
            yield from (f"[{row}, {_line(label)}] {_line(said, 300)}" for said in problems(outcome))


def _line(value: str, most: int = _LONGEST_NAME) -> str:
    """Return a text on one line, and not for ever."""
    return cut(" ".join(shown(value[: 4 * most]).split()), most)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(padded).rstrip()


def _width(value: str) -> int:
    """Return the columns of a terminal that a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in value
    )


# -- pictures --------------------------------------------------------------------------------------------


def html_of(comparison: Any, how_to_save: str) -> str:
    """Return a table for a notebook; nothing is fetched for it."""
    rows, labels = comparison.rows()[:MOST_ROWS], comparison.labels[:MOST_COLUMNS]
    drawn = _drawn(comparison)
    head = "".join(f'<th scope="col" style="{_TOP}">{text(cut(label))}</th>' for label in labels)
    body = "".join(
        f'<tr><th scope="row" style="{_TOP}; max-width: 12em">{text(cut(prompt))}</th>'
        + "".join(_html_cell(cells[label], drawn.get((row, label), [])) for label in labels)
        + "</tr>"
        for row, (prompt, cells) in enumerate(rows)
    )
    table = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    return paragraph("Comparison", summary(comparison)) + table + _rest(comparison, how_to_save)


_TOP: Final = "vertical-align: top; text-align: left; overflow-wrap: anywhere"


def first_pictures(comparison: Any) -> list[tuple[int, str, Picture]]:
    """Return the pictures that are shown, with row and label: of each cell the first, then the second, ..."""
    cells = [
        (row, label, pictures_of(cells[label]))
        for row, (_, cells) in enumerate(comparison.rows()[:MOST_ROWS])
        for label in comparison.labels[:MOST_COLUMNS]
    ]
    turns = itertools.zip_longest(*([(row, label, one) for one in there] for row, label, there in cells))
    found = (place for turn in turns for place in turn if place is not None)
    return list(itertools.islice(found, MOST))


def pictures_of(outcome: Any) -> list[Any]:
    """Return a cell's pictures that are on this machine: saved, or come inline."""
    if outcome.result is None:
        return list(outcome.saved)
    saved = outcome.saved or saved_of(outcome.result)
    there = {picture.index for picture in saved}
    return [
        *saved,
        *(image for image in outcome.result.images if image.url is None and image.index not in there),
    ]


def _drawn(comparison: Any) -> dict[tuple[int, str], list[Figure]]:
    places = first_pictures(comparison)
    made = bounded(figures_of([(one, comparison.prompts[row]) for row, _, one in places]))
    drawn: dict[tuple[int, str], list[Figure]] = {}
    for (row, label, _), figure in zip(places, made, strict=True):
        drawn.setdefault((row, label), []).append(figure)
    return drawn


def _html_cell(outcome: Any, drawn: Sequence[Figure]) -> str:
    more = len(pictures_of(outcome)) - len(drawn)
    said = "".join(f"<p><b>{text(cut(each))}</b></p>" for each in problems(outcome))
    model = outcome.result.model if outcome.result is not None else None
    words = ", ".join([*facts(outcome), *([] if model is None else [cut(str(model))])])
    pictures = figures(drawn, len(drawn) + more)
    return (
        f'<td style="{_TOP}"><div style="max-width: 240px">{pictures}{said}'
        f"<small>{text(words)}</small></div></td>"
    )


def _rest(comparison: Any, how_to_save: str) -> str:
    """Return what is not in the table."""
    notes = []
    rows, columns = len(comparison.prompts) - MOST_ROWS, len(comparison.labels) - MOST_COLUMNS
    if rows > 0:
        notes.append(f"and {_count(rows, 'more prompt')}")
    if columns > 0:
        notes.append(f"and {_count(columns, 'more variant')}")
    left = sum(map(_not_fetched, comparison.outcomes))
    hint = f"<p>{left:,} not fetched yet: <code>{text(how_to_save)}</code> puts them on disk</p>" * bool(left)
    return "".join(f"<p>{note}</p>" for note in notes) + hint


def _not_fetched(outcome: Any) -> int:
    if outcome.result is None:
        return 0
    return max(0, len(outcome.result.images) - len(pictures_of(outcome)))
