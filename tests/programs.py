"""Programs that some tests need, and Python does not bring."""

import os

import pytest


def skip_without(path, name):
    """Skip where a program is not installed, but not under `.ci/run`: there the tests fail, and say so."""
    is_optional = "HINOW_ALL_TESTS" not in os.environ
    return pytest.mark.skipif(
        path is None and is_optional, reason=f"{name} is not installed: apt-get install {name}"
    )
