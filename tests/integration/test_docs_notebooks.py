"""The notebooks of the pages run as they are, show what they should, and are shown with it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hinow_async

PROJECT = Path(hinow_async.__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "docs/notebooks").glob("*.ipynb"))
ALT = re.compile(r'<img src="data:image/webp;base64,[^"]+" alt="([^"]*)"')


def read(path):
    return json.loads(path.read_text("utf-8"))


def outputs_of(notebook):
    """All HTML and all text that its cells showed."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    html = [unboxed("".join(output["data"].get("text/html", ""))) for output in outputs if "data" in output]
    return html, "".join("".join(output.get("text", "")) for output in outputs)


def unboxed(html):
    """What is in the box that keeps MathJax out of it."""
    return html.removeprefix('<div class="mathjax_ignore tex2jax_ignore">').removesuffix("</div>")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """All of them, executed now: the folder, and the names of those that show something else than before."""
    folder = tmp_path_factory.mktemp("executed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", PROJECT / "docs/run_notebooks.py", "--into", folder],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "IPYTHONDIR": str(folder / ".ipython")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout.split()


def test_there_are_three():
    """A first picture, a batch, two models."""
    assert [path.stem for path in NOTEBOOKS] == ["batch", "first-picture", "two-models"]


def test_what_they_show_is_not_stale(run):
    """Executed again, each cell shows the same but for numbers: else `make notebooks` was forgotten."""
    assert run[1] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_small_and_tell_nothing_of_a_machine(path):
    """Below 300 KB with their pictures; cells are numbered from 1, and no address or folder is in them."""
    assert path.stat().st_size < 300_000
    assert not re.search(r"127\.0\.0\.1|localhost|/tmp|/home|hi_[A-Za-z0-9]{6}", path.read_text("utf-8"))
    counts = [cell["execution_count"] for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_the_first_picture_is_shown(run):
    """Not before it is saved, then all four, then one."""
    html, text = outputs_of(read(run[0] / "first-picture.ipynb"))
    assert "4 not fetched yet" in html[0]
    assert [len(ALT.findall(each)) for each in html[:3]] == [0, 4, 1]
    assert "The sandbox heard: Name three lighthouses" in html[3]
    assert "pictures/a-lighthouse-at-dawn-poster-style-21c0b6fc-0.png png 1280 1280" in text


def test_the_batch_goes_on(run):
    """Fourteen, of which twelve are shown; then the one that was added alone."""
    html, text = outputs_of(read(run[0] / "batch.ipynb"))
    assert html[0].startswith('<progress value="14" max="14"></progress> 14 of 14 done, 0 in flight')
    assert len(set(ALT.findall(html[1]))) == 12
    assert "and 2 more" in html[1]
    assert "15 of 15 items done: 15 pictures lie in out/images (1 made now" in text
    assert html[3].endswith("4 of 4 done, 4 pictures saved")
    assert "A lighthouse in spring" in html[4]


def test_two_models_stand_side_by_side(run):
    """A row for each prompt, a picture of each variant in it; the same in words; one cell."""
    html, text = outputs_of(read(run[0] / "two-models.ipynb"))
    assert html[0].endswith("9 of 9 done, 9 pictures saved")
    _, *rows = html[1].split("</tr>")[:-1]
    assert [len(ALT.findall(row)) for row in rows] == [3, 3, 3]
    assert "A &lt;cat&gt; &amp; a dog, pencil" in rows[1]
    assert "3 prompts in 3 variants" in text
    assert "high openai/gpt-image-2 compared/000-newer-high-0.png" in text


def pages():
    """The module that makes pages of notebooks."""
    spec = importlib.util.spec_from_file_location("notebook_pages", PROJECT / "docs/notebook_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_shows_cells_and_outputs(path):
    """Each code as Python, each output below it, the notebook to download; nothing from a network."""
    notebook = read(path)
    made = pages().page(notebook, path.name)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert made.startswith("# ")
    assert made.count("```python\n") == len(code)
    assert made.count('<div class="output">') == sum(len(cell["outputs"]) for cell in code)
    assert f"({path.name})" in made
    assert "src=" not in made.replace('src="data:image/webp;base64,', "")


def test_an_output_stays_text_on_its_page():
    """What was printed is no markup, and no empty line in it ends the block."""
    output = {"output_type": "stream", "text": ["<b>one\n", "\n", "`two`"]}
    cell = {"cell_type": "code", "source": "1", "outputs": [output]}
    made = pages().page({"cells": [cell]}, "n.ipynb")
    assert '<div class="output"><pre>&lt;b&gt;one&#10;&#10;`two`</pre></div>' in made
