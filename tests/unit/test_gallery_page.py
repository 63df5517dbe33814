"""A gallery's page as HTML: whatever a prompt says, it is text, and nothing else."""

import html
import re
import unicodedata
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

import attrs
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hinow_async._markup import link, shown, text
from hinow_async.batch.gallery import page as pages
from hinow_async.batch.gallery.cards import Thumbnail, of_failure, of_picture
from hinow_async.batch.gallery.page import Page, facets, file_name
from hinow_async.batch.gallery.records import Failure, Picture
from hinow_async.batch.reader import is_inside

ATTACKS = (
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "</style><style>*{display:none}",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<!--",
    "]]>",
    "&lt;b&gt; &amp;#34; &quot",
    "' onmouseover='alert(1)",
    "abc\u202egnp.exe",
    "\u2067\u2066\u2069\u202c",
    "\ud800 \udfff",
    "\0\x1b[2J\x9b\r\n\r",
    "\ufeff\ufffe",
)
SMALL = Thumbnail("data:image/webp;base64,AAAA", 320, 200)


def attacked(test):
    """Every attack, and whatever Hypothesis comes upon."""
    for attack in ATTACKS:
        test = example(attack)(test)
    return settings(deadline=None)(given(st.text(st.characters(exclude_categories=())))(test))


def picture(prompt="a fox", file="images/a-0.png", **fields):
    values = {"id": "a", "index": 0, "prompt": prompt, "parameters": {}, "model": "m", "file": file}
    return Picture(**{**values, **fields})


def failure(prompt="a hen", **fields):
    values = {
        "id": "b",
        "line": 3,
        "error": "BadRequestError",
        "message": "no",
        "code": "c",
        "outcome": "refused",
    }
    return Failure(prompt=prompt, **{**values, "at": "2026-11-25", **fields})


def page_of(*shots, failures=(), **fields):
    cards = [of_picture(shot, SMALL) for shot in shots]
    totals = {"all_pictures": len(cards), "all_failures": len(failures)}
    return Page(
        **{"title": "out", **totals, **fields}, pictures=cards, failures=[of_failure(one) for one in failures]
    )


class Outline(HTMLParser):
    """What a parser finds: elements with the names of their attributes, and texts by class or element."""

    def __init__(self, source):
        super().__init__()
        self.elements = []
        self.texts = {}
        self.values = {}
        self.others = []
        self._open = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))
        given = dict(attrs)
        name = f".{given['class']}" if tag == "p" and "class" in given else tag
        for attribute, value in attrs:
            self.values.setdefault(f"{name}@{attribute}", []).append(value)
        if tag not in {"meta", "img", "input"}:
            self._open.append(name)
            self.texts.setdefault(name, []).append("")

    def handle_endtag(self, tag):
        name = self._open.pop()
        assert name == tag or name.startswith("."), f"{tag} ends {name}"

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def handle_comment(self, data):
        self.others.append(data)

    unknown_decl = handle_pi = handle_comment


def outline(page):
    return Outline("".join(pages.html(page)))


@attacked
def test_a_prompt_stays_text(prompt):
    """A parser gives the prompt back, and finds no element or attribute but those of a plain prompt."""
    plain = outline(page_of(picture(), failures=[failure()]))
    found = outline(page_of(picture(prompt), failures=[failure(prompt)]))
    assert found.texts[".prompt"] == [shown(prompt)] * 2
    assert found.values["img@alt"] == [shown(prompt), ""]
    assert found.elements == plain.elements
    assert found.others == []


@attacked
def test_all_other_fields_stay_text(value):
    """Names and values of parameters, ids, messages, codes, the folder's name: like prompts."""

    assume(value not in {"model", "status"})  # a card has these anyway

    def made(value):
        shots = [
            picture(id=value, model=value, created=value, parameters={value: value}),
            picture(model=None),
        ]
        failures = [failure(id=value, error=value, message=value, code=value, outcome=value, at=value)]
        return outline(page_of(*shots, failures=failures, title=value))

    plain, found = made("plain"), made(value)
    assert sorted(found.elements) == sorted(plain.elements)
    assert found.texts[".message"] == [shown(value)]
    assert found.texts["h1"] == [shown(value)]
    assert found.others == []


