"""Downloads.

From nginx on loopback, 16 at once. *Ours* hashes, checks, syncs and never overwrites; *blocks* and *inline*
are the best loops we could write by hand that hash, sync and rename, *by hand* the better of the two in its
round. *Naive* is the loop of most tutorials, *huggingface_hub* its downloader in as many threads; neither
they nor curl and aria2c hash or sync anything. CPU is that of the client between its first request and its
last file (of curl and aria2c: of the whole process, which starts in milliseconds). *Growth* is the most
that the process grew by, for each download at a time.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from benchmarks import fileserver, folders, handmade, tools
from benchmarks.case import Case, Metric
from benchmarks.pictures import MIB
from benchmarks.processes import peak_mib

HAND = "by hand"
BEST = {HAND: ("blocks", "inline")}
METRICS = {
    "cpu_ms": Metric("CPU per MiB, ms", ".2f", how="ratio"),
    "wall_s": Metric("time, s", ".2f"),
    "mib": Metric("growth, MiB a download", ".2f"),
}
PROGRAMS = tuple(name for name in ("curl", "aria2c") if shutil.which(name) is not None)
ALL = ("ours", "blocks", "inline", "naive", "huggingface_hub", *PROGRAMS)


def _case(
    name: str, clients: tuple[str, ...], count: int, size: int, at_once: int, rounds: int | None
) -> Case:
    return Case(
        name=name,
        clients=clients,
        base=HAND if len(clients) > 1 else None,
        best=BEST if len(clients) > 1 else {},
        options={"at_once": at_once, "mib": count * size},
        serve=partial(fileserver.pictures, count, size * MIB),
        rounds=rounds,
    )


CASES = (
    _case("one of 200 MiB", ALL, 1, 200, 1, None),
    _case("500 of 2 MiB", ALL, 500, 2, handmade.IN_FLIGHT, None),
    _case("64 of 64 MiB at once", ("ours",), 64, 64, 64, 1),
)


def measure(client: str, where: list[str], *, at_once: int, mib: int) -> dict[str, float]:
    """One client's download of all of them."""
    run: Callable[[list[str], Path], Awaitable[None]] = {
        "ours": partial(_ours, at_once=max(at_once, handmade.IN_FLIGHT)),
        "blocks": partial(handmade.by_hand, fetch=handmade.blocks),
        "inline": partial(handmade.by_hand, fetch=handmade.inline),
        "naive": handmade.naive,
        "huggingface_hub": tools.huggingface_hub,
        "curl": tools.curl,
        "aria2c": tools.aria2c,
    }[client]
    with folders.scratch() as out:
        cpu, wall, grown = asyncio.run(_timed(partial(run, where, out)))
    figures = {"cpu_ms": cpu * 1e3 / mib, "wall_s": wall}
    return figures if client in PROGRAMS else {**figures, "mib": grown / at_once}


async def _timed(run: Callable[[], Awaitable[None]]) -> tuple[float, float, float]:
    import aiohttp  # noqa: F401 - not to be counted, as little as what anyio imports when it is used
    import anyio.lowlevel

    import hinow_async._download
    import hinow_async._pool  # noqa: F401

    await anyio.lowlevel.checkpoint()
    grown, cpu, wall = peak_mib(), _cpu(), time.perf_counter()
    await run()
    return _cpu() - cpu, time.perf_counter() - wall, peak_mib() - grown


def _cpu() -> float:
    """Seconds that this process and its children have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


async def _ours(urls: list[str], out: Path, *, at_once: int) -> None:
    from hinow_async._download import Downloader
    from hinow_async._models.images import GeneratedImage
    from hinow_async._options import DownloadPolicy, Network, Timeouts
    from hinow_async._pool import Pool
    from hinow_async._protocol.urls import origin_of

    pool = Pool([], Network(), Timeouts())
    await pool.enter()
    downloader = Downloader(pool, DownloadPolicy(max_in_flight=at_once), 60.0)
    exempt = frozenset({origin_of(urls[0])})
    images = [GeneratedImage(url, index=n) for n, url in enumerate(urls)]
    await asyncio.gather(*(downloader.save(image, out, "ours", exempt=exempt) for image in images))
    downloader.close()
    await pool.aclose()
