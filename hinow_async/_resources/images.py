"""Images: `generate`, `generate_many`, and what their results ask of the client."""

from __future__ import annotations

import functools
import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import attrs

from hinow_async._call import Call, CallOptions, Plan
from hinow_async._errors import DownloadError
from hinow_async._figures import MOST
from hinow_async._files import writable_folder
from hinow_async._models.display import make_small, remember
from hinow_async._models.images import (
    PARAMETERS,
    GeneratedImage,
    ImageOutcome,
    ImageRequest,
    ImageResult,
    OnProgress,
    SavedImage,
    SavedImages,
)
from hinow_async._models.known import (
    PINNED_MODEL,
    AspectRatio,
    OutputFormat,
    Quality,
    Resolution,
)
from hinow_async._notebook import is_notebook, saving_bar
from hinow_async._pool import Sizes
from hinow_async._protocol import json, wire
from hinow_async._protocol.names import file_stem, safe_name
from hinow_async._protocol.urls import Origin
from hinow_async._protocol.wire import ImageAnswer
from hinow_async._resources.base import (
    UNSET,
    CallDefaults,
    Runtime,
    call_options,
)

if TYPE_CHECKING:
    from hinow_async._models.chat import ChatCompletion
    from hinow_async._models.comparison import ImageComparison
    from hinow_async._resources.comparing import Comparing, Prompts, Variants
    from hinow_async._resources.many import Outcomes

SIZES = Sizes(of_success=512 * 2**20, of_error=64 * 2**20)
"""Pictures may come inline, as base64."""


