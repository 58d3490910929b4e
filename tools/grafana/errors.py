"""What fails, where it fails, and what security checks refused and found."""

from __future__ import annotations

from tools.grafana.alerts import fires
from tools.grafana.budget import error_budget
from tools.grafana.model import Dashboard, Kind, Panel, Query, Row
from tools.grafana.ourselves import OURSELVES
from tools.grafana.promql import (
    ENDED,
    FAILED,
    grown,
    of,
    or_zero,
    rare_ratio,
    rate,
    ratio,
    summed,
    traffic,
    worst,
)
from tools.grafana.security import SECURITY

_REQUESTS = "victor_requests_total"
_HTTP = "victor_request_duration_seconds_count"
_OF_5XX = 'status=~"5.."'
_TOOLS = "victor_tool_executions_total"
_REFUSED = "victor_tool_calls_rejected_total"
_NOT_BY_USERS = 'reason!="user_declined"'
_CALLS = "victor_provider_requests_total"
_BUDGET = "victor:slo_requests:error_budget"


def _by_endpoint() -> str:
    """Answers of 5xx, of all. A code has no series before its first answer, so none is 0."""
    every = summed(f"rate({of(_HTTP)}[5m])", "endpoint")
    bad = summed(f"rate({of(_HTTP, _OF_5XX)}[5m])", "endpoint")
    return f"({bad} or 0 * {every}) / {traffic(_HTTP, by='endpoint')}"


def _had_5xx() -> str:
    """The endpoints with 5xx answers at any moment of the chosen time, at all of its moments."""
    ever = f"max_over_time(rate({of(_HTTP, _OF_5XX)}[5m])[$__range:1m] @ end())"
    return f"max by (endpoint) ({ever}) > 0"


def _not_run() -> str:
    """Of what models asked of a tool, what was not run, as in the alert."""
    refused, ran = of(_REFUSED), of(_TOOLS)
    asked = f"sum by (tool) (rate({refused}[5m]) or rate({ran}[5m]))"
    return f"sum by (tool) (rate({of(_REFUSED, _NOT_BY_USERS)}[5m])) / ({asked} > 0)"


def _burn(window: str) -> str:
    spent = f'job:victor_requests:failure_ratio_{window}{{job=~"$job"}}'
    return f"max({spent} / on () group_left () {_BUDGET})"


def _per_call(counter: str) -> str:
    """Events for each call of a provider."""
    events = summed(f"rate({of(counter)}[5m])", "provider")
    return f"{events} / {traffic(_CALLS, ENDED, by='provider')}"


def _timeouts() -> str:
    """Of models and of tools; `or` joins the two, whose labels differ."""
    late = 'status="timeout"'
    calls = grown(_CALLS, late, by="provider")
    return summed(f"{calls} or {grown(_TOOLS, late, by='tool')}")


def _count(
    number: int, title: str, says: str, expr: str, *, more: int, empty: str = "no process yet"
) -> Panel:
    return Panel(
        id=number,
        title=title,
        says=says,
        kind=Kind.STAT,
        width=6,
        height=4,
        queries=(Query(expr=expr, legend=title.lower()),),
        unit="locale",
        steps=((1, "yellow"),),
        decimals=0,
        empty=empty,
        detail=("victor-errors", more),
    )


