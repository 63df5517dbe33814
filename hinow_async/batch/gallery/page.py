"""A page of a gallery as HTML. Pure.

What comes from elsewhere stands in text and in quoted attributes alone, escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from hinow_async._markup import link, text
from hinow_async._pages import LOOK, asset, beginning, ending
from hinow_async.batch.gallery.cards import Card

MARK: Final = '<meta name="generator" content="hinow gallery">'
"""Stands at the beginning of each page, and shows that it is ours."""

_PILLS: Final = ("quality", "resolution", "aspect_ratio", "output_format")
"""The facets that are shown beneath a thumbnail; the others, like all facts, in the large view."""
_FIRST_FACETS: Final = ("status", "model", *_PILLS)
_MOST_FACETS: Final = 10
_MOST_CHOICES: Final = 60
"""Of one facet: of a seed nobody chooses."""
_NEAR: Final = 3
"""Pages before and after this one that are linked to, beside the first and the last."""

_STYLE: Final = LOOK + asset("hinow_async.batch.gallery", "page.css")
_SCRIPT: Final = asset("hinow_async.batch.gallery", "page.js")


@attrs.frozen(kw_only=True)
class Page:
    """A page, and its place among the others."""

    title: str
    """What the gallery is of."""
    number: int = 1
    count: int = 1
    first: int = 1
    """The number of its first picture in the whole gallery."""
    pictures: Sequence[Card]
    failures: Sequence[Card]
    all_pictures: int
    """On all pages."""
    all_failures: int
    failures_page: int = 1
    """Where the failures begin."""
    is_sandbox: bool = False

    @property
    def cards(self) -> Sequence[Card]:
        """All cards of the page."""
        return (*self.pictures, *self.failures)


def file_name(number: int) -> str:
    """Return the name of a page's file."""
    return "gallery.html" if number == 1 else f"gallery-{number}.html"


def html(page: Page) -> Iterator[str]:
    """Write a page, piece by piece."""
    title = f"{page.title} · {_place(page)}"
    yield beginning(title=title, mark=MARK, style=_STYLE, script=_SCRIPT)
    yield from _header(page)
    yield from _bar(page)
    yield "<main>\n"
    yield from _section("pictures", "Pictures", page.pictures)
    yield from _section("failures", "Failed or open", page.failures)
    yield _nothing(page)
    yield "</main>\n"
    yield from _pages(page)
    yield f"{_DIALOG}\n{ending(_SCRIPT)}"


# -- around the cards ------------------------------------------------------------------------------------


def _place(page: Page) -> str:
    return "gallery" if page.count == 1 else f"page {page.number} of {page.count}"


def _header(page: Page) -> Iterator[str]:
    yield f'<header class="top">\n<h1 dir="auto">{text(page.title)}</h1>\n<p>{_pictures(page)}'
    if page.all_failures:
        where = "" if page.failures_page == page.number else file_name(page.failures_page)
        yield f' · <a href="{where}#failures">{page.all_failures:,} failed or open</a>'
    if page.is_sandbox:
        yield ' <span class="badge">test pictures of the sandbox</span>'
    yield "</p>\n</header>\n"


def _pictures(page: Page) -> str:
    total = "1 picture" if page.all_pictures == 1 else f"{page.all_pictures:,} pictures"
    if page.count == 1 or not page.pictures:
        return total
    return f"{page.first:,} to {page.first + len(page.pictures) - 1:,} of {total}"


def _bar(page: Page) -> Iterator[str]:
    """Yield what the script works with; without a script it stays hidden."""
    yield (
        '<form class="bar" id="bar" role="search" hidden>\n<label class="find"><span>prompt</span>'
        '<input id="find" type="search" autocomplete="off" spellcheck="false" aria-keyshortcuts="/"'
        ' placeholder="Filter by prompt ( / )"></label>\n'
    )
    for name, values in facets(page).items():
        yield from _select(name, values)
    yield (
        '<button id="clear" type="reset" hidden>Clear</button>\n<output id="count" role="status"></output>\n'
        f"{_KEYS}</form>\n"
    )


_KEYS: Final = (
    '<details class="keys"><summary>Keys</summary><ul>\n'
    "<li><kbd>/</kbd> filter</li>\n<li><kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd>, <kbd>j</kbd>"
    " <kbd>k</kbd> move</li>\n<li><kbd>Enter</kbd> enlarge</li>\n<li><kbd>Esc</kbd> close</li>\n"
    "</ul></details>\n"
)

