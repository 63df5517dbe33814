"""CSV sources: each row is the request that its writer meant, or is refused with its line."""

import csv
import gzip
import io
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hinow_async import ImageRequest, SourceError
from hinow_async.batch.source import LONGEST_LINE, BadLine, open_source
from hinow_async.batch.source.csv import Rows
from hinow_async.batch.source.entry import Reading
from hinow_async.batch.source.parser import Parser

HEADER = "id,prompt,quality,num_images,extra\r\n"


@pytest.fixture
def read(tmp_path):
    """All that a file of this content holds."""

    async def go(content, name="prompts.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return [entry async for chunk in open_source(path, **options).chunks() for entry in chunk]

    return go


@pytest.fixture
def refusal(read):
    """The error that a file of this content ends with."""

    async def go(content, name="prompts.csv", **options):
        with pytest.raises(SourceError) as caught:
            await read(content, name, **options)
        assert name in str(caught.value)
        assert len(str(caught.value)) < 900
        return caught.value

    return go


async def test_rows_become_requests(read):
    """All columns come through; an empty cell is left out, and a spreadsheet's "4.0" is 4."""
    found = await read(
        HEADER + '7,A fox,high,4.0,"{""seed"": 1}"\r\nx,"A hen, white",,,\r\n',
        defaults={"quality": "low", "extra": {"steps": 2}},
    )
    assert [(entry.id, entry.line, entry.request) for entry in found] == [
        ("7", 2, ImageRequest("A fox", quality="high", num_images=4, extra={"seed": 1, "steps": 2})),
        ("x", 3, ImageRequest("A hen, white", quality="low", extra={"steps": 2})),
    ]


async def test_a_row_of_several_lines_has_the_number_of_its_first(read):
    """Line breaks in quotes are the prompt's own, as they are; the next row counts them."""
    found = await read('prompt,id\r\n"A ""fox""\r\n\r\nin snow\n",a\r\n\r\nA hen,b')
    assert [(entry.id, entry.line, entry.request.prompt) for entry in found] == [
        ("a", 2, 'A "fox"\r\n\r\nin snow\n'),
        ("b", 7, "A hen"),
    ]


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.tsv", "prompts.txt", "prompts"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
async def test_the_header_says_what_separates_the_cells(read, separator, name):
    """Half of Europe's spreadsheets write semicolons; a header is never paid for as a prompt."""
    others = [mark for mark in ",;\t" if mark != separator]
    prompt = f"A fox{others[0]} a hen{others[1]} a duck"
    (entry,) = await read(f'"id"{separator}prompt\n1{separator}{prompt}\n', name)
    assert (entry.id, entry.request.prompt) == ("1", prompt)


async def test_marks_empty_rows_and_spaces_in_the_header_are_tolerated(read):
    """What spreadsheets leave behind changes nothing but the line numbers."""
    found = await read(b'\xef\xbb\xbf\r\n prompt , id\r\na,1\r\n,\r\n,,,\r\n  \r\n""," "\r\nb,2')
    assert [(entry.request.prompt, entry.line) for entry in found] == [("a", 3), ("b", 8)]


async def test_a_single_column_needs_quotes_around_a_comma(read, refusal):
    """Nothing is guessed: a row with a comma in it may as well be one of a file that lost its columns."""
    (entry,) = await read('prompt\n"A fox, red"\n')
    assert entry.request.prompt == "A fox, red"
    assert (await refusal("prompt\nA hen\nA fox, red\n")).line == 3
    (entry,) = await read("prompt\nA fox, red\n", "prompts.tsv")
    assert entry.request.prompt == "A fox, red"


async def test_a_compressed_file_is_read_as_what_is_in_it(read):
    """`.csv.gz`, streamed."""
    content = gzip.compress(b"prompt,id\n" + b"".join(b'"A\nfox",%d\n' % n for n in range(20_000)))
    found = await read(content, "prompts.csv.gz")
    assert len(found) == 20_000
    assert (found[-1].id, found[-1].line) == ("19999", 40_000)


async def test_a_cell_may_be_as_long_as_a_line_of_json(read):
    """The 131,072 characters of Python's own reader are no limit here."""
    prompt = 'A "fox"\n' * 200_000
    (entry,) = await read('prompt\n"' + prompt.replace('"', '""') + '"\n')
    assert entry.request.prompt == prompt


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("prompt,promt,x", "unknown columns 'promt', 'x'; the possible ones are id, prompt, model"),
        ("prompt,Quality", "unknown column 'Quality'"),
        ("prompt,", "unknown column ''"),
        ("prompt,id,prompt,id", "there twice: columns 'id', 'prompt'"),
        ("id,quality", "there is no column 'prompt'; the possible ones are"),
        ("prompt;id,quality", "separated by ',' and ';'"),
        ('prompt,"id', "closed nowhere"),
        ("prompt,id\0", "zero byte"),
        (b"prompt,\xff", "not UTF-8"),
        ("prompt\x1b[2J,id", "unknown column"),
        ("prompt\rA fox\rA hen", "carriage return"),
        ("," * 70_000, "and 996 more"),
        ("prompt,id".encode("utf-16"), "UTF-16; save it as UTF-8"),
    ],
)
@pytest.mark.parametrize("skip_bad_lines", [False, True])
async def test_a_header_that_cannot_be_is_refused(refusal, header, said, skip_bad_lines):
    """It names what is wrong and what is possible, on line 1; there is nothing to be passed over."""
    content = (header if isinstance(header, bytes) else header.encode()) + b"\nA fox,1\n"
    error = await refusal(content, skip_bad_lines=skip_bad_lines)
    assert error.line == 1
    assert said in str(error)
    assert "\x1b" not in str(error)


