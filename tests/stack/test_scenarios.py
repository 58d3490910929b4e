"""The guide's 53 metrics from real work, on the endpoint and through the Collector."""

from __future__ import annotations

import pytest

from tests.scenarios import SCENARIOS
from tests.stack.played import Played
from tests.stack.processes import Labels, same, series, wait_until
from tests.stack.routes import Series, cumulative, exported_name, names, normalized
from victor_otel.model.metric import Kind
from victor_otel.victor import catalog

pytestmark = pytest.mark.stack

GUIDE = [metric for metric in catalog.METRICS if metric.guide]


def by_name(found: Series, name: str) -> dict[Labels, float]:
    return {labels: value for (named, labels), value in found.items() if named == name}


def test_the_guide_has_53_metrics() -> None:
    assert len(GUIDE) == 53


def test_all_scenarios_together_arrive_on_both_routes_as_counted(played: Played) -> None:
    assert played.answer["problems"] == {}
    assert played.answer["played"]
    monitoring = played.by_replicas[1]
    (endpoint,) = monitoring.endpoints

    def arrived() -> tuple[Series, Series]:
        """Both routes, once their totals agree: another moment may miss a scrape."""
        direct, pushed = (
            normalized(
                series(
                    monitoring.prometheus.url,
                    f'{{job="{job}",instance="{endpoint}",__name__=~"(victor|gen_ai|mcp)_.+"}}',
                )
            )
            for job in ("victor", "scenarios")
        )
        totals = cumulative(direct)
        assert totals
        assert same(totals, cumulative(pushed))
        total, requests = ("victor_total_requests", "victor_requests_total")
        assert same(by_name(totals, total), by_name(totals, requests))
        return direct, pushed

    routes = wait_until(arrived, 60)
    fed = {
        exported_name(metric)
        for scenario in SCENARIOS
        if scenario.applies() and not scenario.alone
        for metric in scenario.proves
        if metric.guide or metric.kind in {Kind.COUNTER, Kind.HISTOGRAM}
    }
    for found in routes:
        assert fed - names(found) == set()
        assert by_name(found, "victor_total_requests")
    assert {exported_name(metric) for metric in GUIDE} <= fed
