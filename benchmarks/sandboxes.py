"""A sandbox in a process of its own, so that its work is not counted as the client's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    from hinow_async.sandbox import Behaviour, Sandbox

    with Sandbox.in_thread(Behaviour(**options)) as sandbox:
        pipe.send((sandbox.base_url, sandbox.api_key))
        pipe.recv()


@contextmanager
def sandbox_process(**options: Any) -> Iterator[tuple[str, str]]:
    """Run a sandbox in another process; yields its root and its key.

    Args:
        options: Of `Behaviour`.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, options), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join(10)
