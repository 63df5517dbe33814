"""In a real kernel: `await` from cell to cell, values that show themselves, progress that stays."""

import base64
import io
import os
import re
import subprocess
import sys

import pytest
from kernels import run_notebook
from PIL import Image

from hinow_async.sandbox import Behaviour, Sandbox

BOX = '<div class="mathjax_ignore tex2jax_ignore">'
PICTURES = re.compile(r'<img src="data:image/webp;base64,([^"]*)" alt="([^"]*)"')

CELLS = {
    "client": """
import asyncio, pathlib
from hinow_async import AsyncHinow
from hinow_async.batch import generate_batch
from hinow_async.sandbox import Behaviour, Sandbox
client = AsyncHinow()
""",
    "task": "task = asyncio.create_task(client.images.generate('A <fox>', num_images=2, resolution='1k'))",
    "result": "result = await task\nresult",
    "saved": "await result.save('out')",
    "result again": "result",
    "kept": """
kept = await result.save("kept")
for picture in kept:
    picture.path.unlink()
kept
""",
    "gone": """
async with client.images.generate_many(["A hen"], save_to="gone") as outcomes:
    async for outcome in outcomes:
        gone = outcome.saved[0]
gone.path.unlink()
gone
""",
    "many": """
async with client.images.generate_many([f"A hen {n}" for n in range(14)], save_to="many") as outcomes:
    shown = [outcome async for outcome in outcomes]
""",
    "outcome": "shown[-1]",
    "fourteen": "type(shown[0].saved)(outcome.saved[0] for outcome in shown)",
    "unsized": """
async with client.images.generate_many((f"An owl {n}" for n in range(3)), save_to="owls") as outcomes:
    async for outcome in outcomes:
        pass
""",
    "unsaved": """
async with client.images.generate_many(["A yak"]) as outcomes:
    async for outcome in outcomes:
        pass
""",
    "left": """
async with client.images.generate_many((f"A cat {n}" for n in range(9)), save_to="cats") as outcomes:
    async for outcome in outcomes:
        break
""",
    "chat": "await client.chat.completions.create('Name <one> fox', model='hinow/himax')",
    "chat pictures": """
pictures = await client.chat.completions.create('A fox', model='openai/gpt-image-2-2026-04-21')
pictures
""",
    "chat pictures saved": "_ = await pictures.save('chat')\npictures",
    "inline": """
async with Sandbox(Behaviour(picture_size=64, answer_form="data_uris")) as other:
    async with AsyncHinow(api_key=other.api_key, base_url=other.base_url) as inline:
        drawn = await inline.images.generate("A fish", num_images=3)
drawn
""",
    "inline one": "drawn.images[0]",
    "batch": "_ = pathlib.Path('prompts.txt').write_text('A fox\\n<i>A hen\\n')\n"
    "report = await generate_batch(client, 'prompts.txt', 'batch')",
    "report": "report",
    "told": "told = []\n_ = await generate_batch(client, 'prompts.txt', 'batch', on_progress=told.append)",
    "slow": """
async with Sandbox(Behaviour(bandwidth=5000)) as other:
    async with AsyncHinow(api_key=other.api_key, base_url=other.base_url) as slow:
        slowly = await (await slow.images.generate("A lighthouse")).save("slow")
""",
    "colab": """
get_ipython().__class__ = type("Shell", (type(get_ipython()),), {})
async with client.images.generate_many(["A cow"], save_to="cow") as outcomes:
    _ = [outcome async for outcome in outcomes]
""",
    "sync": "from hinow_async import Hinow\ndoor = Hinow()",
    "sync result": "crab = door.images.generate('A crab', num_images=2)\ncrab",
    "sync saved": "crab.save('crab')",
    "sync again": "crab",
    "sync many": """
with door.images.generate_many(["A crow", "A newt"], save_to="crows") as outcomes:
    crows = list(outcomes)
""",
    "sync outcome": "crows[0].result",
    "sync left": """
with door.images.generate_many([f"A mole {n}" for n in range(500)], save_to="moles") as outcomes:
    next(outcomes)
""",
    "sync pickled": """
import pickle
copy = pickle.loads(pickle.dumps(door.images.generate("A toad")))
_ = door.images.save(copy, "toad")
copy
""",
    "sync slow": """
with Sandbox.in_thread(Behaviour(bandwidth=5000)) as other:
    with Hinow(api_key=other.api_key, base_url=other.base_url) as slow:
        slowly = slow.images.generate("A lighthouse").save("sync-slow")
""",
    "compared": """
models = ["openai/gpt-image-2-2026-04-21", "openai/gpt-image-2"]
compared = await client.images.compare(["A gnu", "An <ox>"], models)
compared
""",
    "compared saved": "await compared.save('compared')",
    "compared again": "compared",
    "compared at once": """
await client.images.compare("A roe", {"low": {"quality": "low"}, "high": {"quality": "high"}}, save_to="roes")
""",
    "sync compared": """
roes = door.images.compare("A roe", {"low": {}, "high": {"quality": "high"}})
_ = roes.save("sync-roes")
roes
""",
    "sync close": "door.close()",
    "close": "await client.aclose()",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def outputs(folder):
    """All cells, run once in one kernel: what the saved notebook has of each."""
    with Sandbox.in_thread(Behaviour(picture_size=600)) as sandbox:
        return run_notebook(CELLS, folder, sandbox)


def html_of(outputs):
    """The HTML of a cell that has one output, which is HTML."""
    (output,) = outputs
    return shown_in(output)


def shown_in(output):
    """The HTML of an output, without the box that keeps MathJax out of it."""
    html = output["data"]["text/html"]
    assert html.startswith(BOX)
    return html.removeprefix(BOX).removesuffix("</div>")


def pictures_in(html):
    """The pictures in an output, opened, and what stands for them where they cannot be seen."""
    return [
        (Image.open(io.BytesIO(base64.b64decode(data))).size, about) for data, about in PICTURES.findall(html)
    ]


def test_cells_that_show_nothing_are_silent(outputs):
    """Neither warnings nor bars nor values where nobody asked for them, and one client for all cells."""
    silent = ("client", "task", "unsaved", "told", "sync", "sync close", "close")
    assert {name: outputs[name] for name in silent} == {name: [] for name in silent}


def test_an_answer_is_not_fetched_by_being_shown(outputs):
    """Made by a task of an earlier cell; it says how to have its pictures, and keeps its links to itself."""
    html = html_of(outputs["result"])
    assert "<b>2 images of openai/gpt-image-2-2026-04-21</b>: A &lt;fox&gt;" in html
    assert "2 not fetched yet" in html
    assert "<img" not in html
    assert "127.0.0.1" not in html


def test_what_was_saved_is_shown(outputs):
    """By what `save` returns, and by the answer from then on."""
    for cell in ("saved", "result again"):
        html = html_of(outputs[cell])
        assert pictures_in(html) == [((384, 384), "A &lt;fox&gt;" if "again" in cell else "")] * 2
        assert len(re.findall(r"a-fox-[0-9a-f]{8}-[01]\.png \(600 x 600 png, [\d,]+ bytes\)", html)) == 2
        assert "not fetched" not in html


def test_what_is_saved_is_made_small_by_then(outputs):
    """In threads, before anybody waits for it to be shown: nothing is read then."""
    assert len(pictures_in(html_of(outputs["kept"]))) == 2


def test_a_file_that_is_gone_is_said(outputs):
    """A picture that nobody made small, and that is not there any more, is named."""
    html = outputs["gone"][-1]["data"]["text/html"]
    assert pictures_in(html) == []
    assert "000000-0.png" in html
    assert "it is not there" in html


def test_many_requests_have_one_bar(outputs):
    """With or without a known number; it ends with what became of them, also where they were left early."""
    assert html_of(outputs["many"]) == (
        '<progress value="14" max="14"></progress> 14 of 14 done, 14 pictures saved'
    )
    assert html_of(outputs["unsized"]) == (
        '<progress value="3" max="3"></progress> 3 of 3 done, 3 pictures saved'
    )
    bar = shown_in(outputs["left"][0])
    assert re.fullmatch(r'<progress value="(\d)" max="\1"></progress> \1 of \1 done, \1 pictures? saved', bar)


def test_a_shell_made_of_the_kernels_own_is_a_notebook(outputs):
    """Colab's is one."""
    assert html_of(outputs["colab"]).endswith("1 of 1 done, 1 picture saved")


def test_an_outcome_shows_its_pictures(outputs):
    """Also those of many requests, which are made small when they are shown."""
    html = html_of(outputs["outcome"])
    assert re.match(r"<p><b>#\d+</b>: A hen \d+</p>", html)
    assert len(pictures_in(html)) == 1


def test_an_output_is_bounded(outputs):
    """Twelve pictures, and the number of the others."""
    html = html_of(outputs["fourteen"])
    assert len(pictures_in(html)) == 12
    assert "<p>and 2 more</p>" in html
    assert len(html) < 1_000_000


def test_an_answer_of_a_chat_is_text(outputs):
    """Whatever stands in it."""
    html = html_of(outputs["chat"])
    assert html.startswith('<div style="white-space: pre-wrap">')
    assert "<one>" not in html


def test_pictures_of_a_chat_are_shown_once_they_are_saved(outputs):
    """As those of an `ImageResult` are."""
    html = html_of(outputs["chat pictures"])
    assert pictures_in(html) == []
    assert "1 not fetched yet: <code>await reply.save(&quot;out&quot;)</code> puts them on disk" in html
    html = html_of(outputs["chat pictures saved"])
    assert pictures_in(html) == [((384, 384), "A fox")]
    assert "not fetched" not in html


def test_pictures_that_came_inline_are_shown(outputs):
    """They need no fetching, and no client that is still open."""
    assert pictures_in(html_of(outputs["inline"])) == [((64, 64), "A fish")] * 3
    assert "not fetched" not in html_of(outputs["inline"])
    assert pictures_in(html_of(outputs["inline one"])) == [((64, 64), "")]


def test_a_batch_shows_itself_and_its_report(outputs):
    """One bar in the cell that ran it, with counts, limit and money; the report is a table and pictures."""
    bar = html_of(outputs["batch"])
    assert bar.startswith('<progress value="2" max="2"></progress> 2 of 2 done, 0 in flight (limit ')
    assert bar.endswith("estimated $0.17 spent, $0.00 to come")
    report = html_of(outputs["report"])
    assert "<th>items done</th><td>2 of 2 (0 from before)</td>" in report
    assert {about for _, about in pictures_in(report)} == {"A fox", "&lt;i&gt;A hen"}


def test_a_saving_that_takes_long_shows_itself(outputs, folder):
    """How many bytes there are; the last state stays in the file."""
    (picture,) = (folder / "slow").iterdir()
    size = picture.stat().st_size
    assert f'value="{size}" max="{size}"' in html_of(outputs["slow"])


def test_the_client_without_await_shows_what_it_saved(outputs):
    """Where the kernel's loop is running; the hint on what is not saved yet speaks of no `await`."""
    html = html_of(outputs["sync result"])
    assert "2 not fetched yet: <code>result.save" in html
    for cell, count in {"sync saved": 2, "sync again": 2, "sync outcome": 1, "sync pickled": 1}.items():
        assert [size for size, _ in pictures_in(html_of(outputs[cell]))] == [(384, 384)] * count, cell


def test_the_client_without_await_shows_progress(outputs, folder):
    """In the cell that waits for it, though another thread knows it; of a list the number is known."""
    assert html_of(outputs["sync many"]) == (
        '<progress value="2" max="2"></progress> 2 of 2 done, 2 pictures saved'
    )
    assert 'max="500"' in outputs["sync left"][0]["data"]["text/html"]
    (picture,) = (folder / "sync-slow").iterdir()
    size = picture.stat().st_size
    assert f'value="{size}" max="{size}"' in html_of(outputs["sync slow"])


def test_a_comparison_shows_itself(outputs):
    """With a bar while it is made; its pictures once they are saved, also in the value from before."""
    bar, shown = (shown_in(output) for output in outputs["compared"])
    assert bar == '<progress value="4" max="4"></progress> 4 of 4 done'
    assert pictures_in(shown) == []
    assert "4 not fetched yet: <code>await comparison.save(&quot;out&quot;)</code>" in shown
    for cell in ("compared saved", "compared again"):
        shown = html_of(outputs[cell])
        assert pictures_in(shown) == [((384, 384), "A gnu")] * 2 + [((384, 384), "An &lt;ox&gt;")] * 2
        assert "not fetched" not in shown
    bar, shown = (shown_in(output) for output in outputs["compared at once"])
    assert bar.endswith("2 of 2 done, 2 pictures saved")
    assert len(pictures_in(shown)) == 2
    bar, shown = (shown_in(output) for output in outputs["sync compared"])
    assert bar.endswith("2 of 2 done")
    assert len(pictures_in(shown)) == 2


PLAIN = """
import asyncio, sys
from hinow_async import AsyncHinow
from hinow_async.batch import generate_batch

async def main():
    async with AsyncHinow() as client:
        result = await client.images.generate("A fox")
        await result.save("out")
        async with client.images.generate_many(["A hen"], save_to="many") as outcomes:
            async for _ in outcomes:
                pass
        await generate_batch(client, ["A cow"], "batch")
        assert "not fetched" in result._repr_html_()

asyncio.run(main())
print([name for name in ("IPython", "PIL") if name in sys.modules])
"""


def test_elsewhere_nothing_of_it_happens(tmp_path):
    """A plain Python shows nothing, remembers nothing, and imports neither IPython nor Pillow."""
    with Sandbox.in_thread(Behaviour(picture_size=64)) as sandbox:
        address = {"HINOW_BASE_URL": sandbox.base_url, "HINOW_API_KEY": sandbox.api_key}
        done = subprocess.run(
            [sys.executable, "-c", PLAIN],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **address},
            check=False,
        )
    assert (done.stdout, done.stderr) == ("[]\n", "")
