"""What else downloads: curl, aria2c, huggingface_hub."""

from __future__ import annotations

import asyncio
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.handmade import IN_FLIGHT


async def huggingface_hub(urls: list[str], out: Path) -> None:
    """The downloader of huggingface_hub, in as many threads."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from huggingface_hub.file_download import http_get

    def one(number: int, url: str) -> None:
        with (out / f"hf-{number}.png").open("wb") as file:
            http_get(url, file)

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, one, n, url) for n, url in enumerate(urls)))


async def curl(urls: list[str], out: Path) -> None:
    lines = "".join(f'url = "{url}"\noutput = "{out}/curl-{n}.png"\n' for n, url in enumerate(urls))
    _run(["curl", "-s", "-Z", "--parallel-max", str(IN_FLIGHT), "-K"], lines, out)


async def aria2c(urls: list[str], out: Path) -> None:
    lines = "".join(f"{url}\n  out=aria-{n}.png\n" for n, url in enumerate(urls))
    options = ["-q", f"-j{IN_FLIGHT}", "-x1", "--file-allocation=none", "-d", str(out)]
    _run(["aria2c", *options, "-i"], lines, out)


def _run(command: list[str], sources: str, out: Path) -> None:
    """Run a program, whose CPU counts as this process' children's."""
    path = out / "urls"
    path.write_text(sources, "utf-8")
    subprocess.run([*command, str(path)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
