"""nginx on loopback with pictures to download."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.folders import scratch
from benchmarks.nginx import free_port
from benchmarks.pictures import png

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


@contextlib.contextmanager
def pictures(count: int, size: int) -> Iterator[list[str]]:
    """Serve so many pictures of so many bytes; yields their links."""
    if shutil.which("nginx") is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx")
    with scratch() as root:
        (root / "files").mkdir()
        for n in range(count):
            (root / "files" / f"{n}.png").write_bytes(png(size, n % 7))
        os.sync()
        with _nginx(root) as port:
            yield [f"http://127.0.0.1:{port}/{n}.png" for n in range(count)]


@contextlib.contextmanager
def _nginx(root: Path) -> Iterator[int]:
    port = free_port()
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
