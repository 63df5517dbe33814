"""A batch of any length: its memory is that of the work in flight, and an item costs what it always cost."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from hinow_async.sandbox import Behaviour, Sandbox

pytestmark = pytest.mark.slow

SEEN = 13
"""Bytes by which a name that was seen is remembered, at most: some 12 MB for a million."""

RUN = """
import asyncio, json, sys, time
from hinow_async import AsyncHinow, Limits
from hinow_async.batch import generate_batch

async def main(source, out):
    async with AsyncHinow(limits=Limits(max_in_flight=64, adaptive=False)) as client:
        begun = time.process_time()
        report = await generate_batch(client, source, out)
        return report.saved, time.process_time() - begun

saved, cpu = asyncio.run(main(*sys.argv[1:]))
status = open("/proc/self/status").read()
print(json.dumps({"saved": saved, "cpu": cpu, "kib": int(status.partition("VmHWM:")[2].split()[0])}))
"""


async def run(sandbox, root, items):
    """Have so many prompts made in a process of its own; return what it took."""
    source = root / f"{items}.txt"
    with source.open("w") as file:
        file.writelines(f"Lighthouse number {number}\n" for number in range(items))
    env = {**os.environ, "HINOW_BASE_URL": sandbox.base_url, "HINOW_API_KEY": sandbox.api_key}
    command = [sys.executable, "-c", RUN, str(source), str(root / f"out-{items}")]
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return json.loads(said)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_memory_and_cost_are_flat(tmp_path):
    """At 100,000 prompts within 10 % of the memory of 10,000; a million (HINOW_MILLION) adds its names."""
    sizes = [10_000, 100_000, *([1_000_000] if "HINOW_MILLION" in os.environ else [])]
    async with Sandbox(Behaviour(picture_size=64)) as sandbox:
        ran = {items: await run(sandbox, tmp_path, items) for items in sizes}
    for items, took in ran.items():
        assert took["saved"] == items
        assert took["kib"] < 1.1 * ran[10_000]["kib"] + (SEEN if items > 100_000 else 0) * items / 1024
        assert took["cpu"] / items < 1.5 * ran[10_000]["cpu"] / 10_000
