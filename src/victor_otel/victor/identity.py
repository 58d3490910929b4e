"""Whose work an operation is part of: the agent and the conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from victor_otel.model import semconv
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.span import Attributes
from victor_otel.victor.operations import SUB_AGENT, TEAM_RUN, WORKFLOW_RUN
from victor_otel.victor.values import mapping

AGENT = "victor"
"""Victor gives an agent of a user's no name."""


def agent_name(operation: Operation) -> str:
    """Whose work it is: read once, for its span and its metrics alike."""
    if not operation.agent_name:
        kind = operation.type
        named = _role if kind is None else _NAMED.get(kind, _role)
        operation.agent_name = named(operation)
    return operation.agent_name


def _role(operation: Operation) -> str:
    """The role of the sub-agent or the team's member that an operation is part of."""
    around = operation.around(SUB_AGENT)
    if around is None:
        return AGENT
    role = getattr(getattr(around.instance, "config", None), "role", None)
    return str(getattr(role, "value", None) or AGENT)


def _team(_run: Operation) -> str:
    """The name of a team is its user's words."""
    return "team"


def workflow_name(run: Operation) -> str:
    """The compiled workflow's own name, else that of the definition or state it was given."""
    named = (
        getattr(run.instance, "workflow_name", None),
        getattr(run.argument("workflow"), "name", None),
        mapping(run.argument("input_state")).get("_workflow_name"),
    )
    return next((name for name in named if isinstance(name, str) and name), "unnamed")


_NAMED: Mapping[OperationType[object], Callable[[Operation], str]] = {
    TEAM_RUN: _team,
    WORKFLOW_RUN: workflow_name,
}


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


def belongs_to_user(operation: Operation) -> Attributes:
    """The same, and the authenticated client of Victor's API, where a user asks for that."""
    return {**belongs(operation), semconv.USER_ID: operation.context.user}
