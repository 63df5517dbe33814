"""The columns of a table, of CSV as of Parquet: their names, and how their cells are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from hinow_async.batch.source.entry import FIELDS
from hinow_async.batch.source.forms import json_object

COLUMNS: Final = ("id", *FIELDS)
"""What the columns of a table may be called; `prompt` is always one of them."""

_WHOLE: Final = re.compile(r"([0-9]{1,9})(\.0{1,9})?")
_NAMED_AT_MOST: Final = 5


def check_columns(names: Sequence[str]) -> None:
    """Refuse a table whose columns are not those of requests.

    Raises:
        ValueError: a column is unknown or there twice, or there is no prompt.
    """
    possible = f"the possible ones are {', '.join(COLUMNS)}"
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown {_listed(unknown)}; {possible}")
    repeated = [name for name in COLUMNS if names.count(name) > 1]
    if repeated:
        raise ValueError(f"there twice: {_listed(repeated)}; {possible}")
    if "prompt" not in names:
        raise ValueError(f"there is no column 'prompt'; {possible}")


def _listed(names: Sequence[str]) -> str:
    noun = "column" if len(names) == 1 else "columns"
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"{noun} {', '.join(repr(name[:40]) for name in names[:_NAMED_AT_MOST])}{more}"


def from_text(column: str, text: str) -> Any:
    """Read a cell that is a text; what is no number stays a text, and is refused with the request.

    Raises:
        ValueError: it stands for *extra*, and is no JSON object.
    """
    if column == "extra":
        return _json_object(text)
    if column == "num_images" and (number := _WHOLE.fullmatch(text)):
        return int(number[1])  # "4.0" is what a table makes of 4 when other cells of the column are empty
    return text


def _json_object(text: str) -> dict[str, Any]:
    try:
        return json_object(text)
    except ValueError as error:
        raise ValueError(f"extra is {error}") from None
