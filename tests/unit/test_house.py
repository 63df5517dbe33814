"""The rules of the house (CONTRIBUTING.md), read from the source: who may know whom, who may wait."""

import ast
import asyncio
import functools
import graphlib
import inspect
import json
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import hinow_async
from hinow_async._version import __version__
from hinow_async.sandbox import Behaviour, Sandbox

PACKAGE = Path(hinow_async.__file__).parent
PROJECT = PACKAGE.parent

# From the ground up: a room may use what lies below it, and its neighbours on the same floor.
FLOORS = (
    {"_errors", "_figures", "_files", "_markup", "_options", "_pages", "_pillow", "_secrets", "_version"},
    {"_models"},
    {"_protocol"},
    {"_alarm", "_pool", "_limiter", "_budget", "_download", "_hooks", "_notebook"},
    {"_call", "_fetch"},
    {"_streaming"},
    {"_resources"},
    {"_client"},
    {"sync"},
    {"__init__"},
    {"batch", "sandbox"},
    {"cli"},
    {"integrations"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# The sandbox stands in for the service: it may share facts with the client, never the client's machinery.
SHARED_WITH_SANDBOX = FLOORS[0] | FLOORS[1] | FLOORS[2] | {"sandbox"}

# Foreign packages that few may know. A room, or a part of one, that is not named here does not import them.
HOMES = {
    "aiohttp": {"_pool", "_download", "sandbox", "integrations"},
    "click": {"cli"},
    "rich": {"cli"},
    "PIL": {"_pillow", "_download", "sandbox"},
    "pyarrow": {"batch.source.parquet"},
    "sqlite3": {"batch"},
}

# What waits, opens something, asks the time or rolls dice: not for `_protocol`.
IMPURE = {
    "aiohttp",
    "anyio",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}
IMPURE_CALLS = {
    "now",
    "utcnow",
    "today",
    "open",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "uuid4",
}

Import = tuple[str, int]  # dotted name, line


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room that a module of ours lies in; the package itself is `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one but what stands under `if TYPE_CHECKING:`: that never runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        yield child
        yield from running(child)


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    """All imports of a file, inside functions too; `from a import b` gives `a.b` where that is a module."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[Import]:
    for node in running(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else node.module), node.lineno


def ours(path: Path) -> Iterator[Import]:
    """The imports of a file that name a module of this package."""
    return ((name, line) for name, line in imports(path) if name in MODULES)


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """The last names of everything called in a file: `open`, and `now` of `datetime.now()`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            yield name, node.lineno


def test_every_room_has_a_floor():
    """A new room is a decision: it has to be given its floor."""
    assert {room(module) for module in MODULES} <= set(FLOOR)


def test_imports_run_downward():
    """No room imports one above it, not even inside a function; nobody imports the integrations."""
    upward = [
        f"{path.relative_to(PROJECT)}:{line} imports {name}"
        for module, path in MODULES.items()
        for name, line in ours(path)
        if FLOOR[room(name)] > FLOOR[room(module)]
    ]
    assert upward == []


def test_the_sandbox_never_uses_the_client():
    """What the client gets wrong, the sandbox must not get wrong in the same way."""
    shared = [
        f"{module}:{line} imports {name}"
        for module, path in MODULES.items()
        if room(module) == "sandbox"
        for name, line in ours(path)
        if room(name) not in SHARED_WITH_SANDBOX
    ]
    assert shared == []


def is_at_home(module: str, package: str) -> bool:
    """Whether a module may know a foreign package."""
    return any(f"{module}.".startswith(f"hinow_async.{home}.") for home in HOMES[package])


@pytest.mark.parametrize("package", HOMES)
def test_foreign_packages_stay_at_home(package):
    """A package that few rooms or modules may know is imported by those alone."""
    strangers = [
        f"{module}:{line}"
        for module, path in MODULES.items()
        if not is_at_home(module, package)
        for name, line in imports(path)
        if name.split(".")[0] == package
    ]
    assert strangers == []


def test_the_protocol_is_pure():
    """`_protocol` waits for nothing, opens nothing, rolls no dice and is told the time."""
    impure = []
    for module in (module for module in MODULES if room(module) == "_protocol"):
        path = MODULES[module]
        impure += [
            f"{module}:{line} imports {name}" for name, line in imports(path) if name.split(".")[0] in IMPURE
        ]
        impure += [f"{module}:{line} calls {name}()" for name, line in calls(path) if name in IMPURE_CALLS]
    assert impure == []


def test_no_import_cycles():
    """Two modules that need each other are one concept in two files, or two concepts in one."""
    graph = {module: {name for name, _ in ours(path)} - {module} for module, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_public_names_are_listed():
    """What the root takes from the rooms, lazily or at once, is `__all__`: no name more, none fewer."""
    root = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    taken = {
        alias.asname or alias.name
        for node in ast.walk(root)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hinow_async")
        for alias in node.names
    }
    assert sorted(hinow_async.__all__) == sorted(taken)
    assert taken <= set(dir(hinow_async))


def test_public_names_are_documented():
    """Each public class and function says in its own docstring what it means."""
    members = {name: getattr(hinow_async, name) for name in hinow_async.__all__}
    silent = [
        name
        for name, member in members.items()
        if (inspect.isclass(member) or inspect.isroutine(member)) and not (member.__doc__ or "").strip()
    ]
    assert silent == []


def test_importing_the_package_stays_light():
    """`import hinow_async` loads neither aiohttp (300 ms) nor anything that only an extra installs."""
    heavy = [
        "aiohttp",
        "anyio.from_thread",
        "click",
        "rich",
        "PIL",
        "pyarrow",
        "redis",
        "ray",
        "opentelemetry",
        "IPython",
    ]
    code = f"import sys, hinow_async; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# What is imported with the first use of a thing, and so must be in no process that does not use it.
ON_FIRST_USE = {
    "hinow_async._client.AsyncHinow": ("hinow_async._client", "hinow_async._resources", "aiohttp"),
    "client.chat": (
        "hinow_async._models.chat",
        "hinow_async._protocol.assembly",
        "hinow_async._protocol.chat_images",
        "hinow_async._protocol.chat_stream",
        "hinow_async._protocol.chat_wire",
        "hinow_async._protocol.sse",
        "hinow_async._resources.attachments",
        "hinow_async._resources.chat",
        "hinow_async._resources.streams",
        "hinow_async._streaming",
    ),
    "client.models": (
        "hinow_async._models.account",
        "hinow_async._protocol.catalogue",
        "hinow_async._resources.account",
    ),
    "client._runtime.downloader": (
        "hinow_async._download",
        "hinow_async._protocol.pictures",
    ),
    "hinow_async.ImageComparison": ("hinow_async._models.comparison", "hinow_async._models.side_by_side"),
    "hinow_async.Hinow": ("hinow_async.sync",),
}


def test_a_process_imports_only_what_it_uses():
    """Nothing above is imported by the package alone, nor by a client; each is there once it was used."""
    code = f"""
        import json, sys
        import hinow_async

        def loaded(names):
            return [name for name in names if name in sys.modules]

        uses = {ON_FIRST_USE}
        everything = [name for names in uses.values() for name in names]
        before = loaded(everything)
        client = hinow_async.AsyncHinow(api_key="hi_x", base_url="http://127.0.0.1:9")
        left = [name for use, names in uses.items() if use.startswith("client.") for name in names]
        made = loaded(left)
        missing = []
        for use, names in uses.items():
            eval(use)
            missing += set(names) - set(loaded(names))
        print(json.dumps([before, made, missing]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    before, made, missing = json.loads(done.stdout)
    assert (before, made, missing) == ([], [], [])


def test_the_version_is_in_the_change_log():
    """No version goes out without an entry that says what is in it."""
    lines = (PROJECT / "CHANGELOG.md").read_text("utf-8").splitlines()
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings[0] == "[Unreleased]"
    assert [heading for heading in headings if heading.startswith(f"[{__version__}] - ")] != []


def examples(page: Path) -> list[str]:
    """The fenced Python of a page."""
    blocks = page.read_text("utf-8").split("```python")[1:]
    return [block.split("\n", 1)[1].split("\n```")[0] for block in blocks]


PAGES = [
    page for page in (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))) if examples(page)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
async def test_the_examples_run(page, tmp_path, monkeypatch):
    """The examples of a page run in their order, as in a notebook whose `client` speaks to a sandbox."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "A lighthouse"}\n{"prompt": "A harbour"}\n', "utf-8")
    async with Sandbox(Behaviour(picture_size=64)) as sandbox:
        monkeypatch.setenv("HINOW_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("HINOW_API_KEY", sandbox.api_key)
        async with hinow_async.AsyncHinow() as client:
            cells: dict[str, object] = {}
            for code in examples(page):
                assert "hinow_async._" not in code
                cells["client"] = client
                await run_cell(code, cells)


async def run_cell(code: str, cells: dict[str, object]) -> None:
    """Run code that may `await` at top level; code that does not gets a thread, where no loop runs."""
    compiled = compile(code, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    cell = types.FunctionType(compiled, cells)
    if compiled.co_flags & inspect.CO_COROUTINE:
        await cell()
    else:
        await asyncio.to_thread(cell)


def test_the_demo_prompts_are_valid():
    """Every line of the demo's source is a request that the pinned model takes, and all ten counts occur."""
    rows = [json.loads(line) for line in (PROJECT / "examples/prompts.jsonl").read_text("utf-8").splitlines()]
    ids = [row.pop("id") for row in rows if "id" in row]
    requests = [hinow_async.ImageRequest(**row) for row in rows]
    counts = [request.num_images or 1 for request in requests]
    assert len(requests) >= 66
    assert len(set(ids)) == len(ids) < len(requests)
    assert set(counts) == set(range(1, 11))
    assert sum(counts) <= 150


def test_public_names_are_in_the_reference():
    """Each public name has its place in the reference, and nothing stands there that is not public."""
    lines = (PROJECT / "docs/reference.md").read_text("utf-8").splitlines()
    entries = [line.removeprefix("::: ") for line in lines if line.startswith("::: ")]
    root = [entry.split(".")[1] for entry in entries if entry.count(".") == 1]
    assert sorted(root) == sorted(set(hinow_async.__all__) - {"__version__"})
    assert len(entries) == len(set(entries))
