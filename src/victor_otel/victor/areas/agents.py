"""Agents: the time until a new agent is ready."""

from __future__ import annotations

from victor_otel.model.metric import Histogram
from victor_otel.model.operation import NoFacts, Operation
from victor_otel.model.rows import Area, Begins, Binds, Target
from victor_otel.victor import labels
from victor_otel.victor.context import ACTIVATED
from victor_otel.victor.operations import (
    AGENT_CREATION,
    CHAT_TURN,
    SUB_AGENT,
    AgentCreation,
)
from victor_otel.victor.outcomes import error_type

INITIALIZATION_DURATION = Histogram(
    "victor.initialization.duration",
    "Time to create an agent",
    unit="s",
    labels=(labels.CREATION_STATUS,),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    guide=True,
    of=AGENT_CREATION,
    when="counts",
    value="seconds",
)


def expect_creation(creation: Operation) -> AgentCreation:
    return AgentCreation(sub_agent=creation.around(CHAT_TURN) is not None)


def read_creation(creation: Operation) -> AgentCreation:
    known: AgentCreation = creation.facts
    error = creation.error
    failed = error is not None and creation.status != "cancelled" and known.counts
    return AgentCreation(
        known.sub_agent,
        creation.status,
        creation.elapsed,
        error_type(error) if error is not None and failed else "",
    )


def read_orchestrator(creation: Operation) -> AgentCreation:
    """An orchestrator made without `AgentFactory`, or by one that began before we were on."""
    begun = ACTIVATED.get()
    ACTIVATED.set(None)
    known = read_creation(creation)
    return known if begun is None else known._replace(seconds=creation.end - begun)


_ORCHESTRATOR = "victor.agent.orchestrator:AgentOrchestrator"
_SUB_AGENT = "victor.agent.subagents.base:SubAgent"
_CREATE = Target("victor.framework.agent_factory:AgentFactory.create")
_FROM_SETTINGS = Target(f"{_ORCHESTRATOR}.from_settings")

AREA = Area(
    name="agents",
    metrics=(INITIALIZATION_DURATION,),
    rows=(
        Binds(_CREATE, opens=True),
        Begins(AGENT_CREATION, _CREATE, at_start=expect_creation, read=read_creation),
        Binds(_FROM_SETTINGS, opens=True),
        Begins(AGENT_CREATION, _FROM_SETTINGS, at_start=expect_creation, read=read_orchestrator),
        # Whose name a chat, and each tool call in it, runs in: sub-agents have their own.
        Binds(
            Target(f"{_ORCHESTRATOR}.__init__"),
            owns=("_chat_service", "_tool_pipeline", "tool_executor", "tools"),
        ),
        Begins(SUB_AGENT, Target(f"{_SUB_AGENT}.execute")),
        Begins(SUB_AGENT, Target(f"{_SUB_AGENT}.stream_execute", stream=NoFacts)),
    ),
)
