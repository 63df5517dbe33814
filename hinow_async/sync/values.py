# Made by tools/make_sync.py: change what it is made from, and run that again.
"""Synchronous twins of the values that can ask something of their client."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

import attrs

from hinow_async._errors import ConfigurationError, HinowError
from hinow_async._figures import cut, paragraph
from hinow_async._markup import output, text
from hinow_async._models import chat as async_chat
from hinow_async._models import comparison as async_comparison
from hinow_async._models import images as async_images
from hinow_async._models.calls import CallRecord
from hinow_async._models.chat import _LONGEST_SHOWN, ChatRequest, Choice, Usage
from hinow_async._models.display import grid, saved_of
from hinow_async._models.images import (
    Clientless,
    ImageRequest,
    OnProgress,
    SavedImage,
    decode_inline,
    unwrapped,
)
from hinow_async._models.side_by_side import html_of, table_of, total_usd


class ImageDoor(Protocol):
    """What a value asks of the client that made it."""

    def save(
        self,
        result: ImageResult | ChatCompletion,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write the pictures of *result* into *directory*."""

    def save_comparison(
        self,
        comparison: ImageComparison,
        directory: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> ImageComparison:
        """Write the pictures of all cells of *comparison* into *directory*."""

    def read(self, image: GeneratedImage) -> bytes:
        """Return the picture's bytes, checked."""

    def stream(self, image: GeneratedImage) -> Iterator[bytes]:
        """Yield the picture's bytes in blocks, as they come."""


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

    def read(self) -> bytes:
        """Fetch the picture into memory, checked to be whole.

        Raises:
            DownloadError: it could not be fetched, or is no whole picture.
        """
        return door_of(self, "client.images.read(image)").read(self)

    def stream(self) -> Iterator[bytes]:
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

    def save(
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
        return door.save(self, directory, name=name, overwrite=overwrite, on_progress=on_progress)

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
    hint = "<p>{:,} not fetched yet: <code>{}.save(&quot;out&quot;)</code> puts them on disk</p>"
    return grid(inline, about) + hint.format(len(images) - len(inline), name)


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


@attrs.frozen(kw_only=True, getstate_setstate=False)
class ChatCompletion(Clientless):
    """The whole answer to a chat request."""

    id: str | None
    model: str | None
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None
    object: str | None = None
    images: tuple[GeneratedImage, ...] = attrs.field(default=(), repr=False)
    """Pictures found anywhere in the first choice's message."""
    request: ChatRequest | None = attrs.field(default=None, repr=False)
    call: Any = attrs.field(default=None, eq=False)
    """The `CallRecord` of the call."""
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    _door: ImageDoor | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The text of the first choice; empty where there is none."""
        return self.choices[0].message.text if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended (`stop`, `length`, `tool_calls`, ...); None: it did not say."""
        return self.choices[0].finish_reason if self.choices else None

    def save(
        self,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[SavedImage, ...]:
        """Write every picture of the answer into *directory*; see `ImageResult.save`.

        Raises:
            DownloadError: the first picture that could not be kept; `.saved` holds the others.
            OSError: the folder cannot be written to.
        """
        door = door_of(self, "client.images.save(reply, directory)")
        return door.save(self, directory, name=name, overwrite=overwrite, on_progress=on_progress)

    def _repr_html_(self) -> str:
        """Show it in a notebook: as text, for Markdown of a model may load pictures from anywhere."""
        saved = saved_of(self)
        there = {picture.index for picture in saved}
        left = [image for image in self.images if image.index not in there]
        said = text(cut(self.text, _LONGEST_SHOWN))
        pictures = grid(saved, self.request.prompt if self.request else "") + not_saved(left, "", "reply")
        return output(f'<div style="white-space: pre-wrap">{said}</div>{pictures}')


@attrs.frozen(kw_only=True)
class ChatOutcome:
    """What became of one request of `create_many`; it may carry *result*, *saved* and *error* together."""

    index: int
    """The request's position in the source, from 0."""
    request: ChatRequest
    result: ChatCompletion | None = None
    saved: tuple[SavedImage, ...] = ()
    """The files, where `save_to` was given."""
    error: HinowError | OSError | ValueError | None = None

    def unwrap(self) -> ChatCompletion:
        """Return the result, or raise the error."""
        return unwrapped(self.result, self.error)


@attrs.frozen(kw_only=True, getstate_setstate=False)
class ImageComparison(Clientless):
    """What `compare` returns: a row for each prompt, a column for each variant, an outcome in each cell.

    `comparison[0, "newer"]` is the outcome of the first prompt in the column of that label. It may carry a
    *result*, *saved* files and an *error* together, as those of `generate_many`. In a notebook a comparison
    shows itself as a table of pictures, and `print` writes it as one of words.
    """

    prompts: tuple[str, ...]
    """The rows."""
    labels: tuple[str, ...]
    """The columns: what the variants are called."""
    outcomes: tuple[ImageOutcome, ...]
    """All cells, row by row."""
    _door: ImageDoor | None = attrs.field(default=None, repr=False, eq=False)

    def __getitem__(self, place: tuple[int, str]) -> ImageOutcome:
        """Return the outcome in a cell: its row, from 0, and its label.

        Raises:
            IndexError: there is no such row.
            KeyError: there is no such label.
        """
        if not isinstance(place, tuple) or len(place) != 2:
            raise TypeError(f"a cell is named by row and label, comparison[0, {self.labels[0]!r}]")
        row, label = place
        if label not in self.labels:
            raise KeyError(f"label must be one of {', '.join(map(repr, self.labels))}, not {label!r}")
        first = range(len(self.prompts))[row] * len(self.labels)
        return self.outcomes[first + self.labels.index(label)]

    def rows(self) -> tuple[tuple[str, Mapping[str, ImageOutcome]], ...]:
        """Return each prompt with its outcomes, by their labels."""
        return tuple(
            (prompt, {label: self[row, label] for label in self.labels})
            for row, prompt in enumerate(self.prompts)
        )

    @property
    def saved(self) -> tuple[SavedImage, ...]:
        """The files of all cells, row by row."""
        return tuple(picture for outcome in self.outcomes for picture in outcome.saved)

    @property
    def failed(self) -> tuple[ImageOutcome, ...]:
        """The outcomes with an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    @property
    def estimated_usd(self) -> float | None:
        """What all calls are estimated to have cost, in US dollars; None: of one nobody knows a price."""
        return total_usd(self.outcomes)

    def save(
        self, directory: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> ImageComparison:
        """Write the pictures of all cells to `<row, three digits>-<label>-<index>.<ext>` in *directory*.

        An occupied name is never overwritten: the same bytes are adopted, else `-2`, `-3`, ... is added.

        Args:
            directory: Made if it is not there.
            on_progress: Told the bytes that are there and how many there will be; see `ImageResult.save`.

        Returns:
            The same comparison with its files in `saved`; a cell whose pictures could not be fetched has the
            `DownloadError` in its `error`.

        Raises:
            OSError: the folder cannot be written to.
        """
        door = door_of(self, "client.images.save_comparison(comparison, directory)")
        return door.save_comparison(self, directory, on_progress=on_progress)

    def __str__(self) -> str:
        return table_of(self)

    def _repr_html_(self) -> str:
        """Show it in a notebook; nothing is fetched."""
        return output(html_of(self, 'comparison.save("out")'))


TWINS: dict[type, type] = {
    async_images.GeneratedImage: GeneratedImage,
    async_images.ImageResult: ImageResult,
    async_images.ImageOutcome: ImageOutcome,
    async_chat.ChatCompletion: ChatCompletion,
    async_chat.ChatOutcome: ChatOutcome,
    async_comparison.ImageComparison: ImageComparison,
}
"""The twin of each class of the asynchronous client's values."""
