"""Values: what they refuse, what they keep, how they show themselves, what survives a pickle."""

import base64
import copy
import pickle

import attrs
import pytest

from hinow_async import (
    CallRecord,
    ChatCompletionChunk,
    ChatRequest,
    ConfigurationError,
    GeneratedImage,
    ImageOutcome,
    ImageRequest,
    ImageResult,
    IntegrityError,
    Message,
)
from hinow_async._models.known import KNOWN_MODELS, PINNED_MODEL

CALL = CallRecord(
    request_id=None,
    attempts=1,
    elapsed=1.0,
    queued=0.0,
    unknown_outcomes=0,
    estimated_usd=0.1,
    account="a",
    idempotency_key="k",
)


def result_of(*images):
    return ImageResult(ImageRequest("<b>A & B</b>"), images, "m", "p", CALL)


def test_the_pinned_snapshot_is_the_default():
    """Changing it is a breaking change."""
    assert ImageRequest("A lighthouse").model == PINNED_MODEL == "openai/gpt-image-2-2026-04-21"


@pytest.mark.parametrize("model", KNOWN_MODELS)
def test_known_models_take_what_the_contract_allows(model):
    """Each value of each parameter, and no other."""
    for name, allowed in KNOWN_MODELS[model].fields.items():
        for value in allowed:
            assert getattr(ImageRequest("x", model=model, **{name: value}), name) == value
        with pytest.raises(ValueError, match=f"{name} must be one of {allowed[0]}"):
            ImageRequest("x", model=model, **{name: "other"})
    for number in (0, 11, 1.5, "2", True):
        with pytest.raises(ValueError, match="num_images"):
            ImageRequest("x", model=model, num_images=number)


def test_other_models_take_any_text():
    """Their parameters are not ours to judge; an empty one says nothing."""
    assert ImageRequest("x", model="some/model", quality="ultra", num_images=50).quality == "ultra"
    for value in ("", 7):
        with pytest.raises(ValueError, match="quality"):
            ImageRequest("x", model="some/model", quality=value)


@pytest.mark.parametrize("prompt", ["", "   ", "\n", None, 7, b"x"])
def test_an_empty_prompt_is_refused(prompt):
    """Nothing can be drawn of it."""
    with pytest.raises(ValueError, match="prompt"):
        ImageRequest(prompt)


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        ({}, 1),
        ({"num_images": 4}, 4),
        ({"extra": {"n": 3}}, 3),
        ({"num_images": 2, "extra": {"n": 9}}, 2),
        ({"extra": {"n": "3"}}, 1),
        ({"extra": {"n": True}}, 1),
        ({"extra": {"n": 0}}, 1),
        ({"extra": {"n": -5}}, 1),
    ],
)
def test_what_a_request_weighs(fields, weight):
    """`num_images`, else an integer `n` in extra, else 1."""
    assert ImageRequest("x", **fields).images_asked == weight


def test_a_request_keeps_no_hold_on_the_callers_mapping():
    """What is changed afterwards changes no request; and requests can be set members."""
    extra = {"seed": 1}
    request = ImageRequest("x", extra=extra)
    extra["seed"] = 2

    assert request.extra == {"seed": 1}
    assert len({request, ImageRequest("x", extra={"seed": 1})}) == 1


def test_a_chat_request_keeps_no_hold_on_the_callers_mapping_either():
    """The same for chats."""
    extra = {"user": "a"}
    request = ChatRequest("Hi", model="a/b", extra=extra)
    extra["user"] = "b"

    assert request.extra == {"user": "a"}


PNG = b"\x89PNG"


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(PNG).decode(),
        "data:image/png;base64,iVBORw==",
        "DATA:;BASE64,iVBORw==",
        "data:,%89PNG",
        "data:image/png;name=x;base64,iVBORw%3D%3D",
    ],
)
def test_inline_pictures_are_decoded_when_asked_for(encoded):
    """Base64 and data: URIs, percent-encoded ones too."""
    assert GeneratedImage(encoded=encoded).data == PNG


@pytest.mark.parametrize(
    "encoded", ["%%%", "data:image/png;base64", "data:image/png;base64,!!!", "iVBORw=", "ä"]
)
def test_what_is_no_base64_says_that_it_was_paid_for(encoded):
    """The raw text is kept."""
    image = GeneratedImage(encoded=encoded)

    with pytest.raises(IntegrityError, match="paid"):
        _ = image.data
    assert image.encoded == encoded


async def test_values_without_a_client_name_the_way_around():
    """A result that was pickled, or made by hand."""
    result = pickle.loads(pickle.dumps(result_of(GeneratedImage("https://a.example/x"))))

    with pytest.raises(ConfigurationError, match=r"client\.images\.save\(result, directory\)"):
        await result.save("out")
    with pytest.raises(ConfigurationError, match=r"client\.images\.read"):
        await result.images[0].read()


def test_results_are_values():
    """Equal when what they say is equal, whoever made them; copies and pickles are equal."""
    result = result_of(GeneratedImage("https://a.example/x?sig=1", extra={"seed": 1}))

    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), attrs.evolve(result)):
        assert again == result
    assert "sig" not in repr(result)


def test_an_outcome_is_unwrapped():
    """To its result, or by raising its error."""
    result, error = result_of(), IntegrityError("no")
    request = ImageRequest("x")

    assert ImageOutcome(index=0, request=request, result=result).unwrap() is result
    with pytest.raises(IntegrityError):
        ImageOutcome(index=0, request=request, result=result, error=error).unwrap()
    with pytest.raises(ConfigurationError):
        ImageOutcome(index=0, request=request).unwrap()


@pytest.mark.parametrize("messages", [[], None, 7, [7], [{"content": "x"}], [{"role": 7}]])
def test_messages_that_are_none_are_refused(messages):
    """Each needs a role; an empty conversation says nothing."""
    with pytest.raises(ValueError, match="message"):
        ChatRequest(messages, model="a/b")


def test_the_text_of_a_message_is_that_of_its_parts():
    """In their order; pictures have none."""
    parts = [{"type": "text", "text": "A"}, {"type": "image_url"}, {"type": "text", "text": "B"}]

    assert Message("user", parts).text == "AB"
    assert Message("assistant").text == ""


def test_the_text_of_a_chunk_is_that_of_the_first_choice():
    """Others are kept in `choices`."""
    chunk = ChatCompletionChunk(
        id=None, model=None, choices=({"index": 1, "delta": {"content": "B"}}, {"delta": {"content": "A"}})
    )

    assert chunk.text == "A"
