"""The installed command as a process of its own, and a sandbox outside of it."""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs
import pytest

from hinow_async.cli import main
from hinow_async.sandbox import Behaviour, Sandbox

HINOW = Path(sys.executable).with_name("hinow")
PATIENCE = 30


@attrs.frozen
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        (line,) = self.out.splitlines()
        return json.loads(line)


class Running:
    """A command that runs."""

    def __init__(self, *args, cwd, env, stdin=subprocess.DEVNULL, **options):
        self.process = subprocess.Popen(
            [HINOW, *map(str, args)],
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def end(self, text=None):
        """Wait for it; kill it should it hang."""
        try:
            out, err = self.process.communicate(None if text is None else text.encode(), timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"it hung: {out!r} {err!r}") from None
        return Ended(self.process.returncode, out.decode(), err.decode())


@pytest.fixture
def environment():
    """An environment without key, colours or anything of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HINOW_")}
    return {**kept, "PYTHONWARNINGS": "error", "TERM": "dumb"}


@pytest.fixture
def start(tmp_path, environment):
    """Start `hinow` in an empty folder."""
    started = []

    def go(*args, env=None, **options):
        started.append(Running(*args, cwd=tmp_path, env={**environment, **(env or {})}, **options))
        return started[-1]

    yield go
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()


@pytest.fixture(scope="module")
def log():
    """Leave the library's logger as it was: a command in this process makes it its own."""
    logger = logging.getLogger("hinow_async")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def hinow(tmp_path, monkeypatch, capfd, log):
    """Run `hinow` to its end in this process, which is quicker; no command ever shows a traceback."""

    def go(*args, text="", env=None):
        with monkeypatch.context() as patch, tempfile.TemporaryFile() as stdin:
            patch.chdir(tmp_path)
            for name in ("HINOW_API_KEY", "HINOW_BASE_URL"):
                patch.delenv(name, raising=False)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            stdin.write(text.encode())
            stdin.seek(0)
            with os.fdopen(os.dup(stdin.fileno())) as file:
                patch.setattr(sys, "stdin", file)
                capfd.readouterr()
                code = main([str(arg) for arg in args])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return Ended(code, captured.out, captured.err)

    return go


@pytest.fixture
def service():
    """A sandbox in this process, and the variables that lead a command to it."""
    with Sandbox.in_thread(Behaviour(picture_size=64)) as sandbox:
        yield sandbox


@pytest.fixture
def to_service(service):
    return {"HINOW_BASE_URL": service.base_url, "HINOW_API_KEY": service.api_key}


@pytest.fixture
def wait_for():
    """Wait until something is so."""

    def wait(is_so, seconds=PATIENCE):
        until = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < until, "it never came"
            time.sleep(0.01)

    return wait


@pytest.fixture
def prompts(tmp_path):
    """A source of numbered prompts."""

    def make(count, **fields):
        path = tmp_path / "prompts.jsonl"
        rows = ({"id": f"item-{n}", "prompt": f"prompt {n}", **fields} for n in range(count))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return make
