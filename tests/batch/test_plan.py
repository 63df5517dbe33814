"""Identity and place of items."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async import ImageRequest, SourceError
from hinow_async.batch.plan import Planner, folder_of
from hinow_async.batch.source import as_entry


def place(ids, prompt="a"):
    planner = Planner("prompts.jsonl")
    return [
        planner.place(as_entry({"id": name, "prompt": prompt}, {}, line)) for line, name in enumerate(ids, 1)
    ]


def test_without_an_id_the_fingerprint_stands_for_it():
    """16 hex digits of the request as sent; repeats are numbered."""
    items = place([None, None, None])
    mark = as_entry(ImageRequest("a"), {}, None).fingerprint
    assert [item.id for item in items] == [mark[:16], f"{mark[:16]}-2", f"{mark[:16]}-3"]
    assert {item.fingerprint for item in items} == {mark}


def test_a_repeated_id_is_named_with_its_line():
    """Two items of one id are a mistake of the source."""
    with pytest.raises(SourceError, match=r"prompts.jsonl, line 3: the id 'x' was there before") as caught:
        place(["x", "y", "x"])
    assert caught.value.line == 3


@pytest.mark.parametrize("again", ["A", "a"])
def test_ids_that_differ_in_case_alone_are_two_items(again):
    """Their files differ on every file system, and each of them may come only once."""
    first, second = place(["a", "A"])
    assert first.stem.casefold() != second.stem.casefold()
    with pytest.raises(SourceError, match="was there before"):
        place(["a", "A", again])


@given(st.lists(st.text(min_size=1), unique=True, max_size=30))
def test_file_names_are_distinct_whatever_the_ids(ids):
    """Distinct ids never end in one file, also where the file system folds case or normalises."""
    folded = [unicodedata.normalize("NFC", item.stem).casefold() for item in place(ids)]
    assert len(set(folded)) == len(ids)


@given(
    st.lists(st.sampled_from(["a", "A", "b", "B", "\u00e4", "\u00c4", "a\u0308", "con", "CON", "a/b", "A/b"]))
)
def test_only_an_id_that_was_there_is_a_repeat(ids):
    """In whatever order those come that a file system takes for one."""
    fresh = list(dict.fromkeys(ids))
    stems = [unicodedata.normalize("NFC", item.stem).casefold() for item in place(fresh)]
    assert len(set(stems)) == len(fresh)
    for name in fresh:
        with pytest.raises(SourceError, match="was there before"):
            place([*fresh, name])


@pytest.mark.parametrize(
    ("position", "folder"),
    [
        (0, "images"),
        (999, "images"),
        (1000, "images/0001"),
        (2500, "images/0002"),
        (10_000_000, "images/10000"),
    ],
)
def test_each_thousand_has_its_folder(position, folder):
    """No folder holds more than a thousand items."""
    assert folder_of(position) == folder


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "CON", "a\nb", "a" * 300, ".", "~", "-rf"])
def test_hostile_ids_stay_in_their_folder(name):
    """An id that is no file name gets one, and stays the item's id."""
    (item,) = place([name])
    assert item.id == name
    assert "/" not in item.stem
    assert item.stem[0] not in ".-~"
    assert len(item.stem.encode()) < 200
