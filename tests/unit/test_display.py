"""What values show in a notebook: bounded HTML that runs nothing, asks nobody, and holds for any text."""

import base64
import io
import os
import pickle
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from hinow_async import (
    APIResponseError,
    CallRecord,
    ChatCompletion,
    Choice,
    GeneratedImage,
    ImageComparison,
    ImageOutcome,
    ImageRequest,
    ImageResult,
    IntegrityError,
    Message,
    SavedImage,
)
from hinow_async._figures import MOST_CHARACTERS, Figure, figures
from hinow_async._models.display import PATIENCE, grid
from hinow_async._models.images import SavedImages
from hinow_async._pillow import shrunk

CALL = CallRecord(
    request_id=None,
    attempts=1,
    elapsed=1.0,
    queued=0.0,
    unknown_outcomes=0,
    estimated_usd=0.1,
    account="a",
    idempotency_key="k",
)
HOSTILE = (
    '"><img src=x onerror=alert(1)>',
    "'><script>alert(1)</script>",
    "</figcaption></div><style>@import 'https://evil.example/x.css'</style>",
    "![](https://evil.example/pixel.png) [x](javascript:alert(1))",
    "a\u202eb\ud800c\x00d\x1b]8;;https://evil.example\x07",
)
BOX = '<div class="mathjax_ignore tex2jax_ignore">'
"""In it MathJax looks for no formulas: between two prices, or with a link of their own."""
TAGS = {"div", "figure", "figcaption", "small", "img", "p", "b", "code"}
TABLE = {"table", "thead", "tbody", "tr", "th", "td"}


class Tags(HTMLParser):
    """All tags of a piece of HTML, and their attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data

    @property
    def pictures(self):
        return [value for name, value in self.attributes if name == "src"]


def show(value):
    """What a notebook shows of a value, after looking at each tag of it."""
    html = value if isinstance(value, str) else value._repr_html_()
    assert isinstance(value, str) or html.startswith(BOX)
    seen = Tags(html.replace(BOX, "<div>"))
    is_table = isinstance(value, ImageComparison)
    assert set(seen.tags) <= (TAGS | TABLE if is_table else TAGS)
    assert {name for name, _ in seen.attributes} <= {"style", "src", "alt", "title", *["scope"] * is_table}
    assert all(src.startswith("data:image/") for src in seen.pictures)
    assert html.encode("utf-8")
    return seen


def png(size=(40, 30)):
    out = io.BytesIO()
    Image.effect_noise(size, 50).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def saved(tmp_path):
    """`saved("a.png", data)`: a picture on disk, as `save` returns it."""

    def make(name="a.png", data=None, index=0):
        path = tmp_path / name
        path.write_bytes(png() if data is None else data)
        return SavedImage(path, index, "0" * 64, path.stat().st_size, "png", 40, 30)

    return make


def result_of(*images, prompt="A fox", model="m"):
    return ImageResult(ImageRequest(prompt), images, model, "p", CALL)


def compared(prompts, labels, outcomes):
    return ImageComparison(prompts=tuple(prompts), labels=tuple(labels), outcomes=tuple(outcomes))


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_shown_as_text(text, saved):
    """Prompts, models, paths, errors and answers are from anywhere: no tag, attribute or source is theirs."""
    result = result_of(GeneratedImage("https://a.example/x?sig=1"), prompt=text, model=text)
    file = SavedImage(Path(text.replace("\x00", "")), 0, "0" * 64, 4, "png", 1, 1)
    error = APIResponseError(text)
    drawn = ImageOutcome(index=0, request=result.request, result=result, saved=(file,))
    shown = [
        result,
        file,
        SavedImages([file]),
        result_of(GeneratedImage(data=png()), prompt=text),
        ImageOutcome(index=0, request=result.request, error=error),
        ImageOutcome(index=0, request=result.request, result=result, saved=(saved(),)),
        ChatCompletion(id=text, model=text, choices=(Choice(index=0, message=Message("assistant", text)),)),
        GeneratedImage(encoded=f"data:text/html,{text}"),
        compared([text], [text], [ImageOutcome(index=0, request=result.request, error=error)]),
        compared([text], [text], [drawn]),
        figures([Figure(None, text, text)]),
    ]
    for value in shown:
        seen = show(value)
        assert "\u202e" not in seen.text
        assert "a.example" not in seen.text


def test_a_long_text_is_cut():
    """A notebook is no place for a prompt of a megabyte."""
    assert len(result_of(prompt="x" * 10**6)._repr_html_()) < 1000
    choice = Choice(index=0, message=Message("assistant", "x" * 10**6))
    assert len(ChatCompletion(id=None, model=None, choices=(choice,))._repr_html_()) < 30_000


def test_a_picture_is_made_small(saved):
    """Its longest side has 384 pixels, and its caption says what it is."""
    (picture,) = show(saved(data=png((2000, 1000)))).pictures
    assert Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).size == (384, 192)
    assert "a.png (40 x 30 png, " in show(saved()).text


def test_what_came_inline_is_shown_and_the_rest_said():
    """Nothing is fetched for it."""
    seen = show(result_of(GeneratedImage(data=png()), GeneratedImage("https://a.example/x", index=1)))
    assert len(seen.pictures) == 1
    assert '1 not fetched yet: await result.save("out") puts them on disk' in seen.text


def test_what_is_no_picture_is_named(saved, tmp_path):
    """Broken, cut, gone, a pipe or a link: without a picture, and without waiting."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(saved("true.png").path)
    cut = png((600, 600))[:-1000]
    pictures = [saved("broken.png", b"GIF89a"), saved("cut.png", cut)]
    pictures += [
        SavedImage(tmp_path / f"{name}.png", 0, "", 4, "png", 1, 1) for name in ("pipe", "link", "gone")
    ]
    seen = show(SavedImages(pictures))
    assert seen.pictures == []
    assert seen.text.count("it is not there, is broken, or takes long") == 5


