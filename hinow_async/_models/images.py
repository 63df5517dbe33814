"""Images: the request, the answer, the picture, the file."""

from __future__ import annotations

import base64
import binascii
import io
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import attrs

from hinow_async._errors import ConfigurationError, HinowError, IntegrityError
from hinow_async._figures import paragraph
from hinow_async._files import open_plain
from hinow_async._markup import output
from hinow_async._models.display import grid, saved_of
from hinow_async._models.known import (
    KNOWN_MODELS,
    PINNED_MODEL,
    AspectRatio,
    Choices,
    OutputFormat,
    Quality,
    Resolution,
)

if TYPE_CHECKING:
    import os

    from hinow_async._models.calls import CallRecord
    from hinow_async._models.chat import ChatCompletion
    from hinow_async._models.comparison import ImageComparison

OnProgress = Callable[[int, int | None], None]
"""Told bytes done and, where it is known, bytes in all."""

ImageFormat = Literal["png", "jpeg", "webp"]

MOST_IMAGES = 1000
"""Pictures of one request, and of one answer, whatever the model; the contract's own draw 10."""

PARAMETERS = ("quality", "aspect_ratio", "resolution", "output_format", "num_images")
"""The fields of `ImageRequest` that travel in `parameters` (contract, POST /v1/images)."""


def check_model(model: object) -> None:
    """Refuse a model id that could not stand in a path: empty, `.` and `..` segments."""
    if not isinstance(model, str) or any(part.strip() in {"", ".", ".."} for part in model.split("/")):
        raise ValueError(
            f"model must be an id such as {PINNED_MODEL!r}, without empty, '.' or '..' segments,"
            f" not {model!r}"
        )


def check_extra(extra: object, taken: Sequence[str]) -> None:
    """Refuse extra fields that are no mapping, or that repeat a field of the request."""
    if not isinstance(extra, Mapping) or not all(isinstance(key, str) for key in extra):
        raise ValueError(f"extra must be a mapping with string keys, not {extra!r}")
    for name in taken:
        if name in extra:
            raise ValueError(f"extra may not repeat {name!r}: set the request's own field")


def _check_prompt(prompt: object) -> None:
    if not isinstance(prompt, str):
        raise ValueError(f"prompt must be a string, not {type(prompt).__name__}")
    if not prompt.strip():
        raise ValueError("prompt is empty: say what the picture should show")


def _check_choice(name: str, value: object, model: str, choices: Choices | None) -> None:
    allowed = choices.fields[name] if choices else None
    if allowed is None and isinstance(value, str) and value:
        return
    if allowed is None or value not in allowed:
        options = ", ".join(allowed) if allowed else "a non-empty string"
        raise ValueError(f"{name} must be one of {options} for {model}, not {value!r}")


def _check_num_images(value: object, model: str, choices: Choices | None) -> None:
    most = choices.max_images if choices else MOST_IMAGES
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return
    shown = _short(value) if isinstance(value, int) and value > most else repr(value)
    raise ValueError(f"num_images must be a whole number from 1 to {most} for {model}, not {shown}")


def _check_weight(extra: Mapping[str, Any]) -> None:
    """Refuse an `n` that no service takes: limits and budgets reckon with it."""
    n = extra.get("n")
    if isinstance(n, int) and n > MOST_IMAGES:
        raise ValueError(f"extra: n must be at most {MOST_IMAGES}, not {_short(n)}")


def _short(number: int) -> str:
    return str(number) if number < 10**20 else "a number of more than 20 digits"


def _plain_dict(value: Any) -> Any:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else value


@attrs.frozen
class ImageRequest:
    """One prompt and how to draw it; whatever is None is left to the service.

    For a known model an impossible value is a `ValueError` that names the field, the value and the
    possible ones. Other models' parameters travel in *extra*.
    """

    prompt: str
    """What the picture should show."""
    model: str = attrs.field(default=PINNED_MODEL, kw_only=True)
    """The model's id with its namespace; the pinned snapshot by default."""
    quality: Quality | None = attrs.field(default=None, kw_only=True)
    aspect_ratio: AspectRatio | None = attrs.field(default=None, kw_only=True)
    resolution: Resolution | None = attrs.field(default=None, kw_only=True)
    """Long edge of about 1280 (1k), 2048 (2k) or 3840 (4k, experimental) pixels."""
    output_format: OutputFormat | None = attrs.field(default=None, kw_only=True)
    num_images: int | None = attrs.field(default=None, kw_only=True)
    """1 to 10 for the known models."""
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=_plain_dict, kw_only=True, hash=False)
    """Parameters that this library does not know, sent untouched inside `parameters`."""

    def __attrs_post_init__(self) -> None:
        # One pass instead of a validator per field: this runs once per call, in the CPU budget.
        _check_prompt(self.prompt)
        if self.model is not PINNED_MODEL:
            check_model(self.model)
        choices = KNOWN_MODELS.get(self.model)
        if self.quality is not None:
            _check_choice("quality", self.quality, self.model, choices)
        if self.aspect_ratio is not None:
            _check_choice("aspect_ratio", self.aspect_ratio, self.model, choices)
        if self.resolution is not None:
            _check_choice("resolution", self.resolution, self.model, choices)
        if self.output_format is not None:
            _check_choice("output_format", self.output_format, self.model, choices)
        if self.num_images is not None:
            _check_num_images(self.num_images, self.model, choices)
        if self.extra != {}:
            check_extra(self.extra, ("prompt", "model", *PARAMETERS))
            _check_weight(self.extra)

    @property
    def images_asked(self) -> int:
        """What the request weighs: `num_images`, else an integer `n` in *extra*, else 1."""
        if self.num_images is not None:
            return self.num_images
        n = self.extra.get("n", 1)
        return n if isinstance(n, int) and not isinstance(n, bool) and n >= 1 else 1


