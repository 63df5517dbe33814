"""Parquet: a row is a request, and its columns are those of CSV; pyarrow reads it, which is an extra.

A file is read some rows at a time, and without the threads and the read-ahead of pyarrow: what is held does
not grow with it. Everything in here blocks, and runs in threads.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from hinow_async._errors import ConfigurationError, SourceError
from hinow_async._protocol.failures import printable
from hinow_async.batch.source.columns import check_columns, from_text
from hinow_async.batch.source.entry import BadLine, Chunk, Entry, Reading, as_entry, line_error
from hinow_async.batch.source.files import reason
from hinow_async.batch.source.lines import LONGEST_LINE

_ROWS: Final = 64
"""Rows that are held at once. Few, since one long text of a file's dictionary may stand in each of them."""
_BUFFER: Final = 64 * 1024
"""Bytes of a column that are read at once; left out, pyarrow reads those of a whole row group."""
_INDEX: Final = re.compile(r"__index_level_\d+__")
"""The columns in which pandas keeps the index of a frame: nobody chose them."""


def require_pyarrow() -> None:
    """Refuse to begin what could not be read.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigurationError('a Parquet file needs pyarrow: pip install "hinow-async[parquet]"')


def read_parquet(file: BinaryIO, name: str, reading: Reading) -> Iterator[Chunk]:
    """Read the entries of a Parquet file; its rows count as lines.

    Raises:
        SourceError: it is none, or an entry is wrong.
    """
    line = 0
    for batch in _batches(file, name):
        entries: list[Entry | BadLine] = []
        for index in range(batch.num_rows):
            line += 1
            try:
                entries.append(as_entry(_fields(batch, index), reading.defaults, line))
            except ValueError as problem:
                error = line_error(name, line, problem)
                if not reading.skip_bad_lines:
                    yield entries
                    raise error from None
                entries.append(BadLine(line, str(error)))
        yield entries


def _batches(file: BinaryIO, name: str) -> Iterator[Any]:
    """Yield some rows at a time. Whatever pyarrow raises, the file is not what it should be."""
    from pyarrow import parquet  # noqa: PLC0415 - an extra, and slow to import

    try:
        table = parquet.ParquetFile(
            file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
        names = [column for column in table.schema_arrow.names if not _INDEX.fullmatch(column)]
        _check(names, name)
        rows = 0
        for batch in table.iter_batches(_ROWS, columns=names, use_threads=False):
            rows += batch.num_rows
            yield batch
        if rows != table.metadata.num_rows:
            raise SourceError(f"{name} holds {rows:,} rows instead of {table.metadata.num_rows:,}")
    except SourceError:
        raise
    except Exception as error:
        said = printable(reason(error), 300)
        raise SourceError(f"{name} cannot be read as Parquet: {said}") from None


def _check(names: list[str], name: str) -> None:
    try:
        check_columns(names)
    except ValueError as error:
        raise SourceError(f"{name}: {printable(str(error), 500)}") from None


def _fields(batch: Any, index: int) -> dict[str, Any]:
    """Return what a row says; null is what it leaves out."""
    row = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            value = column[index].as_py()
        except Exception as error:  # a date of the year 300,000, two fields of one name, ...
            raise ValueError(f"{field.name}: {error}") from None
        if value is not None:
            row[field.name] = _value(field.name, value, field.type)
    return row


def _value(column: str, value: Any, kind: Any) -> Any:
    if isinstance(value, str):
        if len(value) > LONGEST_LINE:
            raise ValueError(f"{column} is longer than {LONGEST_LINE:,} characters")
        return from_text(column, value)
    if column == "extra":
        return _plain(value, kind)
    if column == "num_images" and isinstance(value, float) and value.is_integer():
        return int(value)  # a table makes 4.0 of 4 when other cells of the column are null
    if column in {"id", "num_images"}:
        return value  # checked with the request
    raise ValueError(f"{column} must be text, not {value!r}")


def _plain(value: Any, kind: Any) -> Any:
    """Make JSON of nested values.

    The fields of a struct are the same in all rows, so that null stands for what a row leaves out; a map has
    its own keys in each row, and pyarrow hands them over as pairs.
    """
    from pyarrow import types  # noqa: PLC0415 - an extra, and slow to import

    if value is None:
        return None
    if types.is_struct(kind):
        return {
            field.name: _plain(value[field.name], field.type)
            for field in kind
            if value[field.name] is not None
        }
    if types.is_map(kind):
        return {key: _plain(item, kind.item_type) for key, item in value}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_plain(item, kind.value_type) for item in value]
    return value
