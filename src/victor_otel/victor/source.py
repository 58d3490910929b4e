"""What the source of Victor defines, without importing it: that takes seconds, this does not.

A function that a decorator or a mixin brings is looked for where it is written. Only an import
tells whether it can really be wrapped.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from victor_otel.victor import classes, enumerations
from victor_otel.victor.classes import VictorClass
from victor_otel.victor.drift import State, compared

FOUND, MISSING, WAITING = "found", "missing", "waiting"


@dataclass(frozen=True)
class Member:
    """A member of an enumeration, as `Enumeration.word` reads it."""

    name: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class _Definition:
    """What is kept of a definition: whole syntax trees would take longer to free than to read."""

    is_class: bool = False
    bases: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    is_decorated: bool = False


@dataclass(frozen=True)
class _Module:
    """The names of a module."""

    defined: dict[str, _Definition] = field(default_factory=dict[str, _Definition])
    """By qualified names."""
    imported: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """By its name here: module and name there."""


def state(target: str) -> str:
    """Whether a hooked function is there, or waits for a package that is not installed."""
    module, _, path = target.partition(":")
    if _spec(module.partition(".")[0]) is None:
        return WAITING
    return FOUND if _has(module, path) else MISSING


def look() -> Iterator[State]:
    """The state of every class and enumeration that can be known without an import."""
    for known in classes.ALL:
        if _is_installed(known):
            yield State(path=known.path, moved=_defined(known) is None)
    for one in enumerations.ALL:
        if _is_installed(one.where):
            found = _defined(one.where)
            yield compared(one, found and found.members)


def _is_installed(known: VictorClass) -> bool:
    return any(_spec(module.partition(".")[0]) is not None for module in known.modules)


def _defined(known: VictorClass) -> _Definition | None:
    found = (_read(module).defined.get(known.name) for module in known.modules)
    return next((one for one in found if one is not None and one.is_class), None)


def _has(module: str, path: str) -> bool:
    """Whether a module has a name: written in it, in a base class, or where it is imported from."""
    names = _read(module)
    if path in names.defined or _spec(module.partition(".")[0]) is None:
        return True  # of a package that is not installed nothing is known
    first, _, rest = path.partition(".")
    if first in names.imported:
        there, name = names.imported[first]
        return _has(there, f"{name}.{rest}" if rest else name)
    found = names.defined.get(first)
    if found is None or not rest:
        return False
    # Victor's decorator makes a tool of a function, with attributes of its own.
    return found.is_decorated or any(_has(module, f"{base}.{rest}") for base in found.bases)


@functools.cache
def _read(name: str) -> _Module:
    read = _Module()
    spec = _spec(name)
    if spec is not None and spec.origin is not None and spec.has_location:
        package = name if spec.submodule_search_locations else name.rpartition(".")[0]
        _collect(ast.parse(Path(spec.origin).read_bytes()), "", package, read)
    return read


def _collect(node: ast.AST, prefix: str, package: str, into: _Module) -> None:
    """Names at the top and within classes, also where they depend on a condition."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef(name=name):
                into.defined[prefix + name] = _class(child)
                _collect(child, f"{prefix}{name}.", package, into)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                decorated = _Definition(is_decorated=bool(child.decorator_list))
                into.defined[prefix + name] = decorated
            case ast.Assign(targets=targets):
                named = [one.id for one in targets if isinstance(one, ast.Name)]
                into.defined.update(dict.fromkeys((prefix + name for name in named), _Definition()))
            case ast.ImportFrom(module=module, names=names, level=level) if not prefix:
                above = package.rsplit(".", level - 1)[0] if level else ""
                there = ".".join(filter(None, (above, module)))
                into.imported.update({one.asname or one.name: (there, one.name) for one in names})
            case ast.If() | ast.Try() | ast.With() | ast.ExceptHandler():
                _collect(child, prefix, package, into)
            case _:
                pass


def _class(found: ast.ClassDef) -> _Definition:
    bases = (base.value if isinstance(base, ast.Subscript) else base for base in found.bases)
    members: list[Member] = []
    for statement in found.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                members.append(Member(name, value))
            case _:
                pass
    return _Definition(
        is_class=True,
        bases=tuple(base.id for base in bases if isinstance(base, ast.Name)),
        members=tuple(members),
    )


@functools.cache
def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, without importing the packages around it."""
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name)
    around = _spec(parent)
    if around is None or around.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, around.submodule_search_locations)
