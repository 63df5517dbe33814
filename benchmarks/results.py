"""What was measured, with all that has to be known about it, as JSON in docs/benchmarks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import attrs

from benchmarks import __file__ as here
from benchmarks.figures import Figures

PAGES = Path(here).parent.parent / "docs" / "benchmarks"
PACKAGES = ("hinow-async", "aiohttp", "httpx", "openai", "huggingface-hub", "uvloop", "orjson", "anyio")


@attrs.frozen(kw_only=True)
class Result:
    """One benchmark's figures."""

    benchmark: str
    command: str
    when: str
    is_quick: bool
    """Whether it is a short form, which shows that all works and little more."""
    load: tuple[float, float]
    """Of the machine, before and after: above 1, others were at work, too."""
    machine: str
    versions: dict[str, str]
    cases: dict[str, dict[str, list[Figures | None]]]
    """By case and client the figures of each round."""

    def save(self) -> None:
        """Write it where the page looks for it."""
        path = PAGES / f"{self.benchmark}.json"
        path.write_text(json.dumps(attrs.asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def read(cls, benchmark: str) -> Result | None:
        """Return what was saved last; None: nothing was."""
        path = PAGES / f"{benchmark}.json"
        return cls(**json.loads(path.read_text("utf-8"))) if path.exists() else None

    @property
    def circumstances(self) -> str:
        """What has to be known about the figures."""
        names = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"`{self.command}`, {self.when}; {self.machine}, load {self.load[0]:.1f} before and"
            f" {self.load[1]:.1f} after; {names}."
        )


def machine() -> str:
    """The machine, as far as figures depend on it."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Of Python, of us and of the peers that are installed."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def today() -> str:
    return time.strftime("%Y-%m-%d")


def load() -> float:
    return os.getloadavg()[0]