BAD_ROWS = [
    ("A fox", "1 cell for 5 columns"),
    ("x,A fox,high,1,,", "6 cells for 5 columns"),
    ("," * 70_000 + "x", "1001 cells for 5 columns"),
    ("x,,high,,", "prompt is missing"),
    ('x,"  ",high,,', "prompt is empty"),
    ("x,A fox,ultra,,", "quality must be one of low, medium, high"),
    ("x,A fox,high,4.5,", "num_images must be a whole number from 1 to 10 for openai"),
    (f"x,A fox,high,{'9' * 5000},", "num_images must be a whole number"),
    ("x,A fox,high,²,", "num_images must be a whole number"),
    ("x,A fox,,,seed", "extra is not JSON"),
    ("x,A fox,,,[1]", "extra is not a JSON object"),
    ('x,A fox,,,"{""quality"": 1}"', "extra may not repeat"),
    (b"x,\xff,,,", "prompt: not UTF-8: invalid start byte at byte 1"),
    ('x,"a\0\n",,,', "prompt: it holds a zero byte"),
]


@pytest.mark.parametrize(("row", "said"), BAD_ROWS)
async def test_a_bad_row_is_named_or_passed_over(refusal, read, row, said):
    """By the line on which it begins; the rows around it are read where that is wished."""
    bad = row if isinstance(row, bytes) else row.encode()
    content = HEADER.encode() + b'a,"good\none",,,\r\n' + bad + b"\r\nb,good,,,\r\n"
    error = await refusal(content)
    assert error.line == 4
    assert said in str(error)
    first, passed, last = await read(content, skip_bad_lines=True)
    assert (first.id, last.id) == ("a", "b")
    assert passed == BadLine(4, str(error))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('x,5" nail,,,', "a quote stands in a cell that does not begin with one"),
        ('x, "A fox",,,', "a quote stands in a cell that does not begin with one"),
        ('x,"A\nfox" red,,,', "goes on after its closing quote"),
        ("x,A fox\rb,A hen,,,", "carriage return"),
        ('x,"A fox,,,', "a quote that opens in this row is closed nowhere"),
        ('x,"A fox\n,b","A hen', "a quote that opens in this row is closed nowhere"),
        (
            'x,"' + ("A fox " * 99 + "\n") * (LONGEST_LINE // 500),
            "longer than 16,777,216 bytes: is a quote left open?",
        ),
        ('x,"a\n' + "y" * (LONGEST_LINE + 70_000), "longer than 16,777,216 bytes"),
        ("x," + f'"{"a" * 990}\n\n",' * (LONGEST_LINE // 900), "longer than 16,777,216 bytes"),
    ],
)
async def test_where_nobody_can_tell_rows_apart_nothing_is_read_on(refusal, row, said):
    """What follows a misplaced quote might be half a prompt: it is not paid for, whatever is passed over.

    What came before is handed on, and the line is that on which the row begins.
    """
    content = HEADER + 'a,"good\none",,,\r\n' + row + "\nplain text\nb,good,,,\n"
    for skip_bad_lines in (False, True):
        error = await refusal(content, skip_bad_lines=skip_bad_lines)
        assert error.line == 4
        assert said in str(error)


def test_a_quote_left_open_is_read_no_further_than_a_row_may_be_long():
    """A file of any size that lies behind it is not swallowed."""
    parser = Parser("prompts.csv", Rows(), Reading())
    parser.feed(b'prompt,id\n"A fox,1\n')
    block = (b"A hen" * 204 + b",2\n") * 64
    blocks = 0
    while parser.error is None:
        assert parser.feed(block) == []
        blocks += 1
    assert blocks == LONGEST_LINE // len(block) + 1
    assert parser.error.line == 2


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ('a,"fox\n\nred"\na,hen\n', 5, "the id 'a' was there before"),
        ('b,"hen\n"\na,"another\nfox"\n', 4, "the request of 'a' is not the one that was paid for"),
    ],
)
async def test_ids_are_judged_by_the_line_of_their_row(run, sandbox, tmp_path, rows, content, line, said):
    """A repeated id, and a changed request: found before anything is sent, or passed over by that line."""
    path = tmp_path / "prompts.csv"
    path.write_text('id,prompt\na,"fox\n\nred"\n')
    assert (await run(path)).saved == 1
    path.write_text("id,prompt\n" + content)
    with pytest.raises(SourceError, match=said) as caught:
        await run(path)
    assert caught.value.line == line
    assert f"prompts.csv, line {line}: " in str(caught.value)
    assert sandbox.billing.requests == 1
    report = await run(path, skip_bad_lines=True)
    assert (report.total, report.failed, report.saved + report.reused) == (2, 1, 1)
    assert [row["line"] for row in rows(tmp_path / "out/failures.jsonl")] == [line]


