"""The shipped Collector: its switches, who may push to it, what it says about itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

from tests.kit.processes import run
from tests.stack.backends import sending_to
from tests.stack.collectors import (
    NAME,
    TLS,
    TOKEN,
    arrived,
    backend,
    by_exporter,
    issue,
    labels,
    own,
    points,
    post,
    shipped,
    validate,
)
from tests.stack.processes import (
    COLLECTOR_CONFIG,
    HOST,
    collector,
    exposition,
    free_ports,
    wait_until,
)
from tools.paths import COLLECTOR

pytestmark = pytest.mark.stack


def call(
    url: str,
    body: bytes,
    token: str | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> grpc.StatusCode:
    """The status that a push by gRPC gets."""
    target = url.partition("://")[2]
    channel = (
        grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    )
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with channel:
        stub: Any = MetricsServiceStub(channel)
        request = ExportMetricsServiceRequest.FromString(body)
        return stub.Export.future(request, metadata=metadata, timeout=10).code()


# --- What is documented is valid ---------------------------------------------------------------


def combinations() -> Iterator[tuple[str, ...]]:
    for role in ((), ("agent",), ("gateway",), ("kafka-agent",), ("kafka-gateway",)):
        for switches in ((), ("tls",), ("token",), ("tls", "token"), ("token", "tls")):
            yield ("config", *role, *switches)


SET = {
    "VICTOR_COLLECTOR_TLS_CERT": "/etc/victor/tls.crt",
    "VICTOR_COLLECTOR_TLS_KEY": "/etc/victor/tls.key",
    "VICTOR_COLLECTOR_TOKEN_FILE": "/run/secrets/victor-token",
    "VICTOR_COLLECTOR_GATEWAYS": "{static: {hostnames: [gateway-0:4317, gateway-1:4317]}}",
    "VICTOR_COLLECTOR_KAFKA_BROKERS": "[kafka-0:9092, kafka-1:9092]",
}


@pytest.mark.parametrize("names", combinations(), ids="+".join)
def test_every_combination_of_files_is_valid(names: Sequence[str]) -> None:
    backend = {"VICTOR_COLLECTOR_BACKEND": "otlp_http"} if "kafka-gateway" in names else {}
    assert validate(shipped(*names), **backend, **SET) == ""


@pytest.mark.parametrize("names", [("config",), ("config", "gateway", "tls", "token")])
@pytest.mark.parametrize("backend", ["otlp_http", "otlp_grpc"])
def test_every_backend_is_valid(names: Sequence[str], backend: str) -> None:
    backends = ("VICTOR_COLLECTOR_BACKEND", "VICTOR_COLLECTOR_TRACES_BACKEND")
    assert validate(shipped(*names), **dict.fromkeys(backends, backend), **SET) == ""


def test_readme_names_no_other_combinations() -> None:
    readme = (COLLECTOR / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^.*--config .*$", readme, re.MULTILINE)
    found = {tuple(re.findall(r"--config ([\w-]+)\.yaml", line)) for line in commands}
    assert found <= set(combinations())
    assert {name for names in found for name in names} == set(
        itertools.chain.from_iterable(combinations())
    )


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("config", "tls"), "must include both certificate and key"),
        (("config", "token"), "no bearer token provided"),
        (("config", "agent"), "no resolvers specified"),
        (("config", "kafka-gateway"), 'references exporter ""'),
    ],
)
def test_what_must_be_set_is_missed(names: Sequence[str], complaint: str) -> None:
    assert complaint in validate(shipped(*names))


# --- Who may push ------------------------------------------------------------------------------


def test_without_switches_it_listens_on_loopback_alone() -> None:
    with collector() as gateway:
        listening = {
            connection.laddr
            for connection in psutil.Process(gateway.process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert {address.ip for address in listening} == {HOST}
        urls = (
            gateway.otlp_grpc,
            gateway.otlp_http,
            gateway.long_metrics,
            gateway.short_metrics,
            gateway.telemetry,
            gateway.health,
        )
        assert {address.port for address in listening} == {httpx.URL(url).port for url in urls}


def test_a_token_is_asked_for_on_both_protocols(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("right\n")
    variables = {"VICTOR_COLLECTOR_TOKEN_FILE": str(secret)}
    with collector(COLLECTOR_CONFIG, TOKEN, environment=variables) as gateway:
        for token in (None, "wrong", "rightly"):
            assert post(gateway.otlp_http, points(), token) == 401
        for token in (None, "wrong"):
            status = call(gateway.otlp_grpc, points(), token)
            assert status is grpc.StatusCode.UNAUTHENTICATED
        assert exposition(gateway.long_metrics) == {}

        assert post(gateway.otlp_http, points(), "right") == 200
        assert call(gateway.otlp_grpc, points(), "right") is grpc.StatusCode.OK
        assert arrived(gateway) == 2


def test_tokens_change_without_a_restart(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("old\n")
    variables = {"VICTOR_COLLECTOR_TOKEN_FILE": str(secret)}
    with collector(COLLECTOR_CONFIG, TOKEN, environment=variables) as gateway:

        def statuses() -> list[int]:
            return [post(gateway.otlp_http, points(), token) for token in ("old", "new")]

        assert statuses() == [200, 401]
        for content, expected in (("old\nnew\n", [200, 200]), ("new\n", [401, 200])):
            # Renamed into place, as whoever manages secrets does.
            changed = tmp_path / "changed"
            changed.write_text(content)
            changed.rename(secret)
            wait_until(lambda expected=expected: statuses() == expected)


def test_a_missing_or_empty_file_of_tokens_lets_nobody_in(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    variables = {"VICTOR_COLLECTOR_TOKEN_FILE": str(secret)}
    for create in (lambda: None, secret.touch):
        create()
        with (
            pytest.raises(RuntimeError, match="died before it was ready") as raised,
            collector(COLLECTOR_CONFIG, TOKEN, environment=variables),
        ):
            pass
        assert "failed to start extensions" in raised.value.__notes__[0]


def secure(url: str) -> str:
    return url.replace("http://", "https://")


def test_tls_is_all_that_both_protocols_speak(tmp_path: Path) -> None:
    ours, others = issue(tmp_path / "ours"), issue(tmp_path / "others")
    with collector(COLLECTOR_CONFIG, TLS, environment=ours.variables) as gateway:
        assert post(gateway.otlp_http, points()) == 400
        assert call(gateway.otlp_grpc, points()) is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            post(secure(gateway.otlp_http), points(), tls=others.trusting())
        status = call(gateway.otlp_grpc, points(), credentials=others.credentials())
        assert status is grpc.StatusCode.UNAVAILABLE
        assert exposition(gateway.long_metrics) == {}

        assert post(secure(gateway.otlp_http), points(), tls=ours.trusting()) == 200
        status = call(gateway.otlp_grpc, points(), credentials=ours.credentials())
        assert status is grpc.StatusCode.OK
        assert arrived(gateway) == 2


def test_clients_without_a_certificate_are_turned_away_where_one_is_asked_for(
    tmp_path: Path,
) -> None:
    ours = issue(tmp_path / "ours")
    variables = {**ours.variables, "VICTOR_COLLECTOR_TLS_CLIENT_CA": str(ours.ca)}
    with collector(COLLECTOR_CONFIG, TLS, environment=variables) as gateway:
        with pytest.raises(httpx.TransportError):
            post(secure(gateway.otlp_http), points(), tls=ours.trusting())
        status = call(gateway.otlp_grpc, points(), credentials=ours.credentials())
        assert status is grpc.StatusCode.UNAVAILABLE
        assert exposition(gateway.long_metrics) == {}

        assert post(secure(gateway.otlp_http), points(), tls=ours.trusting(client=True)) == 200
        status = call(gateway.otlp_grpc, points(), credentials=ours.credentials(client=True))
        assert status is grpc.StatusCode.OK


VICTOR = f"""
    import victor_otel
    from victor_otel import custom
    victor_otel.start()
    custom.counter("{NAME}", "Pushed").add(3)
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_our_own_pipeline_pushes_with_tls_and_token(protocol: str, tmp_path: Path) -> None:
    ours = issue(tmp_path / "ours")
    secret = tmp_path / "token"
    secret.write_text("right\n")
    variables = {**ours.variables, "VICTOR_COLLECTOR_TOKEN_FILE": str(secret)}
    with collector(COLLECTOR_CONFIG, TLS, TOKEN, environment=variables) as gateway:
        run(
            VICTOR,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=secure(
                gateway.otlp_grpc if protocol == "grpc" else gateway.otlp_http
            ),
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(ours.ca),
            # They win over it, by HTTP.
            REQUESTS_CA_BUNDLE="",
            CURL_CA_BUNDLE="",
            OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20right",
            VICTOR_OTEL_EXIT_TIMEOUT="10",
        )

        def shown() -> list[float]:
            found = exposition(gateway.long_metrics)
            return [value for (name, _), value in found.items() if name == f"{NAME}_total"]

        assert wait_until(shown) == [3]


