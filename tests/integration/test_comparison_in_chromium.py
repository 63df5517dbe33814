"""The page of a comparison in a browser: it shows pictures and words, and never says or loads a thing."""

import json
import subprocess
import sys

import chromium
import pytest
from programs import skip_without

from hinow_async.sandbox import Behaviour, Fault, Sandbox

pytestmark = skip_without(chromium.binary(), "chromium")

PINNED = "openai/gpt-image-2-2026-04-21"
HOSTILE = (
    '"><img src=x onerror="document.title=\'owned\'">',
    "</script><script>document.title='owned'</script>",
    "</style><style>*{display:none}</style></table><h1>owned</h1>",
    "javascript:document.title='owned'",
    "abc \u202egnp.exe",
)
LABEL = "other/<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def address():
    with chromium.running() as address:
        yield address


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of the command: hostile prompts and model ids, a refusal, two pictures in a cell."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    refusal = Fault(match="refuse", status=400, body={"error": {"message": "<i>against</i> the rules"}})
    with Sandbox.in_thread(Behaviour(picture_size=640, models=[PINNED, LABEL], faults=[refusal])) as sandbox:
        ended = subprocess.run(
            [sys.executable, "-m", "hinow_async.cli", "compare", *HOSTILE, "refuse <b>this</b>",
             "--model", PINNED, "--model", LABEL, "--num-images", "2", "--out", out, "--json"],
            capture_output=True, text=True, check=False,
            env={"HINOW_BASE_URL": sandbox.base_url, "HINOW_API_KEY": sandbox.api_key},
        )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    return out / json.loads(ended.stdout)["page"].rpartition("/")[2]


@pytest.fixture
async def tab(address, page):
    """The page, opened; at the end nothing was said, and nothing but files was asked for."""
    async with chromium.tab(address) as tab:
        await tab.size(1280, 900)
        await tab.open(page)
        yield tab
        assert await tab.value("document.title") == "out · comparison"
        assert tab.said == []
        assert {url.partition(":")[0] for url in tab.loaded} <= {"file", "data"}


async def test_pictures_are_seen_in_their_columns(tab):
    """A row for each prompt, a column for each model, and thumbnails that decode."""
    await tab.value("Promise.all([...document.querySelectorAll('img')].map((img) => img.decode()))")
    rows = await tab.value(
        "[...document.querySelectorAll('tbody')].map((body) =>"
        " [...body.querySelectorAll('td')].map((cell) => cell.querySelectorAll('img').length))"
    )
    assert rows == [[2, 2]] * len(HOSTILE) + [[0, 0]]
    assert await tab.value("document.querySelector('img').naturalWidth") == 320
    assert await tab.value("document.querySelectorAll('thead th').length") == 2


async def test_every_text_is_text(tab):
    """Prompts, labels, models and errors stand there as they are; nothing of them became an element."""
    prompts = await tab.value("[...document.querySelectorAll('.prompt')].map((each) => each.textContent)")
    assert prompts[: len(HOSTILE)] == [text.replace("\u202e", "\\u202e") for text in HOSTILE]
    heads = await tab.value("[...document.querySelectorAll('thead th')].map((each) => each.textContent)")
    assert heads == [PINNED, LABEL]
    assert await tab.value("document.querySelectorAll('script, h1 ~ h1, i, b, p img').length") == 0
    assert await tab.value("document.querySelectorAll('style').length") == 1
    text = await tab.value("document.querySelector('tbody:last-of-type').textContent")
    assert "<i>against</i> the rules" in text


async def test_a_picture_opens_its_file(tab, page):
    """Each link leads to the very file beside the page."""
    links = await tab.value("[...document.querySelectorAll('a')].map((link) => link.href)")
    names = {path.name for path in page.parent.glob("*.png")}
    assert len(links) == len(names) == 4 * len(HOSTILE)
    await tab.value("document.querySelector('a').click()")
    await tab.until("document.images.length === 1 && document.images[0].naturalWidth === 640")
    await tab.open(page)


async def test_it_is_dark_where_dark_is_wanted(tab):
    """As the gallery is, by the same look."""
    seen = {}
    for scheme in ("light", "dark"):
        await tab.scheme(scheme)
        seen[scheme] = await tab.value("getComputedStyle(document.body).backgroundColor")
    assert seen == {"light": "rgb(246, 246, 244)", "dark": "rgb(19, 19, 18)"}
