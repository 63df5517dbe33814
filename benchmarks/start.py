"""Import and first call.

Each in a fresh interpreter, whose own start is not counted, from cached bytecode: CPU to import, the
modules that came with it, the memory of the process once a client is there and nothing was called, and CPU
and time from the beginning of the import to the first picture's link.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.case import Case, Metric
from benchmarks.stub import stub

METRICS = {
    "cpu_ms": Metric("CPU, ms", ".0f", how="ratio"),
    "wall_ms": Metric("time, ms", ".0f", how="ratio"),
    "modules": Metric("modules", ".0f", how="ratio"),
    "mib": Metric("resident, MiB beyond the interpreter", ".1f", how="ratio"),
}
IMPORTS = {
    "ours": "import hinow_async",
    "ours, a client made": "import hinow_async; hinow_async.AsyncHinow(api_key='hi_bench')",
    "aiohttp": "import aiohttp",
    "httpx": "import httpx",
    "openai": "import openai",
}
CLIENTS_MADE = {
    "ours": "import hinow_async; made = hinow_async.AsyncHinow(api_key='hi_bench')\nawait made.aclose()",
    "aiohttp": "import aiohttp; made = aiohttp.ClientSession()\nawait made.close()",
    "httpx": "import httpx; made = httpx.AsyncClient()\nawait made.aclose()",
    "openai": "import openai; made = openai.AsyncOpenAI(api_key='hi_bench')\nawait made.close()",
}
FIRST_CALLS = {
    "ours": (
        "import hinow_async\n"
        "async with hinow_async.AsyncHinow(base_url=base, api_key='hi_bench') as client:\n"
        "    await client.images.generate('A lighthouse')"
    ),
    "aiohttp": (
        "import aiohttp\n"
        "async with aiohttp.ClientSession() as session:\n"
        "    async with session.post(base + '/images', json={'prompt': 'A lighthouse'}) as response:\n"
        "        await response.json()"
    ),
    "openai": (
        "import openai\n"
        "async with openai.AsyncOpenAI(base_url=base, api_key='hi_bench') as client:\n"
        "    await client.images.generate(prompt='A lighthouse', model='gpt-image-2')"
    ),
}
# asyncio is there before the clocks start: it belongs to whoever writes asynchronous code.
FRAME = """
import asyncio, json, sys, time, os
from pathlib import Path
def resident():
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
async def main(base):
    modules, size = len(sys.modules), resident()
    cpu, wall = time.process_time(), time.perf_counter()
{code}
    print(json.dumps({{
        'cpu_ms': (time.process_time() - cpu) * 1e3, 'wall_ms': (time.perf_counter() - wall) * 1e3,
        'modules': len(sys.modules) - modules, 'mib': (resident() - size) / 2**20,
    }}))
asyncio.run(main(sys.argv[1]))
"""
CASES = (
    Case(name="import", clients=tuple(IMPORTS), base="aiohttp", options={"what": "import"}),
    Case(name="a client at rest", clients=tuple(CLIENTS_MADE), base="aiohttp", options={"what": "client"}),
    Case(
        name="the first call",
        clients=tuple(FIRST_CALLS),
        base="aiohttp",
        options={"what": "call"},
        serve=lambda: stub(0.0),
    ),
)
WHAT = {"import": IMPORTS, "client": CLIENTS_MADE, "call": FIRST_CALLS}
TOLD = {"import": ("cpu_ms", "modules"), "client": ("mib",), "call": ("cpu_ms", "wall_ms")}
TIMES = 3


def measure(client: str, where: Any, *, what: str) -> dict[str, float]:
    """The least of three, in interpreters of their own: whatever disturbs can only add."""
    code = WHAT[what][client]
    _run(code, str(where))  # leaves bytecode behind
    runs = [_run(code, str(where)) for _ in range(TIMES)]
    return {name: min(run[name] for run in runs) for name in TOLD[what]}


def _run(code: str, base: str) -> dict[str, float]:
    lines = code.split("\n")
    if lines[-1].startswith("await made"):
        lines.pop()  # closed after the figures were taken
    body = "\n".join(f"    {line}" for line in lines)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRAME.format(code=body), base],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    )
    return json.loads(done.stdout)
