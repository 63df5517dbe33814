"""Downloads from nginx on loopback: ours beside curl, aria2c and hand-written aiohttp loops.

    python -m benchmarks.downloads [--rounds 5] [--cases large many] [--only ours blocks]

Every round runs each client once, in a process of its own, in alternation. CPU is that of the client's
process between its first request and its last file (of curl and aria2c: of the whole process, which starts
in milliseconds); figures are medians. Ratios are taken within a round. `ours` hashes, checks, syncs and never
overwrites; `blocks` and `inline` are the best loops we could write by hand that hash, sync and rename;
`naive` is the loop of most tutorials, `hf` the downloader of huggingface_hub in as many threads; neither
they nor curl and aria2c hash or sync anything.

Needs nginx; what is not installed of curl, aria2c and huggingface_hub is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIB = 1024 * 1024
IN_FLIGHT = 16
CASES = {"large": (1, 200 * MIB), "many": (500, 2 * MIB), "memory": (64, 64 * MIB)}
PYTHON = ("ours", "blocks", "inline", "naive", "hf")
OTHERS = ("curl", "aria2c")
CONFIG = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type image/png;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}/files; }}
}}
"""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(size: int, seed: int) -> bytes:
    """A PNG frame of *size* bytes around noise."""
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 3840, 2160, 8, 2, 0, 0, 0))
    end = _chunk(b"IEND", b"")
    noise = random.Random(seed).randbytes(MIB) * (size // MIB + 1)
    left = size - len(head) - len(end)
    body = []
    while left > 0:
        length = min(left, 64 * 1024 + 12)
        if 0 < left - length < 12:
            length -= 12
        body.append(_chunk(b"IDAT", noise[: length - 12]))
        left -= length
    return head + b"".join(body) + end


@contextlib.contextmanager
def _nginx(root: Path) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (root / "nginx.conf").write_text(CONFIG.format(root=root, port=port), "utf-8")
    process = subprocess.Popen(["nginx", "-p", str(root), "-c", str(root / "nginx.conf")])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


# --- the clients ------------------------------------------------------------------------------------------


async def _ours(urls: list[str], out: Path) -> None:
    from hinow_async._download import Downloader
    from hinow_async._models.images import GeneratedImage
    from hinow_async._options import DownloadPolicy, Network, Timeouts
    from hinow_async._pool import Pool
    from hinow_async._protocol.urls import origin_of

    pool = Pool([], Network(), Timeouts())
    await pool.enter()
    downloader = Downloader(pool, DownloadPolicy(max_in_flight=64 if len(urls) == 64 else IN_FLIGHT), 60.0)
    exempt = frozenset({origin_of(urls[0])})
    await asyncio.gather(
        *(
            downloader.save(GeneratedImage(url, index=n), out, "ours", exempt=exempt)
            for n, url in enumerate(urls)
        )
    )
    downloader.close()
    await pool.aclose()


Fetch = Callable[..., Awaitable[None]]


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[object]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        read_bufsize=512 * 1024,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
    ) as session:
        yield session


async def _by_hand(urls: list[str], out: Path, fetch: Fetch) -> None:
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(session: object, url: str, target: Path) -> None:
        async with gate:
            await fetch(session, url, target)

    async with _session() as session:
        await asyncio.gather(*(one(session, url, out / f"hand-{n}.png") for n, url in enumerate(urls)))


def _sync(fd: int, temp: str, target: Path) -> None:
    os.fsync(fd)
    os.close(fd)
    Path(temp).rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def _blocks(session: object, url: str, target: Path) -> None:
    """Blocks of 512 KiB; one `writev` and the hash in a thread, while the next ones are read."""
    loop = asyncio.get_running_loop()
    temp = f"{target}.part"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    digest = hashlib.sha256()

    def write(blocks: list[bytes]) -> None:
        for block in blocks:
            digest.update(block)
        os.writev(fd, blocks)

    writing, blocks, size = None, [], 0
    async with session.get(url) as response:
        while block := await response.content.readany():
            blocks.append(block)
            size += len(block)
            if size >= 512 * 1024:
                if writing is not None:
                    await writing
                writing, blocks, size = loop.run_in_executor(None, write, blocks), [], 0
    if writing is not None:
        await writing
    if blocks:
        await loop.run_in_executor(None, write, blocks)
    await loop.run_in_executor(None, _sync, fd, temp, target)


async def _inline(session: object, url: str, target: Path) -> None:
    """Writes and hashes on the loop, which is blocked meanwhile; syncs in a thread."""
    temp = f"{target}.part"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    digest = hashlib.sha256()
    async with session.get(url) as response:
        while block := await response.content.readany():
            digest.update(block)
            os.write(fd, block)
    await asyncio.get_running_loop().run_in_executor(None, _sync, fd, temp, target)


async def _naive(urls: list[str], out: Path) -> None:
    import aiohttp

    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(session: aiohttp.ClientSession, url: str, target: Path) -> None:
        async with gate, session.get(url) as response:
            with target.open("wb") as file:
                async for chunk in response.content.iter_chunked(8192):
                    file.write(chunk)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, url, out / f"naive-{n}.png") for n, url in enumerate(urls)))


