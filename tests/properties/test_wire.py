"""Laws of the wire: what is written can be read back, and nothing hostile passes for an answer."""

import math
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinow_async import (
    Balance,
    ChatCompletion,
    ChatCompletionChunk,
    ChatRequest,
    ImageRequest,
    Message,
    Model,
    ModelCost,
    Usage,
)
from hinow_async._models.chat import CHAT_OPTIONS, Choice
from hinow_async._models.images import PARAMETERS, GeneratedImage
from hinow_async._protocol import catalogue, chat_wire, json, wire
from hinow_async._protocol.chat_images import find_images
from hinow_async._protocol.converter import converter
from hinow_async._protocol.fields import WireError, error_fields
from hinow_async._protocol.wire import ImageAnswer

TEXT = st.text(max_size=20)
NAME = st.text(string.ascii_letters, min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT
SCALARS |= st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def extras(*taken):
    return st.dictionaries(NAME.filter(lambda name: name not in taken), JSON, max_size=3)


def maybe(values):
    return st.none() | values


MODEL_ID = st.lists(NAME, min_size=1, max_size=3).map("/".join)
IMAGE_REQUESTS = st.builds(
    ImageRequest,
    TEXT.filter(str.strip),
    model=MODEL_ID,
    quality=maybe(NAME),
    aspect_ratio=maybe(NAME),
    resolution=maybe(NAME),
    output_format=maybe(NAME),
    num_images=maybe(st.integers(1, 1000)),
    extra=extras("prompt", "model", *PARAMETERS),
)
PARTS = st.lists(extras(), min_size=1, max_size=2).map(tuple)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "system", "assistant", "tool"]),
    content=maybe(TEXT | PARTS),
    tool_calls=st.lists(extras(), max_size=2).map(tuple),
    extra=extras("role", "content", "tool_calls"),
)
CHAT_REQUESTS = st.builds(
    ChatRequest,
    st.lists(MESSAGES, min_size=1, max_size=3).map(tuple),
    model=MODEL_ID,
    temperature=maybe(st.floats(0, 2)),
    max_tokens=maybe(st.integers(1, 1000)),
    top_p=maybe(st.floats(0, 1)),
    seed=maybe(st.integers(0, 9)),
    stop=maybe(TEXT | st.lists(TEXT, min_size=1, max_size=2).map(tuple)),
    response_format=maybe(extras()),
    tools=maybe(st.lists(extras(), min_size=1, max_size=2).map(tuple)),
    tool_choice=maybe(TEXT | extras()),
    extra=extras("messages", "model", "stream", "parameters", *CHAT_OPTIONS),
)
COSTS = st.builds(
    ModelCost,
    type=maybe(TEXT),
    total=maybe(st.floats(0, 1e9)),
    input=maybe(st.floats(0, 1e9)),
    output=maybe(st.floats(0, 1e9)),
    extra=extras("type", "total", "input", "output"),
)
MODEL_FIELDS = ("id", "object", "name", "category", "created", "owned_by", "endpoint", "cost")
MODELS = st.builds(
    Model,
    id=TEXT,
    object=maybe(TEXT),
    name=maybe(TEXT),
    category=st.lists(TEXT, max_size=2).map(tuple),
    created=maybe(st.integers(0, 2**40)),
    owned_by=maybe(TEXT),
    endpoint=maybe(TEXT),
    cost=maybe(COSTS),
    extra=extras(*MODEL_FIELDS, "data"),
)
BALANCES = st.builds(
    Balance,
    balance=st.floats(-1e9, 1e9),
    account_id=maybe(TEXT),
    project_id=maybe(TEXT),
    extra=extras("balance", "account_id", "project_id", "data", "success"),
)
TOKENS = maybe(st.integers(0, 10**9))
USAGES = st.builds(
    Usage,
    prompt_tokens=TOKENS,
    completion_tokens=TOKENS,
    total_tokens=TOKENS,
    extra=extras("prompt_tokens", "completion_tokens", "total_tokens"),
)
CHOICES = st.builds(
    Choice,
    index=st.integers(0, 9),
    message=MESSAGES,
    finish_reason=maybe(TEXT),
    extra=extras("index", "message", "finish_reason"),
)


DELTAS = st.none() | st.fixed_dictionaries({}, optional={"content": maybe(TEXT), "role": TEXT, "odd": JSON})
CHUNKS = st.builds(
    ChatCompletionChunk,
    id=maybe(TEXT),
    model=maybe(TEXT),
    choices=st.lists(
        st.fixed_dictionaries({}, optional={"index": st.integers(0, 3), "delta": DELTAS, "odd": JSON}),
        max_size=2,
    ).map(tuple),
    usage=maybe(USAGES),
    created=maybe(st.integers(0, 2**40)),
    object=maybe(TEXT),
    extra=extras("id", "model", "choices", "usage", "created", "object"),
)


