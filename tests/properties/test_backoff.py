"""Laws of the waits between tries, and of reading Retry-After."""

import datetime
import email.utils
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinow_async._protocol.backoff import backoff, retry_after

WAITS = st.just(0.0) | st.floats(1e-9, 1e6)  # half of the smallest float is no half
JITTER = st.floats(0, 1)
TRIES = st.integers(1, 10**6)
NOW = 1_700_000_000.0


@given(tries=TRIES, initial=WAITS, longest=WAITS, jitter=JITTER)
def test_a_backoff_lies_between_half_of_its_span_and_the_longest(tries, initial, longest, jitter):
    """Never negative, never beyond the longest, never less than half of what it could be."""
    wait = backoff(tries, initial, longest, jitter)

    assert 0 <= wait <= longest
    assert wait >= backoff(tries, initial, longest, 0.0)
    assert math.isclose(2 * backoff(tries, initial, longest, 0.0), backoff(tries, initial, longest, 1.0))


@given(tries=TRIES, initial=WAITS, longest=WAITS, jitter=JITTER)
def test_a_backoff_never_shrinks_with_the_tries(tries, initial, longest, jitter):
    """Each is at least as long as the one before, and at most twice."""
    before, after = (backoff(n, initial, longest, jitter) for n in (tries, tries + 1))

    assert before <= after <= 2 * before or math.isclose(after, 2 * before)


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text(max_size=40)))
def test_whatever_the_headers_say_is_read_without_an_error(headers):
    """A finite number of seconds of at least 0, or nothing."""
    wait = retry_after(headers, NOW)

    assert wait is None or 0 <= wait < math.inf


@given(
    st.from_regex(
        r"(Mon|Tue), [0-9]{1,2} (Jan|Feb|Foo) [0-9]{1,5} [0-9]{2}:[0-9]{2}:[0-9]{2} ?([+-][0-9]{4}|GMT|)",
        fullmatch=True,
    )
)
def test_whatever_looks_like_a_date_is_read_without_an_error(text):
    """Impossible days, years and zones included."""
    wait = retry_after({"retry-after": text, "date": text}, NOW)

    assert wait is None
    wait = retry_after({"retry-after": text}, NOW)
    assert wait is None or 0 < wait < math.inf


@pytest.mark.parametrize("text", ["1_000", "\uff11\uff12", "\u0663", "\u00b2"])
def test_what_only_python_reads_as_a_number_is_ignored(text):
    """RFC 9110 writes seconds in ASCII digits; `float` alone would take more than that."""
    assert retry_after({"retry-after": text}, NOW) is None
    assert retry_after({"retry-after-ms": text}, NOW) is None


@given(st.floats(0, 1e9))
def test_seconds_are_read_as_they_are(seconds):
    """Fractions too."""
    assert retry_after({"retry-after": repr(seconds)}, NOW) == seconds


@given(ms=st.integers(0, 10**9), seconds=st.integers(0, 10**6))
def test_milliseconds_win(ms, seconds):
    """They are the finer word."""
    headers = {"retry-after-ms": str(ms), "retry-after": str(seconds)}

    assert retry_after(headers, NOW) == ms / 1000


@given(ahead=st.integers(-(10**8), 10**8), skew=st.integers(-(10**7), 10**7))
def test_a_date_is_held_against_the_answers_own_clock(ahead, skew):
    """Two clocks differ: the difference of the two dates counts, whatever our clock says."""
    sent = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    until = sent + datetime.timedelta(seconds=ahead)
    headers = {
        "date": email.utils.format_datetime(sent, usegmt=True),
        "retry-after": email.utils.format_datetime(until, usegmt=True),
    }

    assert retry_after(headers, NOW + skew) == (ahead if ahead > 0 else None)
    del headers["date"]
    assert retry_after(headers, NOW) == (ahead if ahead > 0 else None)