@pytest.mark.parametrize("megabytes", [5, 15])
def test_a_large_push_is_taken_by_grpc_as_by_http(megabytes: int) -> None:
    body = points(100, padding=megabytes * 10_000)
    with collector() as gateway:
        assert post(gateway.otlp_http, body) == 200
        assert call(gateway.otlp_grpc, body) is grpc.StatusCode.OK


# --- Where it sends to -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "logged"), [(200, "ready"), (400, "Dropping data"), (503, "Will retry")]
)
def test_headers_for_the_backend_come_from_a_file_and_are_in_no_log(
    status: int, logged: str, tmp_path: Path
) -> None:
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer s3cr3t\n")
    headers = "${file:" + str(secret) + "}"
    with backend(status) as answering:
        variables = sending_to(answering.url, VICTOR_COLLECTOR_BACKEND_HEADERS=headers)
        with collector(environment=variables) as gateway:
            assert post(gateway.otlp_http, points()) == 200
            wait_until(lambda: answering.authorizations and logged in gateway.log.read_text())
            assert "s3cr3t" not in gateway.log.read_text()
    assert set(answering.authorizations) == {"Bearer s3cr3t"}


# --- What it says about itself -----------------------------------------------------------------


OTLP = {"receiver": "otlp", "transport": "http"}


