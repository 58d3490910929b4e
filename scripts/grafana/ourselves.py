"""Whether the numbers can be trusted: a row of Errors."""

from __future__ import annotations

from scripts.grafana.model import Kind, Panel, Query, Row
from scripts.grafana.promql import PROCESS, grown, of, or_zero

OURSELVES = Row(
    title="Telemetry itself",
    panels=(
        Panel(
            id=50,
            title="Functions that are not measured",
            says="Functions of Victor that victor-otel did not find, in any process "
            "(`victor_otel_hooks`): what they feed is missing or too low.",
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr="group by (hook) (max by (job, hook) "
                    f'(victor_otel_hooks{{{PROCESS},state="missing"}}) == 1)',
                    legend="{{hook}}",
                ),
            ),
            unit="none",
            steps=((1, "yellow"),),
            empty="all are measured",
            alerts=("TelemetryHooksMissing",),
        ),
        Panel(
            id=51,
            title="Losses",
            says="In 15 minutes: errors that victor-otel caught in itself, exports that nobody "
            "accepted, and values counted as `other` because there were too many labels.",
            queries=(
                Query(
                    expr=or_zero(
                        grown("victor_otel_errors_total", over="15m"),
                        of("victor_otel_build_info"),
                    ),
                    legend="errors",
                ),
                Query(
                    expr=or_zero(
                        grown("victor_otel_exports_dropped_total", over="15m"),
                        of("victor_otel_build_info"),
                    ),
                    legend="exports dropped",
                ),
                Query(
                    expr=or_zero(
                        grown("victor_otel_labels_capped_total", over="15m"),
                        of("victor_otel_build_info"),
                    ),
                    legend="labels capped",
                ),
                Query(
                    expr=or_zero(
                        grown("victor_otel_labels_undeclared_total", over="15m"),
                        of("victor_otel_build_info"),
                    ),
                    legend="labels undeclared",
                ),
            ),
            unit="short",
            empty="no process yet",
            alerts=(
                "TelemetryErrors",
                "TelemetryExportsDropped",
                "TelemetryLabelsCapped",
                "TelemetryLabelsUndeclared",
            ),
        ),
        Panel(
            id=52,
            title="Endpoints",
            says="Processes that serve the /metrics they were asked for, 1, and those that cannot, "
            "0: mostly because another one has the port (`victor_otel_endpoint_up`).",
            queries=(
                Query(
                    expr=f"bottomk(10, min by (job, instance) ({of('victor_otel_endpoint_up')}))",
                    legend="{{job}} {{instance}}",
                ),
            ),
            unit="none",
            base="red",
            steps=((1, "green"),),
            texts={0: ("cannot", "red"), 1: ("serves", "green")},
            most=1,
            process=True,
            empty="none was asked to",
            alerts=("TelemetryEndpointDown",),
        ),
        Panel(
            id=53,
            title="Classes that changed",
            says="Classes of Victor that are not where they were, and enumerations whose members "
            "changed, in any process (`victor_otel_drift`): what hangs on them is recorded "
            "wrongly.",
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr=f"max by (symbol, kind) (victor_otel_drift{{{PROCESS}}}) > 0",
                    legend="{{symbol}} {{kind}}",
                ),
            ),
            unit="none",
            steps=((1, "yellow"),),
            empty="none has",
            alerts=("TelemetryDrift",),
        ),
    ),
)
