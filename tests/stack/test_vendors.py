"""The files of collector/backends/: the Collector takes them, and what arrives is what was counted.

No vendor is asked. VictoriaMetrics stands for what takes remote write, and `DeltaVendor` for those
that count by deltas.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.kit import otlp
from tests.kit.processes import environment
from tests.stack import short_runs
from tests.stack.backends import (
    DeltaVendor,
    Key,
    delta_vendor,
    sending_to,
    stored,
    victoria_metrics,
)
from tests.stack.collectors import GATEWAY, arrived, own, shipped, validate
from tests.stack.gateways import NAMES, agents, times
from tests.stack.load import push
from tests.stack.processes import (
    COLLECTOR_CONFIG,
    HOST,
    Collector,
    Labels,
    collector,
    exposition,
    free_ports,
    wait_until,
)
from tests.stack.routes import counted, demo
from tools.paths import COLLECTOR
from victor_otel.demo.view import differences
from victor_otel.victor.shared import REQUESTS

pytestmark = pytest.mark.stack

FOLDER = COLLECTOR / "backends"
REMOTE_WRITE = FOLDER / "remote-write.yaml"
DELTAS = FOLDER / "deltas.yaml"
ALONE = ("grafana-cloud", "honeycomb", "remote-write")
BY_DELTAS = ("datadog", "dynatrace", "new-relic")
CLOUDS = {"aws": ("remote-write", "aws"), "azure": ("remote-write", "azure"), "google": ("google",)}
ADDRESSES = {
    "VICTOR_COLLECTOR_BACKEND_HTTP": "https://otlp.example.com",
    "VICTOR_COLLECTOR_BACKEND_REMOTE_WRITE": "https://metrics.example.com/api/v1/write",
}
SHORT_RUN = frozenset({("job", "victor"), ("interface", "cli"), ("status", "success")})
TOKEN = {"VICTOR_COLLECTOR_TOKEN_FILE": "/run/secrets/victor-token"}
# Shipped are 10 s.
HURRY = ("processors::interval/deltas::interval=2s",)


# --- The files ---------------------------------------------------------------------------------


def combinations() -> Iterator[tuple[str, ...]]:
    backends = [(name,) for name in ALONE] + [("deltas", name) for name in BY_DELTAS]
    for names in backends:
        for first in (("config",), ("config", "gateway"), ("config", "token")):
            yield (*first, *(f"backends/{name}" for name in names))


@pytest.mark.parametrize("names", combinations(), ids="+".join)
def test_every_backend_goes_with_gateways_and_tokens(names: Sequence[str]) -> None:
    assert validate(shipped(*names), **ADDRESSES, **TOKEN) == ""


def test_every_file_of_a_backend_is_among_them() -> None:
    named = {*ALONE, "deltas", *BY_DELTAS, *itertools.chain.from_iterable(CLOUDS.values())}
    assert {path.stem for path in FOLDER.iterdir()} == named


def without_authenticator(name: str, folder: Path, **exporter: str) -> Path:
    """The file of a cloud, less what only the contrib distribution has."""
    configuration = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    del configuration["extensions"], configuration["service"]["extensions"]
    for each in configuration["exporters"].values():
        del each["auth"]
        each.update(exporter)
    rest = folder / "rest.yaml"
    rest.write_text(yaml.safe_dump(configuration), "utf-8")
    return rest


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_is_valid_but_for_its_authenticator_which_we_do_not_build(
    name: str, tmp_path: Path
) -> None:
    files = [COLLECTOR_CONFIG, *(FOLDER / f"{each}.yaml" for each in CLOUDS[name])]
    assert "'extensions' unknown type" in validate(files, **ADDRESSES)
    assert validate([*files[:-1], without_authenticator(name, tmp_path)], **ADDRESSES) == ""


def test_google_gets_no_point_without_project_location_and_instance(tmp_path: Path) -> None:
    variables = {
        "GOOGLE_CLOUD_PROJECT": "a-project",
        "VICTOR_COLLECTOR_GOOGLE_LOCATION": "europe-west1",
        "VICTOR_COLLECTOR_GATEWAY_NAME": "collector-0",
    }
    with otlp.http() as backend:
        url = f"http://{HOST}:{backend.port}"
        google = without_authenticator("google", tmp_path, endpoint=url)
        with collector(COLLECTOR_CONFIG, google, environment=variables) as gateway:
            with process(gateway.otlp_http, "replica") as serve:
                serve(1)
            assert push(gateway.otlp_http, "pod").acknowledged
            wait_until(lambda: len(told(backend)) == 2)
            shown = pages(gateway)
    assert told(backend) == {
        frozenset(
            {
                ("gcp.project_id", "a-project"),
                ("location", "europe-west1"),
                ("service.name", "victor"),
                ("service.instance.id", instance),
            }
        )
        for instance in ("replica", "collector-0")
    }
    assert (REQUESTS.prometheus_name, SHORT_RUN) in shown


def told(backend: otlp.Backend) -> set[Labels]:
    """The resources of all that a backend was sent."""
    return {frozenset(named.items()) for named, _ in backend.metrics()}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("remote-write",), "invalid endpoint"),
        (("grafana-cloud",), "at least one endpoint must be specified"),
        (("deltas", "dynatrace"), "at least one endpoint must be specified"),
        (("deltas",), "metrics/long-deltas: must have at least one exporter"),
        *(
            (((name,), "metrics/long-deltas: must have at least one receiver"))
            for name in BY_DELTAS
        ),
    ],
)
def test_what_must_be_given_is_missed(names: Sequence[str], complaint: str) -> None:
    files = [COLLECTOR_CONFIG, *(FOLDER / f"{name}.yaml" for name in names)]
    given = ADDRESSES if names in {(name,) for name in BY_DELTAS} else {}
    assert complaint in validate(files, **given)


@pytest.mark.parametrize(
    "names", [("remote-write",), ("honeycomb",), ("deltas", "datadog")], ids="+".join
)
def test_the_key_of_a_backend_comes_from_a_file_and_is_in_no_log(
    names: Sequence[str], tmp_path: Path
) -> None:
    secret = tmp_path / "headers"
    secret.write_text("x-key: s3cr3t\n")
    with otlp.http() as backend:
        url = f"http://{HOST}:{backend.port}"
        variables = {
            **dict.fromkeys(ADDRESSES, url),
            "VICTOR_COLLECTOR_BACKEND_HEADERS": "${file:" + str(secret) + "}",
        }
        files = [COLLECTOR_CONFIG, *(FOLDER / f"{name}.yaml" for name in names)]
        settings = HURRY if DELTAS in files else ()
        with collector(*files, environment=variables, settings=settings) as gateway:
            with process(gateway.otlp_http, "replica") as serve:
                serve(1)
            wait_until(lambda: backend.headers)
            assert "s3cr3t" not in gateway.log.read_text()
    assert {each["X-Key"] for each in backend.headers} == {"s3cr3t"}


# --- Remote write ------------------------------------------------------------------------------


def test_by_remote_write_arrive_the_series_that_the_collector_shows(tmp_path: Path) -> None:
    with (
        victoria_metrics(tmp_path) as url,
        collector(
            COLLECTOR_CONFIG,
            REMOTE_WRITE,
            environment={"VICTOR_COLLECTOR_BACKEND_REMOTE_WRITE": f"{url}/api/v1/write"},
            # The session ends before we look.
            settings=["exporters::prometheus/long::metric_expiration=5m"],
        ) as gateway,
    ):
        expected = counted(demo(f"--otlp={gateway.otlp_http}"))
        short_runs.play(gateway.otlp_http, 40)

        def found_all() -> bool:
            shown = pages(gateway)
            found = stored(url)
            assert found.keys() == shown.keys()
            # It stores decimals, not floats: the last bits of a sum can differ.
            assert not {
                key: (value, shown[key])
                for key, value in found.items()
                if not math.isclose(value, shown[key], rel_tol=1e-12)
            }
            runs = {key: value for key, value in found.items() if key in short_runs_alone(found)}
            assert not differences(without(runs, "job"), short_runs.expected(40))
            session = {key: value for key, value in found.items() if key not in runs}
            assert not differences(without(session, "job", "instance"), expected)
            return True

        wait_until(found_all, 20)


def test_what_a_store_that_is_away_has_not_taken_arrives_when_it_is_back(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    address = f"http://{HOST}:{port}/api/v1/write"
    with collector(
        COLLECTOR_CONFIG,
        REMOTE_WRITE,
        environment={"VICTOR_COLLECTOR_BACKEND_REMOTE_WRITE": address},
    ) as gateway:
        with otlp.http(503, port=port) as away:
            assert push(gateway.otlp_http, "pod").acknowledged
            # The exporter's own patience is 5 s, one pause.
            wait_until(lambda: len(away.requests) == 4)
        with victoria_metrics(tmp_path, port) as url:
            key = REQUESTS.prometheus_name, SHORT_RUN
            wait_until(lambda: stored(url).get(key) == 1, 60)


def pages(gateway: Collector) -> dict[Key, float]:
    """Victor's series on both pages; `le` as the number that it is."""
    found: dict[Key, float] = {}
    for page in (gateway.long_metrics, gateway.short_metrics):
        for (name, labels), value in exposition(page).items():
            if name.startswith("victor_"):
                pairs = dict(labels)
                if "le" in pairs:
                    pairs["le"] = str(float(pairs["le"]))
                found[name, frozenset(pairs.items())] = value
    return found


