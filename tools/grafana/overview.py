"""Is it up, does it work, is it quick, who uses it: five seconds for whoever is on call."""

from __future__ import annotations

from tools.grafana.alerts import fires
from tools.grafana.budget import error_budget
from tools.grafana.model import Dashboard, Kind, Panel, Query, Row
from tools.grafana.promql import (
    ENDED,
    PROCESS,
    USERS,
    each,
    firing,
    grown,
    named,
    of,
    or_zero,
    quantile,
    rate,
    ratio,
    summed,
)

_TURNS = "victor_vertical_usage_total"

_CALLS = "victor_provider_requests_total"

_NOW = Row(
    title="Is Victor up, does it work, is it quick? Red needs somebody now",
    panels=(
        fires(32),
        Panel(
            id=1,
            title="System health",
            says="Whether any API server of a service is up; DOWN where some were within the last "
            "hour and none is now. From `victor_otel_hooks`. Terminals and one-shot runs are "
            "not missed when they end.",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(
                Query(
                    expr="group by (job) (job_instance:victor_otel_hooks:api_server"
                    f"{{{PROCESS}}} == 1) or 0 * group by (job) "
                    '(last_over_time(job:victor_otel_hooks:api_servers{job=~"$job"}[1h]))',
                    legend="{{job}}",
                ),
            ),
            unit="none",
            decimals=0,
            base="red",
            steps=((1, "green"),),
            texts={0: ("DOWN", "red"), 1: ("UP", "green")},
            empty="no API server for 1 h",
            alerts=("VictorAbsent", "VictorDown", "VictorReplicaGone"),
        ),
        Panel(
            id=2,
            title="Firing alerts",
            says="Alerts that call a person (critical) or wait for working hours (warning), those "
            "of the pipeline itself included. It is empty where the rules are not evaluated.",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(
                Query(
                    expr=f'count({firing()}) or 0 * count(ALERTS{{alertname="Watchdog",'
                    'alertstate="firing"})',
                    legend="firing",
                ),
            ),
            unit="none",
            decimals=0,
            steps=((1, "red"),),
            empty="no rules loaded",
        ),
        Panel(
            id=3,
            title="Error rate",
            says="Requests that failed or timed out, of those that succeeded, failed or timed out "
            "in 5 minutes (`victor_requests_total`). Yellow from ${slo.availability:rest}, the "
            "objective; red from ${HighRequestFailureRate.threshold:percent}.",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(Query(expr=ratio("victor_requests_total"), legend="failed"),),
            unit="percentunit",
            steps=(
                ("${slo.availability:rest}", "yellow"),
                ("${HighRequestFailureRate.threshold}", "red"),
            ),
            empty="no requests in 5 min",
            decimals=1,
            detail=("victor-errors", 10),
        ),
        Panel(
            id=4,
            title="Chat p95",
            says="95% of the chat turns of the last 5 minutes took less, from the question to the "
            "end of the answer (`victor_chat_request_duration_seconds`). Red from "
            "${SlowChat.threshold} s.",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(
                Query(
                    expr=quantile(0.95, "victor_chat_request_duration_seconds", ENDED),
                    legend="p95",
                ),
            ),
            unit="s",
            steps=(("${SlowChat.threshold}", "red"),),
            empty="no turns in 5 min",
            detail=("victor-performance", 20),
        ),
        error_budget(5, width=3),
        Panel(
            id=6,
            title="Requests",
            says="What users asked for in the chosen time, whatever became of it "
            "(`victor_requests_total`, the guide's victor_total_requests).",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(Query(expr=grown("victor_requests_total"), legend="requests"),),
            unit="locale",
            base="blue",
            decimals=0,
            empty="no process yet",
        ),
        Panel(
            id=7,
            title="Active users",
            says="Distinct users with a request in the last 15 minutes (`victor_active_users`). "
            "A user whom two processes served counts in both, so the true number may be lower.",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(
                Query(
                    expr=summed(each("victor_active_users", by="interface")),
                    legend="users",
                ),
            ),
            unit="none",
            decimals=0,
            base="blue",
            empty="not known",
        ),
        Panel(
            id=8,
            title="Telemetry",
            says="Functions of Victor that are not measured, and errors that victor-otel caught in "
            "itself in the last hour. Anything but 0 makes other numbers too low.",
            kind=Kind.STAT,
            width=3,
            height=4,
            queries=(
                Query(
                    expr=or_zero(
                        'count(max by (job, hook) (victor_otel_hooks{state="missing",'
                        f"{PROCESS}}}) == 1)",
                        of("victor_otel_hooks"),
                    ),
                    legend="not measured",
                ),
                Query(
                    expr=or_zero(
                        grown("victor_otel_errors_total", over="1h"),
                        of("victor_otel_build_info"),
                    ),
                    legend="errors",
                ),
            ),
            unit="none",
            steps=((1, "yellow"),),
            empty="no process yet",
            decimals=0,
            detail=("victor-errors", 50),
        ),
    ),
)

