"""Every query of every runbook runs as it is written, on a Prometheus that has seen real work.

It must show something there. What shows nothing while all is well is asked again without its
thresholds and exceptions, for the whole time of the test instead of now or last week.
"""

from __future__ import annotations

import pytest

from tests.stack.processes import Prometheus, query
from tests.stack.queries import relaxed
from tools.rules import RUNBOOKS, queries

pytestmark = pytest.mark.stack

# What shows nothing here, by a part of the query, and why.
NOTHING = {
    "error_budget_remaining": "it waits for a day",
    "otelcol_exporter_send_failed_metric_points": "the backend refused nothing",
    "otelcol_exporter_send_failed_spans": "the backend refused nothing",
    "otelcol_exporter_enqueue_failed_metric_points": "no queue was full",
    "otelcol_exporter_enqueue_failed_spans": "no queue was full",
    "victor_otel_endpoint_up": "the pipeline is the test's, not victor-otel's own",
    "victor_otel_errors_total": "the instrumentation made no error",
    "victor_otel_labels_capped_total": "no bound was reached",
    "victor_otel_labels_undeclared_total": "every value is declared",
}


def test_each_query_of_each_runbook_runs_and_shows_what_it_looks_for(
    monitored: Prometheus,
) -> None:
    empty: set[tuple[str, str]] = set()
    for path in sorted(RUNBOOKS.glob("*.md")):
        for promql in queries(path.read_text(encoding="utf-8")):
            try:
                shown = query(monitored.url, promql) or query(monitored.url, relaxed(promql))
            except (OSError, ValueError) as error:
                error.add_note(f"{path.name}: {promql}")
                raise
            if not shown:
                empty.add((path.name, promql))
    assert {one for one in empty if not any(part in one[1] for part in NOTHING)} == set()