class ImageDoor(Protocol):
    """What a value asks of the client that made it."""

    async def save(
        self,
        result: ImageResult | ChatCompletion,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write the pictures of *result* into *directory*."""

    async def save_comparison(
        self,
        comparison: ImageComparison,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> ImageComparison:
        """Write the pictures of all cells of *comparison* into *directory*."""

    async def read(self, image: GeneratedImage) -> bytes:
        """Return the picture's bytes, checked."""

    def stream(self, image: GeneratedImage) -> AsyncIterator[bytes]:
        """Yield the picture's bytes in blocks, as they come."""


class Clientless:
    """Pickling for values that refer to their client: the reference stays behind."""

    __slots__ = ()

    def __getstate__(self) -> dict[str, Any]:
        fields = attrs.fields(type(self))  # type: ignore[arg-type]
        return {item.name: getattr(self, item.name) for item in fields if item.name != "_door"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {**state, "_door": None}.items():
            object.__setattr__(self, name, value)


def door_of(value: Any, instead: str) -> ImageDoor:
    """Return what *value* asks of its client.

    Raises:
        ConfigurationError: it has none; the message names what to use *instead*.
    """
    if value._door is None:
        raise ConfigurationError(f"this value has no client (it was pickled or made by hand): use {instead}")
    return value._door  # type: ignore[no-any-return]


@attrs.frozen(getstate_setstate=False)
class GeneratedImage(Clientless):
    """One picture of an answer: a *url* to fetch it from, or its *data*."""

    url: str | None = attrs.field(default=None, repr=False)
    """Where to fetch it from; None where the picture came inline. It may be signed: treat it as a secret."""
    _data: bytes | None = attrs.field(default=None, repr=False)
    index: int = 0
    """Its place in the answer, from 0."""
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False, kw_only=True, hash=False)
    """Fields of the answer that this library does not know."""
    encoded: str | None = attrs.field(default=None, repr=False, kw_only=True)
    """The picture as it came inline: base64, or a whole `data:` URI; decoded when it is asked for."""
    _door: ImageDoor | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)

    @property
    def data(self) -> bytes | None:
        """The bytes of a picture that came inline, None of one with a *url*.

        Raises:
            IntegrityError: what came is not base64; the raw text is in *encoded*.
        """
        if self._data is not None or self.encoded is None:
            return self._data
        return decode_inline(self.encoded)

    async def read(self) -> bytes:
        """Fetch the picture into memory, checked to be whole.

        Raises:
            DownloadError: it could not be fetched, or is no whole picture.
        """
        return await door_of(self, "client.images.read(image)").read(self)

    def stream(self) -> AsyncIterator[bytes]:
        """Yield the picture in blocks of bytes as they come; the end is checked before the last one."""
        return door_of(self, "client.images.stream(image)").stream(self)

    @property
    def _caption(self) -> str:
        return f"picture {self.index}, not saved"

    @property
    def _media_type(self) -> None:
        """Nobody has looked at what came: its bytes are never shown as they are."""

    def _open(self) -> IO[bytes]:
        return io.BytesIO(self.data or b"")

    def _repr_html_(self) -> str:
        """Show it in a notebook, if it came inline; nothing is fetched."""
        return output(not_saved([self], ""))


def decode_inline(text: str) -> bytes:
    """Decode base64, or a `data:` URI (RFC 2397) with base64 or percent-encoding.

    Raises:
        IntegrityError: *text* is neither.
    """
    try:
        if not text[:5].lower().startswith("data:"):
            return base64.b64decode(text, validate=True)
        head, comma, body = text[5:].partition(",")
        if not comma:
            raise ValueError("no comma")
        if head.lower().rstrip().endswith(";base64"):
            return base64.b64decode(urllib.parse.unquote(body), validate=True)
        return urllib.parse.unquote_to_bytes(body)
    except (binascii.Error, ValueError) as error:
        raise IntegrityError(
            "the picture came inline but is not valid base64; it was paid for: its text is in `.encoded`"
        ) from error


