"""What a look at a finished folder brought to light: the values that its users read."""

from __future__ import annotations

import json
from typing import Any, Literal

import attrs

Kind = Literal[
    "ledger_missing",
    "manifest_missing",
    "malformed_line",
    "duplicate_line",
    "not_in_ledger",
    "not_in_manifest",
    "fields",
    "no_pictures",
    "missing",
    "not_regular",
    "unreadable",
    "size",
    "sha256",
    "picture",
    "shared",
    "surplus",
    "leftover",
]
"""What differs: the records (as far as `no_pictures`), a picture of theirs, or what lies beside them."""


@attrs.frozen(kw_only=True)
class Difference:
    """One thing in a folder that is not as it should be."""

    kind: Kind
    file: str
    """What it is about, relative to the folder, with `/`."""
    id: str | None = None
    """The item's; None: it belongs to none that is known."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@attrs.frozen(kw_only=True)
class VerifyReport:
    """What became of a look at a folder."""

    pictures: int
    """Pictures that manifest and ledger know, each of which was looked at."""
    bytes: int
    """Their size as it is recorded, in bytes."""
    is_deep: bool
    """Whether each was decoded to its last pixel, too."""
    elapsed: float
    """Seconds."""
    differences: tuple[Difference, ...]
    """First those of the records, then those of the pictures by their names, then the surplus."""

    @property
    def is_clean(self) -> bool:
        """Whether everything is as it should be."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: what `hinow verify --json` prints."""
        return {"is_clean": self.is_clean, **attrs.asdict(self, value_serializer=_plain)}

    def to_json(self) -> str:
        """Return it as one JSON object, in ASCII."""
        return json.dumps(self.to_dict())


@attrs.frozen(kw_only=True)
class VerifyProgress:
    """How far a look at a folder is, at one moment."""

    total: int | None
    """Pictures to be looked at; None: the records are still being read."""
    done: int
    bytes: int
    """Of the pictures that are done."""
    differences: int
    """Found so far."""
    elapsed: float
    """Seconds."""


def _plain(_: Any, __: Any, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
