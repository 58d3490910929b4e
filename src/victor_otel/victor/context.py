"""Who uses Victor, and how: what `describe` reads when an operation starts."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import PurePath
from typing import Any

from victor_otel.model.operation import Context

ACTIVATED: ContextVar[float | None] = ContextVar("victor_otel_activated", default=None)
"""When the instrumentation was switched on, in the chain of calls in which that happened."""


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
    given = sys.argv
    return _interface_of(given[0] if given else "", given[2] if given[2:] else "")


def authenticated_user() -> str | None:
    module = sys.modules.get("victor.core.context")
    lookup: Callable[[], str | None] | None = getattr(module, "get_auth_subject_id", None)
    return lookup() if lookup is not None else None


def describe(owner: Any, interface: str) -> Context:
    """The context of an operation that starts now, in the name of the orchestrator `owner`.

    `interface` is what the chain of calls came through; empty for the process's own.
    """
    interface = interface or default_interface()
    vertical = getattr(getattr(owner, "_vertical_context", None), "name", None)
    mode = getattr(getattr(owner, "mode_controller", None), "current_mode", None)
    return Context(
        interface=interface,
        vertical=vertical or "none",
        mode=getattr(mode, "value", None) or "none",
        user=authenticated_user() if interface == "api" else None,
    )