PROMPTS = st.text(st.one_of(st.sampled_from("\",;\r\n\t' a\\="), st.characters(codec="utf-8")), max_size=12)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(PROMPTS, PROMPTS.filter(str.strip)), max_size=6),
    dialect=st.tuples(
        st.sampled_from(",;\t"),
        st.sampled_from(["\r\n", "\n"]),
        st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ),
    cuts=st.lists(st.integers(0, 400)),
    is_marked=st.booleans(),
)
@example([('"', '""\n"')], (",", "\r\n", csv.QUOTE_MINIMAL), list(range(40)), True)
def test_what_pythons_writer_writes_comes_back(rows, dialect, cuts, is_marked):
    """Whatever the texts are, and however the bytes are cut into blocks."""
    rows = [(name.replace("\0", ""), prompt.replace("\0", "x")) for name, prompt in rows]
    separator, end, quoting = dialect
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([("id", "prompt"), *rows])
    if end == "\n" and "\r" in file.getvalue():
        return  # this writer leaves carriage returns without quotes: see above, those are refused
    data = (b"\xef\xbb\xbf" if is_marked else b"") + file.getvalue().encode()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    blocks = [data[begin:end] for begin, end in itertools.pairwise(bounds) if begin < end]
    parser = Parser("prompts.csv", Rows(), Reading())
    found = [entry for block in [*blocks, b""] for entry in parser.feed(block)]
    assert parser.error is None
    assert [(entry.id, entry.request) for entry in found] == [
        (name or None, ImageRequest(prompt)) for name, prompt in rows
    ]
