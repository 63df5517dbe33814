"""Laws of server-sent events: what is read does not depend on how it came."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinow_async._protocol.sse import Decoder, Event, EventTooLargeError

MIB = 2**20


def read(*pieces, **options):
    decoder = Decoder(**options)
    return [event for piece in pieces for event in decoder.feed(piece)]


def seen(pieces, **options):
    """The events, and whether it ended in an error."""
    decoder, events = Decoder(**options), []
    try:
        for piece in pieces:
            events.extend(decoder.feed(piece))
    except EventTooLargeError:
        return events, None, True
    return events, decoder.retry, False


def by_the_book(raw):
    """The standard's own words, on the whole stream at once: what the quick one is measured by."""
    text = raw.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events, data, name, last_id, retry = [], "", "", "", None
    for line in lines:
        if not line:
            if data:
                events.append(Event(data[:-1], name or "message", last_id))
            data, name = "", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            retry = int(value)
    return events, retry


ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
LINES = st.sampled_from(
    [b"", b"", b"data: {}", b"data", b"data:", b"data:  x", b"data: \xc3\xa9\xff", b"event: error", b"event",
     b": ping", b"id: 7", b"id", b"id: a\0b", b"retry: 100", b"retry: x", b"data : x", b"\xef\xbb\xbfdata: b",
     b"nonsense", b":"],
) | st.binary(max_size=6)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=24).map(b"".join)
STREAMS = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), STREAMS, LINES).map(b"".join)


@st.composite
def cut(draw, streams):
    raw = draw(streams)
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return raw, [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


@settings(max_examples=400)
@given(cut(STREAMS))
def test_events_do_not_depend_on_how_the_bytes_are_cut(case):
    """And are those of the standard, for any line ends, comments, fields and broken text."""
    raw, pieces = case
    expected = by_the_book(raw)

    for how in ([raw], pieces, [bytes([byte]) for byte in raw]):
        assert seen(how) == (*expected, False)


@given(cut(STREAMS), st.integers(1, 12))
def test_what_is_too_long_does_not_depend_on_cuts_either(case, most):
    """The events before it are given, and then always the same error."""
    raw, pieces = case

    assert seen(pieces, max_event=most) == seen([raw], max_event=most)


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\n", [Event("a")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"data:a\ndata: b\n\n", [Event("a\nb")]),
        (b"data\n\n", [Event("")]),
        (b"event: x\n\ndata: a\n\n", [Event("a")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [Event("a", "x"), Event("b")]),
        (
            b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
            [Event("a", id="1"), Event("b", id="1"), Event("c")],
        ),
        (b": c\n\n:\n\ndata: a\n\n", [Event("a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event("a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\r\rdata: b\r\n\r\n", [Event("a"), Event("b")]),
        (b"data: a\n\n\n\n\ndata: b\n\n", [Event("a"), Event("b")]),
        ("data: é\u2028x\n\n".encode(), [Event("é\u2028x")]),
    ],
)
def test_the_standards_rules(raw, events):
    """One by one."""
    assert read(raw) == events


def test_a_character_cut_between_two_pieces_is_whole():
    """Bytes are joined before they are read as text."""
    raw = "data: 🦊\n\n".encode()

    assert read(raw[:8], raw[8:]) == [Event("🦊")]


@pytest.mark.parametrize("piece", [b"data: xy\n", b"x" * 64, b"data: " + b"y" * 64, b"event: " + b"z" * 64])
def test_what_never_ends_is_held_within_bounds(piece):
    """A line without an end, and an event without one."""
    events, _, is_too_long = seen([piece] * 5002, max_event=10_000)

    assert (events, is_too_long) == ([], True)


def test_comments_for_ever_are_held_by_nothing():
    """They are dropped as they come."""
    decoder = Decoder(max_event=100)

    for _ in range(10_000):
        assert list(decoder.feed(b": ping\n\n")) == []


def test_an_unfinished_line_takes_its_size_however_it_is_cut():
    """A hostile server sends two bytes at a time: kept as they came, they would take thirty times as much."""
    decoder = Decoder(max_event=MIB)
    pieces = [b"data: "] + [b"xy"] * 100_000
    tracemalloc.start()
    try:
        for piece in pieces:
            assert list(decoder.feed(piece)) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 2 * 200_000
    assert list(decoder.feed(b"\n\n")) == [Event("xy" * 100_000)]


def seconds(raw, piece):
    """The least CPU of three readings of *raw*, one event, in pieces of that size."""
    pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)]

    def once():
        begun = time.process_time()
        (event,) = read(*pieces)
        took = time.process_time() - begun
        assert len(event.data) > len(raw) // 4
        return took

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    ("raw", "piece"),
    [(b"data: " + b"A" * 32 * MIB + b"\n\n", 16 * 1024), (b"data: xy\n" * 80_000 + b"\n", 64)],
    ids=["a line of 32 MiB", "80,000 lines"],
)
def test_what_comes_in_many_pieces_costs_linear_time(raw, piece):
    """About what it costs in one piece; a join, or a search, of all at each piece would be 50 times that."""
    assert seconds(raw, piece) < 15 * max(seconds(raw, len(raw)), 0.005)
