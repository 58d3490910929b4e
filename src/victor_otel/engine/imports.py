"""Who wants to see which module each time that it has been imported, also when it is reloaded.

The import hooks of wrapt are called once, see no reload, and cannot be taken back: each
instrumentation that ended would leave its own behind.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

See = Callable[[ModuleType], None]


class _Loader:
    """A module's own loader, which tells when it is done. The module never sees it."""

    def __init__(self, own: Any, name: str) -> None:
        self._own = own
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the own one: other tools ask what a loader is."""
        return self._own.__class__

    def exec_module(self, module: ModuleType) -> None:
        own = self._own
        for holder, attribute in ((module, "__loader__"), (module.__spec__, "loader")):
            if getattr(holder, attribute, None) is self:
                setattr(holder, attribute, own)
        own.exec_module(module)
        for see in list(_wanted.get(self._name, ())):
            see(module)


class _Finder:
    """Leaves finding to the finders after it."""

    def __init__(self) -> None:
        self._asking = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Another finder of this kind may ask all of them, and so this one, once more.
        if name not in _wanted or getattr(self._asking, "name", None) == name:
            return None
        before = getattr(self._asking, "name", None)
        self._asking.name = name
        try:
            spec = self._found(name, path, target)
        finally:
            self._asking.name = before
        if spec is not None and hasattr(spec.loader, "exec_module"):
            loader: Any = _Loader(spec.loader, name)
            spec.loader = loader
        return spec

    def _found(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                return spec
        return None


def importing(module: ModuleType) -> bool:
    """Whether it is being imported at this moment: not all of it is there."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


_wanted: dict[str, list[See]] = {}
_finder = _Finder()


def watch(name: str, see: See) -> None:
    """Has `see` called with the module after each import of it from now on; it must not raise."""
    _wanted.setdefault(name, []).append(see)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def unwatch(name: str, see: See) -> None:
    """Ends that; with the last one nothing of ours is left in the import system."""
    wanted = _wanted[name]
    wanted.remove(see)
    if not wanted:
        del _wanted[name]
    if not _wanted and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
