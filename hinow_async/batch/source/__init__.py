"""Where requests come from: files of several forms, standard input, iterables.

Whatever the source, it is read in chunks of checked entries, lazily. Sources are hostile: lines have a
greatest length, and what a message repeats of them is cut and escaped.

`entry` says what one request is. `files`, `pipes` and `iterables` are the sources. Of text, `lines` cuts the
lines, `forms` and `csv` make items of them, and `parser` makes entries of those; `parquet` makes its own from
rows. `columns` is what both kinds of tables have in common.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from hinow_async._errors import ConfigurationError, SourceError
from hinow_async._protocol.failures import printable
from hinow_async.batch.source.csv import Rows
from hinow_async.batch.source.entry import BadLine, Entry, Reading, Source, as_entry
from hinow_async.batch.source.files import FileSource, read_text, reason
from hinow_async.batch.source.forms import Form, JsonLines
from hinow_async.batch.source.iterables import IterableSource
from hinow_async.batch.source.lines import LONGEST_LINE
from hinow_async.batch.source.parquet import read_parquet, require_pyarrow
from hinow_async.batch.source.parser import Parser
from hinow_async.batch.source.pipes import PipeSource, standard_input

__all__ = ["LONGEST_LINE", "BadLine", "Entry", "Source", "as_entry", "open_source"]

_FORMS: Final[Mapping[str, Callable[[], Form]]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".json": JsonLines,
    ".csv": Rows,
    ".tsv": partial(Rows, b"\t"),
}
"""What is in a file of text by its suffix; of any other the first line tells."""
_PARQUET: Final = ".parquet"
_UNREAD_SUFFIXES: Final = frozenset({".zip", ".zst", ".xlsx"})
"""Not text with a prompt a line: each row would be paid for as a prompt."""


def open_source(
    source: Any, defaults: Mapping[str, Any] | None = None, *, skip_bad_lines: bool = False
) -> Source:
    """Say how *source* is read; nothing is read yet.

    Args:
        source: A path, `-` for standard input, or an iterable of requests, prompts or mappings.
        defaults: Fields for what entries leave out. A whole `ImageRequest` keeps its model.
        skip_bad_lines: Hand on what is wrong as a `BadLine`, and read on.

    Raises:
        SourceError: there is no such file, or it is of a kind that is not read.
        ConfigurationError: it is no source at all, or a default is no field; or pyarrow is missing for it.
    """
    reading = Reading.checked(defaults, skip_bad_lines=skip_bad_lines)
    if source == "-" and isinstance(source, str):
        return PipeSource("standard input", standard_input, Parser("standard input", None, reading))
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), reading)
    if isinstance(source, AsyncIterable) or (isinstance(source, Iterable) and not isinstance(source, bytes)):
        return IterableSource(source, reading)
    raise ConfigurationError(
        f"a source is a path, '-' or an iterable of requests, not {type(source).__name__}"
    )


def _open_path(path: Path, reading: Reading) -> Source:
    name = printable(str(path), 200)
    is_packed = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if is_packed else path).suffix.lower()
    if suffix in _UNREAD_SUFFIXES:
        raise SourceError(f"{name}: {suffix} is not read; make it JSON lines, CSV, Parquet or text")
    is_regular = _is_regular(path, name)
    if suffix == _PARQUET:
        return _open_parquet(path, name, reading, is_plain=is_regular and not is_packed)
    if is_packed and not is_regular:
        raise SourceError(f"{name} is no regular file; unpack it on the way, and read it as -")

    def new_parser() -> Parser:
        new_form = _FORMS.get(suffix)
        return Parser(name, new_form() if new_form else None, reading)

    if is_regular:
        return FileSource(path, name, partial(read_text, new_parser=new_parser, is_packed=is_packed))
    return PipeSource(name, lambda: os.open(path, os.O_RDONLY), new_parser())


def _open_parquet(path: Path, name: str, reading: Reading, *, is_plain: bool) -> Source:
    if not is_plain:
        raise SourceError(f"{name}: Parquet is read from a regular file that is not compressed once more")
    require_pyarrow()
    return FileSource(path, name, partial(read_parquet, name=name, reading=reading))


def _is_regular(path: Path, name: str) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise SourceError(f"{name} cannot be read: {reason(error)}") from None
    if stat.S_ISDIR(mode):
        raise SourceError(f"{name} is a folder; a source is a file")
    return stat.S_ISREG(mode)
