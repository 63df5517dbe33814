"""What is paid for: an answer, the pictures that are missing of it, and those that a dead process left.

What the ledger says is checked as if it had just come from the network. Everything in here blocks.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from hinow_async._download.folder import Folder, is_same
from hinow_async._models.images import GeneratedImage
from hinow_async._protocol import json
from hinow_async._protocol.fields import WireError
from hinow_async._protocol.wire import ImageAnswer, image_answer
from hinow_async.batch import spool
from hinow_async.batch.ledger import Bought, Problem, Row, now
from hinow_async.batch.lock import STATE
from hinow_async.batch.reader import Answered, KeptFile, Known, Reader


@attrs.frozen(kw_only=True)
class Paid:
    """A paid answer."""

    row: Row
    bought: Bought
    account: str
    """Name of the account that paid."""
    missing: tuple[GeneratedImage, ...]
    """Pictures that are not in the folder."""
    adopted: tuple[KeptFile, ...] = ()
    """Pictures that are, but of which the ledger did not hear in time."""


def paid_for(root: Path, reader: Reader, row: Row, known: Known) -> Paid | Problem:
    """Return the answer of an earlier run to an item; or why there is none."""
    answered = reader.answer(known.number)
    body = None if answered is None else _body(root, answered)
    if answered is None or body is None:
        return _problem("lost", "its pictures are gone, and the links of them were not kept")
    try:
        answer = image_answer(json.loads(body))
    except (json.MalformedJSONError, WireError) as error:
        return _problem("unknown", f"its answer cannot be read: {error}")
    row.is_spooled = answered.spool is not None
    there = {kept.picture for kept in known.files if kept.is_saved and _is_there(root, kept)}
    adopted = tuple(kept for kept in known.files if not kept.is_saved and _is_whole(root, kept))
    there.update(kept.picture for kept in adopted)
    missing = tuple(image for image in answer.images if image.index not in there)
    return Paid(
        row=row, bought=_bought(answered, answer), account=answered.account, missing=missing, adopted=adopted
    )


def _body(root: Path, answered: Answered) -> bytes | None:
    if answered.spool is None:
        return answered.body
    return spool.read(root / STATE / spool.FOLDER, answered.spool)


def _bought(answered: Answered, answer: ImageAnswer) -> Bought:
    return Bought(
        attempt=answered.attempt,
        model=answer.model,
        provider=answer.provider,
        request_id=answered.request_id,
        images=len(answer.images),
        usd=answered.usd,
    )


def _is_there(root: Path, kept: KeptFile) -> bool:
    try:
        return (root / kept.file).stat().st_size == kept.size
    except OSError:
        return False


def _is_whole(root: Path, kept: KeptFile) -> bool:
    """Whether a file that was about to get its name has it, and is the one that was meant.

    If so, its name is made durable: the process that gave it may have died before it could do that.
    """
    path = root / kept.file
    if not path.parent.is_dir():
        return False
    folder = Folder(path.parent)
    try:
        if not is_same(folder, path.name, kept.sha256, kept.size):
            return False
        folder.sync()
        return True
    finally:
        folder.close()


def _problem(outcome: str, message: str) -> Problem:
    error = "DownloadError" if outcome == "lost" else "APIResponseError"
    return Problem(error=error, message=message, outcome=outcome, at=now())
