"""The guard around our own code: count, log once, swallow; re-raise when `STRICT`.

Victor is always called outside of it, so its exceptions never pass through here.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from victor_otel.engine.health import Health

logger = logging.getLogger("victor_otel")

STRICT = False
"""Set by our own tests, so that a bug of ours fails them instead of being swallowed."""

_draining = threading.local()
"""Whether this thread is at it: what is done may itself look for more to do."""

_deferred: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()


def caught(health: Health, where: str, error: Exception) -> None:
    """Accounts for an exception of ours; `where` is the hook or metric it happened at."""
    if STRICT:
        raise error
    if health.add_error(where) == 1:
        logger.warning(
            "victor-otel: an error at %s was swallowed; Victor is not affected, the number may "
            "be incomplete. Further ones there are only counted (victor_otel_errors_total).\n%s",
            where,
            shown(error),
        )


def shown(error: BaseException) -> str:
    """What an error is and where it arose, without its text: that could be content.

    Neither are lines of source code shown, nor other errors that led to it.
    """
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), lookup_lines=False
    )
    places = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join([*places, f"  {type(error).__module__}.{type(error).__qualname__}"])


def defer(function: Callable[..., None], *args: Any) -> None:
    """Postpones what a finalizer wants done.

    A finalizer can run while this very thread holds a lock of the SDK; recording there
    would wait for ever. Appending to a deque takes no lock.
    """
    _deferred.append((function, args))


def drain(health: Health) -> None:
    """Does what was deferred. Called after each call, before each collection and at exit."""
    if not _deferred or getattr(_draining, "on", False):
        return
    _draining.on = True
    try:
        while _deferred:
            try:
                function, args = _deferred.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                function(*args)
            except Exception as error:
                caught(health, "deferred", error)
    finally:
        _draining.on = False


def forget() -> None:
    """Drops what was deferred: in a forked child it belongs to the parent."""
    _deferred.clear()
