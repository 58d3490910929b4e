"""Whether the numbers can be trusted: a row of Errors."""

from __future__ import annotations

from tools.grafana.model import Kind, Panel, Query, Row
from tools.grafana.promql import PROCESS, grown, named, of, or_zero

OURSELVES = Row(
    title="Can the numbers be trusted? Telemetry itself",
    panels=(
        Panel(
            id=50,
            title="What of Victor is not found",
            says="Functions that victor-otel did not find, in any process (`victor_otel_hooks`): "
            "what they feed is missing or too low. Classes that are not where they were, and "
            "enumerations whose members changed (`victor_otel_drift`): what hangs on them is "
            "recorded wrongly.",
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr="label_replace(label_replace(group by (hook) (max by (job, hook) "
                    f'(victor_otel_hooks{{{PROCESS},state="missing"}}) == 1), '
                    '"symbol", "$1", "hook", "(.+)"), "kind", "function", "", "") '
                    f"or max by (symbol, kind) (victor_otel_drift{{{PROCESS}}}) > 0",
                    legend="{{symbol}} {{kind}}",
                ),
            ),
            columns=(("symbol", "What"), ("kind", "Of which kind")),
            unit="none",
            empty="all is found",
            alerts=("TelemetryHooksMissing", "TelemetryDrift"),
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
            unit="locale",
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
            says="Processes that serve the /metrics they were asked for, and those that cannot, "
            "mostly because another one has the port (`victor_otel_endpoint_up`).",
            kind=Kind.TABLE,
            queries=(
                Query(
                    expr="min by (job, process) ("
                    + named(f"min by (job, instance) ({of('victor_otel_endpoint_up')})")
                    + ")",
                    legend="{{job}} {{process}}",
                ),
            ),
            columns=(("job", "Service"), ("process", "Process"), ("Value", "/metrics")),
            sorted_by="/metrics",
            unit="none",
            texts={0: ("cannot", "red"), 1: ("serves", "green")},
            empty="none was asked to",
            alerts=("TelemetryEndpointDown",),
        ),
    ),
    collapsed=True,
)
