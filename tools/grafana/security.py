"""Who is let in, what is forbidden, what scans find: a row of Errors."""

from __future__ import annotations

from tools.grafana.model import Kind, Panel, Query, Row
from tools.grafana.promql import grown, rare_quantile, rate, worst

SECURITY = Row(
    title="What did security checks refuse and find?",
    panels=(
        Panel(
            id=40,
            title="Security events",
            says="Per minute by kind (`victor_security_events_total`): refused authorizations, "
            "blocked tool calls, vulnerabilities found.",
            width=6,
            height=7,
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
            width=6,
            height=7,
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
            id=43,
            title="Vulnerabilities found",
            says="In the chosen time by severity "
            "(`victor_security_vulnerabilities_found_total`). Each scan counts anew what is still "
            "there.",
            width=6,
            kind=Kind.BARS,
            height=7,
            queries=(
                Query(
                    expr=grown("victor_security_vulnerabilities_found_total", by="severity"),
                    legend="{{severity}}",
                ),
            ),
            unit="locale",
            base="green",
            steps=((1, "red"),),
            decimals=0,
            empty="no process yet",
            alerts=("VulnerabilitiesFound",),
        ),
        Panel(
            id=44,
            title="Security tests passed, authorizations granted",
            says="Tests of the last complete check, critical below "
            "${SecurityTestFailure.threshold:percent} "
            "(`victor_security_test_pass_rate`); decisions of 5 minutes, a warning below "
            "${LowAuthorizationSuccessRate.threshold:percent} "
            "(`victor_security_authorization_success_rate`). Of the process with the lowest share.",
            kind=Kind.BARS,
            width=6,
            height=4,
            queries=(
                Query(expr=worst("victor_security_test_pass_rate"), legend="tests"),
                Query(
                    expr=worst("victor_security_authorization_success_rate", by="source"),
                    legend="{{source}}",
                ),
            ),
            unit="percentunit",
            base="red",
            steps=(
                ("${SecurityTestFailure.threshold}", "yellow"),
                ("${LowAuthorizationSuccessRate.threshold}", "green"),
            ),
            most=1,
            decimals=0,
            empty="no check or decision yet",
            alerts=("LowAuthorizationSuccessRate", "SecurityTestFailure"),
        ),
        Panel(
            id=45,
            title="Security scan p95",
            says="Of 6 hours, because scans are few (`victor_security_scan_duration_seconds`). "
            "Should stay below ${SlowSecurityScan.threshold} s.",
            kind=Kind.STAT,
            width=6,
            height=3,
            queries=(
                Query(
                    expr=rare_quantile(
                        0.95, "victor_security_scan_duration_seconds", by="scanner", over="6h"
                    ),
                    legend="{{scanner}}",
                ),
            ),
            unit="s",
            steps=(("${SlowSecurityScan.threshold}", "red"),),
            empty="no scans",
            alerts=("SlowSecurityScan",),
        ),
    ),
)
