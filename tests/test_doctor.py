"""What the doctor finds, and that it starts nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.processes import environment, free_port
from victor_otel import doctor, instrumentation
from victor_otel.cli import app
from victor_otel.supported import TESTED


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing, and a Victor of which nothing is imported here."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "VICTOR_OTEL_", "VICTOR_PROMETHEUS_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(doctor, "_import", lambda _: None)
    installed(monkeypatch, "0.9.5")


def installed(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Makes `version` of Victor the one that is installed."""
    real = doctor.installed
    monkeypatch.setattr(
        doctor, "installed", lambda name: version if name == "victor-ai" else real(name)
    )


def diagnose() -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    return done.exit_code, json.loads(done.stdout)


def found(check: str, code: int | None = None) -> list[tuple[str, str]]:
    """Status and detail of a check's findings; no pipeline came up meanwhile."""
    exit_code, report = diagnose()
    on = instrumentation.current()
    assert on is not None
    assert on.pipeline is None
    assert exit_code == (0 if report["healthy"] else 1)
    if code is not None:
        assert exit_code == code
    return [(f["status"], f["detail"]) for f in report["findings"] if f["check"] == check]


@contextmanager
def serving(status: int = 200, body: bytes = b"") -> Iterator[int]:
    """An HTTP server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def babbling() -> Iterator[int]:
    """A server that speaks no HTTP, as gRPC's or a database's."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00 hello\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


# Reports


def test_a_healthy_environment_ends_well_in_text_and_json() -> None:
    text = CliRunner().invoke(app, ["doctor"])
    assert text.exit_code == 0
    assert "victor-ai 0.9.5 is supported" in text.stdout
    code, report = diagnose()
    assert code == 0
    assert report["healthy"] is True
    assert set(report) == {"healthy", "versions", "hooks", "findings"}
    assert set(report["hooks"].values()) <= {"bound", "waiting"}
    assert all(set(f) == {"check", "status", "detail", "advice"} for f in report["findings"])


def test_findings_with_brackets_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    text = CliRunner().invoke(app, ["doctor"])
    assert text.exit_code == 1
    assert 'pip install "victor-otel[instruments]"' in text.stdout


def test_a_missing_victor_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    assert found("versions", 1) == [("problem", "victor-ai is not installed in this environment")]


@pytest.mark.parametrize("version", ["0.9.4", "1.0", "1.2.3"])
def test_an_unsupported_victor_is_a_warning(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    installed(monkeypatch, version)
    ((status, detail),) = found("versions", 0)
    assert status == "warning"
    assert version in detail


@pytest.mark.parametrize("version", ["0.9.5", "0.9.6rc1", "0.10.0", "0.17.0"])
def test_a_supported_victor_is_fine(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    installed(monkeypatch, version)
    assert [status for status, _ in found("versions", 0)] == ["ok"]


def test_a_victor_newer_than_the_last_tested_one_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "0.99.0")
    assert found("versions", 0) == [
        ("warning", f"victor-ai 0.99.0 is newer than the last tested release {TESTED[-1]}")
    ]


def test_a_missing_dependency_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("victor-ai", "no-such-package"))
    assert found("versions", 1)[0] == ("problem", "no-such-package is not installed")


def test_a_function_that_victor_lacks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: Any) -> None:
        self.health.hooks["victor.none:gone"] = "missing"
        self.health.hooks["victor.some:there"] = "bound"

    monkeypatch.setattr(instrumentation.Instrumentation, "bind", bind)
    ((status, detail),) = found("hooks", 1)
    assert status == "problem"
    assert detail == "1 bound, 0 waiting, 1 missing: victor.none:gone"


def test_a_lost_entry_point_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [])
    assert [status for status, _ in found("plugin", 1)] == ["problem"]


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("torn")

    monkeypatch.setattr(importlib.metadata, "entry_points", broken)
    assert found("switched on", 1) == [("problem", "RuntimeError: torn")]
    assert [status for status, _ in found("hooks")] == ["ok"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VICTOR_PROMETHEUS_ENABLED", "perhaps"),
        ("VICTOR_PROMETHEUS_PORT", "70000"),
        ("VICTOR_OTEL_LIFETIME", "eternal"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("VICTOR_OTEL_EXIT_TIMEOUT", "soon"),
    ],
)
def test_a_setting_that_means_nothing_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus,otlp")
    monkeypatch.setenv(name, value)
    ((status, detail),) = found("settings", 1)
    assert status == "problem"
    assert name in detail
    assert repr(value) in detail


def test_no_exporter_is_a_warning() -> None:
    assert [status for status, _ in found("exporters", 0)] == ["warning"]


# The endpoint


def test_a_free_port_is_fine_and_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", str(port))
    ((status, detail),) = found("prometheus", 0)
    assert (status, str(port) in detail) == ("ok", True)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_port_0_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", "0")
    assert [status for status, _ in found("prometheus", 0)] == ["ok"]


