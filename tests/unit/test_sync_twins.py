"""The synchronous door is the asynchronous one without `await`: the same members, parameters, words."""

import ast
import asyncio
import importlib.util
import inspect
from pathlib import Path

import attrs
import pytest

import hinow_async
from hinow_async import AsyncHinow, Hinow, sync
from hinow_async.sync import client as twins
from hinow_async.sync import values
from hinow_async.sync.many import Outcomes

PROJECT = Path(hinow_async.__file__).parent.parent
KEY = "hi_not_a_real_key_at_all"
RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
INTERNAL = {"run", "comparing"}


def tool():
    spec = importlib.util.spec_from_file_location("make_sync", PROJECT / "tools" / "make_sync.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def meaning(text):
    """What code means, however it is laid out: its imports, in any order, and everything else in order."""
    tree = ast.parse(text)
    imports = {
        (getattr(node, "module", None), alias.name, alias.asname)
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    rest = [ast.dump(node) for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return imports, rest


@pytest.mark.parametrize("name", ["values.py", "client.py"])
def test_the_twins_are_what_the_tool_makes(name):
    """Whoever changes the asynchronous side has to run tools/make_sync.py."""
    made_imports, made = meaning(tool().modules()[name])
    imports, there = meaning((PROJECT / "hinow_async" / "sync" / name).read_text("utf-8"))
    assert there == made
    assert imports <= made_imports  # ruff leaves out what is not used


def public(cls):
    return {
        name: member
        for name, member in vars(cls).items()
        if (not name.startswith("_") and name not in INTERNAL) or name in RENAMED
    }


def pairs():
    """Each class that lives, beside its twin, as found from a client of either kind."""
    left, right = AsyncHinow(api_key=KEY), Hinow(api_key=KEY)
    found = [(AsyncHinow, Hinow)]
    found += [
        (type(getattr(left, name)), type(getattr(right, name))) for name in ("images", "chat", "models")
    ]
    found += [(type(left.chat.completions), type(right.chat.completions))]
    found += [(type(left.images.generate_many([])), Outcomes)]
    opening = [door.chat.completions.stream("Hi", model="hinow/himax") for door in (left, right)]
    found += [(type(opening[0]), type(opening[1]))]
    found += [
        (cls, getattr(twins, cls.__name__))
        for cls in vars(hinow_async).values()
        if inspect.isclass(cls) and not attrs.has(cls) and hasattr(cls, "__aiter__")
    ]
    found += list(values.TWINS.items())
    return found


def parameters(member):
    """Names, kinds and defaults; annotations are for the type checker."""
    member = member.fget if isinstance(member, property) else member
    return [
        (each.name if each.kind is not each.VAR_POSITIONAL else "*", each.kind, each.default)
        for each in inspect.signature(member).parameters.values()
    ]


@pytest.mark.parametrize(("cls", "twin"), pairs(), ids=lambda cls: cls.__qualname__)
def test_each_member_has_its_twin(cls, twin):
    """The same names with the same parameters and defaults, none of them a coroutine."""
    expected = {RENAMED.get(name, name): member for name, member in public(cls).items()}
    assert set(expected) - set(dir(twin)) == set()
    extra = {name for name in vars(twin) if not name.startswith("_")} - set(expected)
    assert extra == set()
    for name, member in expected.items():
        found = inspect.getattr_static(twin, name)
        if inspect.isfunction(member) or isinstance(member, property):
            assert parameters(found) == parameters(member), name
            assert not inspect.iscoroutinefunction(found)
            assert not inspect.isasyncgenfunction(found)


@pytest.mark.parametrize(("cls", "twin"), values.TWINS.items(), ids=lambda cls: cls.__name__)
def test_the_values_have_the_same_fields(cls, twin):
    """Names, order, defaults, what is compared, hashed and shown."""
    assert [field.evolve(type=None) for field in attrs.fields(twin)] == [
        field.evolve(type=None) for field in attrs.fields(cls)
    ]


def test_the_client_takes_the_same_arguments():
    """`Hinow(...)` is `AsyncHinow(...)`."""
    assert inspect.signature(Hinow) == inspect.signature(AsyncHinow)


def test_nothing_tells_to_await():
    """Docstrings and messages of the door without `await` do not speak of it, but to name the other door."""
    for module in (values, twins):
        text = (
            Path(module.__file__)
            .read_text("utf-8")
            .replace("`AsyncHinow`", "")
            .replace("without `await`", "")
        )
        words = [word for word in ("await ", "async with", "async for", "aclose()`") if word in text]
        assert words == []


def test_importing_the_package_starts_no_thread_machinery():
    """Constructing makes no thread, and `hinow_async.sync` has the types that a script may want to name."""
    client = Hinow(api_key=KEY)
    assert client.stats().in_flight == 0
    assert client._portal._background is None
    assert {cls.__name__ for cls in values.TWINS.values()} | {"Hinow", "Outcomes"} <= set(sync.__all__)


@pytest.mark.parametrize("words", [{"api_key": KEY}, {"api_key": KEY, "base_url": "nowhere"}])
def test_the_key_is_never_shown(words):
    """Neither by the client's repr, nor by the locals of a traceback of its construction."""
    try:
        shown = repr(Hinow(**words))
        assert shown == "<Hinow default>"
    except hinow_async.ConfigurationError as error:
        trace, shown = error.__traceback__, str(error)
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.startswith(str(Path(hinow_async.__file__).parent)):
                shown += repr(trace.tb_frame.f_locals)
            trace = trace.tb_next
    assert KEY not in shown


def test_asynchronous_sources_are_refused():
    """A clear error, before anything is begun."""

    async def prompts():
        yield "A lighthouse"

    client = Hinow(api_key=KEY)
    for wrong in (prompts(), "A lighthouse", 7):
        with pytest.raises(ValueError, match="AsyncHinow"):
            client.images.generate_many(wrong)
    assert asyncio.iscoroutinefunction(AsyncHinow.balance)
