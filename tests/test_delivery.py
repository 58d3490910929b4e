"""What is said of exports that fail: what, where, why, how often, what is lost, and once."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from tests.kit.otlp import Backend, http, rpc
from tests.kit.processes import free_port
from victor_otel.engine.health import Health
from victor_otel.model.metric import Counter
from victor_otel.signals import pipeline
from victor_otel.signals.pipeline import Pipeline

METRICS = [Counter(f"victor.m{n}", "One") for n in range(3)]
SECRET = "token-5f0c"
COUNTED = "Further failures are only counted (victor_otel_exports_dropped_total)."
KEPT = f"nothing is lost, totals follow with the next export. {COUNTED}"
PROTOCOLS = {"http": http, "grpc": rpc}


@contextmanager
def refusing(_: object = None) -> Iterator[Backend]:
    yield Backend(None, free_port())


@contextmanager
def silent_http() -> Iterator[Backend]:
    with http() as backend:
        backend.release.clear()
        yield backend


@contextmanager
def silent_grpc() -> Iterator[Backend]:
    with rpc() as backend:
        backend.release.clear()
        yield backend


def export(built: Pipeline) -> None:
    for outlet in built.outlets:
        outlet.export()


Open = Callable[[], AbstractContextManager[Backend]]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pipeline]]:
    """Makes the pipeline of an environment, with 3 data points in it."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)

    def connect(url: str, protocol: str = "http", **environ: str) -> Pipeline:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_PROTOCOL", {"http": "http/protobuf"}.get(protocol, protocol)
        )
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        built = pipeline.connect(Health())
        assert isinstance(built.recorder._provider, MeterProvider)
        for metric in METRICS:
            built.recorder(metric)
        made.append(built)
        return built

    made: list[Pipeline] = []
    yield connect
    for built in made:  # no export goes on into the next test
        for outlet in built.outlets:
            followed: Any = outlet.followed
            followed.shutdown()
            outlet.begin().wait(10)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every line that anybody has logged, with durations left out."""
    lines = [re.sub(r"in [\d.]+ s", "in ... s", record.getMessage()) for record in caplog.records]
    caplog.clear()
    return lines


HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("protocol", "backend", "why"),
    [
        ("http", refusing, rf"connection refused \(2 tries in ... s, {TIMEOUT}\)"),
        ("http", silent_http, rf"no answer in time \(1 try in ... s, {TIMEOUT}\)"),
        ("http", lambda: http(401), rf"401 Unauthorized \(1 try in ... s, {HEADERS}\)"),
        ("http", lambda: http(403), rf"403 Forbidden \(1 try in ... s, {HEADERS}\)"),
        ("http", lambda: http(404), rf"404 Not Found \(1 try in ... s, {ENDPOINT}\)"),
        ("http", lambda: http(302), rf"302 Found \(1 try in ... s, {ENDPOINT}\)"),
        ("http", lambda: http(400), rf"400 Bad Request \(1 try in ... s, {ENDPOINT}\)"),
        ("http", lambda: http(503), rf"503 Service Unavailable \(1 try in ... s, {TIMEOUT}\)"),
        ("http", rpc, r"it does not speak HTTP \(2 tries in ... s, OTEL_EXPORTER_OTLP_PROTOCOL\)"),
        ("grpc", refusing, rf"UNAVAILABLE, connection refused \(1 try in ... s, {TIMEOUT}\)"),
        (
            "grpc",
            silent_grpc,
            rf"DEADLINE_EXCEEDED, no answer in time \(1 try in ... s, {TIMEOUT}\)",
        ),
        ("grpc", lambda: rpc("UNAUTHENTICATED"), rf"UNAUTHENTICATED \(1 try in ... s, {HEADERS}\)"),
        (
            "grpc",
            lambda: rpc("INVALID_ARGUMENT"),
            rf"INVALID_ARGUMENT \(1 try in ... s, {ENDPOINT}\)",
        ),
        ("grpc", lambda: rpc(metrics=False), rf"UNIMPLEMENTED \(1 try in ... s, {ENDPOINT}\)"),
        (
            "grpc",
            http,
            r"UNAVAILABLE, it does not speak gRPC \(1 try in ... s, OTEL_EXPORTER_OTLP_PROTOCOL\)",
        ),
    ],
)
def test_an_export_that_fails_is_one_line_with_where_and_why(
    connected: Callable[..., Pipeline],
    caplog: pytest.LogCaptureFixture,
    protocol: str,
    backend: Open,
    why: str,
) -> None:
    with backend() as there:
        url = f"http://127.0.0.1:{there.port}"
        pipe = connected(url, protocol)
        caplog.set_level(logging.INFO)
        export(pipe)
        shown = url + ("/v1/metrics" if protocol == "http" else "")
        (line,) = said(caplog)
        assert re.fullmatch(
            rf"victor-otel: could not deliver to {shown}: {why}; {re.escape(KEPT)}", line
        ), line
        export(pipe)  # further ones are silent
        assert said(caplog) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_end_of_an_outage_is_one_line_too(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    refused, fine = {"http": (401, 200), "grpc": ("UNAUTHENTICATED", "OK")}[protocol]
    with PROTOCOLS[protocol]() as backend:
        url = f"http://127.0.0.1:{backend.port}"
        pipe = connected(url, protocol)
        shown = url + ("/v1/metrics" if protocol == "http" else "")
        again = f"victor-otel: delivers to {shown} again after"
        for failed, times in ((2, "2 failed exports"), (1, "1 failed export")):
            backend.answer = refused
            for _ in range(failed):
                export(pipe)
            assert len(said(caplog)) == 1
            backend.answer = fine
            export(pipe)
            export(pipe)
            assert said(caplog) == [f"{again} {times} in ... s; nothing is lost."]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_deltas_that_do_not_arrive_are_lost_and_counted(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    refused, fine = {"http": (401, 200), "grpc": ("UNAUTHENTICATED", "OK")}[protocol]
    with PROTOCOLS[protocol](refused) as backend:
        pipe = connected(
            f"http://127.0.0.1:{backend.port}",
            protocol,
            OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
        )
        export(pipe)
        (line,) = said(caplog)
        assert line.endswith(f"; 3 data points lost. {COUNTED}")
        pipe.recorder(METRICS[0])
        export(pipe)
        backend.answer = fine
        pipe.recorder(METRICS[0])
        export(pipe)
        (line,) = said(caplog)
        assert line.endswith("again after 2 failed exports in ... s; 6 data points lost.")


def test_deltas_that_the_backend_refuses_are_explained(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture
) -> None:
    with http(500) as backend:
        pipe = connected(
            f"http://127.0.0.1:{backend.port}/api/v1/otlp", VICTOR_OTEL_LIFETIME="short"
        )
        said(caplog)
        assert not pipe.flush()
    (line,) = said(caplog)
    assert line == (
        "victor-otel: could not deliver the last metrics to "
        f"http://127.0.0.1:{backend.port}/api/v1/otlp/v1/metrics: 500 Internal Server Error "
        f"(1 try in ... s, {ENDPOINT}); 3 data points lost. Deltas need a Collector that "
        "accumulates (ours, collector/config.yaml): Prometheus's own OTLP receiver stores none."
    )


@pytest.mark.parametrize(
    ("protocol", "backend", "why"),
    [
        ("http", refusing, r"connection refused \(\d tries in ... s, {}\); 3 data points lost"),
        ("http", silent_http, r"no answer \(1 try in ... s, {}\); 3 data points may be lost"),
        (
            "grpc",
            refusing,
            r"UNAVAILABLE, connection refused \(1 try in ... s, {}\); 3 data points lost",
        ),
        ("grpc", silent_grpc, r"no answer \(1 try in ... s, {}\); 3 data points may be lost"),
    ],
)
def test_the_exit_is_one_line_with_its_bound(
    connected: Callable[..., Pipeline],
    caplog: pytest.LogCaptureFixture,
    protocol: str,
    backend: Open,
    why: str,
) -> None:
    with backend() as there:
        url = f"http://127.0.0.1:{there.port}"
        pipe = connected(
            url, protocol, OTEL_EXPORTER_OTLP_TIMEOUT="10", VICTOR_OTEL_EXIT_TIMEOUT="0.3"
        )
        assert not pipe.flush()
        assert not pipe.flush()  # as a server does, whose process then ends as well
        shown = url + ("/v1/metrics" if protocol == "http" else "")
        (line,) = said(caplog)
        why = why.format("VICTOR_OTEL_EXIT_TIMEOUT")
        line_wanted = rf"victor-otel: could not deliver the last metrics to {shown}: {why}\."
        assert re.fullmatch(line_wanted, line), line


def test_an_export_that_the_exit_cut_off_and_that_arrived_is_said_to_have_done_so(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture
) -> None:
    with silent_http() as backend:
        url = f"http://127.0.0.1:{backend.port}"
        pipe = connected(url, OTEL_EXPORTER_OTLP_TIMEOUT="10", VICTOR_OTEL_EXIT_TIMEOUT="0.1")
        assert not pipe.flush()
        assert "may be lost" in said(caplog)[0]
        backend.release.set()
        (outlet,) = pipe.outlets
        assert outlet.begin().wait(10)
    assert said(caplog) == [
        f"victor-otel: the last metrics have reached {url}/v1/metrics after all."
    ]


def test_totals_that_were_to_follow_are_lost_at_the_exit(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture
) -> None:
    with http(401) as backend:
        pipe = connected(f"http://127.0.0.1:{backend.port}")
        export(pipe)
        pipe.flush()
    first, last = said(caplog)
    assert "nothing is lost" in first
    assert last.endswith(f"401 Unauthorized (1 try in ... s, {HEADERS}); 3 data points lost.")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_that_is_not_trusted_is_said_and_with_its_authority_all_is_well(
    connected: Callable[..., Pipeline],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    protocol: str,
) -> None:
    with PROTOCOLS[protocol](authority=tmp_path / "ca.pem") as backend:
        url = f"https://127.0.0.1:{backend.port}"
        export(connected(url, protocol))
        (line,) = said(caplog)
        assert "TLS: its certificate is not trusted (" in line
        assert "s, OTEL_EXPORTER_OTLP_CERTIFICATE);" in line
        trusted = connected(url, protocol, OTEL_EXPORTER_OTLP_CERTIFICATE=str(tmp_path / "ca.pem"))
        export(trusted)
        assert said(caplog) == []
        assert len(backend.requests) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_line_has_a_secret(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    answer = {"http": 401, "grpc": "UNAUTHENTICATED"}[protocol]
    with PROTOCOLS[protocol](answer) as backend:
        pipe = connected(
            f"http://127.0.0.1:{backend.port}",
            protocol,
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{SECRET}",
        )
        export(pipe)
        pipe.flush()
        assert SECRET in str(backend.headers)
    text = "\n".join(said(caplog))
    assert text.count("could not deliver") == 2
    assert SECRET not in text
    assert "secret words" not in text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_line_has_what_is_secret_in_a_url(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    pipe = connected(f"http://me:{SECRET}@127.0.0.1:{free_port()}/{SECRET}?key={SECRET}", protocol)
    export(pipe)
    pipe.flush()
    text = "\n".join(said(caplog))
    assert text.count("could not deliver") == 2
    assert "http://127.0.0.1:" in text
    assert SECRET not in text


def test_an_exporter_of_the_application_goes_on_to_say_what_it_says(
    connected: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricsData

    with http(401) as backend:
        pipe = connected(f"http://127.0.0.1:{backend.port}")
        export(pipe)
        said(caplog)
        OTLPMetricExporter().export(MetricsData(resource_metrics=[]))
    assert said(caplog) == ["Failed to export metrics batch code: 401, reason: Unauthorized"]