_TRENDS = Row(
    title="Since when? How much is asked, how much fails, how long it takes",
    panels=(
        Panel(
            id=10,
            title="Request rate",
            says="Requests per second by how they came (`victor_requests_total`); and what is "
            "usual at this hour of this day, for all processes, once there is a week to compare.",
            queries=(
                Query(expr=rate("victor_requests_total", by="interface"), legend="{{interface}}"),
                Query(
                    expr='sum(job:victor_requests:total_5m_baseline{job=~"$job"}) / 300',
                    legend="usual",
                ),
            ),
            unit="reqps",
            alerts=("TrafficDrop", "TrafficSurge"),
            detail=("victor-performance", 12),
        ),
        Panel(
            id=11,
            title="Error rate by interface",
            says="Failed or timed out, of those that succeeded, failed or timed out, over 5 "
            "minutes. From ${HighRequestFailureRate.threshold:percent} on HighRequestFailureRate "
            "fires.",
            queries=(
                Query(expr=ratio("victor_requests_total", by="interface"), legend="{{interface}}"),
            ),
            unit="percentunit",
            steps=(("${HighRequestFailureRate.threshold}", "red"),),
            empty="no requests",
            detail=("victor-errors", 10),
        ),
        Panel(
            id=12,
            title="Latency p50, p95, p99",
            says="Answers of the HTTP API over 5 minutes, without probes "
            "(`victor_request_duration_seconds`). p95 should stay below "
            "${DegradedResponseTime.threshold} s, p99 below ${SlowResponseTimeTail.threshold} s.",
            queries=tuple(
                Query(
                    expr=quantile(q, "victor_request_duration_seconds", USERS),
                    legend=f"p{q * 100:g}",
                )
                for q in (0.5, 0.95, 0.99)
            ),
            unit="s",
            steps=(
                ("${DegradedResponseTime.threshold}", "yellow"),
                ("${SlowResponseTimeTail.threshold}", "red"),
            ),
            empty="no HTTP requests",
            detail=("victor-performance", 10),
        ),
    ),
)

