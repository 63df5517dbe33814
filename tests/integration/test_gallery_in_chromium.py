"""A gallery in a browser: it shows pictures, can be filtered and used by keyboard, and never says a word."""

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor

import chromium
import pytest
from PIL import Image
from programs import skip_without

from hinow_async import AsyncHinow, RetryPolicy
from hinow_async.batch import generate_batch
from hinow_async.batch.gallery import write_gallery
from hinow_async.sandbox import Behaviour, Fault, Sandbox

pytestmark = skip_without(chromium.binary(), "chromium")

HOSTILE = (
    '"><img src=x onerror="document.title=\'owned\'">',
    "</script><script>document.title='owned'</script>",
    "javascript:document.title='owned'",
    "data:text/html,<script>document.title='owned'</script>",
    "abc \u202egnp.exe",
    "half an emoji \ud83d",
)
REQUESTS = (
    {"id": "fox", "prompt": "A fox in the snow", "quality": "high", "aspect_ratio": "16:9", "num_images": 2},
    {"id": "hen", "prompt": "A hen\nin Łódź", "quality": "low"},
    {"id": "quote ' \" < & #1?%20", "prompt": "A hen at night", "quality": "low", "aspect_ratio": "9:16"},
    *({"prompt": prompt} for prompt in HOSTILE),
    {"id": "no", "prompt": "Refuse this <b>fox</b>"},
    {"id": "lost", "prompt": "Answer nothing"},
)
PICTURES, CARDS = 10, 12
COUNT = "document.getElementById('count').textContent"
FOCUSED = "document.activeElement.closest('.card')?.querySelector('.prompt').textContent"
BIG = "document.getElementById('big')"
IS_OPEN = "document.getElementById('large').open"


@pytest.fixture(scope="module")
def address():
    with chromium.running() as address:
        yield address


