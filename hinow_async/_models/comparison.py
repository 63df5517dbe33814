"""Comparisons: the same prompts drawn in several ways, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs

from hinow_async._markup import output
from hinow_async._models.images import (
    Clientless,
    ImageDoor,
    ImageOutcome,
    OnProgress,
    SavedImage,
    door_of,
)
from hinow_async._models.side_by_side import html_of, table_of, total_usd


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

    async def save(
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
        return await door.save_comparison(self, directory, on_progress=on_progress)

    def __str__(self) -> str:
        return table_of(self)

    def _repr_html_(self) -> str:
        """Show it in a notebook; nothing is fetched."""
        return output(html_of(self, 'await comparison.save("out")'))