@attacked
def test_what_is_shown_can_be_written_and_turns_nothing(value):
    """No surrogate, no control character but tab and line end, nothing that turns the direction."""
    result = shown(value)
    result.encode()
    kinds = {unicodedata.category(char) for char in result if char not in "\t\n"}
    assert not kinds & {"Cc", "Cs"}
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", result)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf"))))
def test_ordinary_text_is_shown_as_it_is(value):
    """Letters, marks, signs and emoji of any script, and what HTML knows."""
    assert html.unescape(text(value)) == value
    assert shown(value) == value


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(is_inside))
@example("images/a b?c#d%2e&e'f\"g.png")
@example("images/\u202egnp.png")
def test_a_link_leads_to_the_very_file(file):
    """Nothing in a name is taken for a scheme, a host, a query or a fragment."""
    url = urlsplit(urljoin("file:///out/gallery.html", html.unescape(link(file))))
    assert (url.scheme, url.netloc, url.query, url.fragment) == ("file", "", "", "")
    assert unquote(url.path) == f"/out/{file}"


@pytest.mark.parametrize(
    "file",
    ["javascript:alert(1)", "data:text/html,x", "//host/x", "/etc/passwd", "../x", "a/../../x", "C:x", "a\\b",
     "", ".", "a//b", "a\0", None, 3],
)  # fmt: skip
def test_what_leads_elsewhere_is_not_inside(file):
    """Schemes, hosts, drives and ways up are no paths of a folder."""
    assert not is_inside(file)


def test_style_and_script_are_those_that_the_policy_names():
    """The policy admits nothing but them, pictures beside the page and data: URIs."""
    found = outline(page_of(picture("</script><style>")))
    (policy,) = (value for value in found.values["meta@content"] if value.startswith("default-src"))

    def hashed(asset):
        return f"'sha256-{b64encode(sha256(asset.encode()).digest()).decode()}'"

    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src 'self' data:",
        f"style-src {hashed(found.texts['style'][0])}",
        f"script-src {hashed(found.texts['script'][0])}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert not any("style" in element[1:] for element in found.elements)
    assert not any(name.startswith("on") for element in found.elements for name in element[1:])


def test_only_what_differs_can_be_chosen_by():
    """A parameter that all pictures share, or that hardly two share, is no choice."""
    shots = [
        picture(parameters={"quality": "low", "seed": f"{number}", **({"style": "x"} if number % 2 else {})})
        for number in range(70)
    ]
    shots[3] = picture(parameters={"quality": "high", "seed": "1"})
    assert facets(page_of(*shots)) == {"quality": ["high", "low"], "style": ["x", None]}
    assert facets(page_of(*shots[:2], failures=[failure(outcome="unknown")])) == {
        "status": ["maybe paid", "saved"],
        "seed": ["0", "1"],
        "style": ["x", None],
    }


def test_pages_lead_to_each_other():
    """To the next, the one before, the first, the last and those near; and to where the failures are."""
    found = outline(
        page_of(
            picture(), number=6, count=20, first=2501, all_pictures=9600, all_failures=7, failures_page=20
        )
    )
    links = [href for href in found.values["a@href"] if href and href.startswith("gallery")]
    near = [file_name(number) for number in (1, 3, 4, 5, 6, 7, 8, 9, 20)]
    assert links == ["gallery-20.html#failures", "gallery-5.html", *near, "gallery-7.html"]
    assert found.values["a@rel"] == ["prev", "next", "noopener"]
    alone = outline(page_of(picture(), failures=[failure()]))
    assert "nav" not in alone.texts
    assert alone.values["a@href"][0] == "#failures"


@pytest.mark.parametrize(
    ("small", "status"),
    [(Thumbnail(None, is_missing=True), "missing"), (Thumbnail(None, problem="cut"), "broken")],
)
def test_a_picture_that_cannot_be_shown_is_a_card_all_the_same(small, status):
    """It has its prompt and its parameters, says what is wrong, and no picture."""
    card = of_picture(picture(parameters={"quality": "low"}), small)
    found = outline(attrs.evolve(page_of(picture()), pictures=[card]))
    assert found.texts[".prompt"] == ["a fox"]
    assert status in found.texts["span"]
    assert "low" in found.texts["dd"]
    assert found.values["img@alt"] == [""]  # the large view's
    assert found.texts.get(".message") == (None if small.problem is None else ["cut"])


def test_an_empty_gallery_says_so():
    """A batch that has just begun has nothing to show."""
    assert outline(page_of()).texts[".nothing"] == ["Nothing is here yet."]