_DIALOG: Final = (
    '<dialog id="large" aria-label="Enlarged">\n<div class="tools"><button type="button" id="before"'
    ' aria-label="Previous">‹</button><button type="button" id="after" aria-label="Next">›</button>'  # noqa: RUF001
    '<a id="open" target="_blank" rel="noopener">Open file</a><button type="button" id="close"'
    ' aria-label="Close">✕</button></div>\n<div class="stage"><img id="big" alt=""></div>\n'
    '<div id="words"></div>\n</dialog>'
)


def facets(page: Page) -> dict[str, list[str | None]]:
    """Return by what cards can be told apart: names, and the values that occur (None: it was not set).

    Of what failed only the status counts: its parameters are not known.
    """
    names = dict.fromkeys((*_FIRST_FACETS, *(name for card in page.pictures for name in card.facets)))
    found: dict[str, set[str | None]] = {
        name: {card.facets.get(name) for card in page.pictures} for name in names
    }
    found["status"] = {card.status for card in page.cards}
    useful = {
        name: sorted(values, key=lambda value: (value is None, value or ""))
        for name, values in found.items()
        if 1 < len(values) <= _MOST_CHOICES
    }
    return dict(list(useful.items())[:_MOST_FACETS])


def _select(name: str, values: Iterable[str | None]) -> Iterator[str]:
    # "=" before a value tells it from the two that are none.
    yield (
        f'<label><span>{text(_spoken(name))}</span><select data-facet="{text(name)}">'
        '<option value="">any</option>'
    )
    for value in values:
        if value is None:
            yield '<option value="-">not set</option>'
        else:
            yield f'<option value="={text(value)}">{text(value)}</option>'
    yield "</select></label>\n"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _nothing(page: Page) -> str:
    said = "Nothing fits." if page.cards else "Nothing is here yet."
    return f'<p class="nothing" id="nothing"{" hidden" if page.cards else ""}>{said}</p>\n'


def _pages(page: Page) -> Iterator[str]:
    if page.count == 1:
        return
    yield '<nav aria-label="Pages">\n'
    if page.number > 1:
        yield f'<a rel="prev" href="{file_name(page.number - 1)}">‹ Previous</a>\n'  # noqa: RUF001
    shown = {1, page.count, *range(page.number - _NEAR, page.number + _NEAR + 1)}
    before = 0
    for number in sorted(number for number in shown if 1 <= number <= page.count):
        yield "<span>…</span>\n" if number > before + 1 else ""
        current = ' aria-current="page"' if number == page.number else ""
        yield f'<a href="{file_name(number)}"{current}>{number}</a>\n'
        before = number
    if page.number < page.count:
        yield f'<a rel="next" href="{file_name(page.number + 1)}">Next ›</a>\n'  # noqa: RUF001
    yield "</nav>\n"


# -- cards -----------------------------------------------------------------------------------------------


def _section(name: str, heading: str, cards: Sequence[Card]) -> Iterator[str]:
    if not cards:
        return
    yield f'<section id="{name}" aria-labelledby="{name}-heading">\n<h2 id="{name}-heading">{heading}</h2>\n'
    yield '<ul class="grid">\n'
    for card in cards:
        yield from _card(card)
    yield "</ul>\n</section>\n"


def _card(card: Card) -> Iterator[str]:
    yield f'<li class="card {_class(card)}">{_shot(card)}<div class="words">'
    if card.prompt is not None:
        yield f'<p class="prompt" dir="auto">{text(card.prompt)}</p>'
    if card.message is not None:
        yield f'<p class="message" dir="auto">{text(card.message)}</p>'
    yield "<dl>"
    yield _pair("status", card.status, "facet more")
    for name, value in _sorted(card.facets).items():
        yield _pair(name, value, "facet pill" if name in _PILLS else "facet more")
    for name, value in card.facts.items():
        yield _pair(name, value, "more")
    yield "</dl></div></li>\n"


def _class(card: Card) -> str:
    """Return one of our own words."""
    return "saved" if card.status == "saved" else "open"


def _shot(card: Card) -> str:
    small = card.thumbnail
    if small is None or small.uri is None:
        what = f'<span class="status">{text(card.status)}</span> <b>{text(card.title or "")}</b>'
        return f'<button type="button" class="shot">{what}</button>'
    return (
        f'<a class="shot" href="{link(card.file or "")}"><img src="{text(small.uri)}" width="{small.width}"'
        f' height="{small.height}" alt="{text(card.prompt or "")}" loading="lazy" decoding="async"></a>'
    )


def _sorted(values: Mapping[str, str]) -> dict[str, str]:
    first = {name: values[name] for name in _FIRST_FACETS if name in values}
    return {**first, **values}


def _pair(name: str, value: str, kind: str) -> str:
    return (
        f'<div class="{kind}"><dt data-name="{text(name)}">{text(_spoken(name))}</dt>'
        f'<dd dir="auto">{text(value)}</dd></div>'
    )
