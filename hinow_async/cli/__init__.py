"""The command line: arguments in, exit code out."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run `hinow`; return its exit code.

    Args:
        args: The arguments after the program's name; None: those of the process.
    """
    if importlib.util.find_spec("click") is None:
        sys.stderr.write('hinow needs its command line parts: pip install "hinow-async[cli]"\n')
        return 2
    from hinow_async.cli.app import run  # noqa: PLC0415 - click may be missing

    return run(args)
