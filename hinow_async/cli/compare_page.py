"""A comparison as a page of HTML: a column for each variant, and for each prompt a row of pictures. Pure.

It has no script, and loads nothing but the pictures beside it. What comes from elsewhere stands in text and
in quoted attributes alone, escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from hinow_async._markup import link, text
from hinow_async._models.comparison import ImageComparison
from hinow_async._models.images import ImageOutcome, SavedImage
from hinow_async._models.side_by_side import facts, problems, summary
from hinow_async._pages import LOOK, asset, beginning, ending
from hinow_async.batch.gallery.cards import Thumbnail

_MARK: Final = '<meta name="generator" content="hinow compare">'
_STYLE: Final = LOOK + asset("hinow_async.cli", "compare_page.css")


@attrs.frozen
class Page:
    """What is on it."""

    title: str
    comparison: ImageComparison
    """Its files lie beside the page."""
    thumbnails: Sequence[Thumbnail]
    """Of its first pictures, in the order of `comparison.saved`; of the others the names are shown."""
    is_sandbox: bool


def html(page: Page) -> Iterator[str]:
    """Write the page, piece by piece."""
    small = dict(zip(page.comparison.saved, page.thumbnails, strict=False))
    yield beginning(title=f"{page.title} · comparison", mark=_MARK, style=_STYLE)
    yield f'<header class="top">\n<h1 dir="auto">{text(page.title)}</h1>\n<p>{text(summary(page.comparison))}'
    if page.is_sandbox:
        yield ' <span class="badge">test pictures of the sandbox</span>'
    yield "</p>\n</header>\n"
    yield from _table(page.comparison, small)
    yield ending()


def _table(comparison: ImageComparison, small: dict[SavedImage, Thumbnail]) -> Iterator[str]:
    yield '<main class="wide">\n<table>\n<thead><tr>'
    for label in comparison.labels:
        yield f'<th scope="col" dir="auto">{text(label)}</th>'
    yield "</tr></thead>\n"
    for prompt, cells in comparison.rows():
        yield f'<tbody>\n<tr><th scope="rowgroup" colspan="{len(comparison.labels)}">'
        yield f'<div class="prompt" dir="auto">{text(prompt)}</div></th></tr>\n<tr>'
        for label in comparison.labels:
            yield from _cell(cells[label], small)
        yield "</tr>\n</tbody>\n"
    yield "</table>\n</main>\n"


def _cell(outcome: ImageOutcome, small: dict[SavedImage, Thumbnail]) -> Iterator[str]:
    yield f'<td><div class="card {"open" if outcome.error else "saved"}">'
    if outcome.saved:
        shots = (_shot(picture, small.get(picture), outcome.request.prompt) for picture in outcome.saved)
        yield f'<div class="shots">{"".join(shots)}</div>'
    yield '<div class="words">'
    for problem in problems(outcome):
        yield f'<p class="message" dir="auto">{text(problem)}</p>'
    yield f'<p class="facts">{text(", ".join(facts(outcome)) or "not sent")}</p>'
    if outcome.result is not None and outcome.result.model is not None:
        yield f'<p class="model" dir="auto">{text(outcome.result.model)}</p>'
    yield "</div></div></td>"


def _shot(picture: SavedImage, small: Thumbnail | None, prompt: str) -> str:
    href = link(picture.path.name)
    if small is None or small.uri is None:
        return f'<a class="name" href="{href}">{text(picture.path.name)}</a>'
    return (
        f'<a class="shot" href="{href}"><img src="{text(small.uri)}" width="{small.width}"'
        f' height="{small.height}" alt="{text(prompt)}" loading="lazy" decoding="async"></a>'
    )