def short_runs_alone(found: Mapping[Key, float]) -> set[Key]:
    return {key for key in found if "instance" not in dict(key[1])}


def without(found: Mapping[Key, float], *names: str) -> dict[Key, float]:
    return {
        (name, frozenset(pair for pair in labels if pair[0] not in names)): value
        for (name, labels), value in found.items()
    }


# --- Deltas ------------------------------------------------------------------------------------


def by_deltas(
    vendor: DeltaVendor, *switches: Path, name: str = "datadog", **variables: str
) -> AbstractContextManager[Collector]:
    return collector(
        COLLECTOR_CONFIG,
        *switches,
        DELTAS,
        FOLDER / f"{name}.yaml",
        environment={"VICTOR_COLLECTOR_BACKEND_HTTP": vendor.url, **variables},
        settings=HURRY,
    )


def arrives(vendor: DeltaVendor, counted: Mapping[Key, float], *without: str) -> None:
    def exact() -> bool:
        assert differences(vendor.counted("service_instance_id", *without), counted) == []
        return True

    wait_until(exact, 60)


def pushing_often(endpoint: str) -> Mapping[Key, float]:
    """What a real session counted, which pushed twice a second."""
    done = subprocess.run(
        [sys.executable, "-m", "victor_otel.demo", "--once", "--json", f"--otlp={endpoint}"],
        capture_output=True,
        text=True,
        env=environment(OTEL_METRIC_EXPORT_INTERVAL="500"),
        timeout=240,
        check=True,
    )
    return counted(json.loads(done.stdout))


