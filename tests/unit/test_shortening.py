"""A chat's answer on a terminal: however it is cut, its pictures are a few words, and all else is itself."""

import base64
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async.cli.shortening import Shortener

BODY = base64.b64encode(b"x" * 1500).decode()
WORDS = st.text(st.characters(exclude_characters="dD"))


def shortened(pieces):
    shortener = Shortener()
    return "".join([*map(shortener.feed, pieces), shortener.end()])


def cut(text, places):
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(borders)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"See ![a fox](data:image/png;base64,{BODY}) here", "See ![a fox]([picture, 1.5 kB]) here"),
        (f"data:image/webp;base64,{BODY * 1000}", "[picture, 1.5 MB]"),
        (f"DATA:image/PNG;charset=utf-8;base64,{BODY}\n", "[picture, 1.5 kB]\n"),
        (f"data:application/pdf;base64,{BODY}, data:;base64,{BODY}", "[data, 1.5 kB], [data, 1.5 kB]"),
        ("the data: all of it; base64, too", "the data: all of it; base64, too"),
        ("data:image/png;base64", "data:image/png;base64"),
        ("data:data:image/png;base64,QUJD.", "data:[picture, 0.0 kB]."),
        (f"data:{'a' * 201};base64,{BODY}", f"data:{'a' * 201};base64,{BODY}"),
        ("no end: dat", "no end: dat"),
    ],
)
@given(places=st.lists(st.integers(0, 10**7), max_size=8))
def test_pictures_become_words_wherever_the_text_is_cut(text, shown, places):
    """Text around them stays, also where it looks like the beginning of one."""
    assert shortened([text]) == shown
    assert shortened(cut(text, places)) == shown


@given(st.lists(st.tuples(WORDS, st.integers(1, 3000))), st.lists(st.integers(0, 10**6), max_size=20))
def test_all_else_is_itself(parts, places):
    """Words of any script, with pictures in between, cut anywhere."""
    text = "".join(f"{words}(data:image/png;base64,{'A' * size})" for words, size in parts)
    shown = "".join(f"{words}([picture, {size * 3 // 4 / 1e3:,.1f} kB])" for words, size in parts)
    assert shortened(cut(text, places)) == shown


@given(st.text("data:image/png;base64,xyz ()\n"), st.lists(st.integers(0, 10**6), max_size=20))
def test_how_it_is_cut_changes_nothing(text, places):
    """Also for text that is nearly a picture."""
    assert shortened(cut(text, places)) == shortened([text]) == shortened(text)


def test_little_is_held_back():
    """Of a picture of 40 MB only its length is known, and of its beginning a few hundred characters."""
    shortener = Shortener()
    shown = [shortener.feed("Look: data:image/png;base64,")]
    for _ in range(10_000):
        shown.append(shortener.feed("A" * 4000))
        assert sum(map(sys.getsizeof, vars(shortener).values())) < 1000
    assert shown == ["Look: "] + [""] * 10_000
    assert shortener.feed(")") == "[picture, 30.0 MB])"
    assert shortener.feed("data:" * 1000) == "data:" * 999
    assert shortener.feed("a" * 10**6)[:10] == "data:aaaaa"
    assert shortener.end() == ""
