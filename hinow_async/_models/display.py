"""Pictures as a notebook shows them: made small, in threads, and remembered as long as their values live.

A kernel asks a value for its HTML on the thread of its event loop, and cannot wait. So `save` has the small
pictures made in threads while it waits for files anyway (`make_small`). What was not made by then is made in
threads when it is shown, and the loop waits for these no longer than `PATIENCE`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import IO, Any, Final, Protocol
from weakref import WeakKeyDictionary

from hinow_async._figures import MOST, MOST_CHARACTERS, Figure, figures
from hinow_async._pillow import Small, has_pillow, shrunk

LONGEST_SIDE: Final = 384
"""Pixels of a picture in a notebook: sharp beside others on a dense screen, and enough when alone."""
PATIENCE: Final = 1.0
"""Seconds that showing waits for small pictures that were not made before."""
_THREADS: Final = 4

_small: WeakKeyDictionary[Picture, Small] = WeakKeyDictionary()
_kept: WeakKeyDictionary[Any, Sequence[Any]] = WeakKeyDictionary()


class Picture(Protocol):
    """A picture that is on this machine."""

    def __hash__(self) -> int: ...

    def _open(self) -> IO[bytes]:
        """Open its bytes."""

    @property
    def _caption(self) -> str:
        """What stands below it."""

    @property
    def _media_type(self) -> str | None:
        """What its bytes are, where they may be shown as they are."""


def remember(result: Any, saved: Sequence[Any]) -> None:
    """Have *result* show the pictures that were *saved* of it."""
    _kept[result] = saved


def saved_of(result: Any) -> Sequence[Any]:
    """Return what was saved of a result, if this is a notebook."""
    return _kept.get(result, ())


def make_small(picture: Picture) -> None:
    """Make it small for when it is shown, if that can be done. Blocks, and runs in threads."""
    try:
        if picture not in _small and has_pillow():
            with picture._open() as file:
                _small[picture] = shrunk(file, LONGEST_SIDE)
    except Exception:  # noqa: S110 - its caption is shown, and only that; it is whole all the same
        pass


def grid(pictures: Sequence[Picture], about: str = "") -> str:
    """Return pictures side by side, as HTML; *about* is their prompt."""
    return figures(figures_of([(picture, about) for picture in pictures[:MOST]]), len(pictures))


def figures_of(pictures: Sequence[tuple[Picture, str]]) -> list[Figure]:
    """Return pictures with their prompts as figures; no longer than `PATIENCE` is waited for them all."""
    _wait_for_small([picture for picture, _ in pictures if picture not in _small])
    return [_figure(picture, about) for picture, about in pictures]


def _wait_for_small(pictures: Sequence[Picture]) -> None:
    if not pictures or not has_pillow():
        return
    from concurrent.futures import ThreadPoolExecutor, wait  # noqa: PLC0415 - a tenth of our import's time

    threads = ThreadPoolExecutor(_THREADS, "hinow-display")
    try:
        wait([threads.submit(make_small, picture) for picture in pictures], PATIENCE)
    finally:
        threads.shutdown(wait=False)  # what is late is there when it is shown again


def _figure(picture: Picture, about: str) -> Figure:
    small = _small.get(picture)
    uri = small.uri if small is not None else _whole(picture)
    return Figure(uri, picture._caption if uri else f"{picture._caption}: {_why_not()}", about)


def _why_not() -> str:
    if has_pillow():
        return "it is not there, is broken, or takes long to be made small"
    return 'without Pillow only small files are shown (pip install "hinow-async[sandbox]")'


def _whole(picture: Picture) -> str | None:
    """Without Pillow: the picture itself, if it is small enough to be kept in a notebook."""
    if has_pillow() or picture._media_type is None:
        return None
    most = MOST_CHARACTERS // 4 * 3
    try:
        with picture._open() as file:
            data = file.read(most + 1)
    except OSError:
        return None
    text = base64.b64encode(data).decode("ascii")
    return None if len(data) > most else f"data:{picture._media_type};base64,{text}"
