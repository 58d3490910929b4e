"""What fires: the first panel of each dashboard."""

from __future__ import annotations

from tools.grafana.model import Kind, Panel, Query, Row
from tools.grafana.promql import ABOUT, began, named


def fires(number: int, *rows: Row) -> Panel:
    """The alerts that fire and lead to a panel of these rows; all of them if there are no rows."""
    alerts = [alert for row in rows for panel in row.panels for alert in panel.alerts]
    shown = "that lead to a panel of this dashboard" if rows else "of the pipeline included"
    of_whom = ", ".join(f'"{text}"' for text in ("about", " ", *ABOUT, "process"))
    # No vertical is nothing to speak of.
    whose = f'label_replace({named(began(*alerts))}, "vertical", "", "vertical", "none")'
    told = f"label_join({whose}, {of_whom})"
    return Panel(
        id=number,
        title="What fires",
        says=f"The alerts that fire, critical and warning, of the chosen services, those {shown}, "
        "and since when their condition holds. An alert leads to its runbook, which says what to "
        "do. Prometheus tells no dashboard the text of an alert: it is on its page of alerts.",
        kind=Kind.TABLE,
        width=12,
        queries=(
            Query(
                expr=f"min by (severity, alertname, job, about) ({told})",
                legend="{{severity}} {{alertname}} {{job}} {{about}}",
            ),
        ),
        columns=(
            ("severity", "Severity"),
            ("alertname", "Alert"),
            ("job", "Service"),
            ("about", "About"),
            ("Value", "Since"),
        ),
        # What is critical comes first.
        sorted_by="Severity",
        runbooks=True,
        unit="dateTimeFromNow",
        empty="nothing fires",
    )
