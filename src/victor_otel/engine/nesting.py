"""The nesting of operations, along chains of calls and across threads.

One context variable holds the innermost frame of the running chain of calls. A frame is closed
when its function ends, so a background task that copied the context neither counts as part of
an operation that is over nor hides its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from types import CoroutineType
from typing import Any

from victor_otel.model.operation import Frame, Live

CURRENT: ContextVar[Frame | None] = ContextVar("victor_otel_frame", default=None)


def active(frame: Frame | None) -> Frame | None:
    """The innermost frame that is not closed."""
    while frame is not None and not frame.active:
        frame = frame.parent
    return frame


def enter(frame: Frame) -> Token[Frame | None]:
    """Makes a frame current, and the span of an operation that begins with it."""
    if frame.attaches is not None:
        frame.attached = frame.attaches.attach()
    return CURRENT.set(frame)


def leave(frame: Frame, token: Token[Frame | None]) -> None:
    """Ends what `enter` began, unless that was in another context than this one.

    A coroutine may be finished elsewhere than it was started, as by the garbage collector.
    """
    if frame.attaches is not None:
        frame.attaches.detach(frame.attached)
    try:
        CURRENT.reset(token)
    except ValueError:
        return


class Owners:
    """Which orchestrator a part of Victor belongs to, without touching either."""

    def __init__(self) -> None:
        # By identity: one lookup in a plain dictionary, and whatever the part says it equals.
        self._owners: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}

    def add(self, orchestrator: Any, *parts: Any) -> None:
        reference = weakref.ref(orchestrator)
        for part in parts:
            if part is not None:
                key = id(part)
                gone = weakref.ref(part, lambda _, key=key: self._owners.pop(key, None))
                self._owners[key] = gone, reference

    def of(self, instance: Any, outside: Frame | None) -> Any:
        """The orchestrator of `instance`, else the one in whose chain of calls this runs."""
        known = self._owners.get(id(instance))
        if known is not None and known[0]() is instance:
            return known[1]()
        frame = active(outside)
        return None if frame is None else frame.owner


class Carried:
    """A function that runs, in another thread, as part of the chain of calls that submitted it.

    Only what is ours travels: copying the whole context would change what Victor sees.
    """

    __slots__ = ("_frame", "_function")

    def __init__(self, function: Callable[..., Any], frame: Frame) -> None:
        self._function = function
        self._frame = frame

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token, live = CURRENT.set(self._frame), _span_around(self._frame)
        attached = None if live is None else live.attach()
        try:
            return self._function(*args, **kwargs)
        finally:
            if live is not None:
                live.detach(attached)
            CURRENT.reset(token)


def _span_around(frame: Frame | None) -> Live | None:
    """The innermost span that is under way in a chain of calls."""
    while frame is not None and frame.attaches is None:
        frame = frame.parent
    return None if frame is None else frame.attaches


def carry(submit: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps `ThreadPoolExecutor.submit`, through which `run_in_executor` goes as well."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        frame = active(CURRENT.get())
        if frame is None or not args[1:]:
            return submit(*args, **kwargs)
        executor, function, *rest = args
        # A worker that is started now serves others later: it must not inherit the frame.
        token = CURRENT.set(None)
        try:
            return submit(executor, Carried(function, frame), *rest, **kwargs)
        finally:
            CURRENT.reset(token)

    return wrapper


def carry_coroutine(run: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps Victor's bridge from synchronous code, which runs a coroutine in a thread of its own.

    `threading.Thread` itself is left alone: other libraries replace its methods, and a thread
    that a tool starts is no part of the tool's call for us.
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        frame = active(CURRENT.get())
        coroutine: Any = args[0] if args else None
        is_coroutine = issubclass(type(coroutine), CoroutineType)
        if frame is None or not is_coroutine:
            return run(*args, **kwargs)
        return run(_inside(frame, coroutine), *args[1:], **kwargs)

    return wrapper


async def _inside(frame: Frame, coroutine: Coroutine[Any, Any, Any]) -> Any:
    CURRENT.set(frame)
    live = _span_around(frame)
    if live is not None:
        live.attach()
    return await coroutine
