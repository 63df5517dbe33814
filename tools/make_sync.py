"""Write `hinow_async/sync/values.py` and `client.py`, the synchronous twins, from the asynchronous classes.

    python tools/make_sync.py

Values are copied with their `await` taken out; what lives (client, resources, streams) becomes a class that
hands each call to the background loop, with the same parameters, defaults, overloads and docstrings. What is
found on the way from `AsyncHinow` is made: a new resource, method or value comes in by itself. A test holds
the files against this, so the two doors cannot drift apart.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

PROJECT = Path(__file__).parent.parent
TARGET = PROJECT / "hinow_async" / "sync"

CLIENT = ("hinow_async._client", "AsyncHinow")
VALUE_MODULES = (
    "hinow_async._models.images",
    "hinow_async._models.chat",
    "hinow_async._models.comparison",
)
RESOURCES = "hinow_async._resources"
BY_HAND = {"Outcomes": "hinow_async.sync.many"}
"""Twins that no rule can make."""
INTERNAL = {"run", "comparing"}
"""Public by their name, but machinery for other rooms."""

HEADER = "# Made by tools/make_sync.py: change what it is made from, and run that again."

WORDS = (
    (r"\basync (?=def|for|with)", ""),
    (r"\bawait ", ""),
    (r"\bAsync(?=Iterator\b|Iterable\b|Generator\b|Hinow\b)", ""),
    (r"\b__a(?=iter__|next__|enter__|exit__)", "__"),
    (r"\baclose\b", "close"),
)
CLIENT_DOC = '''\
"""The HInow.ai service without `await`, for scripts and the REPL; the same interface as `AsyncHinow`.

Use it with `with`, or close it with `client.close()`. Its calls run in an event loop of their own, in a
background thread, so it also works where a loop is running already, as in a notebook. It may be used by
any number of threads at once; limits and budget hold over all of them. Ctrl-C cancels the call that
is waited for, and the client stays usable. Hooks and progress callbacks run in the background thread. A
forked child begins anew with the same settings.
"""'''


def without_await(text: str) -> str:
    """Put code or prose into synchronous words."""
    return functools.reduce(lambda done, rule: re.sub(rule[0], rule[1], done), WORDS, text)


class Source:
    """A module as it is written: its definitions, and where its other names come from."""

    def __init__(self, module: str) -> None:
        self.module = module
        path = importlib.import_module(module).__file__
        self.text = Path(str(path)).read_text("utf-8")
        self.lines = self.text.splitlines()
        self.nodes: dict[str, ast.stmt] = {}
        self.imports: dict[str, str] = {}
        for node in ast.parse(self.text).body:
            self._note(node)

    def _note(self, node: ast.stmt) -> None:
        if isinstance(node, ast.If):
            for inner in node.body:
                self._note(inner)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self.imports[(alias.asname or alias.name).split(".")[0]] = f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                self.imports[alias.asname or alias.name] = f"from {node.module} import {alias.name}"
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            self.nodes[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in names_of(target):
                    self.nodes[name] = node

    def where(self, name: str) -> str | None:
        """Return the statement that imports *name* as this module knows it; None of a builtin."""
        if name in self.nodes:
            return f"from {self.module} import {name}"
        return self.imports.get(name)

    def segment(self, node: ast.stmt) -> str:
        """Return a definition with its decorators and comments."""
        start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        return "\n".join(self.lines[start - 1 : node.end_lineno])


def names_of(node: ast.AST) -> set[str]:
    """Every name used below *node*."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


# -- values --------------------------------------------------------------------------------------------


def waits(node: ast.AST) -> bool:
    """Whether a definition waits, or gives out something that does."""
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(each, kinds) for each in ast.walk(node)) or "AsyncIterator" in names_of(node)


def copied(sources: Iterable[Source]) -> dict[str, Source]:
    """Return what of these modules waits, and what refers to such a thing, and so on."""
    places = {name: source for source in sources for name in source.nodes}
    found = {name for name, source in places.items() if waits(source.nodes[name])}
    while more := {
        name for name, source in places.items() if name not in found and names_of(source.nodes[name]) & found
    }:
        found |= more
    return {name: source for name, source in places.items() if name in found}


def values_module(sources: list[Source], parts: dict[str, Source]) -> str:
    """Return the text of `values.py`."""
    bodies = [without_await(source.segment(source.nodes[name])) for name, source in parts.items()]
    used = {name for body in bodies for name in names_of(ast.parse(body))} - set(parts)
    imports = set()
    for name in used:
        found = [place for source in sources if (place := source.where(name) or source.where(f"Async{name}"))]
        imports |= {without_await(place) for place in found[:1]}
    kinds = [name for name, source in parts.items() if is_value(source.nodes[name])]
    pairs = "".join(f"    {alias(parts[name].module)}.{name}: {name},\n" for name in kinds)
    for module in {parts[name].module for name in kinds}:
        imports.add(f"from {module.rpartition('.')[0]} import {module.rpartition('.')[2]} as {alias(module)}")
    return "\n\n\n".join(
        [
            f'{HEADER}\n"""Synchronous twins of the values that can ask something of their client."""\n\n'
            "from __future__ import annotations\n\n" + "\n".join(sorted(imports)),
            *bodies,
            f"TWINS: dict[type, type] = {{\n{pairs}}}\n"
            '"""The twin of each class of the asynchronous client\'s values."""\n',
        ]
    )


