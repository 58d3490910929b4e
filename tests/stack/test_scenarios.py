"""The guide's 53 metrics from real work, on the endpoint and through the Collector."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes import environment
from tests.scenarios import SCENARIOS
from tests.stack.processes import (
    Labels,
    collector,
    free_ports,
    prometheus,
    series,
    wait_until,
)
from tests.stack.test_routes import Series, cumulative, exported_name, names, normalized
from victor_otel import catalog
from victor_otel.spec import Kind

pytestmark = pytest.mark.stack

GUIDE = [metric for metric in catalog.METRICS if metric.guide]


def by_name(found: Series, name: str) -> dict[Labels, float]:
    return {labels: value for (named, labels), value in found.items() if named == name}


def test_the_guide_has_53_metrics() -> None:
    assert len(GUIDE) == 53


def test_all_scenarios_together_arrive_on_both_routes_as_counted() -> None:
    (port,) = free_ports(1)
    with (
        collector() as gateway,
        prometheus([f"127.0.0.1:{port}"], [gateway]) as scraping,
        subprocess.Popen(
            [sys.executable, "-m", "tests.stack.scenarios", str(port), gateway.otlp_http],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        ) as session,
    ):
        assert session.stdout is not None
        answer = json.loads(session.stdout.readline())
        assert answer["problems"] == {}
        assert answer["played"] > 0

        def arrived() -> tuple[Series, Series]:
            """Both routes, once their totals agree: another moment may miss a scrape."""
            direct, pushed = (
                normalized(series(scraping.url, f'{{job="{job}",__name__=~"victor_.+"}}'))
                for job in ("victor", "scenarios")
            )
            totals = cumulative(direct)
            assert totals
            assert totals == cumulative(pushed)
            assert by_name(totals, "victor_total_requests") == by_name(
                totals, "victor_requests_total"
            )
            return direct, pushed

        routes = wait_until(arrived, 60)
        session.communicate("", timeout=60)
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
