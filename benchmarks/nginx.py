"""A limiter that others wrote: nginx in front of a sandbox, on loopback, with a configuration of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STARTING = 10.0  # seconds

CONFIG = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 100000; keepalive_timeout 65;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  limit_conn_zone $http_authorization zone=calls:1m;
  limit_req_zone $http_authorization zone=rate:1m rate={rate};
  upstream service {{ server 127.0.0.1:{service}; keepalive 512; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    limit_conn_status 429; limit_req_status 429;
    location / {{
      {rule}
      proxy_pass http://service; proxy_http_version 1.1; proxy_read_timeout 300s;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_next_upstream off;
    }}
  }}
}}
"""


def binary() -> str | None:
    """Where nginx is; Debian keeps it off the path of ordinary users."""
    return shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + STARTING
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("nginx does not listen: " + (log.read_text("utf-8") if log.exists() else "no log"))


@contextlib.contextmanager
def limiting_proxy(port: int, service: int, rule: str, rate: str = "10r/s") -> Iterator[None]:
    """Run nginx on *port* in front of *service*, another port of loopback.

    Args:
        port: A free one.
        service: Where the sandbox listens.
        rule: `limit_conn calls 8;` (calls in flight of one key) or `limit_req zone=rate burst=5 nodelay;`.
        rate: Of `limit_req`.
    """
    nginx = binary()
    if nginx is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx")
    with tempfile.TemporaryDirectory(prefix="hinow-nginx-") as folder:
        root = Path(folder)
        config = root / "nginx.conf"
        config.write_text(
            CONFIG.format(root=root, port=port, service=service, rule=rule, rate=rate), encoding="utf-8"
        )
        root.chmod(0o755)  # started by root, nginx works as another user
        process = subprocess.Popen(
            [nginx, "-p", folder, "-e", str(root / "error.log"), "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await_listening(process, port, root / "error.log")
            yield
        finally:
            process.terminate()
            process.wait(STARTING)