def test_too_many_pixels_are_not_decoded():
    """A file of 10 kB may claim any number of them."""
    bomb = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(bomb, "PNG")
    with pytest.raises(IntegrityError, match="9,000 x 9,000 pixels are too many"):
        shrunk(bomb, 384)


def test_showing_waits_for_no_picture_for_long():
    """The loop of the kernel stands still meanwhile."""
    go_on = threading.Event()

    class Slow:
        _caption, _media_type = "slow", None

        def _open(self):
            go_on.wait(60 * PATIENCE)
            return io.BytesIO(png())

    slow = Slow()
    shown = show(grid([slow]))
    was_waited_for = go_on.is_set()
    go_on.set()
    assert not was_waited_for
    assert shown.pictures == []


def test_an_output_is_bounded_in_number_and_size():
    """Twelve pictures and a million characters; all others are counted, or named."""
    seen = show(figures([Figure("data:image/webp;base64,A", f"{n}") for n in range(30)], 1000))
    assert (len(seen.pictures), "and 988 more" in seen.text) == (12, True)
    large = "data:image/webp;base64," + "A" * (MOST_CHARACTERS // 3)
    seen = show(figures([Figure(large, f"name {n}") for n in range(4)]))
    assert (len(seen.pictures), "name 3" in seen.text) == (2, True)


def test_without_pillow_small_files_are_shown_as_they_are(saved, monkeypatch):
    """Larger ones are named, and how to have them shown; what came inline is not trusted unseen."""
    small, large, inline = saved(), saved("large.png", png((1200, 1200))), GeneratedImage(data=png())
    monkeypatch.setitem(sys.modules, "PIL", None)
    (picture,) = show(small).pictures
    assert picture == f"data:image/png;base64,{base64.b64encode(small.path.read_bytes()).decode()}"
    for value in (large, result_of(inline)):
        seen = show(value)
        assert (seen.pictures, "without Pillow" in seen.text) == ([], True)


def test_what_save_returns_is_a_tuple(saved):
    """Equal to any other with the same pictures, also after a pickle."""
    pictures = SavedImages([saved("a.png"), saved("b.png", index=1)])
    assert pictures == tuple(pictures)
    assert pickle.loads(pickle.dumps(pictures)) == pictures
    assert len(show(pictures).pictures) == 2


def cells_of(saved, rows, columns, pictures=1, prompt="A fox"):
    """A comparison whose cells have so many pictures each."""
    cells = []
    for number in range(rows * columns):
        files = tuple(saved(f"{number}-{index}.png", index=index) for index in range(pictures))
        result = result_of(*[GeneratedImage(f"https://a.example/{index}") for index in range(pictures)])
        cells.append(ImageOutcome(index=number, request=result.request, result=result, saved=files))
    return compared([prompt] * rows, [f"label {number}" for number in range(columns)], cells)


def test_a_comparison_is_a_table_with_its_pictures(saved):
    """Labels above, prompts at the left; below its pictures each cell says time, cost and model."""
    seen = show(cells_of(saved, 2, 3))
    assert (seen.tags.count("tr"), seen.tags.count("td"), len(seen.pictures)) == (3, 7, 6)
    assert seen.text.count("1.0 s, $0.100, 1 picture, m") == 6
    assert "2 prompts in 3 variants, estimated $0.600" in seen.text


def test_a_comparison_shows_of_each_cell_something(saved):
    """Twelve pictures in all: the first of each cell before the second of any; of the others the number."""
    seen = show(cells_of(saved, 3, 3, pictures=4))
    assert len(seen.pictures) == 12
    assert seen.text.count("and 2 more") == 3
    assert seen.text.count("and 3 more") == 6


def test_a_comparison_is_bounded_in_rows_columns_and_characters(saved):
    """Whatever its size: a notebook is a file that is handed on."""
    made = cells_of(saved, 1, 1, prompt="x" * 10**6)
    labels = [f"{number} {'y' * 10**5}" for number in range(20)]
    large = compared(made.prompts * 1000, labels, made.outcomes * 20_000)
    seen, html = show(large), large._repr_html_()
    assert seen.tags.count("tr") == 25
    assert "and 976 more prompts" in seen.text
    assert "and 8 more variants" in seen.text
    assert len(html) < 1_000_000


def test_a_comparison_in_words_is_aligned_and_safe(saved):
    """Wide letters, many lines and escape sequences move nothing."""
    error = APIResponseError("no\n\x1b[2J way")
    failed = ImageOutcome(index=0, request=ImageRequest("A fox"), error=error)
    made = compared(["灯台\n\x1b[31m", "A fox"], ["one", "two"], [failed, *cells_of(saved, 1, 3).outcomes])
    lines = str(made).splitlines()
    assert lines[0] == f"{'':12}{'one':26}two"
    assert lines[1] == f"灯台 \u241b[31m  {'APIResponseError':26}1.0 s, $0.100, 1 picture"
    assert lines[3] == "[0, one] APIResponseError: no \u241b[2J way"
    assert len(lines) == 8
