"""Parquet sources: each row is a request, read a few at a time; a broken file is named."""

import datetime
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from hinow_async import ConfigurationError, ImageRequest, SourceError
from hinow_async.batch.source import LONGEST_LINE, BadLine, open_source

MAP = pa.map_(pa.string(), pa.int64())


@pytest.fixture
def write(tmp_path):
    """Write a table of these columns."""

    def go(columns, name="prompts.parquet", **options):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        parquet.write_table(table, tmp_path / name, **options)
        return tmp_path / name

    return go


async def entries(path, **options):
    """All that a file holds."""
    return [entry async for chunk in open_source(path, **options).chunks() for entry in chunk]


async def test_rows_become_requests(write):
    """All columns come through; null is left out, and 4.0 is 4 where a column has gaps."""
    path = write(
        {
            "prompt": pa.array(["A fox", "A hen"]).dictionary_encode(),
            "id": [7, None],
            "quality": [None, "high"],
            "num_images": [4.0, None],
            "resolution": pa.nulls(2),
            "extra": [{"seed": 1, "style": {"name": None, "weights": [0.5]}}, None],
        }
    )
    found = await entries(path, defaults={"quality": "low", "extra": {"steps": 2}})
    assert [(entry.id, entry.line, entry.request) for entry in found] == [
        (
            "7",
            1,
            ImageRequest(
                "A fox",
                quality="low",
                num_images=4,
                extra={"seed": 1, "style": {"weights": [0.5]}, "steps": 2},
            ),
        ),
        (None, 2, ImageRequest("A hen", quality="high", extra={"steps": 2})),
    ]


@pytest.mark.parametrize(
    ("extra", "meant"),
    [
        (pa.array(['{"seed": null, "x": [1]}']), {"seed": None, "x": [1]}),
        (pa.array([[("seed", 1), ("steps", None)]], MAP), {"seed": 1, "steps": None}),
        (pa.array([[]], MAP), {}),
        (
            pa.array([{"a": None, "b": [[("c", 1)]]}], pa.struct({"a": pa.int64(), "b": pa.list_(MAP)})),
            {"b": [{"c": 1}]},
        ),
    ],
)
async def test_extra_is_a_struct_a_map_or_json(write, extra, meant):
    """Null in a struct is what the row leaves out; a map and JSON say it themselves."""
    (entry,) = await entries(write({"prompt": ["A fox"], "extra": extra}))
    assert entry.request.extra == meant


async def test_the_index_of_a_frame_is_no_column(write):
    """What pandas adds by itself is not read."""
    (entry,) = await entries(write({"prompt": ["A fox"], "__index_level_0__": [5]}))
    assert entry.request == ImageRequest("A fox")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["prompt", "promt"], "unknown column 'promt'; the possible ones are id, prompt"),
        (["prompt", "prompt"], "there twice: column 'prompt'"),
        (["id", "quality"], "there is no column 'prompt'"),
        (["prompt", "x\x1b[2J"], "unknown column"),
    ],
)
async def test_columns_that_cannot_be_are_refused(write, names, said):
    """Before any row is read, also where bad lines are passed over."""
    path = write(pa.table([pa.array(["a"]), pa.array(["b"])], names=names))
    with pytest.raises(SourceError, match=r"prompts\.parquet: ") as caught:
        await entries(path, skip_bad_lines=True)
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("prompt", None, "prompt is missing"),
        ("prompt", "  ", "prompt is empty"),
        ("prompt", 5, "prompt must be text, not 5"),
        ("prompt", ["a"], "prompt must be text, not ['a']"),
        ("prompt", b"a", "prompt must be text, not b'a'"),
        ("prompt", "a" * (LONGEST_LINE + 1), "prompt is longer than"),
        ("prompt", pa.array([b"\xff"]).view(pa.utf8()), "prompt: 'utf-8' codec"),
        ("quality", "ultra", "quality must be one of low, medium, high"),
        ("quality", {"a": 1}, "quality must be text, not {'a': 1}"),
        ("quality", pa.array([2**62], pa.timestamp("us")), "quality: date value out of range"),
        ("num_images", 4.5, "num_images must be a whole number from 1 to 10"),
        ("num_images", True, "num_images must be a whole number"),
        ("id", 1.5, "id must be a text"),
        ("extra", "seed", "extra is not JSON"),
        ("extra", [1], "extra must be a mapping"),
        ("extra", {"quality": "high"}, "extra may not repeat 'quality'"),
        ("extra", {"x": datetime.date(2026, 1, 1)}, "extra is not JSON"),
        ("extra", {"x": float("nan")}, "extra is not JSON"),
    ],
)
async def test_a_bad_value_is_named(write, column, value, said):
    """Row, column and value, whatever types a table may have."""
    cell = value if isinstance(value, pa.Array) else pa.array([value])
    path = write({"prompt": ["a"], column: cell})
    with pytest.raises(SourceError) as caught:
        await entries(path)
    assert caught.value.line == 1
    assert str(caught.value).startswith(f"{path}, line 1: {said}")
    assert len(str(caught.value)) < 900


