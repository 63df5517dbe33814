"""Batches: a source of requests becomes a folder of pictures, and the same command goes on where it stopped.

```python
from hinow_async import AsyncHinow
from hinow_async.batch import generate_batch

async with AsyncHinow() as client:
    report = await generate_batch(client, "prompts.jsonl", "out")
```
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from hinow_async._client import AsyncHinow
from hinow_async._models.images import ImageRequest
from hinow_async.batch.notebook import batch_bar, with_pictures
from hinow_async.batch.progress import OnProgress
from hinow_async.batch.report import BatchProgress, BatchReport
from hinow_async.batch.runner import Batch
from hinow_async.batch.verdicts import OnChange

__all__ = ["BatchProgress", "BatchReport", "generate_batch"]

Requests = (
    Iterable[ImageRequest | str | Mapping[str, Any]] | AsyncIterable[ImageRequest | str | Mapping[str, Any]]
)


async def generate_batch(
    client: AsyncHinow,
    source: str | os.PathLike[str] | Requests,
    dir: str | os.PathLike[str],
    *,
    on_progress: OnProgress | None = None,
    resend_unknown: bool = False,
    pay_again: bool = False,
    on_change: OnChange = "error",
    skip_bad_lines: bool = False,
    defaults: Mapping[str, Any] | None = None,
    keep_going: bool = False,
    stop: asyncio.Event | None = None,
) -> BatchReport:
    """Have the pictures of a whole source made and kept, and go on where an earlier run stopped.

    The folder then holds `images/<id>-<index>.<ext>` (each further 1,000 items in `images/0001/`, ...),
    `manifest.jsonl` with a line for each picture, and `failures.jsonl` with what is open. What is there is
    not made again; what failed is tried again; what is paid for is never sent again: the links of *lost*
    pictures are asked once more, *maybe-paid* items stay as they are. Cancelling stops at once, with
    everything recorded.

    Args:
        client: What the calls are made with; its limits and its budget hold.
        source: A file of JSON lines (the fields of `ImageRequest` and `id`), of CSV or Parquet (columns of
            the same names; Parquet needs the extra `parquet`), or of prompts, a line each; `-` for standard
            input; or an iterable of requests, prompts or mappings. Files are read through once before
            anything is sent.
        dir: The folder; one process at a time may work in it.
        on_progress: Called with a `BatchProgress` at most ten times a second, at least once a second or so,
            and at the end. It must not wait; should it raise, that is logged once and it is called no more.
            In a notebook, progress is shown without it.
        resend_unknown: Send items again that may have been billed without an answer: they may be paid twice.
        pay_again: Make *lost* items again, where their links are still dead: they are paid twice.
        on_change: What becomes of an id whose request is not the one that was paid for: `error`, or `new`, to
            have the new one made too. Both are paid for; the manifest then names the new one.
        skip_bad_lines: Record what is wrong with a line or row in `failures.jsonl`, and go on.
        defaults: Fields for what the source's items leave out; an `ImageRequest` keeps its model.
        keep_going: Do not stop after 100 failures in succession.
        stop: Once set, nothing more is sent, and what is in flight is finished.

    Returns:
        What it came to; `stopped` says why it ended early, if it did. `str` of it is what `hinow batch`
        prints, and a notebook shows it as a table with the first pictures.

    Raises:
        SourceError: an item is wrong. Of a file before anything is sent; of anything else after what was
            in flight is finished.
        ConfigurationError: the folder cannot be written to, or holds pictures of the sandbox and this is the
            service, or the other way round; or a budget is set and nobody knows the price; or pyarrow is not
            there to read Parquet.
        LedgerLockedError: another process works in the folder.
        LedgerCorruptError: the folder's records cannot be read.
    """
    report = await Batch(
        client,
        source,
        dir,
        on_progress=on_progress or batch_bar(),
        resend_unknown=resend_unknown,
        pay_again=pay_again,
        on_change=on_change,
        skip_bad_lines=skip_bad_lines,
        defaults=defaults,
        keep_going=keep_going,
        stop=stop,
    ).run()
    return await with_pictures(report)
