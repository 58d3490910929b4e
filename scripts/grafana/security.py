"""Who is let in, what is forbidden, what scans find: a row of Errors."""

from __future__ import annotations

from scripts.grafana.model import Kind, Panel, Query, Row
from scripts.grafana.promql import grown, quantile, rate, worst

SECURITY = Row(
    title="Security",
    panels=(
        Panel(
            id=40,
            title="Security events",
            says="Per minute by kind (`victor_security_events_total`): refused authorizations, "
            "blocked tool calls, vulnerabilities found.",
            queries=(
                Query(
                    expr=f"60 * {rate('victor_security_events_total', by='kind')}",
                    legend="{{kind}}",
                ),
            ),
            unit="suffix: /min",
            stacked=True,
            empty="no process yet",
            alerts=("ToolCallsBlocked",),
        ),
        Panel(
            id=41,
            title="Authorization failures by reason",
            says="Per minute by who decided and why "
            "(`victor_security_failed_authorizations_total`).",
            queries=(
                Query(
                    expr="60 * "
                    + rate("victor_security_failed_authorizations_total", by="source, reason"),
                    legend="{{source}}: {{reason}}",
                ),
            ),
            unit="suffix: /min",
            stacked=True,
            empty="no process yet",
            alerts=("FailedAuthorizationSpike",),
        ),
        Panel(
            id=42,
            title="Authorizations granted",
            says="Share of the decisions of 5 minutes, in the process with the lowest "
            "(`victor_security_authorization_success_rate`). Should stay above 95%.",
            queries=(
                Query(
                    expr=worst("victor_security_authorization_success_rate", by="source"),
                    legend="{{source}}",
                ),
            ),
            unit="percentunit",
            base="red",
            steps=((0.95, "green"),),
            most=1,
            empty="no decisions",
            alerts=("LowAuthorizationSuccessRate",),
        ),
        Panel(
            id=43,
            title="Vulnerabilities found",
            says="In the chosen time by severity "
            "(`victor_security_vulnerabilities_found_total`). Each scan counts anew what is still "
            "there.",
            kind=Kind.BARS,
            queries=(
                Query(
                    expr=grown("victor_security_vulnerabilities_found_total", by="severity"),
                    legend="{{severity}}",
                ),
            ),
            unit="short",
            base="green",
            steps=((1, "red"),),
            decimals=0,
            empty="no process yet",
            alerts=("VulnerabilitiesFound",),
        ),
        Panel(
            id=44,
            title="Security tests passed",
            says="In the last complete check, of the process with the lowest share "
            "(`victor_security_test_pass_rate`). Critical below 90%; absent before a first check.",
            kind=Kind.STAT,
            queries=(Query(expr=worst("victor_security_test_pass_rate"), legend="passed"),),
            unit="percentunit",
            base="red",
            steps=((0.9, "green"),),
            most=1,
            decimals=0,
            empty="no check yet",
            alerts=("SecurityTestFailure",),
        ),
        Panel(
            id=45,
            title="Security scan p95",
            says="Of 6 hours, because scans are few (`victor_security_scan_duration_seconds`). "
            "Should stay below 60 s.",
            queries=(
                Query(
                    expr=quantile(
                        0.95, "victor_security_scan_duration_seconds", by="scanner", over="6h"
                    ),
                    legend="{{scanner}}",
                ),
            ),
            unit="s",
            steps=((60, "red"),),
            empty="no scans",
            alerts=("SlowSecurityScan",),
        ),
    ),
)