async def test_bad_rows_are_passed_over_where_that_is_wished(write):
    """The rows around them are read; the number is that of the row, also far inside."""
    path = write(
        {
            "prompt": [f"fox {n}" for n in range(300)],
            "num_images": [11 if n == 200 else 1 for n in range(300)],
        }
    )
    with pytest.raises(SourceError, match=r"line 201: num_images must be") as caught:
        await entries(path)
    found = await entries(path, skip_bad_lines=True)
    assert found.pop(200) == BadLine(201, str(caught.value))
    assert [(entry.line, entry.request.prompt) for entry in found] == [
        (n + 1, f"fox {n}") for n in range(300) if n != 200
    ]


async def test_what_comes_before_a_bad_row_is_handed_on(write):
    """As with lines."""
    seen = []
    path = write({"prompt": ["a", "b", None]})

    async def read():
        async for chunk in open_source(path).chunks():
            seen.extend(entry.request.prompt for entry in chunk)

    with pytest.raises(SourceError, match="line 3: prompt is missing"):
        await read()
    assert seen == ["a", "b"]


async def test_few_rows_are_held_at_once(write):
    """However large the file's parts are: one long text of its dictionary may stand in each row."""
    path = write({"prompt": pa.array(["A fox " * 5_000] * 500).dictionary_encode()}, compression="zstd")
    assert path.stat().st_size < 40_000
    sizes = [len(chunk) async for chunk in open_source(path).chunks()]
    assert sum(sizes) == 500
    assert max(sizes) <= 64


def more_rows(data):
    """Claim 8172 rows where there are 300: an i64 of the footer's thrift, zigzag and varint."""
    assert b"\x16\xd8\x04" in data
    return data.replace(b"\x16\xd8\x04", b"\x16\xd8\x7f")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"id,prompt\n1,A fox\n",
        lambda data: data[:-20],
        lambda data: data[: len(data) // 2],
        lambda data: b"PAR2" + data[4:-4] + b"PAR2",
        lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:],
        lambda data: data[:-8] + b"\xff\xff\xff\xff" + data[-4:],
        lambda data: data[:4] + b"\xff" * 500 + data[504:],
        lambda data: data[:-900] + b"\x7f" * 600 + data[-300:],
        more_rows,
    ],
)
@pytest.mark.parametrize("skip_bad_lines", [False, True])
async def test_a_broken_file_is_named(write, spoil, skip_bad_lines):
    """Half a download, another kind of file, sizes that cannot be: none of it is a shorter batch."""
    path = write({"prompt": [f"fox {n}" for n in range(300)], "id": [str(n) for n in range(300)]})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        SourceError, match=r"prompts\.parquet (cannot be read as Parquet|holds 300 rows)"
    ) as caught:
        await entries(path, skip_bad_lines=skip_bad_lines)
    assert len(str(caught.value)) < 600


async def test_a_file_that_changes_after_it_was_checked_is_read_no_further(write):
    """Rows that nobody checked are not worked on."""
    source = open_source(write({"prompt": ["a"]}))
    assert [chunk async for chunk in source.chunks()]
    write({"prompt": ["a", "b"]})
    with pytest.raises(SourceError, match="changed after it was checked"):
        assert [chunk async for chunk in source.chunks()]


@pytest.mark.parametrize("name", ["prompts.parquet.gz", "missing.parquet"])
async def test_what_is_no_plain_file_is_refused(write, name):
    """It is read from its end first."""
    if "gz" in name:
        write({"prompt": ["a"]}, name)
    with pytest.raises(SourceError, match=r"not compressed once more|No such file"):
        await entries(write({"prompt": ["a"]}).with_name(name))


async def test_without_pyarrow_it_is_said_how_to_get_it(write, monkeypatch):
    """Before anything else happens."""
    path = write({"prompt": ["a"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r'pip install "hinow-async\[parquet\]"'):
        open_source(path)


async def test_ids_are_judged_by_their_row(run, sandbox, write):
    """A repeated id, and a changed request, are found before anything is sent."""
    assert (await run(write({"id": ["a"], "prompt": ["fox"]}))).saved == 1
    for ids, prompts, line, said in (
        (["a", "b", "a"], ["fox", "hen", "duck"], 3, "the id 'a' was there before"),
        (["b", "a"], ["hen", "another fox"], 2, "the request of 'a' is not the one that was paid for"),
    ):
        with pytest.raises(SourceError, match=said) as caught:
            await run(write({"id": ids, "prompt": prompts}))
        assert caught.value.line == line
        assert f"prompts.parquet, line {line}: " in str(caught.value)
    assert sandbox.billing.requests == 1