_WHERE = Row(
    title="Whose requests fail?",
    panels=(
        Panel(
            id=10,
            title="Error rate by endpoint",
            says="HTTP answers of 5xx, of all, over 5 minutes: the ten worst endpoints; and "
            "requests that failed or timed out, by how they came, since /chat answers 200 although "
            f"its turn failed (`{_REQUESTS}`). From ${{HighRequestFailureRate.threshold:percent}} "
            "on alerts fire.",
            height=7,
            queries=(
                Query(expr=f"topk(10, {_by_endpoint()})", legend="5xx {{endpoint}}"),
                Query(expr=ratio(_REQUESTS, by="interface"), legend="failed {{interface}}"),
            ),
            unit="percentunit",
            steps=(("${HighRequestFailureRate.threshold}", "red"),),
            empty="no requests",
            alerts=("HighErrorRate", "HighRequestFailureRate", "FailureRateRegression"),
        ),
        Panel(
            id=13,
            title="Error rate heatmap (endpoint x time)",
            says="The share of 5xx answers over 5 minutes, darkest from 20%, of each endpoint that "
            "had any in the chosen time. A column is an outage of all, a row the trouble of one.",
            kind=Kind.HEATMAP,
            most=0.2,
            height=7,
            queries=(
                Query(
                    expr=f"{_by_endpoint()} and on (endpoint) {_had_5xx()}", legend="{{endpoint}}"
                ),
            ),
            unit="percentunit",
            empty="no 5xx answers",
        ),
        Panel(
            id=12,
            title="How fast the error budget burns",
            says="How many times more fail than the objective allows, over an hour and over six, "
            "of the worst service. At 1 the budget lasts 30 days, at 14.4 two. By service alone.",
            height=7,
            queries=(
                Query(expr=_burn("1h"), legend="1 h"),
                Query(expr=_burn("6h"), legend="6 h"),
            ),
            unit="suffix: x",
            steps=((1, "yellow"), (14.4, "red")),
            empty="no requests",
            alerts=("RequestErrorBudgetBurnFast", "RequestErrorBudgetBurnSlow"),
        ),
    ),
)

_WHAT = Row(
    title="With which errors, and in what?",
    panels=(
        Panel(
            id=20,
            title="Error types distribution",
            says="Failures of the chosen time where they arose, the 15 most frequent "
            "(`victor_errors_total`).",
            kind=Kind.BARS,
            width=6,
            height=7,
            queries=(
                Query(
                    expr="topk(15, "
                    f"{grown('victor_errors_total', by='component, error_type')} > 0)",
                    legend="{{component}}: {{error_type}}",
                ),
            ),
            unit="locale",
            base="red",
            decimals=0,
            empty="no errors",
        ),
        Panel(
            id=21,
            title="Error trends over time",
            says="Failures per second by the component where they arose, once each "
            "(`victor_errors_total`).",
            width=6,
            height=7,
            queries=(
                Query(expr=rate("victor_errors_total", by="component"), legend="{{component}}"),
            ),
            unit="suffix: errors/s",
            stacked=True,
            empty="no errors",
        ),
        Panel(
            id=32,
            title="Workflow and memory failures",
            says="Runs of workflows over 30 minutes, a warning from "
            "${HighWorkflowFailureRate.threshold:percent}; operations on memories "
            "over 5 minutes, a warning from ${HighMemoryOperationFailureRate.threshold:percent}. "
            "Victor often carries on without an error.",
            width=6,
            height=7,
            queries=(
                Query(
                    expr=rare_ratio("victor_workflow_executions_total", by="workflow", over="30m"),
                    legend="workflow {{workflow}}",
                ),
                Query(
                    expr=ratio("victor_memory_operations_total", by="operation"),
                    legend="memory {{operation}}",
                ),
            ),
            unit="percentunit",
            steps=(
                ("${HighMemoryOperationFailureRate.threshold}", "yellow"),
                ("${HighWorkflowFailureRate.threshold}", "red"),
            ),
            empty="none in this time",
            alerts=("HighWorkflowFailureRate", "HighMemoryOperationFailureRate"),
        ),
        Panel(
            id=22,
            title="Component health",
            says="The worst answer of Victor's health checks in 5 minutes "
            "(`victor_component_health`). Absent when nobody asked.",
            kind=Kind.TABLE,
            width=6,
            height=7,
            queries=(
                Query(
                    expr=worst("victor_component_health", by="component"),
                    legend="{{component}}",
                ),
            ),
            columns=(("component", "Component"), ("Value", "Health")),
            # What is unhealthy comes first.
            sorted_by="Health",
            unit="none",
            texts={0: ("unhealthy", "red"), 0.5: ("degraded", "yellow"), 1: ("healthy", "green")},
            empty="nobody asked",
            alerts=("ComponentUnhealthy",),
        ),
    ),
)

