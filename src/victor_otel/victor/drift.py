"""Compares Victor's classes and enumerations with what victor-otel knows of them.

Only modules that Victor has imported are examined; none is imported here. There is no statement
about a module that is not imported, or not completely.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import EnumType
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from victor_otel.engine.imports import importing
from victor_otel.victor import classes, enumerations
from victor_otel.victor.classes import VictorClass
from victor_otel.victor.enumerations import Enumeration

__all__ = ["MODULES", "State", "compared", "is_gone", "look"]

MODULES = tuple(
    dict.fromkeys(
        module
        for known in (*classes.ALL, *(one.where for one in enumerations.ALL))
        for module in known.modules
    )
)
"""The modules whose classes or enumerations are known; importing all of them tells everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Whether a class has moved, or an enumeration has changed its members."""

    path: str
    moved: bool
    members: bool = False
    """Whether its members could be looked at."""
    undeclared: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def look() -> Iterator[State]:
    """The state of each class and enumeration whose module is imported."""
    for known in classes.ALL:
        told, cls = _find(known, _is_recognised)
        if told:
            yield State(path=known.path, moved=cls is None)
    for one in enumerations.ALL:
        told, cls = _find(one.where, _is_there)
        if told:
            yield compared(one, cls)


def compared(one: Enumeration, members: Iterable[Any] | None) -> State:
    """The state of an enumeration with these members, or of none where it should be."""
    if members is None:
        return State(path=one.where.path, moved=True)
    undeclared, lost = one.undeclared(members), one.lost(members)
    return State(path=one.where.path, moved=False, members=True, undeclared=undeclared, lost=lost)


def _is_recognised(value: Any, known: VictorClass) -> bool:
    """As `classes.is_a` will see it: a module that repeats a class tells where that is defined."""
    return (
        isinstance(value, type)
        and value.__qualname__ == known.name
        and value.__module__ in known.modules
    )


def _is_there(value: Any, _known: VictorClass) -> bool:
    """Members are read by their values: it does not matter where they are defined."""
    return isinstance(value, EnumType)


def _find(known: VictorClass, fits: Callable[[Any, VictorClass], bool]) -> tuple[bool, Any]:
    """Whether it is known where the class is, and the class unless it is in none of its modules."""
    told = True
    for name in known.modules:
        module = sys.modules.get(name)
        if module is None:
            told = told and is_gone(name)
        elif importing(module):
            told = False
        elif fits(found := vars(module).get(known.name), known):
            return True, found
    return told, None


def is_gone(name: str) -> bool:
    """Whether Victor has no such module any more.

    Only a package that is imported, and made of files, can tell. To ask it imports nothing.
    """
    package = sys.modules.get(name.rpartition(".")[0])
    file = getattr(package, "__file__", None)
    return file is not None and _lacks(name, file, tuple(getattr(package, "__path__", ())))


@functools.cache
def _lacks(name: str, file: str, path: tuple[str, ...]) -> bool:
    """Remembered, since every collection asks; the names are ours, so there is an end to it."""
    return Path(file).is_file() and PathFinder.find_spec(name, path) is None
