"""The examples that need the real Collector."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.readme import Block, Terminal, copy, follow
from tests.stack.processes import collector, collector_ports, exposition, wait_until

pytestmark = pytest.mark.stack


def test_short_runs_add_up_as_the_readme_says(tmp_path: Path) -> None:
    free = collector_ports()
    usual = {"HTTP": "4318", "SHORT": "8890", "HEALTH": "13133"}
    named = {port: int(free[f"VICTOR_COLLECTOR_{name}_PORT"]) for name, port in usual.items()}
    follow("short_runs", tmp_path, named, **free)


def test_custom_metrics_travel_by_otlp_and_those_of_prometheus_client_do_not(
    tmp_path: Path,
) -> None:
    folder = copy(tmp_path) / "custom_metrics"
    with (
        collector() as gateway,
        Terminal(
            folder,
            OTEL_EXPORTER_OTLP_ENDPOINT=gateway.otlp_http,
            OTEL_METRIC_EXPORT_INTERVAL="500",
        ) as terminal,
    ):
        terminal.do(Block("python ../offline.py app.py &\n", ["reviewed"]))

        def arrived() -> bool:
            found = exposition(gateway.long_metrics, without=("job", "instance"))
            shown = {
                key: value
                for key, value in found.items()
                if key[0].startswith("acme_") and not key[0].endswith(("_bucket", "_sum"))
            }
            # An export may come in the middle of a review.
            assert shown == {
                ("acme_open_reviews", frozenset()): 0,
                ("acme_review_wait_seconds_count", frozenset()): 1,
                ("acme_reviews_total", frozenset({("outcome", "accepted")})): 1,
                ("acme_reviews_total", frozenset({("outcome", "declined")})): 0,
            }
            return True

        wait_until(arrived)
        terminal.do(Block("kill %1\n"))
