"""Galleries: a batch's pictures and failures as static pages, to look at and to show to others.

```python
from hinow_async.batch.gallery import write_gallery

report = await write_gallery("out")
```
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hinow_async.batch.gallery.thumbnails import require_pillow
from hinow_async.batch.gallery.writing import Gallery, GalleryReport

__all__ = ["GalleryReport", "write_gallery"]


async def write_gallery(
    folder: str | os.PathLike[str], *, on_progress: Callable[[int, int], Any] | None = None
) -> GalleryReport:
    """Write `gallery.html`, `gallery-2.html`, ... into a batch's folder, a page for each 500 pictures.

    A page needs nothing but itself and, for the large view, the pictures beside it: thumbnails, style and
    script are in it, and it loads nothing from a network. Pictures whose files are missing or broken are
    shown as such; what is open in `failures.jsonl` is shown with the reason. A gallery that is there already
    is replaced, once all pages of the new one are written; cancelling leaves it as it was. It may be written
    while a batch is running, and changes nothing of the batch.

    Args:
        folder: The one that `generate_batch` wrote to.
        on_progress: Called on the event loop with the number of pictures that are done, and of all. It must
            not wait.

    Returns:
        Where the pages lie, and what is on them.

    Raises:
        ConfigurationError: the folder is no batch's, or a file with the name of a page is there that is none,
            or Pillow (extra `cli` or `sandbox`) is not installed.
        SourceError: a line of `manifest.jsonl` or `failures.jsonl` is not what a batch writes; the message
            names it.
        OSError: a page cannot be written.
    """
    require_pillow()
    loop, stop = asyncio.get_running_loop(), threading.Event()

    def tell(done: int, total: int) -> None:
        if on_progress is not None and not stop.is_set():
            loop.call_soon_threadsafe(on_progress, done, total)

    work = asyncio.ensure_future(asyncio.to_thread(Gallery(Path(folder), tell, stop).write))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(
            Exception
        ):  # whatever it ends with, the caller is told that it was cancelled
            await work
        raise
