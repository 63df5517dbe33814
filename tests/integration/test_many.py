"""`generate_many`: lazy, bounded, in order when asked, and tidy however it is left."""

import asyncio
import logging

import pytest

from hinow_async import (
    APIConnectionError,
    APIStatusError,
    AsyncHinow,
    BadRequestError,
    ConfigurationError,
    ImageRequest,
    Limits,
    RetryPolicy,
)
from hinow_async.sandbox import Behaviour, Fault, Sandbox


def prompts(count):
    return [f"Lighthouse {number}" for number in range(count)]


async def collect(client, requests, **options):
    async with client.images.generate_many(requests, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def note_indexes(client, requests, seen, **options):
    """Note what comes before an error."""
    async with client.images.generate_many(requests, **options) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome.index)


class Counting:
    """A source that counts what was pulled, and knows whether it was closed."""

    def __init__(self, count):
        self.pulled = 0
        self.closed = False
        self._count = count

    def sync(self):
        try:
            for number in range(self._count):
                self.pulled += 1
                yield f"Lighthouse {number}"
        finally:
            self.closed = True

    async def asynchronous(self):
        try:
            for number in range(self._count):
                await asyncio.sleep(0)
                self.pulled += 1
                yield f"Lighthouse {number}"
        finally:
            self.closed = True


@pytest.mark.parametrize("kind", ["sync", "asynchronous", "list"])
async def test_every_request_has_one_outcome(client, sandbox, kind):
    """From a list, a generator and an asynchronous generator; each is paid once."""
    source = prompts(40) if kind == "list" else getattr(Counting(40), kind)()

    outcomes = await collect(client, source)

    assert sorted(outcome.index for outcome in outcomes) == list(range(40))
    assert all(outcome.request.prompt == f"Lighthouse {outcome.index}" for outcome in outcomes)
    assert all(outcome.unwrap().images for outcome in outcomes)
    assert sandbox.billing.by_prompt == dict.fromkeys(prompts(40), 1)


async def test_an_empty_source_has_no_outcomes(client):
    """And does not hang."""
    assert await collect(client, []) == []


async def test_order_is_kept_when_asked_for(client, sandbox):
    """However long each takes."""
    sandbox.change(latency=lambda body: 0.05 if body["prompt"].endswith("0") else 0)

    outcomes = await collect(client, prompts(30), ordered=True)

    assert [outcome.index for outcome in outcomes] == list(range(30))


async def test_failures_are_outcomes(client, sandbox):
    """The others go on."""
    sandbox.change(faults=[Fault(match="3", status=400)])

    outcomes = await collect(client, prompts(10), ordered=True)

    assert [outcome.index for outcome in outcomes if outcome.error] == [3]
    with pytest.raises(BadRequestError):
        outcomes[3].unwrap()
    assert outcomes[3].error.call.attempts == 1


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_a_slow_reader_slows_the_source(connect, sandbox, kind):
    """No more than two times what may be in flight is pulled beyond what was handed over."""
    client = connect(limits=Limits(max_in_flight=4))
    source = Counting(1000)
    async with client.images.generate_many(getattr(source, kind)()) as outcomes:
        taken = 0
        async for _ in outcomes:
            taken += 1
            await asyncio.sleep(0.01)
            assert source.pulled - taken <= 8
            if taken == 30:
                break

    assert source.closed
    assert source.pulled < 50


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_a_source_that_raises_raises_its_own_error(client, sandbox, kind):
    """No group around it, after what was begun is handed over."""

    def broken():
        yield from prompts(5)
        raise RuntimeError("no more paper")

    async def broken_too():
        for prompt in prompts(5):
            yield prompt
        raise RuntimeError("no more paper")

    seen = []
    with pytest.raises(RuntimeError, match="no more paper"):
        await note_indexes(client, broken() if kind == "sync" else broken_too(), seen)

    assert sorted(seen) == list(range(5))


@pytest.mark.parametrize("item", [7, None, "", ["a"]])
async def test_an_item_that_is_no_request_stops_the_stream(client, item):
    """It is the source that is wrong; in order, too, what was begun before is handed over."""
    seen = []
    with pytest.raises(ValueError, match="prompt"):
        await note_indexes(client, ["One", "Two", item, "Four"], seen, ordered=True)

    assert seen == [0, 1]


