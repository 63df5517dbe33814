"""Sources: what is read, and how a wrong line is named."""

import asyncio
import gzip
import os

import pyarrow
import pytest
from pyarrow import parquet

from hinow_async import ConfigurationError, ImageRequest, SourceError
from hinow_async.batch.source import LONGEST_LINE, open_source


async def entries(source, defaults=None):
    """All entries of a source."""
    return [entry async for chunk in open_source(source, defaults).chunks() for entry in chunk]


def write(tmp_path, content, name="prompts.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


async def test_json_lines_become_requests(tmp_path):
    """All fields of a request, an id and extra parameters come through; null stands for what is left out."""
    line = (
        '{"id": 7, "prompt": "A fox", "quality": "high", "num_images": 3, "resolution": null,'
        ' "extra": {"seed": 1}}'
    )
    (entry,) = await entries(write(tmp_path, line))
    assert entry.id == "7"
    assert entry.line == 1
    assert entry.request == ImageRequest("A fox", quality="high", num_images=3, extra={"seed": 1})


async def test_marks_line_ends_and_blank_lines_are_tolerated(tmp_path):
    """A byte order mark, CRLF and blank lines change nothing but the line numbers."""
    found = await entries(write(tmp_path, b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n  \n{"prompt": "b"}'))
    assert [(entry.request.prompt, entry.line) for entry in found] == [("a", 1), ("b", 4)]


async def test_plain_text_is_a_prompt_a_line(tmp_path):
    """A text file's lines are prompts, of any script."""
    found = await entries(write(tmp_path, "A fox\n\n  石桥 \n🦊", "prompts.txt"))
    assert [entry.request.prompt for entry in found] == ["A fox", "石桥", "🦊"]


async def test_json_lines_are_known_by_their_first_line_whatever_the_suffix(tmp_path):
    """JSON is never paid for as a prompt."""
    found = await entries(write(tmp_path, '{"prompt": "a"}\n{"prompt": "b"}\n', "prompts"))
    assert [entry.request.prompt for entry in found] == ["a", "b"]


async def test_lines_across_blocks_are_whole(tmp_path):
    """Lines longer than what is read at once are put together again."""
    prompts = [str(number) + "x" * (number * 997 % 150_000) for number in range(40)]
    found = await entries(write(tmp_path, "\n".join(prompts), "prompts.txt"))
    assert [entry.request.prompt for entry in found] == prompts


@pytest.mark.parametrize(("name", "line"), [("a.jsonl.gz", '{"prompt": "A fox"}'), ("a.txt.gz", "A fox")])
async def test_a_compressed_file_is_read_as_what_is_in_it(tmp_path, name, line):
    """Its lines are those of the text; it may be of several parts, as `cat` makes them."""
    content = gzip.compress(f"{line}\n".encode()) + gzip.compress(f"{line}\n".encode() * 9999)
    found = await entries(write(tmp_path, content, name))
    assert [entry.request.prompt for entry in found] == ["A fox"] * 10_000
    assert found[-1].line == 10_000


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-20], lambda data: b"text" + data, lambda data: data[:40] + b"\0" * 99]
)
async def test_a_compressed_file_that_is_spoilt_is_named(tmp_path, spoil):
    """Half a download is no shorter batch."""
    content = spoil(gzip.compress(b"".join(b"prompt %d\n" % n for n in range(2000))))
    with pytest.raises(SourceError, match=r"a\.txt\.gz cannot be read"):
        await entries(write(tmp_path, content, "a.txt.gz"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a"', "not JSON"),
        ("[1]", "not a JSON object"),
        ('"a"', "not a JSON object"),
        ('{"prompt": "a", "promt": "b"}', "unknown field 'promt'"),
        ('{"quality": "high"}', "prompt is missing"),
        ('{"prompt": "  "}', "prompt is empty"),
        ('{"prompt": 5}', "prompt must be a string"),
        ('{"prompt": "a", "num_images": 11}', "num_images must be a whole number from 1 to 10"),
        ('{"prompt": "a", "quality": "ultra"}', "quality must be one of low, medium, high"),
        ('{"prompt": "a", "id": ""}', "id must be"),
        ('{"prompt": "a", "id": true}', "id must be"),
        ('{"prompt": "a", "id": "a\\ud83d"}', "id must be text that can be written"),
        ('{"prompt": "a", "extra": [1]}', "extra must be a mapping"),
        ('{"prompt": "a", "extra": {"quality": "high"}}', "extra may not repeat"),
        ('{"prompt": "a", "extra": {"x": NaN}}', "extra is not JSON"),
        ('{"prompt": "a", "x\\u001b[2J": 1}', "unknown field"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": "' + "a\0b" + '"}', "zero byte"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b"x" * (LONGEST_LINE + 70_000), "longer than"),
    ],
)
async def test_a_bad_line_is_named(tmp_path, line, said):
    """File and line number stand before what is wrong; nothing of the line can move a cursor."""
    content = b'{"prompt": "good"}\n\n' + (line if isinstance(line, bytes) else line.encode())
    path = write(tmp_path, content)
    with pytest.raises(SourceError) as caught:
        await entries(path)
    assert caught.value.line == 3
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 900


async def test_utf_16_is_told_from_noise(tmp_path):
    """What some Windows programs write by default gets advice that helps."""
    with pytest.raises(SourceError, match="UTF-16; save it as UTF-8"):
        await entries(write(tmp_path, "A fox".encode("utf-16"), "prompts.txt"))


@pytest.mark.parametrize("name", ["prompts.xlsx", "prompts.zip", "prompts.zst"])
async def test_rows_of_other_formats_are_never_paid_for_as_prompts(tmp_path, name):
    """A file that would be misread is refused."""
    with pytest.raises(SourceError, match="is not read"):
        await entries(write(tmp_path, "id,prompt\n1,a\n", name))


async def test_what_is_no_file_is_named(tmp_path):
    """A missing file and a folder are source errors with their path."""
    with pytest.raises(SourceError, match="No such file"):
        await entries(tmp_path / "none.jsonl")
    with pytest.raises(SourceError, match="is a folder"):
        await entries(tmp_path)
    with pytest.raises(ConfigurationError, match="a source is"):
        await entries(5)


async def test_defaults_fill_what_lines_leave_out(tmp_path):
    """A line's own value wins; extra is joined; a whole request keeps its model."""
    defaults = {"quality": "low", "model": "other/model", "extra": {"seed": 1, "steps": 2}}
    path = write(tmp_path, '{"prompt": "a"}\n{"prompt": "b", "quality": "high", "extra": {"seed": 9}}')
    first, second = await entries(path, defaults)
    assert (first.request.quality, first.request.model) == ("low", "other/model")
    assert (second.request.quality, second.request.extra) == ("high", {"seed": 9, "steps": 2})
    (third,) = await entries([ImageRequest("c")], defaults)
    assert (third.request.quality, third.request.model) == ("low", ImageRequest("c").model)


@pytest.mark.parametrize("defaults", [{"prompt": "a"}, {"quallity": "low"}, {"extra": 3}])
async def test_defaults_are_fields(defaults):
    """A default that no line could have is refused before anything is read."""
    with pytest.raises(ConfigurationError, match="defaults"):
        await entries(["a"], defaults)


async def test_a_file_that_changes_after_it_was_checked_is_read_no_further(tmp_path):
    """Lines that nobody checked are not worked on."""
    path = write(tmp_path, '{"prompt": "a"}\n')
    source = open_source(path)
    assert [chunk async for chunk in source.chunks()]
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(SourceError, match="changed after it was checked"):
        assert [chunk async for chunk in source.chunks()]


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.csv", "prompts.txt.gz", "prompts.parquet"])
async def test_leaving_a_file_in_the_middle_leaves_it_closed(tmp_path, name):
    """Also while a thread opens or reads it: the leak guard looks for it."""
    path = tmp_path / name
    prompts = [f"prompt {n}" for n in range(20_000)]
    if name.endswith("parquet"):
        parquet.write_table(pyarrow.table({"prompt": prompts}), path)
    else:
        text = "\n".join(["prompt", *prompts]).encode()
        path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    chunks = open_source(path).chunks()
    assert await anext(chunks)
    await chunks.aclose()
    for turns in range(4):
        reading = asyncio.ensure_future(entries(path))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_named_pipe_is_read_once_as_it_comes(tmp_path):
    """What a process substitution of the shell hands over cannot be read twice, and is not asked to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = open_source(pipe)

    def feed():
        with pipe.open("w") as file:
            file.write("a\nb\n")

    feeding = asyncio.create_task(asyncio.to_thread(feed))
    found = [entry.request.prompt async for chunk in source.chunks() for entry in chunk]
    await feeding
    assert found == ["a", "b"]
    assert not source.is_rereadable


async def test_iterables_name_their_position_and_are_closed():
    """Prompts, requests and mappings may be mixed; a generator's `finally` has run at the end."""
    closed = []

    async def items():
        try:
            yield "a"
            yield {"id": "x", "prompt": "b"}
            yield ImageRequest("c")
            yield 5
        finally:
            closed.append(True)

    seen = []

    async def read():
        async for chunk in open_source(items()).chunks():
            seen.extend((entry.id, entry.request.prompt) for entry in chunk)

    with pytest.raises(SourceError, match="item 4 of the source: not a request"):
        await read()
    assert seen == [(None, "a"), ("x", "b"), (None, "c")]
    assert closed == [True]
