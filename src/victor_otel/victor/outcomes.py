"""How Victor's work ended: statuses and error types, from its exceptions."""

from __future__ import annotations

import asyncio
import enum

from victor_otel.victor.classes import (
    APPROVAL_PAUSE,
    PROVIDER_TIMEOUT_ERROR,
    TOOL_TIMEOUT_ERROR,
    VICTOR_ERROR,
    is_a,
)


def ending(error: BaseException) -> str:
    """The status of what ended with an error: failure, timeout, cancelled or paused."""
    if is_a(error, APPROVAL_PAUSE):
        return "paused"
    # By its class: what an error says of itself may raise.
    if issubclass(type(error), (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
        return "cancelled"
    return "timeout" if is_timeout(error) else "failure"


def is_timeout(error: BaseException) -> bool:
    """A timeout of Python's or of Victor's, whose own classes do not derive from Python's."""
    return issubclass(type(error), TimeoutError) or is_a(
        error, PROVIDER_TIMEOUT_ERROR, TOOL_TIMEOUT_ERROR
    )


def error_type(error: BaseException) -> str:
    """Victor's category of an error, else its class; never its text."""
    if is_a(error, VICTOR_ERROR) and not is_timeout(error):
        # A provider's timeout has the category of a lost connection.
        category = getattr(error, "category", None)
        if isinstance(category, enum.Enum):
            return str(category.value)
    return type(error).__name__