async def make_gallery(out):
    faults = [
        Fault(match="Refuse", status=400, body={"error": {"message": "<i>against the rules</i>"}}),
        Fault(match="nothing", drop="after"),
    ]
    async with Sandbox(Behaviour(picture_size=640, faults=faults)) as sandbox:
        options = {"api_key": sandbox.api_key, "base_url": sandbox.base_url, "retry": RetryPolicy(attempts=1)}
        async with AsyncHinow(**options) as client:
            report = await generate_batch(client, REQUESTS, out)
    assert (report.images, report.failed, report.maybe_paid) == (PICTURES, 1, 1)
    return (await write_gallery(out)).pages[0]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A page of a real batch: hostile prompts, a refusal, an answer that was lost."""
    out = tmp_path_factory.mktemp("gallery") / "out"
    with ThreadPoolExecutor(1) as thread:  # the loop of a test lives as long as the test
        return thread.submit(asyncio.run, make_gallery(out)).result()


@pytest.fixture
async def tab(address, gallery):
    """The page, opened; at the end nothing was said, and nothing but files was asked for."""
    async with chromium.tab(address) as tab:
        await tab.size(1280, 900)
        await tab.open(gallery)
        yield tab
        assert await tab.value("document.title") == "out · gallery"
        assert tab.said == []
        assert {url.partition(":")[0] for url in tab.loaded} <= {"file", "data"}


async def test_pictures_are_seen(tab):
    """Each thumbnail is one, and what the browser shows has colours, in light and dark."""
    await tab.value("Promise.all([...document.querySelectorAll('.shot img')].map((img) => img.decode()))")
    widths = await tab.value("[...document.querySelectorAll('.shot img')].map((img) => img.naturalWidth)")
    assert len(widths) == PICTURES
    assert set(widths) == {320, 180}
    seen = {}
    for scheme in ("light", "dark"):
        await tab.scheme(scheme)
        data = await tab.screenshot()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        with Image.open(io.BytesIO(data)) as shot:
            colours = shot.convert("RGB").getcolors(1 << 24)
        assert len(colours) > 100
        seen[scheme] = max(colours)[1]
    assert sum(seen["light"]) > 3 * 200 > 3 * 60 > sum(seen["dark"])


async def test_every_prompt_is_text(tab):
    """Whatever it says, it stands there as it was sent; nothing of it became an element."""
    prompts = await tab.value("[...document.querySelectorAll('.prompt')].map((prompt) => prompt.textContent)")
    for request in REQUESTS:
        shown = request["prompt"].replace("\u202e", "\\u202e").replace("\ud83d", "\ufffd")
        assert shown in prompts
    assert len(prompts) == CARDS
    assert await tab.value("document.querySelectorAll('script').length") == 1
    assert await tab.value("document.querySelectorAll('.words img, .words script, b > *').length") == 0


async def test_the_filter_finds(tab):
    """By words of the prompt, in any order and case, and by what was asked for; cleared, all are back."""
    assert await tab.value(COUNT) == f"{CARDS} of {CARDS} shown"
    await tab.press("/")
    await tab.type("łódź HEN")
    assert await tab.value(COUNT) == f"1 of {CARDS} shown"
    assert await tab.value("document.querySelectorAll('.card:not([hidden])').length") == 1
    await tab.press("Escape")
    assert await tab.value(COUNT) == f"{CARDS} of {CARDS} shown"
    choices = [
        ("quality", "=high", 2), ("quality", "-", 6), ("quality", "", CARDS), ("status", "=maybe paid", 1),
    ]  # fmt: skip
    for name, value, count in choices:
        await tab.value(
            f"(() => {{ const select = document.querySelector('select[data-facet={name}]');"
            f" select.value = {json.dumps(value)};"
            " select.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        assert await tab.value(COUNT) == f"{count} of {CARDS} shown"
    await tab.press("/")
    await tab.type("no such words")
    assert await tab.value("document.getElementById('nothing').hidden") is False
    await tab.value("document.getElementById('clear').click()")
    await tab.until(f"{COUNT} === '{CARDS} of {CARDS} shown'")


async def test_the_keyboard_does_it_all(tab):
    """Keys move from card to card, enlarge, go on in the large view, and close it where one is by then."""
    await tab.press("j")
    assert await tab.value(FOCUSED) == REQUESTS[0]["prompt"]
    await tab.press("j", "ArrowRight")
    second = await tab.value(FOCUSED)
    await tab.press("ArrowDown", "ArrowUp")
    assert await tab.value(FOCUSED) == second
    await tab.press("k", "Home")
    assert await tab.value(FOCUSED) == REQUESTS[0]["prompt"]
    await tab.press("Enter")
    assert await tab.value(IS_OPEN) is True
    await tab.until(f"{BIG}.naturalWidth === 640")
    assert (await tab.value(f"{BIG}.src")).endswith("/out/images/fox-0.png")
    await tab.press("ArrowRight")
    await tab.until(f"{BIG}.src.endsWith('/fox-1.png')")
    await tab.press("Escape")
    await tab.until(f"!{IS_OPEN} && document.activeElement.href?.endsWith('/fox-1.png')")
    await tab.press("End", "Enter")
    assert await tab.value(IS_OPEN) is True
    words = await tab.value("document.getElementById('words').textContent")
    assert "may have been billed" in words or "<i>against the rules</i>" in words
    assert await tab.value(f"{BIG}.checkVisibility()") is False


async def test_pictures_with_odd_names_can_be_opened(tab):
    """The large view shows the very file, whatever its name."""
    for number in range(PICTURES):
        await tab.value(f"document.querySelectorAll('.shot')[{number}].click()")
        await tab.until(f"{BIG}.src.startsWith('file:') && {BIG}.naturalHeight >= 360")
        await tab.press("Escape")


async def test_a_reader_of_the_screen_is_told(tab):
    """Pictures have their prompts, fields their labels, and the count is a status."""
    tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    names = {
        (node["role"]["value"], node.get("name", {}).get("value")) for node in tree if not node["ignored"]
    }
    assert {
        ("image", "A fox in the snow"), ("link", "A fox in the snow"), ("searchbox", "prompt"),
        ("combobox", "quality"), ("heading", "out"), ("heading", "Failed or open"), ("search", ""),
    } <= names  # fmt: skip
    assert any(role == "status" for role, _ in names)


async def test_without_its_script_it_is_a_page_all_the_same(address, gallery):
    """Pictures, whole prompts and all there is to know; no bar that does nothing."""
    async with chromium.tab(address) as tab:
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.open(gallery)
        text = (await tab.call("DOM.getDocument", depth=0))["root"]
        bar = await tab.call("DOM.querySelector", nodeId=text["nodeId"], selector="#bar[hidden]")
        assert bar["nodeId"]
        tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
        texts = [node["name"]["value"] for node in tree if node["role"]["value"] == "StaticText"]
        assert "A fox in the snow" in texts
        assert "images/fox-0.png" in texts
        assert tab.said == []