@contextmanager
def process(endpoint: str, instance: str) -> Iterator[Any]:
    """A long-lived process with one counter; it pushes its totals when it is told to."""
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{endpoint}/v1/metrics"), export_interval_millis=math.inf
    )
    resource = Resource({"service.name": "victor", "service.instance.id": instance})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    counter = provider.get_meter("victor_otel").create_counter(REQUESTS.name)

    def serve(requests: int, status: str = "success") -> None:
        counter.add(requests, {"status": status})
        assert provider.force_flush()

    yield serve
    provider.shutdown()


def requests(vendor: DeltaVendor, instance: str, status: str = "success") -> float:
    labels = frozenset({("service_instance_id", instance), ("status", status)})
    return vendor.counted().get((REQUESTS.prometheus_name, labels), 0)


@pytest.mark.parametrize("name", BY_DELTAS)
def test_a_vendor_of_deltas_counts_what_a_session_counted(name: str) -> None:
    with delta_vendor() as vendor, by_deltas(vendor, name=name) as gateway:
        arrives(vendor, pushing_often(gateway.otlp_http))
    assert vendor.refused == 0


def test_a_vendor_of_deltas_counts_all_short_runs_of_all_collectors() -> None:
    with delta_vendor() as vendor:
        for collectors in (1, 2):
            with by_deltas(vendor) as gateway:
                for runs in (1, 2):
                    short_runs.play(gateway.otlp_http, 20)
                    arrives(vendor, times(2 * (collectors - 1) + runs, short_runs.expected(20)))
    assert vendor.refused == 0


