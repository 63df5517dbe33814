"""The whole public interface, used as a user would: checked by mypy --strict, never executed."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, assert_type

from hinow_async import (
    Account,
    AccountStats,
    APIError,
    APIResponseError,
    APIStatusError,
    AsyncHinow,
    AttemptRecord,
    Balance,
    Budget,
    BudgetExceededError,
    CallInfo,
    CallRecord,
    ChatCompletion,
    ChatCompletionChunk,
    ChatOutcome,
    ChatRequest,
    ChatStream,
    ClientStats,
    DownloadError,
    DownloadPolicy,
    GeneratedImage,
    Hinow,
    HinowError,
    ImageComparison,
    ImageOutcome,
    ImageRequest,
    ImageResult,
    Limits,
    Message,
    Model,
    Network,
    RetryPolicy,
    SavedImage,
    SourceError,
    Timeouts,
    Usage,
    sync,
)
from hinow_async.sandbox import Behaviour, Fault, Sandbox


class Watching:
    """Hooks are plain objects."""

    def call_started(self, info: CallInfo) -> None:
        assert_type(info.model, str)

    def attempt_ended(self, record: AttemptRecord) -> None:
        assert_type(record.elapsed, float)

    def call_ended(self, record: CallRecord) -> None:
        assert_type(record.estimated_usd, float | None)


def price(request: object) -> Decimal:
    """By request."""
    return Decimal("0.1") if isinstance(request, ImageRequest) else Decimal(0)


def client() -> AsyncHinow:
    """All arguments."""
    return AsyncHinow(
        accounts=[Account("hi_a", base_url="https://a.example", name="a", limits=Limits(8))],
        limits=Limits(max_in_flight=64, requests_per_minute=600, images_per_minute=None, burst=None),
        retry=RetryPolicy(attempts=2, unbilled_statuses=frozenset({429, 503}), unknown_outcome="raise"),
        timeouts=Timeouts(connect=5, response=None, idle=10.5),
        timeout=60,
        budget=Budget(Decimal(5), usd_per_image=price, usd_per_chat=0.01),
        downloads=DownloadPolicy(max_bytes=2**20, allowed_origins=("https://files.example.com",)),
        network=Network(proxy="http://proxy.example:3128", headers={"X-Team": "sea"}),
        hooks=[Watching()],
    )


async def images(client: AsyncHinow) -> None:
    """One, many, saved and read."""
    result = await client.images.generate("A lighthouse", num_images=2, quality="low", timeout=5)
    assert_type(result, ImageResult)
    assert_type(result.images, tuple[GeneratedImage, ...])
    assert_type(result.call, CallRecord)
    saved = await result.save("out", name="lighthouse", overwrite=True)
    assert_type(saved, tuple[SavedImage, ...])
    assert_type(saved[0].path, Path)
    assert_type(saved[0].format, Literal["png", "jpeg", "webp"])
    assert_type(await result.images[0].read(), bytes)
    assert_type(result.images[0].stream(), AsyncIterator[bytes])
    assert_type(result.images[0].data, bytes | None)
    request = ImageRequest("A lighthouse", aspect_ratio="16:9", extra={"seed": 1})
    assert_type(await client.images.generate(request, headers={"X": "y"}), ImageResult)
    assert_type(await client.images.save(result, Path("out")), tuple[SavedImage, ...])
    async with client.images.generate_many([request, "Two"], save_to="out", ordered=True) as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, ImageOutcome)
            assert_type(outcome.unwrap(), ImageResult)
            assert_type(outcome.result, ImageResult | None)
        outcomes.stop()


async def comparisons(client: AsyncHinow) -> None:
    """Rows and columns."""
    made = await client.images.compare("A lighthouse", ["a/b", "c/d"])
    assert_type(made, ImageComparison)
    made = await client.images.compare(
        ["A lighthouse", ImageRequest("A harbour")],
        {"pinned": "a/b", "newer": {"model": "c/d", "quality": "high"}},
        save_to="out",
        timeout=60,
        headers={"X": "y"},
    )
    assert_type(made[0, "pinned"], ImageOutcome)
    for prompt, cells in made.rows():
        assert_type(prompt, str)
        assert_type(cells["newer"].saved, tuple[SavedImage, ...])
    assert_type(made.labels, tuple[str, ...])
    assert_type(made.failed, tuple[ImageOutcome, ...])
    assert_type(made.estimated_usd, float | None)
    assert_type(await made.save("out", on_progress=lambda done, total: None), ImageComparison)
    assert_type(await client.images.save_comparison(made, Path("out")), ImageComparison)


def comparisons_without_await(client: Hinow) -> None:
    """The same."""
    made = client.images.compare(["A lighthouse"], {"pinned": "a/b", "high": {"quality": "high"}})
    assert_type(made, sync.ImageComparison)
    assert_type(made[0, "pinned"], sync.ImageOutcome)
    assert_type(made.save("out"), sync.ImageComparison)
    assert_type(client.images.save_comparison(made, "out"), sync.ImageComparison)


async def chats(client: AsyncHinow) -> None:
    """Whole answers."""
    completion = await client.chat.completions.create(
        [Message("system", "Be brief"), {"role": "user", "content": "Hi"}], model="hinow/himax", stop=["\n"]
    )
    assert_type(completion, ChatCompletion)
    assert_type(completion.text, str)
    assert_type(completion.usage, Usage | None)
    assert_type(completion.images, tuple[GeneratedImage, ...])
    request = ChatRequest("Hi", model="hinow/himax", temperature=0.5)
    assert_type(await client.chat.completions.create(request), ChatCompletion)
    own = Message("user", ["What is it?", Path("a.png"), b"...", {"type": "text", "text": "?"}])
    assert_type(await client.chat.completions.create(own, model="hinow/himax", stream=False), ChatCompletion)
    assert_type(completion.finish_reason, str | None)
    assert_type(await completion.save("out"), tuple[SavedImage, ...])
    assert_type(await client.images.save(completion, "out"), tuple[SavedImage, ...])


async def streams(client: AsyncHinow) -> None:
    """Chunks, text, the whole; many."""
    async with client.chat.completions.stream("Hi", model="hinow/himax", timeout=5) as stream:
        assert_type(stream, ChatStream)
        assert_type(stream.text, AsyncIterator[str])
        async for text in stream.text:
            assert_type(text, str)
        async for chunk in stream:
            assert_type(chunk, ChatCompletionChunk)
        assert_type(await stream.completion(), ChatCompletion)
        assert_type(stream.partial, ChatCompletion)
        assert_type(stream.call, CallRecord)
    opened = await client.chat.completions.create("Hi", model="hinow/himax", stream=True)
    assert_type(opened, ChatStream)
    await opened.aclose()
    is_streamed = bool(stream.partial.text)
    either = await client.chat.completions.create("Hi", model="hinow/himax", stream=is_streamed)
    assert_type(either, ChatCompletion | ChatStream)
    async with client.chat.completions.create_many(["Hi"], model="hinow/himax", save_to="out") as outcomes:
        async for outcome in outcomes:
            assert_type(outcome, ChatOutcome)
            assert_type(outcome.saved, tuple[SavedImage, ...])
            assert_type(outcome.unwrap(), ChatCompletion)


async def account(client: AsyncHinow) -> None:
    """Catalogue, balance, numbers, views, lifetime."""
    assert_type(await client.models.list(), tuple[Model, ...])
    model = await client.models.retrieve("hinow/himax")
    assert_type(model.cost.total if model.cost else None, float | None)
    assert_type(await client.balance(account="a", timeout=None), Balance)
    stats = client.stats()
    assert_type(stats, ClientStats)
    assert_type(stats.accounts["a"], AccountStats)
    async with client.with_options(timeout=None, retry=RetryPolicy(attempts=1)) as view:
        assert_type(view, AsyncHinow)
    await client.aclose()


def without_await() -> None:
    """The synchronous door, with twins of its own."""
    with Hinow(limits=Limits(max_in_flight=8), timeout=60, hooks=[Watching()]) as client:
        result = client.images.generate("A lighthouse", num_images=2, quality="low", timeout=5)
        assert_type(result, sync.ImageResult)
        assert_type(result.images, tuple[sync.GeneratedImage, ...])
        assert_type(result.call, CallRecord)
        assert_type(result.save("out", name="lighthouse"), tuple[SavedImage, ...])
        assert_type(result.images[0].read(), bytes)
        assert_type(result.images[0].stream(), Iterator[bytes])
        assert_type(client.images.save(result, Path("out")), tuple[SavedImage, ...])
        with client.images.generate_many(["One", ImageRequest("Two")], save_to="out") as outcomes:
            for outcome in outcomes:
                assert_type(outcome, sync.ImageOutcome)
                assert_type(outcome.unwrap(), sync.ImageResult)
            outcomes.stop()
        assert_type(client.models.list(), tuple[Model, ...])
        assert_type(client.balance(), Balance)
        assert_type(client.stats(), ClientStats)
        assert_type(client.with_options(timeout=None), Hinow)
    client.close()


def chats_without_await(client: Hinow) -> None:
    """Whole, streamed, many."""
    reply = client.chat.completions.create("Hi", model="hinow/himax", temperature=0.5)
    assert_type(reply, sync.ChatCompletion)
    assert_type(reply.save("out"), tuple[SavedImage, ...])
    with client.chat.completions.stream("Hi", model="hinow/himax") as stream:
        assert_type(stream, sync.ChatStream)
        assert_type(stream.text, Iterator[str])
        for chunk in stream:
            assert_type(chunk, ChatCompletionChunk)
        assert_type(stream.completion(), sync.ChatCompletion)
    opened = client.chat.completions.create("Hi", model="hinow/himax", stream=True)
    assert_type(opened, sync.ChatStream)
    with client.chat.completions.create_many(["Hi"], model="hinow/himax") as outcomes:
        assert_type(next(outcomes), sync.ChatOutcome)


def failures_without_await(client: Hinow) -> None:
    """What a stream had brought can be used as it is."""
    try:
        client.chat.completions.create("Hi", model="hinow/himax")
    except APIError as error:
        partial: sync.ChatCompletion | None = error.partial
        if partial is not None:
            assert_type(partial.text, str)
            assert_type(partial.save("out"), tuple[SavedImage, ...])
        assert_type([picture.path for picture in error.partial.save("out")], list[Any])


async def failures(client: AsyncHinow) -> None:
    """What a handler may read."""
    try:
        await client.images.generate("A lighthouse")
    except APIStatusError as error:
        assert_type(error.status, int)
        assert_type(error.code, str | None)
        assert_type(error.retry_after, float | None)
    except APIResponseError as error:
        assert_type(error.raw, bytes)
    except APIError as error:
        assert_type(error.outcome, Literal["not_sent", "refused", "unknown"])
        assert_type(error.call, CallRecord | None)
        partial: ChatCompletion | None = error.partial
        assert_type(partial.text if partial else "", str)
    except BudgetExceededError as error:
        assert_type(error.left, Decimal)
    except DownloadError as error:
        assert_type(error.url, str | None)
    except SourceError as error:
        assert_type(error.line, int | None)
    except HinowError as error:
        assert_type(str(error), str)


async def sandboxed() -> None:
    """Tests of users."""
    behaviour = Behaviour(latency=1.0, max_in_flight=40, faults=[Fault(status=503, every=10)])
    async with Sandbox(behaviour) as sandbox:
        async with AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key) as client:
            assert_type(client, AsyncHinow)
        assert_type(sandbox.billing.images, int)
    with Sandbox.in_thread() as threaded:
        assert_type(threaded, Sandbox)
