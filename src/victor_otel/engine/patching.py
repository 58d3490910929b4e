"""Finds the functions that hooks name, wraps them when Victor imports them, puts them back.

Victor's lazy imports stay lazy: nothing of it is imported here.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterable
from types import FunctionType, ModuleType
from typing import Any, cast

from victor_otel.engine import failsafe, imports
from victor_otel.engine.health import Health
from victor_otel.engine.imports import importing
from victor_otel.engine.wrapping import dressed, unpacked

logger = logging.getLogger("victor_otel")

_MISSING = object()

Wrap = Callable[[Any, Any], Any]
"""`(original, owner) -> replacement`, both as they stand in the owner's dictionary.

The function in the replacement leads back to the original by its `__wrapped__`.
"""


class MissingTargetError(LookupError):
    """Victor has no such function; the message says what was not found."""


class _Patch:
    """One replaced attribute. Keeps no class alive: Victor makes some for a single call."""

    def __init__(self, owner: Any, name: str, replacement: Any) -> None:
        self._owner = weakref.ref(owner)
        self._name = name
        self._inherited = name not in _own(owner)
        self._wrapper = weakref.ref(unpacked(replacement)[0])

    def undo(self) -> None:
        owner, wrapper = self._owner(), self._wrapper()
        if owner is None or wrapper is None:
            return
        if unpacked(_own(owner).get(self._name))[0] is not wrapper:
            return
        if self._inherited:
            delattr(owner, self._name)
        else:
            setattr(owner, self._name, wrapper.__wrapped__)


class Patcher:
    """All patches of one instrumentation, in the order in which they were made."""

    def __init__(self, health: Health, on_bound: Callable[[], None] = lambda: None) -> None:
        self._health = health
        self._on_bound = on_bound
        self._patches: list[_Patch] = []
        self._wrappers: weakref.WeakSet[FunctionType] = weakref.WeakSet()
        self._undone = False
        self._half_imported: list[tuple[ModuleType, imports.See]] = []
        self._watched: list[tuple[str, imports.See]] = []

    def patch(self, target: str, wrap: Wrap, *, overrides: bool = False) -> None:
        """Wraps `target` now if its module is imported, else as soon as it is."""
        module_name, _, path = target.partition(":")
        self._health.hooks[target] = "waiting"

        def on_import(module: ModuleType) -> None:
            if self._undone:
                return
            try:
                owner, name = resolve(module, path)
                if overrides:
                    self._wrap_overrides(owner, name, wrap)
                else:
                    self._replace(owner, name, wrap)
            except MissingTargetError as error:
                self._health.hooks[target] = "missing"
                logger.warning("victor-otel: %s (%s); its numbers stay absent.", error, target)
            except Exception as error:
                self._health.hooks[target] = "missing"
                failsafe.caught(self._health, target, error)
            else:
                self._health.hooks[target] = "bound"
                self._on_bound()

        imports.watch(module_name, on_import)
        self._watched.append((module_name, on_import))
        module = sys.modules.get(module_name)
        if module is None:
            return
        if importing(module):
            # Too late to be told of this import, too early to look inside.
            self._half_imported.append((module, on_import))
        else:
            on_import(module)

    def retry(self) -> None:
        """Wraps what was in the middle of its import when it was asked for."""
        pending, self._half_imported = self._half_imported, []
        for module, on_import in pending:
            if importing(module):
                self._half_imported.append((module, on_import))
            else:
                on_import(module)

    def patch_function(self, owner: Any, name: str, wrap: Wrap) -> None:
        """Wraps a function that is no hook of an area."""
        self._replace(owner, name, wrap)

    def undo(self) -> None:
        """Puts back exactly what was there, newest first; a foreign wrapper over ours stays."""
        self._undone = True
        for name, see in self._watched:
            imports.unwatch(name, see)
        self._watched.clear()
        for patch in reversed(self._patches):
            patch.undo()
        self._patches.clear()

    def _replace(self, owner: Any, name: str, wrap: Wrap) -> None:
        own = _own(owner).get(name, _MISSING)
        if self._is_ours(own):
            return  # a module may keep what it has when it is reloaded
        original = _inherited(owner, name) if own is _MISSING else own
        self._set(owner, name, wrap(original, owner))

    def _is_ours(self, value: Any) -> bool:
        function, _ = unpacked(value)
        return type(function) is FunctionType and function in self._wrappers

    def _set(self, owner: Any, name: str, replacement: Any) -> None:
        patch = _Patch(owner, name, replacement)
        setattr(owner, name, replacement)
        self._patches.append(patch)
        self._wrappers.add(unpacked(replacement)[0])

    def _wrap_overrides(self, base: type, name: str, wrap: Wrap) -> None:
        """Wraps `name` in every class that implements it for a subclass of `base`.

        Implementations may stand in mixins that are no subclasses of `base`, and classes
        may be defined at any time: so the subclasses' whole resolution order is visited,
        now and from `__init_subclass__`. `name` on `base` itself is abstract.
        """
        done: weakref.WeakSet[type] = weakref.WeakSet()

        def visit(cls: type) -> None:
            if self._undone:
                return
            for owner in cls.__mro__:
                if owner in (base, object) or owner in done or name not in vars(owner):
                    continue
                done.add(owner)
                if not getattr(vars(owner)[name], "__isabstractmethod__", False):
                    self._replace(owner, name, wrap)

        previous = vars(base).get("__init_subclass__", _MISSING)

        def __init_subclass__(cls: type, **kwargs: Any) -> None:  # noqa: N807
            if previous is _MISSING:
                super(base, cls).__init_subclass__(**kwargs)
            else:
                previous.__get__(None, cls)(**kwargs)
            try:
                visit(cls)
            except Exception as error:
                failsafe.caught(self._health, f"{base.__module__}:{base.__name__}.{name}", error)

        original = _inherited(base, "__init_subclass__")
        self._set(base, "__init_subclass__", classmethod(dressed(__init_subclass__, original)))
        for cls in _subclasses(base):
            visit(cls)


def resolve(module: ModuleType, path: str) -> tuple[Any, str]:
    """The owner and the attribute name of `path` in `module`.

    Raises:
        MissingTargetError: when the class or the attribute does not exist.
    """
    owner: Any = module
    *parents, name = path.split(".")
    for parent in parents:
        owner = _own(owner).get(parent, _MISSING)
        if owner is _MISSING:
            raise MissingTargetError(f"Victor has no {module.__name__}.{parent}")
    if not _has(owner, name):
        raise MissingTargetError(f"Victor has no {module.__name__}.{path}")
    return owner, name


def _has(owner: Any, name: str) -> bool:
    return any(name in _own(cls) for cls in _resolution_order(owner))


def _inherited(owner: Any, name: str) -> Any:
    return next(_own(cls)[name] for cls in _resolution_order(owner) if name in _own(cls))


def _own(owner: Any) -> dict[str, Any]:
    """What stands in a class or module itself, descriptors unbound."""
    return cast("dict[str, Any]", vars(owner))


def _resolution_order(owner: Any) -> Iterable[Any]:
    """The classes in which an attribute of `owner` may stand; a module has no others."""
    return cast("Iterable[Any]", owner.__mro__) if isinstance(owner, type) else (owner,)


def _subclasses(base: type) -> Iterable[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)
