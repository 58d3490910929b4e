"""Agents: how long one takes to be ready."""

from __future__ import annotations

from victor_otel import labels, scope
from victor_otel.shared import CHAT_TURN, ERRORS, INITIALIZATION, error_type, record_error
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Record

INITIALIZATION_DURATION = Metric(
    name="victor.initialization.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Time to create an agent",
    labels=(labels.CREATION_STATUS,),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    guide=True,
)


def observe_creation(call: Call, record: Record) -> None:
    _record_creation(call, call.elapsed, record)


def _record_creation(call: Call, elapsed: float, record: Record) -> None:
    if CHAT_TURN.name in call.enclosing:  # a sub-agent is part of its parent
        return
    record(INITIALIZATION_DURATION, elapsed, status=call.status)
    if call.error is not None and call.status != "cancelled":
        record_error(record, "agent", error_type(call.error))


def observe_orchestrator(call: Call, record: Record) -> None:
    """An orchestrator made without `AgentFactory`, or by one that began before we were on."""
    begun = scope.ACTIVATED.get()
    scope.ACTIVATED.set(None)
    _record_creation(call, call.elapsed if begun is None else call.ended - begun, record)


_ORCHESTRATOR = "victor.agent.orchestrator:AgentOrchestrator"

AREA = Area(
    name="agents",
    metrics=(INITIALIZATION_DURATION,),
    hooks=(
        Hook(
            target="victor.framework.agent_factory:AgentFactory.create",
            scope=INITIALIZATION,
            level=2,
            observe=observe_creation,
            feeds=(INITIALIZATION_DURATION, ERRORS),
            opens=True,
        ),
        Hook(
            target=f"{_ORCHESTRATOR}.from_settings",
            scope=INITIALIZATION,
            observe=observe_orchestrator,
            feeds=(INITIALIZATION_DURATION, ERRORS),
            opens=True,
        ),
        # Whose name a chat, and each tool call in it, runs in: sub-agents have their own.
        Hook(
            target=f"{_ORCHESTRATOR}.__init__",
            owns=("_chat_service", "_tool_pipeline", "tool_executor", "tools"),
        ),
    ),
)
