"""The labels that the checks of rules go by are those in the real Prometheus.

That names are the same on every route stands in test_routes and test_scenarios.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.series import EXPORTED, GATEWAY, OTHERS, RECORDED, of_name
from tests.stack.backends import sending_to, spans_to
from tests.stack.collectors import backend, points, post
from tests.stack.paging import paging
from tests.stack.processes import (
    HOST,
    Prometheus,
    collector,
    free_ports,
    prometheus,
    query,
    wait_until,
)
from tests.stack.spans import made, push

pytestmark = pytest.mark.stack


def test_victors_series_and_the_recorded_have_the_labels_that_are_expected_of_them(
    monitored: Prometheus,
) -> None:
    everything = query(monitored.url, '{__name__=~"victor_.+|.+:.+"}')
    wrong = [
        labels
        for labels, _ in everything
        if labels["__name__"] in {**EXPORTED, **RECORDED}
        and frozenset(labels) - {"__name__"} | GATEWAY != of_name(labels["__name__"]) | GATEWAY
    ]
    assert wrong == []
    assert {labels["job"] for labels, _ in everything if "job" in labels} >= {"victor", "scenarios"}


def test_others_export_what_rules_read_of_them(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    too_small = (
        "exporters::otlp_http::sending_queue::queue_size=1",
        "exporters::otlp_http/traces::sending_queue::queue_size=1",
        "processors::batch/traces::timeout=0s",
        "processors::deltatocumulative/short::max_streams=1",
    )
    gone = f"http://{HOST}:{nobody}"
    with (
        backend(400) as refusing,
        collector(environment=sending_to(refusing.url, **spans_to(refusing.url))) as refused,
        collector(environment=sending_to(gone, **spans_to(gone)), settings=too_small) as full,
        paging(tmp_path) as pager,
        prometheus(collectors=[refused, full], alertmanagers=[pager.url]) as scraping,
    ):
        refusing.status = 200
        assert push(refused.otlp_http, made(1)) == 200
        wait_until(lambda: refusing.authorizations)
        refusing.status = 400
        for gateway in (refused, full):
            for _ in range(3):
                assert push(gateway.otlp_http, made(1)) == 200
                assert post(gateway.otlp_http, points()) == 200
                assert post(gateway.otlp_http, points(2, lifetime="short")) == 200

        def all_there() -> bool:
            for name, labels in OTHERS.items():
                found = [frozenset(each) for each, _ in query(scraping.url, name)]
                assert any(labels <= each for each in found), (name, found)
            return True

        wait_until(all_there)