@attrs.frozen(getstate_setstate=False)
class ImageResult(Clientless):
    """The answer to one request: paid for, and not yet on disk."""

    request: ImageRequest
    images: tuple[GeneratedImage, ...]
    """In the order of the answer; may be fewer or more than asked for."""
    model: str | None
    """The model that the service says it used."""
    provider: str | None
    call: CallRecord = attrs.field(eq=False)
    """What the call did."""
    extra: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True, hash=False)
    """Unknown fields of the data and of its envelope."""
    _door: ImageDoor | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)

    async def save(
        self,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write every picture to `<name>-<index>.<ext>` in *directory*, streamed, verified, atomically.

        Without a *name*, a slug of the prompt and 8 hex digits of the request's fingerprint stand for it.
        An occupied name is never overwritten (unless *overwrite*): the same bytes are adopted, else `-2`,
        `-3`, ... is added. All pictures are tried before an error is raised.

        Args:
            directory: Made if it is not there.
            name: Begins the names of the files.
            overwrite: Replace what has the name.
            on_progress: Told the bytes that are there and how many there will be, None where not all
                lengths are known, over all pictures. It must not wait. In a notebook, what takes long
                is shown without it.

        Raises:
            DownloadError: the first picture that could not be kept; `.saved` holds the others.
            OSError: the folder cannot be written to.
        """
        door = door_of(self, "client.images.save(result, directory)")
        return await door.save(self, directory, name=name, overwrite=overwrite, on_progress=on_progress)

    def _repr_html_(self) -> str:
        """Show in a notebook what was saved or came inline; nothing is fetched, for its URLs are secrets."""
        count = len(self.images)
        bold = f"{count} image{'' if count == 1 else 's'} of {self.model}"
        saved = saved_of(self)
        shown = grid(saved, self.request.prompt)
        there = {picture.index for picture in saved}
        left = [image for image in self.images if image.index not in there]
        return output(paragraph(bold, self.request.prompt) + shown + not_saved(left, self.request.prompt))


def not_saved(images: Sequence[GeneratedImage], about: str, name: str = "result") -> str:
    """Return those that came inline side by side, and how to have the others of *name*."""
    inline = [image for image in images if image.url is None]
    if len(inline) == len(images):
        return grid(inline, about)
    hint = "<p>{:,} not fetched yet: <code>await {}.save(&quot;out&quot;)</code> puts them on disk</p>"
    return grid(inline, about) + hint.format(len(images) - len(inline), name)


@attrs.frozen
class SavedImage:
    """A picture on disk: whole, verified, durable."""

    path: Path
    index: int
    """The picture's place in its answer, from 0."""
    sha256: str
    """Of the file's bytes, 64 hex digits."""
    size_bytes: int
    format: ImageFormat
    """The picture's true format, whatever was asked for."""
    width: int
    """Pixels, as the file's header says."""
    height: int

    @property
    def _caption(self) -> str:
        return f"{self.path} ({self.width} x {self.height} {self.format}, {self.size_bytes:,} bytes)"

    @property
    def _media_type(self) -> str:
        return f"image/{self.format}"

    def _open(self) -> IO[bytes]:
        return open_plain(self.path)

    def _repr_html_(self) -> str:
        """Show it in a notebook, made small."""
        return output(grid([self]))


class SavedImages(tuple[SavedImage, ...]):
    """What `save` returns: a tuple, which a notebook shows as pictures side by side."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return output(grid(self))


R = TypeVar("R")


def unwrapped(result: R | None, error: Exception | None) -> R:
    """Return what an outcome brought, or raise its error."""
    if error is not None:
        raise error
    if result is None:  # made by hand: outcomes of ours always have one of the two
        raise ConfigurationError("this outcome has neither a result nor an error")
    return result


@attrs.frozen(kw_only=True)
class ImageOutcome:
    """What became of one request of `generate_many`; it may carry *result*, *saved* and *error* together."""

    index: int
    """The request's position in the source, from 0."""
    request: ImageRequest
    result: ImageResult | None = None
    saved: tuple[SavedImage, ...] = ()
    """The files, where `save_to` was given."""
    error: HinowError | OSError | ValueError | None = None

    def unwrap(self) -> ImageResult:
        """Return the result, or raise the error."""
        return unwrapped(self.result, self.error)

    def _repr_html_(self) -> str:
        """Show it in a notebook: its pictures, or what went wrong."""
        shown = paragraph(f"#{self.index}", self.request.prompt)
        if self.error is not None:
            shown += paragraph(type(self.error).__name__, str(self.error))
        if self.saved or self.result is None:
            return output(shown + grid(self.saved, self.request.prompt))
        return output(shown) + self.result._repr_html_()
