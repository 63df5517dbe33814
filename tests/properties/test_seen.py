"""The set that knows a million names in little memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async.batch.seen import Seen

names = st.lists(st.one_of(st.text(max_size=4), st.integers(0, 50).map(str)), max_size=200)


@given(names)
def test_it_answers_as_a_set_does(added):
    """Each text is new once, and is there from then on."""
    seen, model = Seen(), set()
    for text in added:
        assert (text in seen) == (text in model)
        assert seen.add(text) == (text not in model)
        model.add(text)
        assert text in seen
    assert len(seen) == len(model)


def test_it_grows():
    """Twenty thousand names are told apart, through several enlargements."""
    seen = Seen()
    assert all(seen.add(f"item-{number}") for number in range(20_000))
    assert not any(seen.add(f"item-{number}") for number in range(20_000))
    assert len(seen) == 20_000
    assert "item-20000" not in seen


@pytest.mark.parametrize("names", [50_000, 60_000, 71_000])
def test_a_name_takes_some_ten_bytes(names):
    """A set of them takes a hundred and more."""
    seen = Seen()
    for number in range(names):
        seen.add(f"item-{number}")
    assert seen._slots.nbytes < 16 * names
