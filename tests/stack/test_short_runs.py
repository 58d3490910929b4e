"""Short runs add up exactly, whoever lives and dies beside them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.stack.processes import Collector, collector, prometheus, query, series, wait_until
from tests.stack.replica import replica
from tests.stack.short_runs import expected, play
from tests.stack.test_routes import Series, normalized
from victor_otel.demo.view import differences
from victor_otel.model.metric import Kind
from victor_otel.victor import catalog

pytestmark = pytest.mark.stack

RUNS = 200
# As shipped. So often nobody pushes: that a living replica does not flicker with two pushes in this
# time is for the long test.
EXPIRY = 30
EXPORT_INTERVAL = 1
NO_MODEL = "http://127.0.0.1:9/v1"
GAUGES = {
    metric.prometheus_name
    for metric in catalog.METRICS
    if metric.kind not in {Kind.COUNTER, Kind.HISTOGRAM}
}


def pushing(instance: str, gateway: Collector, seconds: int) -> dict[str, str]:
    """Variables of a process that pushes to the Collector, every so many seconds."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.otlp_http,
        "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={instance},k8s.pod.name={instance}",
        "OTEL_METRIC_EXPORT_INTERVAL": str(1000 * seconds),
    }


def served(prometheus_url: str) -> dict[str, float]:
    """The requests that each replica served, as it last said, be it alive or not."""
    last = 'last_over_time(victor_requests_total{interface="api",status="success"}[1h]) > 0'
    return {labels["instance"]: value for labels, value in query(prometheus_url, last)}


def alive(prometheus_url: str) -> set[str]:
    """The instances that have any gauge now."""
    named = "|".join(sorted(GAUGES))
    return {labels["instance"] for labels, _ in query(prometheus_url, f'{{__name__=~"{named}"}}')}


def missed(prometheus_url: str, instance: str, target: str, since: float) -> float:
    """In how many scrapes that succeeded since then (`time.monotonic`) it had no gauges."""
    window = f"[{int(time.monotonic() - since)}s]"
    scrapes = f'up{{instance="{target}"}}'
    gauge = f'victor_memory_usage_bytes{{instance="{instance}",component="process"}}'
    both = f"sum_over_time({scrapes}{window}) - on () count_over_time({gauge}{window})"
    ((_, missing),) = query(prometheus_url, both)
    return missing


def short_side(prometheus_url: str, gateway: Collector, job: str = "victor") -> Series:
    """What Prometheus has of short runs, one series for each label set.

    They have no instance of their own, so Prometheus gives them that of the page.
    """
    page = urlsplit(gateway.short_metrics).netloc
    found = series(prometheus_url, f'{{job="{job}",instance="{page}",__name__=~"victor_.+"}}')
    assert not GAUGES & {dict(labels)["__name__"] for labels in found}
    return normalized(found)


def added_up(prometheus_url: str, gateway: Collector, runs: int) -> bool:
    """Whether all is there, label set by label set, to the last bucket."""
    found = short_side(prometheus_url, gateway)
    assert differences(found, expected(runs)) == []
    return True


def test_200_short_runs_add_up_while_one_of_two_replicas_is_killed() -> None:
    with (
        collector() as gateway,
        prometheus(collectors=[gateway]) as scraping,
        replica(NO_MODEL, **pushing("stays", gateway, EXPORT_INTERVAL)) as stays,
        replica(NO_MODEL, **pushing("dies", gateway, EXPORT_INTERVAL)) as dies,
        ThreadPoolExecutor() as threads,
    ):
        for each, requests in ((stays, 3), (dies, 5)):
            assert [each.modes() for _ in range(requests)] == [200] * requests
        wait_until(lambda: served(scraping.url) == {"stays": 3, "dies": 5})
        wait_until(lambda: alive(scraping.url) == {"stays", "dies"})
        began = time.monotonic()

        playing = threads.submit(play, gateway.otlp_http, RUNS)
        dies.process.kill()
        wait_until(lambda: alive(scraping.url) == {"stays"}, EXPIRY + 5)
        playing.result()
        wait_until(lambda: added_up(scraping.url, gateway, RUNS))

        assert stays.modes() == 200
        wait_until(lambda: served(scraping.url) == {"stays": 4, "dies": 5})
        page = urlsplit(gateway.long_metrics).netloc
        assert missed(scraping.url, "stays", page, began) == 0
