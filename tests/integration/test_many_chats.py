"""`create_many`: what `generate_many` is for pictures, by the same machinery."""

import asyncio

import pytest

from hinow_async import (
    APITimeoutError,
    BadRequestError,
    ChatRequest,
    ConfigurationError,
    Limits,
    RetryPolicy,
    URLExpiredError,
)
from hinow_async.sandbox import Fault

HIMAX = {"model": "hinow/himax"}


def requests(count):
    return (ChatRequest(f"Question {number}", **HIMAX) for number in range(count))


async def collect(client, source, **options):
    async with client.chat.completions.create_many(source, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def test_every_chat_has_one_outcome(client, sandbox):
    """Each is answered, and paid, once."""
    outcomes = await collect(client, requests(40))

    assert sorted(outcome.index for outcome in outcomes) == list(range(40))
    assert all(outcome.unwrap().text.endswith(f" {outcome.index}") for outcome in outcomes)
    assert sandbox.billing.requests == 40


async def test_prompts_and_messages_take_the_common_model(client):
    """In the order of the source when asked for; a request keeps its own."""
    source = ["One", [{"role": "user", "content": "Two"}], ChatRequest("Three", model="hinow/himax")]

    outcomes = await collect(client, source, ordered=True, **HIMAX)

    assert [outcome.unwrap().text.split()[-1] for outcome in outcomes] == ["One", "Two", "Three"]


async def test_failures_are_outcomes(client, sandbox):
    """The others go on."""
    sandbox.change(faults=[Fault(path="chat", match="3", status=400)])

    outcomes = await collect(client, requests(10), ordered=True)

    assert [outcome.index for outcome in outcomes if outcome.error] == [3]
    with pytest.raises(BadRequestError):
        outcomes[3].unwrap()


async def test_a_deadline_is_each_items_own(connect, sandbox):
    """One slow answer is one failed outcome."""
    sandbox.change(latency=lambda body: 5 if "2" in body["messages"][0]["content"] else 0)
    client = connect(retry=RetryPolicy(attempts=1))

    outcomes = await collect(client, requests(4), ordered=True, timeout=0.5)

    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        type(None),
        APITimeoutError,
        type(None),
    ]


async def test_the_source_is_pulled_no_further_than_needed(connect):
    """Two times what may be in flight, at most, beyond what was taken."""
    client, pulled = connect(limits=Limits(max_in_flight=4)), 0

    async def source():
        nonlocal pulled
        for request in requests(1000):
            pulled += 1
            yield request

    async with client.chat.completions.create_many(source()) as outcomes:
        taken = 0
        async for _ in outcomes:
            taken += 1
            await asyncio.sleep(0.005)
            assert pulled - taken <= 8
            if taken == 20:
                break


async def test_stop_sends_nothing_more(connect, sandbox):
    """What is in flight is finished."""
    sandbox.change(latency=0.05)
    client = connect(limits=Limits(max_in_flight=4))
    async with client.chat.completions.create_many(requests(100)) as outcomes:
        await anext(outcomes)
        outcomes.stop()
        rest = [outcome async for outcome in outcomes]

    assert all(outcome.error is None for outcome in rest)
    assert sandbox.billing.requests == 1 + len(rest) < 20


@pytest.mark.parametrize("item", ["no model", 7, None])
async def test_an_item_that_is_no_request_stops_it(client, item):
    """It is the source that is wrong."""
    with pytest.raises(ValueError, match=r"model|messages"):
        await collect(client, [ChatRequest("One", **HIMAX), item])


async def test_outcomes_are_entered_first(client):
    """The message names this method."""
    outcomes = client.chat.completions.create_many(requests(1))
    with pytest.raises(ConfigurationError, match="create_many"):
        aiter(outcomes)


async def test_pictures_of_answers_are_saved_under_their_position(client, tmp_path):
    """As `generate_many` names them; an answer without pictures has no files."""
    drawn = [ChatRequest(f"Draw {number}", model="openai/gpt-image-2-2026-04-21") for number in range(2)]

    outcomes = await collect(
        client, [drawn[0], *requests(1), drawn[1]], save_to=tmp_path / "new", ordered=True
    )

    names = [[saved.path.name for saved in outcome.saved] for outcome in outcomes]
    assert names == [["000000-0.png"], [], ["000002-0.png"]]
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["000000-0.png", "000002-0.png"]


async def test_a_picture_that_cannot_be_saved_is_an_outcome_with_its_answer(client, sandbox, tmp_path):
    """`result` and `error` together: it was paid for."""
    sandbox.change(faults=[Fault(path="files", status=404)])

    (outcome,) = await collect(client, ["Draw"], model="openai/gpt-image-2-2026-04-21", save_to=tmp_path)

    assert len(outcome.result.images) == 1
    assert type(outcome.error) is URLExpiredError
    assert outcome.saved == ()


async def test_a_folder_that_cannot_be_written_to_sends_nothing(client, sandbox, tmp_path):
    """It is found out before anything is paid for."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(OSError, match="file"):
        await collect(client, requests(3), save_to=tmp_path / "file")

    assert sandbox.billing.received == 0
