"""Downloads as one writes them by hand, well and less so."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

IN_FLIGHT = 16
BLOCK = 512 * 1024

Fetch = Callable[..., Awaitable[None]]


async def by_hand(urls: list[str], out: Path, fetch: Fetch) -> None:
    """Fetch all of them, so many at once, in one session."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(session: Any, url: str, target: Path) -> None:
        async with gate:
            await fetch(session, url, target)

    async with _session() as session:
        await asyncio.gather(*(one(session, url, out / f"hand-{n}.png") for n, url in enumerate(urls)))


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[Any]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        read_bufsize=BLOCK,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
    ) as session:
        yield session


async def blocks(session: Any, url: str, target: Path) -> None:
    """Blocks of 512 KiB; one `writev` and the hash in a thread, while the next ones are read."""
    loop = asyncio.get_running_loop()
    temp = f"{target}.part"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    digest = hashlib.sha256()

    def write(pieces: list[bytes]) -> None:
        for piece in pieces:
            digest.update(piece)
        os.writev(fd, pieces)

    writing, pieces, size = None, [], 0
    async with session.get(url) as response:
        while piece := await response.content.readany():
            pieces.append(piece)
            size += len(piece)
            if size >= BLOCK:
                if writing is not None:
                    await writing
                writing, pieces, size = loop.run_in_executor(None, write, pieces), [], 0
    if writing is not None:
        await writing
    if pieces:
        await loop.run_in_executor(None, write, pieces)
    await loop.run_in_executor(None, _sync, fd, temp, target)


async def inline(session: Any, url: str, target: Path) -> None:
    """Writes and hashes on the loop, which is blocked meanwhile; syncs in a thread."""
    temp = f"{target}.part"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    digest = hashlib.sha256()
    async with session.get(url) as response:
        while piece := await response.content.readany():
            digest.update(piece)
            os.write(fd, piece)
    await asyncio.get_running_loop().run_in_executor(None, _sync, fd, temp, target)


def _sync(fd: int, temp: str, target: Path) -> None:
    os.fsync(fd)
    os.close(fd)
    Path(temp).rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def naive(urls: list[str], out: Path) -> None:
    """The loop of most tutorials."""
    import aiohttp

    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(session: aiohttp.ClientSession, url: str, target: Path) -> None:
        async with gate, session.get(url) as response:
            with target.open("wb") as file:
                async for chunk in response.content.iter_chunked(8192):
                    file.write(chunk)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, url, out / f"naive-{n}.png") for n, url in enumerate(urls)))
