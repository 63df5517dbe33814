# Made by tools/make_sync.py: change what it is made from, and run that again.
"""`Hinow`: the synchronous door, and what its attributes are."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from hinow_async._client import AsyncHinow
from hinow_async._models.account import Balance, Model
from hinow_async._models.calls import CallRecord
from hinow_async._models.chat import ChatCompletionChunk, ChatRequest
from hinow_async._models.images import ImageRequest, OnProgress, SavedImage
from hinow_async._models.known import AspectRatio, OutputFormat, Quality, Resolution
from hinow_async._models.stats import ClientStats
from hinow_async._options import Account, Budget, DownloadPolicy, Limits, Network, RetryPolicy, Timeouts
from hinow_async._resources.account import Models as AsyncModels
from hinow_async._resources.base import UNSET
from hinow_async._resources.chat import Chat as AsyncChat
from hinow_async._resources.chat import ChatOptions, Messages
from hinow_async._resources.chat import Completions as AsyncCompletions
from hinow_async._resources.comparing import Prompts, Variants
from hinow_async._resources.images import Images as AsyncImages
from hinow_async._resources.streams import ChatStream as AsyncChatStream
from hinow_async._resources.streams import OpeningStream as AsyncOpeningStream
from hinow_async._secrets import as_secret
from hinow_async.sync.binding import Door, adapt, twin
from hinow_async.sync.many import Outcomes, pulled
from hinow_async.sync.portal import Portal
from hinow_async.sync.values import (
    ChatCompletion,
    ChatOutcome,
    GeneratedImage,
    ImageComparison,
    ImageOutcome,
    ImageResult,
)


class Images:
    """`client.images`."""

    def __init__(self, portal: Portal, inner: AsyncImages) -> None:
        self._portal = portal
        self._inner = inner

    def generate(
        self,
        prompt: str | ImageRequest,
        *,
        model: str = UNSET,
        quality: Quality | None = UNSET,
        aspect_ratio: AspectRatio | None = UNSET,
        resolution: Resolution | None = UNSET,
        output_format: OutputFormat | None = UNSET,
        num_images: int | None = UNSET,
        extra: Mapping[str, Any] = UNSET,
        timeout: float | None = UNSET,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ImageResult:
        """Have pictures made.

        Args:
            prompt: What to show, or a whole request, whose fields the keywords override.
            model: Id with its namespace; by default the pinned snapshot.
            quality: `low`, `medium` or `high`.
            aspect_ratio: E.g. `16:9`.
            resolution: `1k`, `2k` or `4k`.
            output_format: `png`, `jpeg` or `webp`.
            num_images: 1 to 10.
            extra: Parameters that this library does not know, sent untouched.
            timeout: Seconds for the whole call, queueing and retries included; None: no deadline.
            idempotency_key: Sent with every try; by default a new one for each call.
            headers: Extra headers.

        Returns:
            The answer; `result.save("out")` puts its pictures on disk.

        Raises:
            ValueError: a value is impossible (before anything is sent).
            APIError: the call failed; `.outcome` says whether it may have been billed.
            BudgetExceededError: it could go over the budget; nothing was sent.
        """
        return twin(
            ImageResult,
            self._portal.run(
                lambda: self._inner.generate(
                    prompt,
                    model=model,
                    quality=quality,
                    aspect_ratio=aspect_ratio,
                    resolution=resolution,
                    output_format=output_format,
                    num_images=num_images,
                    extra=extra,
                    timeout=timeout,
                    idempotency_key=idempotency_key,
                    headers=headers,
                )
            ),
            self._portal,
        )

    def generate_many(
        self,
        requests: Iterable[str | ImageRequest],
        *,
        save_to: str | os.PathLike[str] | None = None,
        ordered: bool = False,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Outcomes[ImageOutcome]:
        """Have many requests made, as fast as the limits allow.

        Enter what is returned with `with`, then iterate it with `for`: outcomes come as they
        finish, failures too. Memory is that of the work in flight.

        Args:
            requests: Prompts or requests, from any iterable; pulled no further than the work needs.
            save_to: A folder for the pictures, named `<position, six digits>-<index>.<ext>`. In a notebook,
                progress is then shown.
            ordered: Keep the order of the source.
            timeout: Seconds per item, from its pull; None: no deadline.
            headers: Extra headers.
        """
        source = pulled(requests)
        outcomes = self._inner.generate_many(
            source, save_to=save_to, ordered=ordered, timeout=timeout, headers=headers
        )
        return Outcomes(self._portal, source, outcomes, ImageOutcome)

    def compare(
        self,
        prompts: Prompts,
        variants: Variants,
        *,
        save_to: str | os.PathLike[str] | None = None,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> ImageComparison:
        """Have each prompt drawn by each variant, to see them side by side.

        All calls run at once, as far as limits and budget allow. One that fails, or that the budget refuses,
        is an error in its cell; the others go on. Cancelled, it cancels what is under way: with *save_to*
        the pictures that were there by then are on disk.

        Args:
            prompts: A prompt or an `ImageRequest`, or a sequence of them: the rows.
            variants: Model ids, or labels with a model id or with fields of `ImageRequest`, which replace
                those of the row: the columns. `{"pinned": "openai/gpt-image-2-2026-04-21", "newer, high":
                {"model": "openai/gpt-image-2", "quality": "high"}}`.
            save_to: A folder for the pictures, named `<row, three digits>-<label>-<index>.<ext>`. When the
                disk takes no more, nothing more is sent, and the cells that were not sent say so.
            timeout: Seconds per call, from when it is its turn to be queued; None: no deadline.
            headers: Extra headers.

        Returns:
            The outcomes in their rows and columns: `comparison[0, "pinned"]`.

        Raises:
            ValueError: a prompt, a label or a value is impossible, or there are none, or a label is there
                twice (before anything is sent).
            OSError: the folder cannot be written to (before anything is sent).
        """
        return twin(
            ImageComparison,
            self._portal.run(
                lambda: self._inner.compare(
                    prompts, variants, save_to=save_to, timeout=timeout, headers=headers
                )
            ),
            self._portal,
        )

    def save(
        self,
        result: ImageResult | ChatCompletion,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Save the pictures of a result that lost its client (it was pickled); see `ImageResult.save`."""
        return Door(self._portal, self._inner).save(
            result, directory, name=name, overwrite=overwrite, on_progress=on_progress
        )

    def save_comparison(
        self,
        comparison: ImageComparison,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> ImageComparison:
        """Save the pictures of a comparison that lost its client; see `ImageComparison.save`."""
        return Door(self._portal, self._inner).save_comparison(comparison, directory, on_progress=on_progress)

    def read(self, image: GeneratedImage) -> bytes:
        """Fetch a picture that lost its client into memory; see `GeneratedImage.read`."""
        return Door(self._portal, self._inner).read(image)

    def stream(self, image: GeneratedImage) -> Iterator[bytes]:
        """Yield a picture that lost its client in blocks; see `GeneratedImage.stream`."""
        return Door(self._portal, self._inner).stream(image)


class ChatStream:
    """An answer while it comes: iterate it for chunks, or its `text`; `completion()` is the whole.

    Leaving it closes its connection at once and gives its slot back: by the end of its `with` block
    or by `close()`; outside of such a block also by leaving the iteration, with `break` or an error. What
    was sent stays paid.
    """

    def __init__(self, portal: Portal, inner: AsyncChatStream) -> None:
        self._portal = portal
        self._inner = inner
        portal.tend(inner)

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self._portal.iterate(self._inner.__aiter__)

    @property
    def text(self) -> Iterator[str]:
        """The text of the first choice, piece by piece as it comes.

        Raises:
            APIError: the stream failed; `.partial` of it holds what had come.
        """
        return self._portal.iterate(lambda: self._inner.text)

    def completion(self) -> ChatCompletion:
        """Read what is left, and return the whole answer, put together.

        Raises:
            APIError: the stream failed; `.partial` of it holds what had come.
            ConfigurationError: the stream was left before its end.
        """
        return twin(ChatCompletion, self._portal.run(self._inner.completion), self._portal)

    @property
    def partial(self) -> ChatCompletion:
        """What has come so far, put together."""
        return twin(ChatCompletion, self._portal.ask(lambda: self._inner.partial), self._portal)

    @property
    def call(self) -> CallRecord:
        """What the call has done so far."""
        return self._portal.ask(lambda: self._inner.call)

    def close(self) -> None:
        """Leave the stream: its connection is closed, its slot given back. Any number of times."""
        self._portal.finish(self._inner.aclose)

    def __enter__(self) -> Self:
        self._portal.run(self._inner.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.finish(lambda: self._inner.__aexit__(*_))


class OpeningStream:
    """What `stream` returns: enter it with `with`, which sends the request."""

    def __init__(self, portal: Portal, inner: AsyncOpeningStream) -> None:
        self._portal = portal
        self._inner = inner

    def __enter__(self) -> ChatStream:
        return ChatStream(self._portal, self._portal.run(self._inner.__aenter__))

    def __exit__(self, *exc: object) -> None:
        self._portal.finish(lambda: self._inner.__aexit__(*exc))


class Completions:
    """`client.chat.completions`."""

    def __init__(self, portal: Portal, inner: AsyncCompletions) -> None:
        self._portal = portal
        self._inner = inner

    @overload
    def create(
        self,
        messages: Messages | ChatRequest,
        *,
        stream: Literal[False] = False,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self, messages: Messages | ChatRequest, *, stream: Literal[True], **options: Unpack[ChatOptions]
    ) -> ChatStream: ...

    @overload
    def create(
        self, messages: Messages | ChatRequest, *, stream: bool, **options: Unpack[ChatOptions]
    ) -> ChatCompletion | ChatStream: ...

    def create(
        self,
        messages: Messages | ChatRequest,
        *,
        stream: bool = False,
        model: str = UNSET,
        temperature: float | None = UNSET,
        max_tokens: int | None = UNSET,
        top_p: float | None = UNSET,
        repetition_penalty: float | None = UNSET,
        seed: int | None = UNSET,
        stop: str | Iterable[str] | None = UNSET,
        response_format: Mapping[str, Any] | None = UNSET,
        tools: Iterable[Mapping[str, Any]] | None = UNSET,
        tool_choice: str | Mapping[str, Any] | None = UNSET,
        extra: Mapping[str, Any] = UNSET,
        timeout: float | None = UNSET,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ChatCompletion | ChatStream:
        """Have messages answered, whole, or with *stream* piece by piece.

        Args:
            messages: A prompt, messages, or a whole request, whose fields the keywords override.
            stream: Return a `ChatStream` as soon as the answer begins: `for chunk in ...`.
            model: Id with its namespace, e.g. `hinow/himax`.
            temperature: At least 0.
            max_tokens: The longest answer, in tokens.
            top_p: From 0 to 1.
            repetition_penalty: As the model takes it.
            seed: For answers that can be repeated, where the model can.
            stop: Texts that end the answer.
            response_format: As the protocol has it.
            tools: As the protocol has them.
            tool_choice: As the protocol has it.
            extra: Fields that this library does not know, sent untouched at the root of the body.
            timeout: Seconds for the whole call, queueing, retries and stream included; None: no deadline.
            idempotency_key: Sent with every try; by default a new one for each call.
            headers: Extra headers.

        Raises:
            ValueError: a value is impossible (before anything is sent).
            APIError: the call failed; `.outcome` says whether it may have been billed.
            BudgetExceededError: it could go over the budget; nothing was sent.
        """
        answer = self._portal.run(
            lambda: self._inner.create(
                messages,
                stream=stream,
                model=model,
                temperature=temperature,
                max_tokens=max_tokens,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                stop=stop,
                response_format=response_format,
                tools=tools,
                tool_choice=tool_choice,
                extra=extra,
                timeout=timeout,
                idempotency_key=idempotency_key,
                headers=headers,
            )
        )
        if isinstance(answer, AsyncChatStream):
            return ChatStream(self._portal, answer)
        return twin(ChatCompletion, answer, self._portal)

    def stream(self, messages: Messages | ChatRequest, **options: Unpack[ChatOptions]) -> OpeningStream:
        """Have messages answered piece by piece: `with ...stream(...) as stream`.

        The request is sent on entering, and `stream` is then a `ChatStream`. Arguments, and what is raised
        on entering, are those of `create`.
        """
        return OpeningStream(self._portal, self._portal.ask(lambda: self._inner.stream(messages, **options)))

    def create_many(
        self,
        requests: Iterable[Messages | ChatRequest],
        *,
        model: str = UNSET,
        save_to: str | os.PathLike[str] | None = None,
        ordered: bool = False,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Outcomes[ChatOutcome]:
        """Have many chats answered, as fast as the limits allow.

        Enter what is returned with `with`, then iterate it with `for`: outcomes come as they
        finish, failures too. Memory is that of the work in flight.

        Args:
            requests: Requests, or with *model* also prompts or messages, from any iterable; pulled no
                further than the work needs.
            model: Id with its namespace, for all that name none.
            save_to: A folder for the pictures of the answers, named `<position, six digits>-<index>.<ext>`.
                In a notebook, progress is then shown.
            ordered: Keep the order of the source.
            timeout: Seconds per item, from its pull; None: no deadline.
            headers: Extra headers.
        """
        source = pulled(requests)
        outcomes = self._inner.create_many(
            source, model=model, save_to=save_to, ordered=ordered, timeout=timeout, headers=headers
        )
        return Outcomes(self._portal, source, outcomes, ChatOutcome)


class Chat:
    """`client.chat`."""

    def __init__(self, portal: Portal, inner: AsyncChat) -> None:
        self._portal = portal
        self._inner = inner
        self.completions = Completions(portal, inner.completions)
        """`client.chat.completions`."""


class Models:
    """`client.models`."""

    def __init__(self, portal: Portal, inner: AsyncModels) -> None:
        self._portal = portal
        self._inner = inner

    def list(
        self, *, timeout: float | None = UNSET, headers: Mapping[str, str] | None = None
    ) -> tuple[Model, ...]:
        """Fetch the catalogue; its prices are used for estimates from then on.

        Raises:
            APIError: no usable answer came. Nothing is ever billed.
        """
        return self._portal.run(lambda: self._inner.list(timeout=timeout, headers=headers))

    def retrieve(
        self, model: str, *, timeout: float | None = UNSET, headers: Mapping[str, str] | None = None
    ) -> Model:
        """Fetch one model of the catalogue.

        Raises:
            NotFoundError: there is no such model.
            APIError: no usable answer came. Nothing is ever billed.
            ValueError: *model* is no id.
        """
        return self._portal.run(lambda: self._inner.retrieve(model, timeout=timeout, headers=headers))


class Hinow:
    """The HInow.ai service without `await`, for scripts and the REPL; the same interface as `AsyncHinow`.

    Use it with `with`, or close it with `client.close()`. Its calls run in an event loop of their own, in a
    background thread, so it also works where a loop is running already, as in a notebook. It may be used by
    any number of threads at once; limits and budget hold over all of them. Ctrl-C cancels the call that
    is waited for, and the client stays usable. Hooks and progress callbacks run in the background thread. A
    forked child begins anew with the same settings.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        accounts: Sequence[Account] | None = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        downloads: DownloadPolicy | None = None,
        network: Network | None = None,
        hooks: Iterable[Any] = (),
    ) -> None:
        """Make a client; nothing is sent and no connection opened.

        Args:
            api_key: The key (`hi_...`); None: the environment's `HINOW_API_KEY`.
            base_url: Root of the API, with or without `/v1`; None: `HINOW_BASE_URL`, else HInow's own.
            accounts: Several accounts instead of one key, served from one queue.
            limits: Per account: what may be asked at once and per minute.
            retry: How failed calls are tried again.
            timeouts: Limits on waiting for the network, in seconds.
            timeout: Deadline of every call in seconds, unless the call names its own; None: none.
            budget: The most this client may spend, in US dollars.
            downloads: How pictures are fetched.
            network: Proxy, TLS, local address, extra headers.
            hooks: Objects with any of `call_started`, `attempt_ended`, `call_ended`.

        Raises:
            ConfigurationError: no key, or options that cannot be.
        """
        key: Any = None if api_key is None else as_secret(api_key)
        del api_key  # a traceback that shows locals must not show it
        inner = AsyncHinow(
            api_key=key,
            base_url=base_url,
            accounts=accounts,
            limits=limits,
            retry=retry,
            timeouts=timeouts,
            timeout=timeout,
            budget=budget,
            downloads=downloads,
            network=network,
            hooks=hooks,
        )
        self._is_view = False
        self._portal = Portal(inner.aclose, adapt)
        self._inner = inner

    @functools.cached_property
    def images(self) -> Images:
        """`generate`, `generate_many`."""
        return Images(self._portal, self._inner.images)

    @functools.cached_property
    def chat(self) -> Chat:
        """`completions.create`, `completions.stream`, `completions.create_many`."""
        return Chat(self._portal, self._inner.chat)

    @functools.cached_property
    def models(self) -> Models:
        """`list`, `retrieve`."""
        return Models(self._portal, self._inner.models)

    def with_options(self, *, timeout: float | None = UNSET, retry: RetryPolicy | None = None) -> Hinow:
        """Return a view of this client with another deadline or retry policy, that shares everything else.

        Closing is left to the client itself: closing a view does nothing.
        """
        view = object.__new__(type(self))
        view._is_view = True
        view._portal = self._portal
        view._inner = self._inner.with_options(timeout=timeout, retry=retry)
        return view

    def balance(
        self,
        *,
        account: str | None = None,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Balance:
        """Fetch what is left on an account, in US dollars.

        Args:
            account: Its name; None: the first.
            timeout: Seconds; None: no deadline.
            headers: Extra headers.

        Raises:
            APIError: no usable answer came. Nothing is ever billed.
            ValueError: there is no such account.
        """
        return self._portal.run(
            lambda: self._inner.balance(account=account, timeout=timeout, headers=headers)
        )

    def stats(self) -> ClientStats:
        """Return the client's numbers now, as a snapshot that does not change."""
        return self._portal.ask(self._inner.stats)

    def close(self) -> None:
        """Close every connection. Calls made afterwards are a `ConfigurationError`. Closing twice is fine."""
        if not self._is_view:
            self._portal.close()

    def __enter__(self) -> Self:
        self._portal.run(self._inner.__aenter__)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_inner"):
            return f"<{type(self).__name__}, not made>"  # shown by its own traceback
        name = type(self._inner).__name__
        return repr(self._inner).replace(name, type(self).__name__, 1)
