"""Answers that no service should give, and what a batch makes of them."""

import base64
import io
import json

import pytest
from PIL import Image
from rawserver import KEY, RawServer, answer, http

from hinow_async import AsyncHinow
from hinow_async.batch import generate_batch

pytestmark = pytest.mark.usefixtures("leak_guard")


def inline():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def test_half_an_emoji_in_an_answer_stops_no_batch(tmp_path):
    """No database takes a lone surrogate: the picture is paid for, and is kept like the one beside it."""
    data = {"urls": [inline()], "model": "\ud800x", "provider": "half \udc00"}
    async with (
        RawServer(answer(http(200, {"success": True, "data": data}))) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url) as client,
    ):
        report = await generate_batch(client, ["one", "two"], tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text("utf-8").splitlines()]
    assert (report.saved, report.stopped) == (2, None)
    assert [(line["model"], line["provider"]) for line in lines] == [("?x", "half ?")] * 2
