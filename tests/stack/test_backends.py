"""The Collector in front of OTLP backends: the same series, and what an outage costs."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kit import otlp
from tests.stack.backends import (
    identified,
    note_taker,
    prometheus_backend,
    sending_to,
    stored,
    victoria_metrics,
)
from tests.stack.load import AT_ONCE, SHORT, SHORT_COUNT, push, push_total
from tests.stack.outage import check, play, shown_by, waiting
from tests.stack.processes import (
    HOST,
    Labels,
    collector,
    exposition,
    free_ports,
    prometheus,
    query,
    same,
    series,
    wait_until,
)
from tests.stack.routes import counted, demo, normalized
from tests.stack.spans import made
from tests.stack.spans import push as push_spans
from victor_otel.demo.view import differences
from victor_otel.victor.shared import REQUESTS

pytestmark = pytest.mark.stack

# Prometheus's own rule makes the guide's name from the counter; no route carries it.
_OURS = '{__name__=~"victor_.+",__name__!="victor_total_requests"}'
_SHORT_RUN: Labels = frozenset({("job", "victor"), ("interface", "cli"), ("status", "success")})


def second_backend(endpoint: str) -> list[str]:
    """What makes the shipped configuration send to one more backend: the first one's twin."""
    twin = {
        "endpoint": endpoint,
        "retry_on_failure": {
            "initial_interval": "1s",
            "max_interval": "2s",
            "max_elapsed_time": "0s",
        },
        "sending_queue": {"storage": "file_storage", "num_consumers": 1, "queue_size": 10000},
    }
    return [
        # JSON is YAML.
        f"exporters::otlp_http/second={json.dumps(twin)}",
        *(
            f"service::pipelines::metrics/{side}::exporters="
            f"[prometheus/{side}, otlp_http, otlp_http/second]"
            for side in ("long", "short")
        ),
    ]


def pushed(url: str, runs: int) -> None:
    """Short-lived runs, 16 at once, each acknowledged."""

    def one(run: int) -> bool:
        return push(url, f"pod-{run}").acknowledged

    with ThreadPoolExecutor(AT_ONCE) as threads:
        assert all(threads.map(one, range(runs)))


def test_two_vendors_show_the_series_that_the_collector_shows(tmp_path: Path) -> None:
    with (
        prometheus() as first,
        victoria_metrics(tmp_path) as second,
        collector(
            environment=sending_to(f"{first.url}/api/v1/otlp"),
            settings=[
                *second_backend(f"{second}/opentelemetry"),
                # The session ends before we look.
                "exporters::prometheus/long::metric_expiration=5m",
            ],
        ) as gateway,
    ):
        expected = counted(demo(f"--otlp={gateway.otlp_http}"))
        pushed(gateway.otlp_http, 40)

        def arrived() -> bool:
            pages = (exposition(gateway.long_metrics), exposition(gateway.short_metrics))
            shown = identified(
                {
                    labels | {("__name__", name)}: value
                    for page in pages
                    for (name, labels), value in page.items()
                    if name.startswith("victor_")
                }
            )
            assert shown[REQUESTS.prometheus_name, _SHORT_RUN] == 40
            two = stored(second)
            assert same(identified(series(first.url, _OURS)), shown)
            assert same(two.keys(), shown.keys())
            # It stores decimals, not floats: the last bits of a sum can differ.
            assert not {
                key: (value, shown[key])
                for key, value in two.items()
                if not math.isclose(value, shown[key], rel_tol=1e-12)
            }
            return bool(shown)

        wait_until(arrived, 120)
        long_lived = {
            labels: value
            for labels, value in series(first.url, _OURS).items()
            if "instance" in dict(labels)
        }
        assert not differences(normalized(long_lived), expected)


def test_a_request_holds_each_series_once_and_totals_begin_anew_with_the_collector() -> None:
    with note_taker() as (url, requests):
        environment = sending_to(url)
        with collector(environment=environment) as gateway:
            pushed(gateway.otlp_http, 100)
            wait_until(lambda: requests and requests[-1][0].value == 100)
            before = requests[-1][0]
            gateway.process.kill()
        killed = time.time_ns()
        with collector(environment=environment) as gateway:
            pushed(gateway.otlp_http, 1)
            wait_until(lambda: requests[-1][0].start > killed)
    after = requests[-1][0]
    assert (after.series, after.value) == (before.series, 1)
    for points in requests:
        assert len({point.series for point in points}) == len(points) > 0


