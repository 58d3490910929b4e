"""Features: how often each feature of Victor is used.

`streaming`, `workflow` and `mcp` are counted where those calls are observed.
"""

from __future__ import annotations

from typing import Any

from victor_otel.model import semconv
from victor_otel.model.operation import NoFacts, Operation
from victor_otel.model.rows import Area, Begins, Binds, Feeds, Observes, Target, Tells
from victor_otel.model.span import Span
from victor_otel.victor.operations import PLAN, REQUEST, TEAM_RUN, Turn
from victor_otel.victor.shared import FEATURES, read_request, used
from victor_otel.victor.values import mapping


def is_command(call: Operation) -> bool:
    """Victor answers True for unknown commands as well, so its registry is asked."""
    handler = call.instance
    name, _ = handler.parse_command(call.argument("text"))
    return bool(name) and handler._registry.get(name) is not None


def read_team(run: Operation) -> Turn:
    return Turn(
        status=_team_status(run),
        seconds=run.elapsed,
        user=run.context.user,
        agent=run.agent,
    )


def _team_status(run: Operation) -> str:
    """A coordinator answers with a mapping, a team with an object."""
    if run.status != "success":
        return run.status
    result = run.result if run.stream is None else getattr(run.instance, "result", None)
    told = mapping(result) or mapping(getattr(result, "__dict__", None))
    if told.get("success", True):
        return "success"
    return "paused" if told.get("status") == "awaiting_approval" else "failure"


def team_owner(run: Operation) -> Any:
    coordinator = getattr(run.instance, "_coordinator", run.instance)
    return getattr(coordinator, "_orchestrator", None)


_TEAM = "victor.framework.teams:AgentTeam"
_TEAMS = (
    Target(f"{_TEAM}.run"),
    Target(f"{_TEAM}.stream", stream=NoFacts),
    # Where every team ends up: those of plans, of workflows and of applications, too.
    Target("victor.teams.unified_coordinator:UnifiedTeamCoordinator._execute_with"),
)

AREA = Area(
    name="features",
    rows=(
        Observes(
            Target("victor.ui.slash.handler:SlashCommandHandler.execute", arguments=("text",)),
            used("slash_command"),
            feeds=(FEATURES,),
            when=is_command,
        ),
        # The members' turns together are one request, also when no turn is around the team.
        *(
            row
            for team in _TEAMS
            for row in (
                Binds(team, owner=team_owner),
                Begins(REQUEST, team, read=read_request),
                Begins(TEAM_RUN, team, read=read_team),
            )
        ),
        Tells(REQUEST, "turn", TEAM_RUN),
        Feeds(TEAM_RUN, FEATURES, labels={"feature": "team"}),
        Observes(
            Target("victor.agent.subagents.orchestrator:SubAgentOrchestrator.spawn"),
            used("subagent"),
            feeds=(FEATURES,),
        ),
        Feeds(PLAN, FEATURES, labels={"feature": "planning"}),
    ),
    spans=(Span(TEAM_RUN, "invoke_workflow", named=(semconv.AGENT_NAME,)),),
)
