"""Laws of putting a streamed chat together: whatever way it was taken apart, the same comes out."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinow_async import ChatRequest
from hinow_async._protocol import chat_wire, json
from hinow_async._protocol.chat_stream import ChatReader

REQUEST = ChatRequest("Hi", model="hinow/himax")
TEXT = st.text(max_size=12)
CALLS = st.lists(
    st.builds(
        lambda name, arguments: {
            "id": f"call-{name}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.text("abc", min_size=1, max_size=3),
        TEXT,
    ),
    max_size=3,
    unique_by=lambda call: call["id"],
)


@st.composite
def cut(draw, text):
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def streams(draw):
    """The chunks of some choices, mingled, and what they are when whole."""
    chunks, choices = [], []
    for index in range(draw(st.integers(1, 3))):
        text, thoughts, calls = draw(TEXT), draw(TEXT), draw(CALLS)
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in draw(cut(text))]
        deltas += [{"reasoning": piece} for piece in draw(cut(thoughts))]
        for place, call in enumerate(calls):
            first, *more = draw(cut(call["function"]["arguments"]))
            function = {"name": call["function"]["name"], "arguments": first}
            deltas.append({"tool_calls": [{"index": place, **call, "function": function}]})
            deltas += [{"tool_calls": [{"index": place, "function": {"arguments": piece}}]} for piece in more]
        own = [{"index": index, "delta": delta} for delta in deltas]
        own.append({"index": index, "delta": {}, "finish_reason": "an odd reason"})
        chunks.append(own)
        message = {
            "role": "assistant",
            "content": text if text or not calls else None,
            "reasoning": thoughts,
            **({"tool_calls": calls} if calls else {}),
        }
        choices.append({"index": index, "message": message, "finish_reason": "an odd reason"})
    mingled = []
    while any(chunks):
        mingled.append(draw(st.sampled_from([own for own in chunks if own])).pop(0))
    whole = {"id": "c", "model": "m", "choices": choices, "created": 1, "object": "chat.completion"}
    return mingled, whole


def events(choices):
    root = {"id": "c", "model": "m", "created": 1, "object": "chat.completion.chunk"}
    return b"".join(b"data: %b\n\n" % json.dumps({**root, "choices": [item]}) for item in choices)


def assembled(reader):
    return reader.completion(request=None, call=None, door=None)


@settings(max_examples=150)
@given(streams())
def test_what_is_put_together_is_the_whole_answer(stream):
    """Choices mingled, tool calls in fragments, fields that nobody knows."""
    mingled, whole = stream
    reader = ChatReader()
    reader.feed(events(mingled))

    assert reader.problem is None
    assert reader.is_complete
    assert assembled(reader) == chat_wire.chat_completion(whole)


@given(streams(), st.data())
def test_a_cut_stream_is_complete_only_when_all_was_said(stream, data):
    """However much of it came, what there is can be put together."""
    mingled, _ = stream
    raw = events(mingled)
    cut_at = data.draw(st.integers(0, len(raw) - 1))
    reader = ChatReader()
    chunks = reader.feed(raw[:cut_at])

    assert len(chunks) == raw[:cut_at].count(b"\n\n")
    first = [choice for choice in assembled(reader).choices if choice.index == 0]
    assert "".join(chunk.text for chunk in chunks) == (first[0].message.text if first else "")
    seen = {chunk.choices[0]["index"] for chunk in chunks}
    finished = {c.choices[0]["index"] for c in chunks if "finish_reason" in c.choices[0]}
    assert reader.is_complete == (bool(seen) and seen == finished)


@settings(max_examples=150)
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"data: ", b"\n\n", b"{", b'{"choices": [{}]}', b"[DONE]"])
    )
)
def test_nothing_hostile_raises(pieces):
    """It is a problem, never an exception."""
    reader = ChatReader()
    for piece in pieces:
        reader.feed(piece)
    assembled(reader)


def tool(**fragment):
    return {"index": 0, "delta": {"tool_calls": [fragment]}}


def calls_of(*choices):
    reader = ChatReader()
    reader.feed(events(choices))
    return assembled(reader).choices[0].message.tool_calls


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        (
            [tool(id="a", function={"name": "f", "arguments": "1"}), tool(function={"arguments": "2"})],
            [{"id": "a", "function": {"name": "f", "arguments": "12"}}],
        ),
        (
            [tool(index=0, id="a", function={"name": "f"}), tool(index=0, id="b", function={"name": "g"})],
            [{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}],
        ),
        (
            [tool(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
             tool(index=0, id="a", type="function", function={"name": "f", "arguments": "x"})],
            [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "x"}}],
        ),
    ],
    ids=["no index", "every index 0", "all said again"],
)  # fmt: skip
def test_tool_calls_of_services_that_number_them_otherwise(fragments, calls):
    """Without an index, all with 0, or with everything in every fragment."""
    assert list(calls_of(*fragments)) == calls


def test_a_character_cut_between_two_chunks_is_whole():
    """Escaped halves of one character join; a lone half stays."""
    raw = b"".join(
        b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % half
        for half in (rb"\ud83e", rb"\udd8a", rb" \ud83e")
    )
    reader = ChatReader()
    reader.feed(raw)

    assert assembled(reader).text == "🦊 \ud83e"


def test_putting_together_costs_linear_time():
    """Of an unknown field and of a tool call: 16 times as many fragments do not take 256 times as long."""

    def took(count):
        raw = events(
            [{"delta": {"reasoning": "word " * 20}}, tool(index=0, function={"arguments": "x" * 100})]
        )
        reader = ChatReader()
        begun = time.process_time()
        for _ in range(count // 100):
            reader.feed(raw * 100)
        assembled(reader)
        return time.process_time() - begun

    least = {count: min(took(count) for _ in range(2)) for count in (1000, 16_000)}

    assert least[16_000] < 64 * max(least[1000], 0.002)


def test_a_stream_without_end_is_bounded():
    """Whatever it brings, after 512 MiB it is no answer."""
    reader = ChatReader()
    for _ in range(512):
        reader.feed(b": " + b"x" * (2**20 - 3) + b"\n")
    assert reader.problem is None
    reader.feed(b"\n")
    assert "more bytes" in reader.problem.message