_CALLED = Row(
    title="Which tools and providers fail?",
    panels=(
        Panel(
            id=30,
            title="Tool failures by tool",
            says="Calls that failed or timed out, of those that succeeded, failed or timed out, "
            f"over 5 minutes: the ten worst tools (`{_TOOLS}`). A warning from "
            "${HighToolFailureRate.threshold:percent}. And what models "
            f"asked of a tool and Victor did not run, the five worst (`{_REFUSED}`). A warning "
            "from ${HighToolRejectionRate.threshold:percent}.",
            height=7,
            queries=(
                Query(
                    expr=f"topk(10, {ratio(_TOOLS, by='tool')})",
                    legend="{{tool}}",
                ),
                Query(expr=f"topk(5, {_not_run()} > 0)", legend="{{tool}}, not run"),
            ),
            unit="percentunit",
            steps=(("${HighToolFailureRate.threshold}", "red"),),
            empty="no tool calls",
            alerts=("HighToolFailureRate", "HighToolRejectionRate"),
        ),
        Panel(
            id=33,
            title="Provider failures by provider",
            says="Calls that failed or timed out, and those that timed out, of those that "
            f"succeeded, failed or timed out, over 5 minutes (`{_CALLS}`). Critical from 10%.",
            height=7,
            queries=(
                Query(expr=ratio(_CALLS, by="provider"), legend="{{provider}}"),
                Query(
                    expr=ratio(_CALLS, part='status="timeout"', by="provider"),
                    legend="{{provider}} timeouts",
                ),
            ),
            unit="percentunit",
            steps=(
                ("${ProviderTimeout.threshold}", "yellow"),
                ("${HighProviderErrorRate.threshold}", "red"),
            ),
            empty="no calls",
            alerts=("HighProviderErrorRate", "ProviderTimeout"),
        ),
        Panel(
            id=34,
            title="Provider rate limits and retries",
            says="For each call, over 5 minutes (`victor_provider_rate_limits_total`, "
            "`victor_provider_retries_total`). Warnings from "
            "${ProviderRateLimit.threshold:percent} limited, "
            "${HighProviderRetryRate.threshold:percent} retried; above 100% "
            "each call is tried more than twice.",
            height=7,
            queries=(
                Query(
                    expr=_per_call("victor_provider_rate_limits_total"),
                    legend="{{provider}} limited",
                ),
                Query(
                    expr=_per_call("victor_provider_retries_total"),
                    legend="{{provider}} retried",
                ),
            ),
            unit="percentunit",
            steps=(
                ("${ProviderRateLimit.threshold}", "yellow"),
                ("${HighProviderRetryRate.threshold}", "red"),
            ),
            empty="none",
            alerts=("ProviderRateLimit", "HighProviderRetryRate"),
        ),
    ),
)

_NOW = Row(
    title="Does anything fail now, and how much?",
    panels=(
        fires(7, _WHERE, _WHAT, _CALLED, SECURITY, OURSELVES),
        Panel(
            id=1,
            title="Error rate now",
            says=f"Requests that failed or timed out over 5 minutes (`{_REQUESTS}`). Yellow from "
            "${slo.availability:rest}, the objective; red from "
            "${HighRequestFailureRate.threshold:percent}.",
            kind=Kind.STAT,
            width=6,
            height=4,
            queries=(Query(expr=ratio(_REQUESTS), legend="failed"),),
            unit="percentunit",
            steps=(
                ("${slo.availability:rest}", "yellow"),
                ("${HighRequestFailureRate.threshold}", "red"),
            ),
            decimals=1,
            empty="no requests in 5 min",
            detail=("victor-errors", 10),
        ),
        _count(
            2,
            "Failed requests",
            "Requests that failed, with timeouts, in the chosen time. 0 is known to be 0.",
            grown(_REQUESTS, FAILED),
            more=10,
        ),
        _count(
            3,
            "Timeouts",
            "Calls to models and tools that got no answer in time, in the chosen time.",
            or_zero(_timeouts(), of(_REQUESTS)),
            more=33,
        ),
        error_budget(6, width=6),
    ),
)

ERRORS = Dashboard(
    uid="victor-errors",
    title="Victor / Errors",
    says="What fails, where it fails, and what security checks refused and found.",
    refresh="1m",
    since="now-6h",
    variables=("job", "instance", "vertical", "provider"),
    rows=(_NOW, _WHERE, _WHAT, _CALLED, SECURITY, OURSELVES),
)
