"""Planning: whether a plan was carried out completely.

The service around Victor's planner may overrule the planner's verdict, so the outermost verdict
counts. A plan that stopped at a step which nobody approved, or which cannot be reached, has failed.
"""

from __future__ import annotations

from typing import Any

from victor_otel.model import semconv
from victor_otel.model.metric import Ratio
from victor_otel.model.operation import Operation
from victor_otel.model.rows import Area, Begins, Binds, Target
from victor_otel.model.span import Span
from victor_otel.victor import labels
from victor_otel.victor.operations import PLAN, PLANNING, Plan
from victor_otel.victor.outcomes import error_type

SUCCESS_RATE = Ratio(
    "victor.planning.success_rate",
    "Share of plans that were carried out completely, over the last 5 minutes of this process",
    labels=(labels.VERTICAL,),
    guide=True,
    of=PLAN,
    when="judged",
    value="succeeded",
)


def read_plan(plan: Operation) -> Plan:
    incomplete = plan.status == "success" and not getattr(plan.result, "success", True)
    failed = incomplete or plan.status in {"failure", "timeout"}
    succeeded = plan.status == "success" and not incomplete
    return Plan(
        failed=failed,
        judged=failed or succeeded,
        succeeded=succeeded,
        error_type=_error_type(plan) if failed and not plan.failures else "",
    )


def _error_type(plan: Operation) -> str:
    if plan.error is not None:
        return error_type(plan.error)
    return "step_failed" if getattr(plan.result, "steps_failed", 0) else "blocked"


def orchestrator(plan: Operation) -> Any:
    host = getattr(plan.instance, "orchestrator", None)
    return getattr(host, "_orchestrator", host)


_PLANNER = "victor.agent.planning.autonomous:AutonomousPlanner"
_SERVICE = "victor.agent.services.planning_runtime:PlanningRuntimeService"
_PLANS = (
    Target(f"{_SERVICE}._execute_plan"),
    # The planner that an application, or `/resume`, uses by itself.
    Target(f"{_PLANNER}.execute_plan"),
)

AREA = Area(
    name="planning",
    metrics=(SUCCESS_RATE,),
    rows=(
        *(
            row
            for plan in _PLANS
            for row in (Binds(plan, owner=orchestrator), Begins(PLAN, plan, read=read_plan))
        ),
        *(
            row
            for path in (f"{_SERVICE}._generate_plan", f"{_PLANNER}.plan_for_goal")
            for making in (Target(path),)
            for row in (Binds(making, owner=orchestrator), Begins(PLANNING, making))
        ),
    ),
    spans=(Span(PLANNING, "plan", named=(semconv.AGENT_NAME,)),),
)
