"""What the system tells about this process."""

from __future__ import annotations

import os
from pathlib import Path


def resident() -> int:
    """Bytes of memory that it holds."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_mib() -> float:
    """The most memory it ever held (`ru_maxrss` would count what its parent had)."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