async def _hf(urls: list[str], out: Path) -> None:
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    from huggingface_hub.file_download import http_get

    def one(number: int, url: str) -> None:
        with (out / f"hf-{number}.png").open("wb") as file:
            http_get(url, file)

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, one, n, url) for n, url in enumerate(urls)))


def _client(name: str, urls: list[str], out: Path) -> dict[str, float]:
    """Run one of the Python clients in this process, and tell what it took."""
    run = {
        "ours": lambda: _ours(urls, out),
        "blocks": lambda: _by_hand(urls, out, _blocks),
        "inline": lambda: _by_hand(urls, out, _inline),
        "naive": lambda: _naive(urls, out),
        "hf": lambda: _hf(urls, out),
    }[name]

    async def timed() -> dict[str, float]:
        import aiohttp  # noqa: F401 - not to be counted, as little as what anyio imports when it is used
        import anyio.lowlevel

        import hinow_async._download
        import hinow_async._pool  # noqa: F401

        await anyio.lowlevel.checkpoint()
        before = _peak()
        cpu, wall = time.process_time(), time.perf_counter()
        await run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu": cpu, "wall": wall, "grown": _peak() - before}

    return asyncio.run(timed())


def _peak() -> float:
    """The most memory this process ever had, in MiB (`ru_maxrss` would count what its parent had)."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _command(name: str, urls: list[str], out: Path) -> dict[str, float]:
    """Run curl or aria2c, and tell what it took."""
    sources = out / "urls"
    if name == "curl":
        lines = "".join(f'url = "{url}"\noutput = "{out}/curl-{n}.png"\n' for n, url in enumerate(urls))
        command = ["curl", "-s", "-Z", "--parallel-max", str(IN_FLIGHT), "-K", str(sources)]
    else:
        lines = "".join(f"{url}\n  out=aria-{n}.png\n" for n, url in enumerate(urls))
        command = ["aria2c", "-q", f"-j{IN_FLIGHT}", "-x1", "--file-allocation=none", "-d", str(out)]
        command += ["-i", str(sources)]
    sources.write_text(lines, "utf-8")
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall, "grown": 0.0}


def _run(name: str, urls: list[str], root: Path) -> dict[str, float]:
    out = Path(tempfile.mkdtemp(dir=root))
    try:
        if name in OTHERS:
            return _command(name, urls, out)
        command = [sys.executable, "-m", "benchmarks.downloads", "--client", name, "--out", str(out)]
        done = subprocess.run(command, input=json.dumps(urls), capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    finally:
        shutil.rmtree(out)


def _measure(case: str, names: list[str], rounds: int) -> None:
    count, size = CASES[case]
    # Not in /tmp, which may be memory and not a disk.
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "files").mkdir()
        for n in range(count):
            (root / "files" / f"{n}.png").write_bytes(_png(size, n % 7))
        os.sync()
        with _nginx(root) as port:
            urls = [f"http://127.0.0.1:{port}/{n}.png" for n in range(count)]
            runs = {name: [] for name in names}
            for _ in range(rounds):
                for name in names:
                    runs[name].append(_run(name, urls, root))
    print(f"\n{count} x {size // MIB} MiB, medians of {rounds} rounds, on {os.cpu_count()} cores")
    hands = [name for name in ("blocks", "inline") if name in names]
    for name in names:
        cpu = statistics.median(run["cpu"] for run in runs[name])
        wall = statistics.median(run["wall"] for run in runs[name])
        grown = statistics.median(run["grown"] for run in runs[name])
        line = (
            f"{name:8} CPU {cpu:6.3f} s ({1000 * cpu * MIB / size / count:5.2f} ms/MiB)  wall {wall:6.2f} s"
        )
        at_once = count if case == "memory" else min(count, IN_FLIGHT)
        line += f"  grew {grown / at_once:5.2f} MiB a download" if name in PYTHON else ""
        if name == "ours" and hands:
            best = [min(runs[hand][n]["cpu"] for hand in hands) for n in range(rounds)]
            ratios = [run["cpu"] / by_hand for run, by_hand in zip(runs[name], best, strict=True)]
            middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
            line += f"  {middle:.2f} of the best by hand ({low:.2f} to {high:.2f})"
        print(line)


def _is_there(name: str) -> bool:
    if name == "hf":
        return importlib.util.find_spec("huggingface_hub") is not None
    return name in PYTHON or shutil.which(name) is not None


def main() -> None:
    """Measure, or be one of the clients that are measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["large", "many"])
    parser.add_argument("--only", nargs="+", choices=(*PYTHON, *OTHERS), default=[*PYTHON, *OTHERS])
    parser.add_argument("--client", choices=PYTHON, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(_client(options.client, json.load(sys.stdin), options.out)))
        return
    names = [name for name in options.only if _is_there(name)]
    for case in options.cases:
        _measure(case, names, options.rounds)


if __name__ == "__main__":
    main()
