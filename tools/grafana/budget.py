"""The error budget, which two dashboards show."""

from __future__ import annotations

from tools.grafana.model import Kind, Panel, Query


def error_budget(number: int, *, width: int) -> Panel:
    """What is left of it, of the service that has least."""
    return Panel(
        id=number,
        title="Error budget left",
        says="Share of the failures allowed in 30 days (${slo.availability:rest} of requests) "
        "that is left, of the "
        "service that has least. Below 0 the objective is missed. It waits for a day after the "
        "first 100 requests of a day. By service alone.",
        kind=Kind.STAT,
        width=width,
        height=4,
        queries=(
            Query(
                expr='min(job:victor_slo_requests:error_budget_remaining{job=~"$job"})',
                legend="left",
            ),
        ),
        unit="percentunit",
        base="red",
        steps=((0, "yellow"), (0.25, "green")),
        least=-99,
        decimals=0,
        empty="not enough data yet",
        detail=("victor-errors", 12),
    )