class Door:
    """What results hold on to: saving and reading pictures, and nothing that could send a request."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def save(
        self,
        result: ImageResult | ChatCompletion,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write every picture of *result*, side by side; see `ImageResult.save`."""
        await self._runtime.enter()
        folder, stem = await anyio.to_thread.run_sync(_place, result, directory, name)
        return await self.keep(
            result,
            folder,
            stem,
            overwrite=overwrite,
            on_progress=on_progress or saving_bar(),
            small=MOST if is_notebook() else 0,
        )

    async def keep(
        self,
        result: ImageResult | ChatCompletion,
        folder: Path,
        stem: str,
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
        small: int = 0,
    ) -> SavedImages:
        """Write every picture into a folder that is there; make so many of them *small*, to be shown."""
        save = functools.partial(
            self._runtime.downloader.save,
            directory=folder,
            stem=stem,
            exempt=self._exempt(result.call.account if result.call is not None else None),
            overwrite=overwrite,
            asked=getattr(result.request, "output_format", None),
        )
        meter = _Meter(len(result.images), on_progress)

        async def one(image: GeneratedImage) -> SavedImage:
            saved = await save(image, on_progress=meter.of(image.index))
            if image.index < small:
                await anyio.to_thread.run_sync(make_small, saved)
            return saved

        done = await _side_by_side([functools.partial(one, image) for image in result.images])
        kept = SavedImages(item for item in done if isinstance(item, SavedImage))
        if is_notebook():
            remember(result, kept)
        for item in done:
            if isinstance(item, DownloadError):
                item.saved = kept
            if isinstance(item, BaseException):
                raise item
        return kept

    async def save_comparison(
        self,
        comparison: ImageComparison,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> ImageComparison:
        """Write the pictures of all cells, side by side; see `ImageComparison.save`."""
        from hinow_async._resources.comparing import save_comparison  # noqa: PLC0415 - few processes compare

        await self._runtime.enter()
        cells = sum(outcome.result is not None for outcome in comparison.outcomes)
        return await save_comparison(
            self, comparison, directory, _Meter(cells, on_progress or saving_bar()).of
        )

    async def read(self, image: GeneratedImage) -> bytes:
        """Fetch one picture into memory, checked."""
        await self._runtime.enter()
        return await self._runtime.downloader.read(image, exempt=self._exempt(None))

    async def stream(self, image: GeneratedImage) -> AsyncIterator[bytes]:
        """Yield one picture in blocks."""
        await self._runtime.enter()
        async for block in self._runtime.downloader.stream(image, exempt=self._exempt(None)):
            yield block

    def _exempt(self, account: str | None) -> frozenset[Origin]:
        """Return the origins that need not be public: that of the account that answered."""
        origins = self._runtime.origins
        if account is not None and account in origins:
            return frozenset({origins[account]})
        return frozenset(origins.values())


async def _side_by_side(saves: Sequence[Callable[[], Awaitable[SavedImage]]]) -> list[SavedImage | Exception]:
    """Run all to their ends; return results and errors in order. Cancelled, it leaves nothing running."""
    done: dict[int, SavedImage | Exception] = {}

    async def run(index: int) -> None:
        try:
            done[index] = await saves[index]()
        except Exception as error:
            done[index] = error

    async with anyio.create_task_group() as tasks:
        for index in range(len(saves)):
            tasks.start_soon(run, index)
    return [done[index] for index in range(len(saves))]


class _Meter:
    """Adds up how far the pictures of one result are."""

    def __init__(self, pictures: int, report: OnProgress | None) -> None:
        self._pictures = pictures
        self._report = report
        self._seen: dict[int, tuple[int, int | None]] = {}

    def of(self, index: int) -> OnProgress | None:
        """Return what the download of one picture reports to."""
        return None if self._report is None else functools.partial(self._note, index)

    def _note(self, index: int, done: int, total: int | None) -> None:
        self._seen[index] = done, total
        totals = [total for _, total in self._seen.values() if total is not None]
        is_known = len(totals) == self._pictures
        assert self._report is not None  # noqa: S101 - else nothing reports to this
        self._report(sum(done for done, _ in self._seen.values()), sum(totals) if is_known else None)


def _place(
    result: ImageResult | ChatCompletion, directory: str | os.PathLike[str], name: str | None
) -> tuple[Path, str]:
    return writable_folder(directory), _stem(result, name)


def _stem(result: ImageResult | ChatCompletion, name: str | None) -> str:
    """Begin the names of files: as it was asked for, else by what was said and a fingerprint of it all."""
    if name is not None:
        return safe_name(name)
    request = result.request
    if isinstance(request, ImageRequest):
        return file_stem(request.prompt, wire.image_fingerprint(request))
    if request is None:  # made by hand
        return safe_name("chat")
    from hinow_async._protocol.chat_wire import chat_request_to_wire  # noqa: PLC0415 - loaded with chats

    return file_stem(request.prompt, wire.fingerprint(chat_request_to_wire(request)))


class Images:
    """`client.images`."""

    def __init__(self, runtime: Runtime, defaults: CallDefaults) -> None:
        self._runtime = runtime
        self._defaults = defaults
        self._door = Door(runtime)
        self._decode = functools.partial(wire.image_answer, door=self._door)

    async def generate(
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
            The answer; `await result.save("out")` puts its pictures on disk.

        Raises:
            ValueError: a value is impossible (before anything is sent).
            APIError: the call failed; `.outcome` says whether it may have been billed.
            BudgetExceededError: it could go over the budget; nothing was sent.
        """
        if isinstance(prompt, ImageRequest):
            request = _overridden(
                prompt, model, quality, aspect_ratio, resolution, output_format, num_images, extra
            )
        else:
            request = ImageRequest(
                prompt,
                model=PINNED_MODEL if model is UNSET else model,
                quality=None if quality is UNSET else quality,
                aspect_ratio=None if aspect_ratio is UNSET else aspect_ratio,
                resolution=None if resolution is UNSET else resolution,
                output_format=None if output_format is UNSET else output_format,
                num_images=None if num_images is UNSET else num_images,
                extra=None if extra is UNSET else extra,
            )
        options = call_options(self._defaults, timeout, idempotency_key, headers)
        return await self.run(request, options)

    async def run(self, request: ImageRequest, options: CallOptions) -> ImageResult:
        """Make the call of a checked request (what batches build on)."""
        if not self._runtime.is_ready:
            await self._runtime.enter()
        engine = self._runtime.engine
        plan = image_plan(request, self._decode)
        if engine.purse.needs_catalogue(request):
            options = await self._runtime.learn_prices(request, options)
        answer, record = await Call(engine, plan, options).run()
        return ImageResult(
            request,
            answer.images,
            answer.model,
            answer.provider,
            record,
            extra=answer.extra,
            door=self._door,
        )

    def generate_many(
        self,
        requests: Iterable[str | ImageRequest] | AsyncIterable[str | ImageRequest],
        *,
        save_to: str | os.PathLike[str] | None = None,
        ordered: bool = False,
        timeout: float | None = UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Outcomes[ImageOutcome]:
        """Have many requests made, as fast as the limits allow.

        Enter what is returned with `async with`, then iterate it with `async for`: outcomes come as they
        finish, failures too. Memory is that of the work in flight.

        Args:
            requests: Prompts or requests, from any iterable; pulled no further than the work needs.
            save_to: A folder for the pictures, named `<position, six digits>-<index>.<ext>`. In a notebook,
                progress is then shown.
            ordered: Keep the order of the source.
            timeout: Seconds per item, from its pull; None: no deadline.
            headers: Extra headers.
        """
        from hinow_async._resources.outcomes import (  # noqa: PLC0415 - not for a single picture
            Keeper,
            OutcomeMaker,
            outcomes,
        )

        keeper = Keeper(self._door, save_to)
        maker = OutcomeMaker(self.run, keeper, call_options(self._defaults, timeout, None, headers))
        return outcomes(
            self._runtime,
            requests,
            maker.make,
            keeper,
            ordered=ordered,
            name="client.images.generate_many",
        )

    async def compare(
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
        comparing = self.comparing(prompts, variants, save_to=save_to, timeout=timeout, headers=headers)
        return await comparing.run()

    def comparing(
        self,
        prompts: Prompts,
        variants: Variants,
        *,
        save_to: Any = None,
        timeout: Any = UNSET,
        headers: Any = None,
    ) -> Comparing:
        """Prepare a comparison that can be watched and stopped (what the command line builds on)."""
        from hinow_async._resources.comparing import Comparing, grid  # noqa: PLC0415 - few processes compare

        options = call_options(self._defaults, timeout, None, headers)
        wanted = grid(prompts, variants)
        return Comparing(wanted, self.run, options, runtime=self._runtime, door=self._door, save_to=save_to)

    async def save(
        self,
        result: ImageResult | ChatCompletion,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Save the pictures of a result that lost its client (it was pickled); see `ImageResult.save`."""
        return await self._door.save(
            result, directory, name=name, overwrite=overwrite, on_progress=on_progress
        )

    async def save_comparison(
        self,
        comparison: ImageComparison,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> ImageComparison:
        """Save the pictures of a comparison that lost its client; see `ImageComparison.save`."""
        return await self._door.save_comparison(comparison, directory, on_progress=on_progress)

    async def read(self, image: GeneratedImage) -> bytes:
        """Fetch a picture that lost its client into memory; see `GeneratedImage.read`."""
        return await self._door.read(image)

    def stream(self, image: GeneratedImage) -> AsyncIterator[bytes]:
        """Yield a picture that lost its client in blocks; see `GeneratedImage.stream`."""
        return self._door.stream(image)


_NAMES = ("model", *PARAMETERS, "extra")


def _overridden(request: ImageRequest, *values: Any) -> ImageRequest:
    given = {name: value for name, value in zip(_NAMES, values, strict=True) if value is not UNSET}
    return attrs.evolve(request, **given) if given else request


def image_plan(
    request: ImageRequest, decode: Callable[[Any], ImageAnswer] = wire.image_answer
) -> Plan[ImageAnswer]:
    """Say what is sent for *request*.

    Raises:
        ValueError: *extra* holds something that is not JSON.
    """
    try:
        body = json.dumps(wire.image_request_to_wire(request))
    except ValueError as error:
        raise ValueError(f"extra: {error}") from None
    return Plan(
        path="/images",
        request=request,
        model=request.model,
        body=body,
        weight=request.images_asked,
        kind=("images", request.model, request.quality, request.resolution, request.num_images),
        decode=decode,
        count=_count,
        sizes=SIZES,
    )


def _count(answer: ImageAnswer) -> int:
    return len(answer.images)