def test_its_own_numbers_count_what_comes_in() -> None:
    with collector() as gateway:
        assert own(gateway, "otelcol_deltatocumulative_streams_tracked") == {labels(): 0}
        assert own(gateway, "otelcol_deltatocumulative_streams_limit") == {labels(): 50_000}
        assert post(gateway.otlp_http, points(2)) == 200
        assert post(gateway.otlp_http, points(3, lifetime="short")) == 200

        wait_until(lambda: own(gateway, "otelcol_deltatocumulative_datapoints") == {labels(): 3})
        for name, expected in {
            "otelcol_receiver_accepted_metric_points": {labels(**OTLP): 5},
            "otelcol_receiver_refused_metric_points": {labels(**OTLP): 0},
            "otelcol_processor_refused_metric_points": {},
            "otelcol_exporter_queue_size": {},
            "otelcol_exporter_send_failed_metric_points": {},
            "otelcol_exporter_enqueue_failed_metric_points": {},
            "otelcol_deltatocumulative_streams_tracked": {labels(): 3},
        }.items():
            assert own(gateway, name) == expected, name


def test_its_own_numbers_count_what_it_has_no_memory_for() -> None:
    limits = ("limit_mib=20", "spike_limit_mib=19")
    settings = [f"processors::memory_limiter::{limit}" for limit in limits]
    with collector(settings=settings) as gateway:
        # It looks once a second.
        wait_until(lambda: post(gateway.otlp_http, points()) == 503)
        assert own(gateway, "otelcol_receiver_refused_metric_points") == {labels(**OTLP): 1}
        assert own(gateway, "otelcol_processor_refused_metric_points") == {
            labels(processor="memory_limiter"): 1
        }


def test_its_own_numbers_count_streams_that_are_too_many() -> None:
    with collector(settings=["processors::deltatocumulative/short::max_streams=2"]) as gateway:
        assert post(gateway.otlp_http, points(5, lifetime="short")) == 200
        expected = {labels(): 2, labels(error="limit"): 3}
        wait_until(lambda: own(gateway, "otelcol_deltatocumulative_datapoints") == expected)
        assert own(gateway, "otelcol_deltatocumulative_streams_tracked") == {labels(): 2}


def test_its_own_numbers_count_what_waits_for_the_backend_and_what_finds_no_room() -> None:
    (nobody,) = free_ports(1)
    with collector(
        environment=sending_to(f"http://{HOST}:{nobody}"),
        settings=["exporters::otlp_http::sending_queue::queue_size=2"],
    ) as gateway:
        for size, lost in ((1, {}), (2, {}), (2, {"otlp_http": 1}), (2, {"otlp_http": 2})):
            assert post(gateway.otlp_http, points()) == 200

            def state() -> tuple[dict[str, float], dict[str, float]]:
                return (
                    by_exporter(own(gateway, "otelcol_exporter_queue_size")),
                    by_exporter(own(gateway, "otelcol_exporter_enqueue_failed_metric_points")),
                )

            wait_until(lambda size=size, lost=lost: state() == ({"otlp_http": size}, lost))
        capacity = by_exporter(own(gateway, "otelcol_exporter_queue_capacity"))
        assert capacity == {"otlp_http": 2}


def test_its_own_numbers_count_what_the_backend_refuses_for_good() -> None:
    with backend(400) as answering, collector(environment=sending_to(answering.url)) as gateway:
        assert post(gateway.otlp_http, points(4)) == 200
        wait_until(
            lambda: (
                by_exporter(own(gateway, "otelcol_exporter_send_failed_metric_points"))
                == {"otlp_http": 4}
            )
        )