def test_without_deltas_the_vendor_refuses_everything() -> None:
    with delta_vendor() as vendor, collector(environment=sending_to(vendor.url)) as gateway:
        short_runs.play(gateway.otlp_http, 3)
        with process(gateway.otlp_http, "replica") as serve:
            serve(3)
        lost = "otelcol_exporter_send_failed_metric_points"
        wait_until(lambda: len(own(gateway, lost)) == 1 and vendor.refused >= 2)
    assert vendor.points == {}


def test_prometheus_is_shown_totals_still() -> None:
    with delta_vendor() as vendor, by_deltas(vendor) as gateway:
        with process(gateway.otlp_http, "replica") as serve:
            for pushes in (1, 2, 3):
                serve(3)
                wait_until(lambda pushes=pushes: requests(vendor, "replica") == 3 * pushes)
        short_runs.play(gateway.otlp_http, 20)
        labels = frozenset({("job", "victor"), ("instance", "replica"), ("status", "success")})

        def shown() -> bool:
            found = pages(gateway)
            runs = {key: found.pop(key) for key in short_runs_alone(found)}
            assert not differences(without(runs, "job"), short_runs.expected(20))
            return found == {(REQUESTS.prometheus_name, labels): 9}

        wait_until(shown)


def test_processes_that_push_within_one_second_are_told_apart() -> None:
    names = [f"replica-{number}" for number in range(20)]
    with delta_vendor() as vendor, by_deltas(vendor) as gateway, ExitStack() as stack:
        serving = [stack.enter_context(process(gateway.otlp_http, name)) for name in names]
        for _ in range(2):
            for number, serve in enumerate(serving):
                serve(1 + number)
        counts = [2 * (1 + number) for number in range(20)]
        wait_until(lambda: [requests(vendor, name) for name in names] == counts)


def test_a_new_collector_sends_of_an_older_series_what_it_counts_from_its_first_point_on() -> None:
    (port,) = free_ports(1)
    stays = {"VICTOR_COLLECTOR_HTTP_PORT": str(port)}
    with delta_vendor() as vendor, process(f"http://{HOST}:{port}", "older") as older:
        with by_deltas(vendor, **stays):
            older(3)
            wait_until(lambda: requests(vendor, "older") == 3)
        with by_deltas(vendor, **stays), process(f"http://{HOST}:{port}", "younger") as younger:
            # The Collector cannot know what of a series the one before it has sent.
            older(5)
            # A series is as old as what it first counted.
            older(2, "failure")
            younger(11)
            wait_until(lambda: requests(vendor, "younger") == 11)
            older(7)
            wait_until(lambda: requests(vendor, "older") == 3 + 7)
            wait_until(lambda: requests(vendor, "older", "failure") == 2)


def test_each_gateway_sends_the_deltas_of_its_own_streams() -> None:
    names = [f"replica-{number}" for number in range(20)]
    with (
        delta_vendor() as vendor,
        by_deltas(vendor, GATEWAY, VICTOR_COLLECTOR_GATEWAY_NAME=NAMES[0]) as first,
        by_deltas(vendor, GATEWAY, VICTOR_COLLECTOR_GATEWAY_NAME=NAMES[1]) as second,
        agents([first, second]) as through,
        ExitStack() as stack,
    ):
        serving = [
            stack.enter_context(process(agent.otlp_http, name))
            for name, agent in zip(names, itertools.cycle(through), strict=False)
        ]
        for agent in through:
            short_runs.play(agent.otlp_http, 20)
            for serve in serving:
                serve(1)
        wait_until(lambda: [requests(vendor, name) for name in names] == [2] * 20, 60)
        replicas = {(REQUESTS.prometheus_name, frozenset({("status", "success")})): 2 * 20}
        everything = {**times(2, short_runs.expected(20)), **replicas}
        arrives(vendor, everything, "gateway")
        assert all(arrived(each) for each in (first, second))
