"""What `make test` does, over all supported Pythons and at both ends of the dependencies: `uvx nox`.

uv fetches the Pythons that are missing. The lower bounds in pyproject.toml rest on `uvx nox -s lowest`.
"""

import nox

nox.options.default_venv_backend = "uv"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests but the slow ones with the newest dependencies."""
    session.install("--editable", ".[cli]", "--group", "test")
    session.run("pytest", "-q", "-m", "not slow", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """Run the same tests with the oldest dependencies that pyproject.toml admits."""
    session.install("--resolution", "lowest-direct", "--editable", ".[cli]", "--group", "test")
    session.run("pytest", "-q", "-m", "not slow", *session.posargs)
