"""Whose work an operation is part of: the agent and the conversation."""

from __future__ import annotations

from victor_otel.model import semconv
from victor_otel.model.operation import Operation
from victor_otel.model.span import Attributes
from victor_otel.victor.operations import SUB_AGENT

AGENT = "victor"
"""Victor gives an agent of a user's no name."""


def agent_name(operation: Operation) -> str:
    """The role of the sub-agent or the team's member that an operation is part of."""
    around = operation.around(SUB_AGENT)
    role = getattr(getattr(getattr(around, "instance", None), "config", None), "role", None)
    return str(getattr(role, "value", None) or AGENT)


def conversation(operation: Operation) -> str | None:
    """The session that Victor keeps the conversation in; None where there is none."""
    owner = operation.owner
    for name in ("active_session_id", "_memory_session_id"):
        known = getattr(owner, name, None)
        if isinstance(known, str) and known:
            return known
    return None


def belongs(operation: Operation) -> Attributes:
    """What every span tells."""
    return {
        semconv.AGENT_NAME: agent_name(operation),
        semconv.CONVERSATION_ID: conversation(operation),
    }