def test_what_waited_arrives_in_the_order_in_which_it_was_counted() -> None:
    (port,) = free_ports(1)
    with collector(environment=sending_to(f"http://{HOST}:{port}")) as gateway:
        for run in range(1, 9):
            pushed(gateway.otlp_http, 1)
            wait_until(lambda run=run: shown_by(gateway) == run)
        with note_taker(port) as (_, requests):
            wait_until(lambda: len(requests) == 8)
            assert [points[0].value for points in requests] == list(range(1, 9))


def test_a_normal_stop_keeps_all_that_was_acknowledged_for_the_backend(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    environment = {
        **sending_to(f"{url}/api/v1/otlp"),
        "VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue"),
    }
    with collector(environment=environment) as gateway:
        pushed(gateway.otlp_http, 64)
        # Stopped within the 200 ms that totals are held.
    assert gateway.process.returncode == 0
    with prometheus_backend(tmp_path, port), collector(environment=environment):
        for found in (SHORT, SHORT_COUNT):
            wait_until(lambda found=found: query(url, found)[0][1] == 64)


def test_what_was_being_sent_at_a_kill_arrives_although_later_totals_overtake_it(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    environment = {
        **sending_to(f"{url}/api/v1/otlp"),
        "VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue"),
    }
    with collector(environment=environment) as gateway:
        # The first request, tried until the kill, has a total that grows and one that does not.
        assert push(gateway.otlp_http, "first", "success", "failure").acknowledged
        wait_until(lambda: shown_by(gateway) == 2)
        pushed(gateway.otlp_http, 16)
        wait_until(lambda: shown_by(gateway) == 18)
        wait_until(lambda: waiting(gateway.telemetry) >= 2)
        gateway.process.kill()
    with prometheus_backend(tmp_path, port), collector(environment=environment) as gateway:
        wait_until(lambda: not waiting(gateway.telemetry))
        statuses = {
            labels["status"]: value for labels, value in query(url, REQUESTS.prometheus_name)
        }
    assert statuses == {"success": 17, "failure": 1}


def test_a_full_queue_costs_points_but_no_counts(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    full = ["exporters::otlp_http::sending_queue={sizer: requests, queue_size: 2}"]
    with collector(environment=sending_to(f"{url}/api/v1/otlp"), settings=full) as gateway:
        for run in range(1, 5):
            pushed(gateway.otlp_http, 1)
            wait_until(lambda run=run: shown_by(gateway) == run)
        assert waiting(gateway.telemetry) == 2
        with prometheus_backend(tmp_path, port):
            wait_until(lambda: not waiting(gateway.telemetry))
            assert query(url, SHORT)[0][1] == 2
            pushed(gateway.otlp_http, 1)
            wait_until(lambda: query(url, SHORT)[0][1] == 5)


def test_what_waited_in_the_queue_for_hours_is_still_taken(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    with (
        prometheus_backend(tmp_path, port),
        collector(environment=sending_to(f"{url}/api/v1/otlp")) as gateway,
    ):
        # Prometheus has newer data by then, its own rules' if nobody else's.
        for instance, hours in (("now", 0), ("late", 11)):
            push_total(gateway.otlp_http, instance, time.time_ns() - hours * 3600 * 10**9)
            found = f'last_over_time({REQUESTS.prometheus_name}{{instance="{instance}"}}[12h])'
            wait_until(lambda found=found: query(url, found)[0][1] == 7)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_grpc_to_a_backend_is_encrypted_if_its_scheme_says_so(scheme: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    with otlp.rpc(authority=authority if scheme == "https" else None) as backend:
        variables = {
            f"VICTOR_COLLECTOR_{kind}BACKEND{of}": value
            for kind in ("", "TRACES_")
            for of, value in (("", "otlp_grpc"), ("_GRPC", f"{scheme}://{HOST}:{backend.port}"))
        }
        if scheme == "https":
            variables["SSL_CERT_FILE"] = str(authority)
        with collector(environment=variables) as gateway:
            pushed(gateway.otlp_http, 1)
            assert push_spans(gateway.otlp_http, made(1)) == 200
            wait_until(lambda: (len(backend.requests), len(backend.traces)) == (1, 1))


def test_an_outage_costs_no_more_than_promised(tmp_path: Path) -> None:
    check(play(8, tmp_path))
