"""An application's SDK in a forked child: locks that nobody releases, and the parent's totals.

A fork copies locks as they are. One that another thread of the parent held stays locked in the
child, which does not have that thread; opentelemetry-sdk 1.45 makes few of its own anew. Only the
thread that forked runs in the child when this does, so every other lock can be replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

_SDK = "opentelemetry.sdk.metrics"
_LOCKS: Mapping[object, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


def renew(meter: Any, scope: str) -> bool:
    """New locks in the SDK behind `meter`, and no values of the instruments of `scope`.

    Returns whether it is the SDK, as it is known here. In any other a record can wait for ever.
    """
    known = False
    seen: set[int] = set()
    todo: list[Any] = [meter]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            todo += one
        elif one is meter or _is_of_sdk(one):
            known = known or hasattr(one, "_reader_storages")
            _forget(one, scope)
            todo += _relock(one)
    return known


def _is_of_sdk(one: Any) -> bool:
    """Whether it is an instance of the SDK's classes, or of a class derived from them."""
    return any(base.__module__.startswith(_SDK) for base in type(one).__mro__)


def _forget(one: Any, scope: str) -> None:
    """Of a reader's storage, what instruments of the parent have added up."""
    matches = getattr(one, "_instrument_view_instrument_matches", {})
    for instrument in [each for each in matches if each.instrumentation_scope.name == scope]:
        del matches[instrument]


def _relock(one: Any) -> list[Any]:
    """Replaces the locks of an object; returns its other attributes."""
    others: list[Any] = []
    attributes: dict[str, Any] = getattr(one, "__dict__", {})
    for name, value in list(attributes.items()):
        make = _LOCKS.get(value.__class__)
        if make is None:
            others.append(value)
        else:
            attributes[name] = make()
    return others