@pytest.mark.parametrize("source", ["one prompt", 7, None, b"x"])
async def test_what_is_no_source_is_refused(client, source):
    """A single string would be drawn letter by letter."""
    with pytest.raises(ValueError, match="iterable"):
        async with client.images.generate_many(source):
            pass


async def leave_by_break(outcomes):
    async for _ in outcomes:
        break


async def leave_by_error(outcomes):
    async for _ in outcomes:
        raise KeyError("mine")


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error])
async def test_leaving_early_cancels_and_says_once_what_may_have_been_billed(connect, sandbox, caplog, leave):
    """No task is left, and one warning counts the calls."""
    sandbox.change(latency=lambda body: 0 if body["prompt"].endswith(" 0") else 5)
    client = connect(limits=Limits(max_in_flight=4))
    source = Counting(100)
    try:
        async with client.images.generate_many(source.sync()) as outcomes:
            await leave(outcomes)
    except KeyError as error:
        assert error.args == ("mine",)  # noqa: PT017 - it may not come

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    lost = client.stats().unknown_outcomes
    assert 4 >= lost >= sandbox.billing.requests - 1 >= 1
    assert len(warnings) == 1
    assert f"{lost} calls in flight" in warnings[0].getMessage()
    assert source.closed
    assert (client.stats().in_flight, client.stats().waiting) == (0, 0)


async def test_a_cancel_of_the_reader_cancels_all(connect, sandbox, caplog):
    """The cancel goes on its way."""
    sandbox.change(latency=5)
    client = connect(limits=Limits(max_in_flight=4))
    task = asyncio.create_task(collect(client, prompts(20)))
    while sandbox.billing.in_flight < 4:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert client.stats().unknown_outcomes == 4
    assert (client.stats().in_flight, client.stats().waiting) == (0, 0)
    assert "4 calls in flight" in caplog.text


async def test_leaving_while_pictures_are_saved_says_so(connect, sandbox, caplog, tmp_path):
    """They were paid for, and nobody has them: that is counted and said."""
    sandbox.change(bandwidth=100)
    client = connect()
    async with client.images.generate_many(["One"], save_to=tmp_path) as outcomes:
        task = asyncio.create_task(anext(outcomes))
        while not any(entry.path.startswith("/files") for entry in sandbox.log):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    assert "left early" in caplog.text


async def test_a_stream_read_to_its_end_warns_of_nothing(client, caplog):
    """The warning is for what was lost."""
    await collect(client, prompts(5))

    assert not caplog.records


async def test_stop_finishes_what_is_in_flight_and_sends_no_more(connect, sandbox):
    """What waits leaves the queue, what was sent is handed over."""
    sandbox.change(latency=0.1)
    client = connect(limits=Limits(max_in_flight=4))
    source = Counting(100)
    async with client.images.generate_many(source.sync()) as outcomes:
        first = await anext(outcomes)
        outcomes.stop()
        rest = [outcome async for outcome in outcomes]

    assert first.error is None
    assert all(outcome.error is None for outcome in rest)
    assert len(rest) + 1 == sandbox.billing.requests
    assert sandbox.billing.requests <= 8
    assert source.closed


async def test_stop_ends_a_source_that_waits_for_ever(connect):
    """A queue that nobody fills any more must not hold the end back."""
    client = connect()
    closed = []

    async def queue():
        try:
            yield "One"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async with asyncio.timeout(2):
        async with client.images.generate_many(queue()) as outcomes:
            await anext(outcomes)
            outcomes.stop()
            assert [outcome async for outcome in outcomes] == []

    assert closed == [True]


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_a_source_may_stop_the_stream_itself(client, sandbox, kind):
    """What it yields after that is not sent."""
    box = []

    def source():
        yield "One"
        box[0].stop()
        yield "Two"

    async def source_too():
        for prompt in source():
            await asyncio.sleep(0)
            yield prompt

    async with client.images.generate_many(source() if kind == "sync" else source_too()) as outcomes:
        box.append(outcomes)
        seen = [outcome.request.prompt async for outcome in outcomes]

    assert "Two" not in seen
    assert "Two" not in sandbox.billing.by_prompt


