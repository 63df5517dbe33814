"""Whether a folder still holds what was paid for: every file against manifest and ledger.

```python
from hinow_async.batch.verify import verify_batch

report = await verify_batch("out")
for difference in report.differences:
    print(difference)
```
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hinow_async._download.decode import require_decoder
from hinow_async.batch.audit import Audit
from hinow_async.batch.findings import Difference, Kind, VerifyProgress, VerifyReport

__all__ = ["Difference", "Kind", "VerifyProgress", "VerifyReport", "verify_batch"]

OnProgress = Callable[[VerifyProgress], Any]

_INTERVAL: Final = 0.1
"""Seconds between two calls of `on_progress`."""


async def verify_batch(
    dir: str | os.PathLike[str],
    *,
    deep: bool = False,
    on_progress: OnProgress | None = None,
) -> VerifyReport:
    """Hold every file of a batch's folder against its manifest and its ledger, on all cores.

    Each line of the manifest has to be well-formed, there once, and what the ledger says; each picture has
    to be a regular file in the folder, of the recorded size and sha256, whole by its format's own rules, with
    the recorded width and height; nothing else may lie beside the pictures. No link is followed, nothing is
    written or mended, and no batch can begin in the folder meanwhile. A folder without its ledger (a copy of
    what is visible) is checked against its manifest, and one without a manifest against its ledger; what is
    missing is itself a difference.

    Args:
        dir: The folder. It may have been copied from elsewhere.
        deep: Decode every picture to its last pixel, too (20 to 560 ms each); this needs Pillow.
        on_progress: Called with a `VerifyProgress` about ten times a second. It must not wait.

    Raises:
        ConfigurationError: it is no folder of a batch, or cannot be read; or Pillow is not installed.
        LedgerLockedError: a batch works in the folder.
        LedgerCorruptError: the ledger cannot be read, or cannot be believed.
    """
    if deep:
        require_decoder("a deep look at pictures")
    audit = Audit(Path(dir), is_deep=deep)
    work = asyncio.ensure_future(asyncio.to_thread(audit.run))
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=_INTERVAL)
            if on_progress is not None:
                on_progress(audit.progress())
    finally:
        # Cancelled, or `on_progress` failed: the thread ends first, so that nothing is left running.
        audit.stop()
        await asyncio.wait({work})
    return work.result()
