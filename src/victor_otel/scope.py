"""Who and what is running, and the nesting of logical calls.

One context variable holds the innermost frame of the running call chain. A frame is
deactivated when its call ends, so a background task that copied the context neither
counts as part of a call that is over nor hides its own calls.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from pathlib import PurePath
from typing import Any

from victor_otel.spec import Call, Context, Scope

CURRENT: ContextVar[Frame | None] = ContextVar("victor_otel_frame", default=None)

ACTIVATED: ContextVar[float | None] = ContextVar("victor_otel_activated", default=None)
"""When the instrumentation was switched on, in the chain of calls in which that happened."""


ONE_SHOT = Scope(name="one_shot", outermost=True)
"""`victor run ...`, `victor chat MESSAGE` and `victor review ...`: one answer, then the end."""


_ENDED = Call(None, (), {})
"""Stands for the call of a closed frame."""


class Frame:
    """One entered function: its scope and level, and the logical call it belongs to."""

    __slots__ = ("active", "call", "instance", "interface", "level", "owner", "parent", "scope")

    def __init__(
        self,
        parent: Frame | None,
        scope: Scope | None,
        level: int,
        call: Call,
        *,
        interface: str,
        logical: Call,
    ) -> None:
        self.parent = parent
        self.scope = scope
        self.level = level
        self.call = logical
        self.instance = call.instance
        self.owner = call.owner
        self.interface = interface
        self.active = True

    def close(self) -> None:
        """Ends the frame and lets go of what it saw: contexts may keep the frame for long."""
        self.active = False
        self.instance = self.owner = None
        self.call = _ENDED


def active(frame: Frame | None) -> Iterator[Frame]:
    """The active frames from the innermost outwards."""
    while frame is not None:
        if frame.active:
            yield frame
        frame = frame.parent


def _interface(frame: Frame | None) -> str:
    """What the call chain came through; work that outlives a request came through it still."""
    while frame is not None:
        if frame.interface:
            return frame.interface
        frame = frame.parent
    return default_interface()


def innermost(frame: Frame | None, scope: Scope) -> Frame | None:
    return next((f for f in active(frame) if f.scope is scope), None)


def continues(frame: Frame, scope: Scope | None, level: int, instance: Any) -> bool:
    """Whether a function of the same scope, entered inside `frame`, is the same logical call."""
    if scope is None or scope.outermost or level < frame.level:
        return True
    return level == frame.level and instance is not None and instance is frame.instance


class Owners:
    """Which orchestrator a part of Victor belongs to, without touching either."""

    def __init__(self) -> None:
        self._owners: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()

    def add(self, orchestrator: Any, *parts: Any) -> None:
        reference = weakref.ref(orchestrator)
        for part in parts:
            if part is not None:
                self._owners[part] = reference

    def of(self, instance: Any, frame: Frame | None) -> Any:
        """The orchestrator of `instance`, else the one in whose call chain this runs."""
        try:
            reference = self._owners.get(instance)
        except TypeError:  # not hashable or not weakly referable: no part of an orchestrator
            reference = None
        if reference is not None:
            return reference()
        return next((f.owner for f in active(frame) if f.owner is not None), None)


_WEB_CHAT = "victor/ui/chat_app"
"""Where the application is that `victor ui` has Chainlit run, in a process of its own."""


@functools.lru_cache(maxsize=8)
def _interface_of(program: str, application: str) -> str:
    path = PurePath(program)
    name = path.parent.name if path.name == "__main__.py" else path.stem
    if name == "chainlit" and PurePath(application).parent.as_posix().endswith(_WEB_CHAT):
        return "web"
    return "cli" if name in {"victor", "vic"} else "sdk"


def default_interface() -> str:
    """How this process is used, when no server says otherwise: by its program's name."""
    program, application = (*sys.argv[:1], *sys.argv[2:3], "", "")[:2]
    return _interface_of(program, application)


def _authenticated_user() -> str | None:
    module = sys.modules.get("victor.core.context")
    lookup: Callable[[], str | None] | None = getattr(module, "get_auth_subject_id", None)
    return lookup() if lookup is not None else None


def describe(frame: Frame | None, owner: Any, interface: str) -> Context:
    """The context of a call that starts now inside `frame`."""
    interface = interface or _interface(frame)
    vertical = getattr(getattr(owner, "_vertical_context", None), "name", None)
    mode = getattr(getattr(owner, "mode_controller", None), "current_mode", None)
    return Context(
        interface=interface,
        vertical=vertical or "none",
        mode=getattr(mode, "value", None) or "none",
        user=_authenticated_user() if interface == "api" else None,
    )


class Carried:
    """A function that runs, in another thread, as part of the call chain that submitted it.

    Only our own variable travels: copying the whole context would change what Victor sees.
    """

    __slots__ = ("_frame", "_function")

    def __init__(self, function: Callable[..., Any], frame: Frame) -> None:
        self._function = function
        self._frame = frame

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = CURRENT.set(self._frame)
        try:
            return self._function(*args, **kwargs)
        finally:
            CURRENT.reset(token)


def carry(
    submit: Callable[..., Any], _executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wraps `ThreadPoolExecutor.submit`, through which `run_in_executor` goes as well."""
    frame = next(active(CURRENT.get()), None)
    if frame is None or not args:
        return submit(*args, **kwargs)
    # A worker that is started now serves others later: it must not inherit the frame.
    token = CURRENT.set(None)
    try:
        return submit(Carried(args[0], frame), *args[1:], **kwargs)
    finally:
        CURRENT.reset(token)


def carry_coroutine(
    run: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wraps Victor's bridge from synchronous code, which runs a coroutine in a thread of its own.

    `threading.Thread` itself is left alone: other libraries replace its methods, and a thread
    that a tool starts is no part of the tool's call for us.
    """
    frame = next(active(CURRENT.get()), None)
    if frame is None or not args or not inspect.iscoroutine(args[0]):
        return run(*args, **kwargs)
    return run(_inside(frame, args[0]), *args[1:], **kwargs)


async def _inside(frame: Frame, coroutine: Coroutine[Any, Any, Any]) -> Any:
    CURRENT.set(frame)
    return await coroutine
