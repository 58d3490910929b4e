"""Features: what of Victor is used at all.

`streaming`, `workflow` and `mcp` are counted where those calls are observed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from victor_otel.shared import (
    FEATURES,
    PLANNING,
    REQUEST,
    REQUEST_FEEDS,
    keep_turn,
    observe_turn_request,
)
from victor_otel.spec import Area, Call, Hook, NoFacts, Record, Scope, mapping


def used(feature: str) -> Callable[[Call, Record], None]:
    def observe(_call: Call, record: Record) -> None:
        record(FEATURES, feature=feature)

    return observe


def is_command(call: Call) -> bool:
    """Victor answers True for unknown commands as well, so its registry is asked."""
    handler = call.instance
    name, _ = handler.parse_command(call.argument("text", 0))
    return bool(name) and handler._registry.get(name) is not None  # pyright: ignore[reportPrivateUsage]


def team_status(call: Call) -> str:
    """A coordinator answers with a mapping, a team with an object."""
    if call.status != "success":
        return call.status
    result = call.result if call.stream is None else getattr(call.instance, "result", None)
    told = mapping(result) or mapping(getattr(result, "__dict__", None))
    if told.get("success", True):
        return "success"
    return "paused" if told.get("status") == "awaiting_approval" else "failure"


def team_owner(call: Call) -> Any:
    coordinator = getattr(call.instance, "_coordinator", call.instance)
    return getattr(coordinator, "_orchestrator", None)


TEAM_RUN = Scope(name="team_run", outermost=True)

_TEAM = "victor.framework.teams:AgentTeam"
_TEAMS: tuple[tuple[str, type[Any] | None], ...] = (
    (f"{_TEAM}.run", None),
    (f"{_TEAM}.stream", NoFacts),
    # Where every team ends up: those of plans, of workflows and of applications, too.
    ("victor.teams.unified_coordinator:UnifiedTeamCoordinator._execute_with", None),
)

AREA = Area(
    name="features",
    hooks=(
        Hook(
            target="victor.ui.slash.handler:SlashCommandHandler.execute",
            when=is_command,
            observe=used("slash_command"),
            feeds=(FEATURES,),
        ),
        *(
            Hook(
                target=target,
                scope=TEAM_RUN,
                stream=stream,
                observe=used("team"),
                feeds=(FEATURES,),
            )
            for target, stream in _TEAMS
        ),
        # The members' turns together are one request, also when no turn is around the team.
        *(
            Hook(
                target=target,
                scope=REQUEST,
                part="turn",
                of=REQUEST,
                digest=keep_turn(team_status),
                owner=team_owner,
                stream=stream,
                observe=observe_turn_request,
                feeds=REQUEST_FEEDS,
            )
            for target, stream in _TEAMS
        ),
        Hook(
            target="victor.agent.subagents.orchestrator:SubAgentOrchestrator.spawn",
            observe=used("subagent"),
            feeds=(FEATURES,),
        ),
        Hook(
            target="victor.agent.services.planning_runtime:PlanningRuntimeService._execute_plan",
            scope=PLANNING,
            observe=used("planning"),
            feeds=(FEATURES,),
        ),
    ),
)