@st.composite
def completions(draw):
    choices = tuple(draw(st.lists(CHOICES, min_size=1, max_size=2)))
    taken = ("id", "model", "choices", "usage", "created", "object", "success", "data")
    urls = find_images(choices[0].message)
    return ChatCompletion(
        id=draw(maybe(TEXT)),
        model=draw(maybe(TEXT)),
        choices=choices,
        usage=draw(maybe(USAGES)),
        created=draw(maybe(st.integers(0, 2**40))),
        object=draw(maybe(TEXT)),
        images=tuple(wire.picture(url, index) for index, url in enumerate(urls)),
        extra=draw(extras(*taken)),
    )


@st.composite
def answers(draw):
    kinds = draw(st.lists(st.sampled_from(["url", "data", "base64"]), min_size=1, max_size=4))
    images = []
    for index, kind in enumerate(kinds):
        extra = draw(extras("url", "b64_json"))
        text = draw(TEXT.filter(lambda text: text[:5].lower() != "data:"))
        if kind == "url":
            images.append(GeneratedImage(text, index=index, extra=extra))
        else:
            encoded = f"data:{text}" if kind == "data" else text
            images.append(GeneratedImage(index=index, encoded=encoded, extra=extra))
    taken = ("urls", "images", "success", "model", "provider", "data")
    return ImageAnswer(
        images=tuple(images), model=draw(maybe(TEXT)), provider=draw(maybe(TEXT)), extra=draw(extras(*taken))
    )


EVERYTHING = {
    ImageRequest: IMAGE_REQUESTS,
    ChatRequest: CHAT_REQUESTS,
    Message: MESSAGES,
    Model: MODELS,
    ModelCost: COSTS,
    Balance: BALANCES,
    Usage: USAGES,
    Choice: CHOICES,
    ChatCompletion: completions(),
    ChatCompletionChunk: CHUNKS,
    ImageAnswer: answers(),
}


@pytest.mark.parametrize("cls", EVERYTHING, ids=lambda cls: cls.__name__)
def test_what_is_written_is_read_back(cls):
    """Through bytes: structure(loads(dumps(unstructure(x)))) == x, for every value of ours."""

    @settings(max_examples=40)
    @given(EVERYTHING[cls])
    def holds(value):
        raw = json.dumps(converter.unstructure(value))

        assert converter.structure(json.loads(raw), cls) == value

    holds()


@settings(max_examples=40)
@given(IMAGE_REQUESTS)
def test_a_fingerprint_is_that_of_what_is_sent(request):
    """The same for the request that is read back, and for any order of its fields."""
    body = wire.image_request_to_wire(request)
    turned = dict(reversed(body.items()))

    assert wire.fingerprint(body) == wire.fingerprint(turned)
    again = wire.image_request_to_wire(wire.image_request_from_wire(json.loads(json.dumps(body))))
    assert wire.fingerprint(again) == wire.fingerprint(body) == wire.image_fingerprint(request)


@settings(max_examples=40)
@given(answers(), st.data())
def test_a_cut_answer_is_never_an_answer(answer, data):
    """However much of it came, it is refused as long as its end is missing."""
    raw = json.dumps(converter.unstructure(answer))
    cut = data.draw(st.integers(0, len(raw) - 1))

    with pytest.raises(json.MalformedJSONError):
        json.loads(raw[:cut])


READERS = [
    wire.image_answer,
    chat_wire.chat_completion,
    catalogue.models,
    catalogue.model,
    catalogue.balance,
    error_fields,
]
KEYS = [
    "success",
    "data",
    "urls",
    "images",
    "url",
    "b64_json",
    "choices",
    "message",
    "content",
    "error",
    "code",
    "type",
    "detail",
    "usage",
    "cost",
    "total",
    "id",
    "balance",
    "model",
    "category",
    "index",
]
ODD = SCALARS | st.just(math.nan) | st.just(math.inf) | st.just(10**400)
HOSTILE = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_whatever_comes_is_read_or_refused(read):
    """Any JSON, with the contract's names in the wrong places: a value, or a WireError; nothing else."""

    @given(HOSTILE)
    def holds(raw):
        try:
            value = read(raw)
        except WireError as error:
            assert str(error)  # noqa: PT017 - it may not come
        else:
            assert value is not None

    holds()


@given(st.binary(max_size=60))
def test_whatever_bytes_come_are_json_or_malformed(raw):
    """One error for all that is no JSON."""
    try:
        value = json.loads(raw)
    except json.MalformedJSONError as error:
        assert str(error)  # noqa: PT017 - it may not come
    else:
        assert not isinstance(value, bytes)


@given(st.text(max_size=50) | st.text("![](<> \n)a", max_size=200))
def test_pictures_are_found_once_each(text):
    """In any text; none twice, none empty."""
    found = find_images(Message("assistant", text))

    assert len(found) == len(set(found))
    assert all(found)