def test_a_port_that_another_program_serves_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    with serving(body=b"go_goroutines 8\n") as port:
        monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", str(port))
        ((status, detail),) = found("prometheus", 1)
    assert (status, f"127.0.0.1:{port} cannot be served" in detail) == ("problem", True)


def test_a_port_that_a_program_without_http_holds_is_the_same_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    with babbling() as port:
        monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", str(port))
        ((status, detail),) = found("prometheus", 1)
    assert (status, f"127.0.0.1:{port} cannot be served" in detail) == ("problem", True)


def test_a_port_that_a_victor_process_serves_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    with serving(body=b'victor_otel_build_info{version="1"} 1\n') as port:
        monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", str(port))
        ((status, detail),) = found("prometheus", 0)
    assert (status, "a Victor process serves" in detail) == ("ok", True)


def test_an_address_of_another_machine_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TIMEOUT", 0.2)
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_HOST", "192.0.2.1")
    assert [status for status, _ in found("prometheus", 1)] == ["problem"]


def test_an_address_of_version_6_is_tried_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_HOST", "::1")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", str(free_port()))
    assert [status for status, _ in found("prometheus", 0)] == ["ok"]


# The push


def push_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)


def test_a_receiver_that_answers_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        ((status, detail),) = found("otlp", 0)
    assert status == "ok"
    assert detail == f"http://127.0.0.1:{port}/v1/metrics answers (http/protobuf)"


def test_a_receiver_that_wants_credentials_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(401) as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        assert [status for status, _ in found("otlp", 0)] == ["ok"]


@pytest.mark.parametrize("status", [404, 500])
def test_a_receiver_that_refuses_is_a_problem(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with serving(status) as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}/api/v1/otlp")
        ((found_status, detail),) = found("otlp", 1)
    assert found_status == "problem"
    assert f"answers {status}" in detail


def test_a_receiver_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    push_to(monkeypatch, f"http://127.0.0.1:{free_port()}")
    ((status, detail),) = found("otlp", 1)
    assert (status, "refused" in detail) == ("problem", True)


def test_a_receiver_of_the_other_protocol_is_a_problem_with_the_advice_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with babbling() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        _, report = diagnose()
    (finding,) = (f for f in report["findings"] if f["check"] == "otlp")
    assert finding["status"] == "problem"
    assert "4317 grpc" in finding["advice"]


def test_grpc_is_asked_by_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with babbling() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        assert [status for status, _ in found("otlp", 0)] == ["ok"]
    push_to(monkeypatch, f"127.0.0.1:{free_port()}")
    assert [status for status, _ in found("otlp", 1)] == ["problem"]


# Lifetimes


@pytest.mark.parametrize("lifetime", ["short", "auto"])
def test_short_processes_with_cumulative_series_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, lifetime: str
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_LIFETIME", lifetime)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "CUMULATIVE")
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        assert [status for status, _ in found("lifetime", 0)] == ["warning"]


def test_short_processes_that_push_deltas_to_prometheus_are_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_LIFETIME", "short")
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}/api/v1/otlp")
        assert [status for status, _ in found("lifetime", 1)] == ["problem"]


@pytest.mark.parametrize(("lifetime", "status"), [("short", "problem"), ("auto", "warning")])
def test_short_processes_that_only_serve_are_told_to_push(
    monkeypatch: pytest.MonkeyPatch, lifetime: str, status: str
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_LIFETIME", lifetime)
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", "0")
    assert [one for one, _ in found("lifetime")] == [status]


@pytest.mark.parametrize("lifetime", ["short", "auto", "long"])
def test_pushing_to_a_collector_suits_every_lifetime(
    monkeypatch: pytest.MonkeyPatch, lifetime: str
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_LIFETIME", lifetime)
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        assert found("lifetime", 0) == []


# The real thing


REAL = """
import json, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from victor_otel.doctor import examine
before = set(sys.modules)
if "--own-provider" in sys.argv:
    metrics.set_meter_provider(MeterProvider())
report = examine()
from victor_otel import instrumentation
print(json.dumps(report.as_dict() | {"pipeline": instrumentation.current().pipeline is not None}))
"""


def test_on_the_installed_victor_nothing_is_missing_and_nothing_is_started(tmp_path: Path) -> None:
    folder = f".victor-otel-test-{secrets.token_hex(4)}"
    try:
        done = subprocess.run(
            [sys.executable, "-c", REAL, "--own-provider"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(VICTOR_DIR_NAME=folder, VICTOR_PROMETHEUS_ENABLED="true"),
            timeout=120,
            check=True,
        )
    finally:
        shutil.rmtree(Path.home() / folder, ignore_errors=True)
    report = json.loads(done.stdout.splitlines()[-1])
    hooks = list(report["hooks"].values())
    assert hooks.count("missing") == 0
    assert hooks.count("bound") > 40
    assert report["pipeline"] is False
    details = {f["check"]: f["detail"] for f in report["findings"]}
    assert details["meter provider"].startswith("the application's: opentelemetry.sdk.metrics")