async def test_stop_sends_nothing_again(connect, sandbox):
    """A call that was refused before the stop raises its refusal at once, however long its gate is shut."""
    sandbox.change(faults=[Fault(status=429, headers={"Retry-After": "300"})])
    client = connect()
    async with asyncio.timeout(5):
        async with client.images.generate_many(prompts(3)) as outcomes:
            reading = asyncio.create_task(anext(outcomes))
            while client.stats().throttled < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            sent = len(sandbox.log)
            outcomes.stop()
            first = await reading
            rest = [outcome async for outcome in outcomes]

    assert len(sandbox.log) == sent
    assert all(isinstance(outcome.error, APIStatusError) for outcome in [first, *rest])


async def test_stop_in_a_backoff_sends_nothing_again(connect, sandbox):
    """The same for a call that backs off on its own."""
    sandbox.change(faults=[Fault(status=409)])
    client = connect(retry=RetryPolicy(wait_initial=300, wait_max=300))
    async with asyncio.timeout(5):
        async with client.images.generate_many(prompts(1)) as outcomes:
            reading = asyncio.create_task(anext(outcomes))
            while len(sandbox.log) < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            outcomes.stop()
            outcome = await reading

    assert outcome.error.call.attempts == len(sandbox.log) == 1
    assert outcome.error.outcome == "refused"


async def test_pictures_are_saved_under_their_position(client, tmp_path):
    """Six digits of the position, the picture's index, the true extension."""
    requests = [ImageRequest("One", num_images=2), ImageRequest("Two", output_format="jpeg")]

    outcomes = await collect(client, requests, save_to=tmp_path / "new", ordered=True)

    names = [[saved.path.name for saved in outcome.saved] for outcome in outcomes]
    assert names == [["000000-0.png", "000000-1.png"], ["000001-0.jpg"]]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "000000-0.png",
        "000000-1.png",
        "000001-0.jpg",
    ]


async def test_a_folder_that_cannot_be_written_to_sends_nothing(client, sandbox, tmp_path):
    """It is found out before anything is paid for."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(OSError, match="file"):
        await collect(client, prompts(3), save_to=tmp_path / "file")

    assert sandbox.billing.received == 0


async def test_a_picture_that_cannot_be_saved_is_an_outcome_with_its_result(client, sandbox, tmp_path):
    """`result` and `error` together: it was paid for."""
    sandbox.change(faults=[Fault(path="files", status=404)])

    (outcome,) = await collect(client, ["One"], save_to=tmp_path)

    assert outcome.result is not None
    assert type(outcome.error).__name__ == "URLExpiredError"
    assert outcome.saved == ()


async def test_a_deadline_is_per_item(connect, sandbox):
    """Counted from its pull."""
    sandbox.change(latency=0.15)
    client = connect(limits=Limits(max_in_flight=2, adaptive=False))

    outcomes = await collect(client, prompts(4), ordered=True, timeout=0.6)

    assert [outcome.error for outcome in outcomes] == [None] * 4


async def test_outcomes_must_be_entered_and_are_entered_once(client):
    """Else tasks would be left behind."""
    outcomes = client.images.generate_many(["One"])
    with pytest.raises(ConfigurationError, match="enter"):
        await anext(outcomes)
    async with outcomes:
        assert [outcome.index async for outcome in outcomes] == [0]
    with pytest.raises(ConfigurationError, match="entered before"):
        async with outcomes:
            pass


async def test_an_outage_is_told_for_every_item(connect, sandbox):
    """Each unknown outcome is an outcome of its own."""
    sandbox.change(faults=[Fault(drop="after")])
    client = connect(retry=RetryPolicy(wait_initial=0))

    outcomes = await collect(client, prompts(2))

    assert [type(outcome.error) for outcome in outcomes] == [APIConnectionError] * 2
    assert {outcome.error.outcome for outcome in outcomes} == {"unknown"}


async def test_two_thousand_requests_against_a_cap_of_thirty_two():
    """64 at once where 32 are allowed: all succeed, each is billed once, and 32 are never passed."""
    behaviour = Behaviour(picture_size=16, max_in_flight=32, latency=0.02)
    async with (
        Sandbox(behaviour) as sandbox,
        AsyncHinow(
            api_key=sandbox.api_key, base_url=sandbox.base_url, limits=Limits(max_in_flight=64)
        ) as client,
    ):
        outcomes = await collect(client, prompts(2000))

        assert sum(outcome.error is None for outcome in outcomes) == 2000
        assert sandbox.billing.by_prompt == dict.fromkeys(prompts(2000), 1)
        assert sandbox.billing.peak_in_flight <= 32
        assert client.stats().unknown_outcomes == 0
