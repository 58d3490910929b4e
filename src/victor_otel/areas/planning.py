"""Planning: whether a plan that was carried out was carried out whole.

Victor's planner gives a verdict which the service around it may overrule, so the outermost
one counts. A plan that stopped at a step nobody approved, or that nothing leads to, failed.
"""

from __future__ import annotations

from typing import Any

from victor_otel import labels
from victor_otel.shared import CHAT_TURN, ERRORS, FEATURES, PLANNING, error_type, record_error
from victor_otel.spec import Area, Call, Follow, Hook, Kind, Metric, Record

SUCCESS_RATE = Metric(
    name="victor.planning.success_rate",
    kind=Kind.RATIO,
    meaning="Share of plans that were carried out whole over the last 5 minutes of this process",
    labels=(labels.VERTICAL,),
    guide=True,
)


def plan_status(call: Call) -> str:
    failed = call.status == "success" and not getattr(call.result, "success", True)
    return "failure" if failed else call.status


def plan_failed(call: Call) -> bool:
    """What a chat turn keeps of its plan: such a failure is counted here, or further down."""
    return plan_status(call) in {"failure", "timeout"}


def observe_plan(call: Call, record: Record) -> None:
    failed = plan_failed(call)
    if failed or plan_status(call) == "success":
        record(SUCCESS_RATE, not failed, vertical=call.context.vertical)
    if failed and not call.failures:
        record_error(record, "planning", _error_type(call))


def _error_type(call: Call) -> str:
    if call.error is not None:
        return error_type(call.error)
    return "step_failed" if getattr(call.result, "steps_failed", 0) else "blocked"


def observe_planner(_call: Call, record: Record) -> None:
    """A planner that an application, or `/resume`, uses by itself."""
    record(FEATURES, feature="planning")


def orchestrator(call: Call) -> Any:
    host = getattr(call.instance, "orchestrator", None)
    return getattr(host, "_orchestrator", host)


AREA = Area(
    name="planning",
    metrics=(SUCCESS_RATE,),
    follows=(Follow(scope=PLANNING, observe=observe_plan, feeds=(SUCCESS_RATE, ERRORS)),),
    hooks=(
        Hook(
            target="victor.agent.services.planning_runtime:PlanningRuntimeService._execute_plan",
            part="plan",
            of=CHAT_TURN,
            digest=plan_failed,
            owner=orchestrator,
        ),
        Hook(
            target="victor.agent.planning.autonomous:AutonomousPlanner.execute_plan",
            scope=PLANNING,
            owner=orchestrator,
            observe=observe_planner,
            feeds=(FEATURES,),
        ),
    ),
)