def alias(module: str) -> str:
    """Name a module of the asynchronous side."""
    return f"async_{module.rpartition('.')[2]}"


def is_value(node: ast.AST) -> bool:
    """Whether a definition is a class of attrs."""
    return isinstance(node, ast.ClassDef) and any("attrs" in names_of(each) for each in node.decorator_list)


# -- what lives ------------------------------------------------------------------------------------------


class Delegate:
    """A class of the asynchronous side whose twin hands its calls over."""

    def __init__(self, source: Source, name: str) -> None:
        self.source = source
        self.name = name
        node = source.nodes[name]
        assert isinstance(node, ast.ClassDef)
        self.node = node
        self.twin = without_await(name)
        self.parts = dict(self._parts())
        self.lazy_parts = [each for each in node.body if is_lazy_part(each)]
        self.methods = [
            each
            for each in node.body
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            and not is_lazy_part(each)
            and each.name not in INTERNAL
            and (not each.name.startswith("_") or each.name in {"__aiter__", "__aenter__", "__aexit__"})
        ]

    def _parts(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield public delegates that are made with their owner: name, class, docstring."""
        for method in self.node.body:
            if not isinstance(method, ast.FunctionDef):
                continue
            for statement, doc in zip(method.body, [*method.body[1:], ast.Pass()], strict=True):
                match statement:
                    case ast.Assign(
                        targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)],
                        value=ast.Call(func=ast.Name(id=kind)),
                    ) if not name.startswith("_"):
                        yield name, (kind, self.source.segment(doc).strip())


def is_lazy_part(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    """Whether a definition is an attribute that is a delegate, made when it is first asked for."""
    return isinstance(node, ast.FunctionDef) and any(
        ast.unparse(each) == "functools.cached_property" for each in node.decorator_list
    )


class Twins:
    """Everything that is to be written about what lives, found from the client on."""

    def __init__(self, values: set[str]) -> None:
        self.values = values
        self.found: dict[str, Delegate] = {}
        self.imports = {
            "from hinow_async.sync.binding import Door, adapt, twin",
            "from hinow_async.sync.portal import Portal",
        }
        self._follow(Source(CLIENT[0]), CLIENT[1])

    def _follow(self, source: Source, name: str) -> None:
        if name in self.found:
            return
        delegate = Delegate(source, name)
        kinds = [kind for kind, _ in delegate.parts.values()]
        definitions = [*delegate.lazy_parts, *delegate.methods]
        kinds += [kind for method in definitions if method.returns for kind in names_of(method.returns)]
        for kind in kinds:
            module = (source.where(kind) or "").split(" ")[1:2]
            if module and module[0].startswith(RESOURCES) and kind not in {*BY_HAND, "Messages"}:
                self._follow(source if module[0] == source.module else Source(module[0]), kind)
        self.found[name] = delegate

    def text(self) -> str:
        """Return the text of `client.py`."""
        bodies = [
            self._client(each) if each.name == CLIENT[1] else self._class(each)
            for each in self.found.values()
        ]
        return "\n\n\n".join(
            [
                f'{HEADER}\n"""`Hinow`: the synchronous door, and what its attributes are."""\n\n'
                "from __future__ import annotations\n\n" + "\n".join(sorted(self.imports)),
                *bodies,
            ]
        )

    def _class(self, delegate: Delegate) -> str:
        inner = self._async_name(delegate)
        lines = [
            f"class {delegate.twin}:",
            f"    {doc_of(delegate.node)}",
            "",
            f"    def __init__(self, portal: Portal, inner: {inner}) -> None:",
            "        self._portal = portal",
            "        self._inner = inner",
            *(["        portal.tend(inner)"] if "aclose" in {each.name for each in delegate.methods} else []),
            *self._made_parts(delegate),
        ]
        methods = [self._method(delegate, each) for each in delegate.methods]
        return "\n\n".join(["\n".join(lines), *self._lazy_parts(delegate), *methods])

    def _async_name(self, delegate: Delegate) -> str:
        name = delegate.name if delegate.name.startswith("Async") else f"Async{delegate.name}"
        renamed = "" if name == delegate.name else f" as {name}"
        self.imports.add(f"from {delegate.source.module} import {delegate.name}{renamed}")
        return name

    def _made_parts(self, delegate: Delegate) -> list[str]:
        lines = []
        for name, (kind, doc) in delegate.parts.items():
            lines += [f"        self.{name} = {without_await(kind)}(portal, inner.{name})"]
            lines += [f"        {doc}"] if doc.startswith('"""') else []
        return lines

    def _lazy_parts(self, delegate: Delegate) -> list[str]:
        """Made late, too: each makes its asynchronous one, and has it imported."""
        parts = []
        for part in delegate.lazy_parts:
            self.imports.add("import functools")
            assert isinstance(part.returns, ast.Name), f"{part.name}: no class is named"
            kind = without_await(part.returns.id)
            parts += [
                "    @functools.cached_property\n"
                f"    def {part.name}(self) -> {kind}:\n        {doc_of(part)}\n"
                f"        return {kind}(self._portal, self._inner.{part.name})"
            ]
        return parts

    # -- methods ---------------------------------------------------------------------------------------

    def _method(self, delegate: Delegate, method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        decorators = {ast.unparse(each) for each in method.decorator_list}
        head = self._head(delegate, method, decorators)
        if "overload" in decorators:
            self.imports.add("from typing import overload")
            return f"{head} ..."
        doc = f"        {doc_of(method)}\n" if ast.get_docstring(method) else ""
        return f"{head}\n{doc}{textwrap.indent(self._body(delegate, method, decorators), ' ' * 8)}"

    def _head(
        self, delegate: Delegate, method: ast.FunctionDef | ast.AsyncFunctionDef, decorators: set[str]
    ) -> str:
        self._import_names(delegate, method)
        returns = ast.unparse(synchronous(method.returns)) if method.returns else "None"
        lines = [f"    @{each}" for each in sorted(decorators)]
        arguments = ast.unparse(synchronous(method.args))
        return "\n".join([*lines, f"    def {without_await(method.name)}({arguments}) -> {returns}:"])

    def _import_names(self, delegate: Delegate, method: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        used = names_of(synchronous(method.args))
        used |= names_of(synchronous(method.returns)) if method.returns else set()
        for name in used:
            if name in self.values:
                self.imports.add(f"from hinow_async.sync.values import {name}")
            elif name in BY_HAND:
                self.imports.add(f"from {BY_HAND[name]} import {name}")
            elif not {name, f"Async{name}"} & set(self.found) and name != delegate.name:
                place = delegate.source.where(name) or delegate.source.where(f"Async{name}")
                self.imports |= {without_await(place)} if place else set()

    def _body(
        self, delegate: Delegate, method: ast.FunctionDef | ast.AsyncFunctionDef, decorators: set[str]
    ) -> str:
        returns = method.returns
        arguments = list(self._arguments(method))
        call = f"self._inner.{method.name}" + (
            "" if "property" in decorators else f"({', '.join(arguments)})"
        )
        if self._takes_twins(method):
            # Values of ours are saved and read by the door that they have themselves.
            return f"return Door(self._portal, self._inner).{method.name}({', '.join(arguments)})"
        asked = f"lambda: {call}" if arguments or "property" in decorators else call.removesuffix("()")
        match returns:
            case ast.Name(id="Self"):
                return f"self._portal.run({asked})\nreturn self"
            case ast.Subscript(value=ast.Name(id="Outcomes"), slice=ast.Name(id=kind)):
                self.imports.add("from hinow_async.sync.many import Outcomes, pulled")
                source = source_of(method)
                return (
                    f"source = pulled({source})\n"
                    f"outcomes = {call.replace(f'({source}', '(source', 1)}\n"
                    f"return Outcomes(self._portal, source, outcomes, {kind})"
                )
            case ast.Subscript(value=ast.Name(id="AsyncIterator"), slice=items):
                assert not names_of(items) & self.values, f"{method.name}: items that need twins"
                return f"return self._portal.iterate({asked})"
        way = "run" if isinstance(method, ast.AsyncFunctionDef) else "ask"
        way = "finish" if method.name in {"aclose", "__aexit__"} else way
        return self._returned(f"self._portal.{way}({asked})", returns)

    def _returned(self, call: str, returns: ast.expr | None) -> str:
        match returns:
            case None | ast.Constant(value=None):
                return call
            case ast.Name(id=name) if name in self.values:
                return f"return twin({name}, {call}, self._portal)"
            case ast.Name(id=name) if name in self.found:
                return f"return {self.found[name].twin}(self._portal, {call})"
            case ast.BinOp(left=ast.Name(id=value), right=ast.Name(id=live)) if live in self.found:
                return (
                    f"answer = {call}\n"
                    f"if isinstance(answer, {self._async_name(self.found[live])}):\n"
                    f"    return {live}(self._portal, answer)\n"
                    f"return twin({value}, answer, self._portal)"
                )
        assert not names_of(returns) & {*self.values, *self.found}, f"no rule for {ast.unparse(returns)}"
        return f"return {call}"

    def _arguments(self, method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
        arguments = method.args
        for each in [*arguments.posonlyargs, *arguments.args][1:]:
            yield each.arg
        if arguments.vararg:
            yield f"*{arguments.vararg.arg}"
        for each in arguments.kwonlyargs:
            yield f"{each.arg}={each.arg}"
        if arguments.kwarg:
            yield f"**{arguments.kwarg.arg}"

    def _takes_twins(self, method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        return bool(names_of(method.args) & self.values)

    # -- the client itself -----------------------------------------------------------------------------

    def _client(self, delegate: Delegate) -> str:
        """Its lifetime is that of its portal; the rest is as everywhere."""
        self._async_name(delegate)
        self.imports.add("from hinow_async._secrets import as_secret")
        made = {each.name: each for each in delegate.node.body if isinstance(each, ast.FunctionDef)}
        waited = {each.name: each for each in delegate.methods}
        arguments = ", ".join(
            f"{name}={'key' if name == 'api_key' else name}"
            for name in (each.arg for each in made["__init__"].args.kwonlyargs)
        )
        views = ", ".join(self._arguments(made["with_options"]))
        special = {"with_options", "aclose", "__aenter__", "__aexit__"}
        plain_methods = [
            self._method(delegate, each) for each in delegate.methods if each.name not in special
        ]
        parts = [
            "class Hinow:\n" + textwrap.indent(CLIENT_DOC, "    "),
            f"{self._head(delegate, made['__init__'], set())}\n        {doc_of(made['__init__'])}\n"
            "        key: Any = None if api_key is None else as_secret(api_key)\n"
            "        del api_key  # a traceback that shows locals must not show it\n"
            f"        inner = AsyncHinow({arguments})\n"
            "        self._is_view = False\n"
            "        self._portal = Portal(inner.aclose, adapt)\n"
            "        self._inner = inner",
            *self._lazy_parts(delegate),
            f"{self._head(delegate, made['with_options'], set())}\n        {doc_of(made['with_options'])}\n"
            "        view = object.__new__(type(self))\n        view._is_view = True\n"
            "        view._portal = self._portal\n"
            f"        view._inner = self._inner.with_options({views})\n        return view",
            *plain_methods,
            f"    def close(self) -> None:\n        {doc_of(waited['aclose'])}\n"
            "        if not self._is_view:\n            self._portal.close()",
            f"{self._head(delegate, waited['__aenter__'], set())}\n"
            "        self._portal.run(self._inner.__aenter__)\n        return self",
            f"{self._head(delegate, waited['__aexit__'], set())}\n        self.close()",
            "    def __repr__(self) -> str:\n"
            '        if not hasattr(self, "_inner"):\n'
            '            return f"<{type(self).__name__}, not made>"  # shown by its own traceback\n'
            "        name = type(self._inner).__name__\n"
            "        return repr(self._inner).replace(name, type(self).__name__, 1)",
        ]
        return "\n\n".join(parts)


def doc_of(node: Any) -> str:
    """Return a docstring as it is written, in synchronous words, quotes and all."""
    text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
    pad = " " * (8 if not isinstance(node, ast.ClassDef) else 4)
    body = textwrap.indent(without_await(text), pad).strip()
    return f'"""{body}\n{pad}"""' if "\n" in body else f'"""{body}"""'


def source_of(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the name of the parameter that takes any iterable."""
    (name,) = (
        each.arg
        for each in method.args.args
        if each.annotation and "AsyncIterable" in names_of(each.annotation)
    )
    return name


class _Synchronous(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Of `Iterable[X] | AsyncIterable[X]` the first stays."""
        if isinstance(node.right, ast.Subscript) and names_of(node.right.value) == {"AsyncIterable"}:
            return self.visit(node.left)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        return ast.Name(without_await(node.id), node.ctx)


def synchronous(node: Any) -> Any:
    """Return a copy of an annotation or of parameters in synchronous words."""
    return _Synchronous().visit(copy.deepcopy(node))


def modules() -> dict[str, str]:
    """Return the text of each file by its name, not formatted yet."""
    sources = [Source(module) for module in VALUE_MODULES]
    parts = copied(sources)
    values = {name for name, source in parts.items() if is_value(source.nodes[name])}
    return {"values.py": values_module(sources, parts), "client.py": Twins(values).text()}


def main() -> None:
    """Write the files, and have ruff sort and format them."""
    for name, text in modules().items():
        (TARGET / name).write_text(text.rstrip() + "\n", "utf-8")
    paths = [str(TARGET / name) for name in modules()]
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--quiet", "--select=I,F401", "--fix", *paths], check=True)
    subprocess.run([*ruff, "format", "--quiet", *paths], check=True)


if __name__ == "__main__":
    main()