_WORK = Row(
    title="What is at work: requests, models, verticals",
    panels=(
        Panel(
            id=20,
            title="In flight and queued",
            says="Requests that have begun and not ended, by how they came "
            "(`victor_requests_in_flight`), and those that wait: turns for an "
            "earlier one of their agent, and requests in Victor's provider queues "
            "(`victor_queue_depth`, absent where Victor has no such queue).",
            queries=(
                Query(
                    expr=summed(each("victor_requests_in_flight", by="interface"), "interface"),
                    legend="{{interface}}",
                ),
                Query(
                    expr=summed(each("victor_queue_depth", by="queue"), "queue"),
                    legend="queued: {{queue}}",
                ),
            ),
            unit="none",
            alerts=("RequestQueueBacklog", "RequestsStuck"),
        ),
        Panel(
            id=21,
            title="Provider status",
            says="The share of the calls to it that succeeded, of those that succeeded, failed or "
            f"timed out in 5 minutes (`{_CALLS}`). Red below "
            "${HighProviderErrorRate.threshold:complement}, where HighProviderErrorRate "
            "fires; yellow below 95%.",
            kind=Kind.STAT,
            queries=(
                Query(
                    expr=ratio(_CALLS, part='status="success"', by="provider"),
                    legend="{{provider}}",
                ),
            ),
            unit="percentunit",
            decimals=1,
            base="red",
            steps=(("${HighProviderErrorRate.threshold:complement}", "yellow"), (0.95, "green")),
            most=1,
            empty="no call in 5 min",
            alerts=("ProviderDown",),
            detail=("victor-errors", 33),
        ),
        Panel(
            id=22,
            title="Vertical usage distribution",
            says="Chat turns in the chosen time by vertical (`victor_vertical_usage_total`); "
            "`none` is an agent without one.",
            kind=Kind.BARS,
            queries=(
                Query(
                    expr=f"topk(10, {grown(_TURNS, by='vertical')})",
                    legend="{{vertical}}",
                ),
            ),
            unit="locale",
            base="blue",
            decimals=0,
            empty="no turns",
            detail=("victor-verticals", 1),
        ),
    ),
)

_UNDERNEATH = Row(
    title="Which processes? Memory, CPU and versions",
    panels=(
        Panel(
            id=30,
            title="Memory, share of the limit",
            says="Of the ten processes nearest to it, children included "
            "(`victor_memory_usage_bytes`, `victor_memory_limit_bytes`). A warning from "
            "${ElevatedMemoryUsage.threshold:percent}, "
            "critical from ${HighMemoryUsage.threshold:percent}: at 100% the system kills the "
            "process.",
            width=8,
            queries=(
                Query(
                    expr=named(f"topk(10, job_instance:victor_memory_usage:ratio{{{PROCESS}}})"),
                    legend="{{job}} {{process}}",
                ),
            ),
            unit="percentunit",
            steps=(
                ("${ElevatedMemoryUsage.threshold}", "yellow"),
                ("${HighMemoryUsage.threshold}", "red"),
            ),
            process=True,
            empty="no process",
            detail=("victor-performance", 41),
        ),
        Panel(
            id=31,
            title="CPU",
            says="Of the ten busiest processes: share of the CPUs that each may use "
            "(`victor_cpu_usage_percent`). A warning from ${HighCPUUsage.threshold}%.",
            width=8,
            queries=(
                Query(
                    expr=named(f"topk(10, {each('victor_cpu_usage_percent')})"),
                    legend="{{job}} {{process}}",
                ),
            ),
            unit="percent",
            steps=(("${HighCPUUsage.threshold}", "red"),),
            process=True,
            empty="no process",
            detail=("victor-performance", 42),
        ),
        Panel(
            id=33,
            title="Versions running",
            says="Processes by the versions of victor-ai and victor-otel at work "
            "(`victor_otel_build_info`). More than one pair is a roll-out, or its remains.",
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr="count by (victor_version, version) (group by (job, instance, "
                    f"victor_version, version) (victor_otel_build_info{{{PROCESS}}}))",
                    legend="victor-ai {{victor_version}}, victor-otel {{version}}",
                ),
            ),
            columns=(
                ("victor_version", "victor-ai"),
                ("version", "victor-otel"),
                ("Value", "Processes"),
            ),
            unit="none",
            base="blue",
            empty="no process",
            alerts=("SeveralVersionsRunning", "UntestedVictorVersion"),
        ),
    ),
)

OVERVIEW = Dashboard(
    uid="victor-overview",
    title="Victor / Overview",
    says="Whether Victor is up, does its work and is quick enough, and who uses it.",
    refresh="30s",
    since="now-1h",
    variables=("job", "instance", "vertical", "provider"),
    rows=(_NOW, _TRENDS, _WORK, _UNDERNEATH),
)
