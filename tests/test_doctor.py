"""What the doctor finds, in which order, and that it starts nothing."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
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
import trustme
from rich.console import Console
from typer.testing import CliRunner

from tests.kit.otlp import http, rpc
from tests.kit.processes import answer, environment, free_port
from tests.kit.web_config import Folder, hashed
from tests.reliability.scrapers import serving as serving_metrics
from tools.paths import ROOT
from victor_otel import doctor, instrumentation
from victor_otel.cli import app
from victor_otel.diagnosis import Diagnosis
from victor_otel.doctor import Finding, Report
from victor_otel.model.rows import Binds, Target
from victor_otel.runtime import RUNTIME
from victor_otel.victor import catalog, source
from victor_otel.victor.supported import INSTALL, TESTED

READ = source.state


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing, and a Victor, of any version, that lacks nothing."""
    for name in list(os.environ):
        # The library beneath the exporter of HTTP prefers the bundles to OpenTelemetry's variables.
        if name.startswith(("OTEL_", "VICTOR_")) or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(doctor, "_import", lambda _: None)
    monkeypatch.setattr(source, "state", lambda _: "found")
    installed(monkeypatch, "0.9.5")


def installed(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Makes `version` of Victor the one that is installed."""
    real = doctor.installed
    monkeypatch.setattr(
        doctor, "installed", lambda name: version if name == "victor-ai" else real(name)
    )


def diagnose(*options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", "--json", *options])
    return done.exit_code, json.loads(done.stdout)


def found(check: str, code: int | None = None, *options: str) -> list[tuple[str, str]]:
    """Status and detail of a check's findings; no pipeline came up meanwhile."""
    exit_code, report = diagnose(*options)
    on = RUNTIME.instrumentation
    assert (on is not None) == ("--verbose" in options)
    assert on is None or on.pipeline is None
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
    assert set(report["hooks"].values()) <= {"found", "waiting"}
    _, report = diagnose("--verbose")
    assert set(report["hooks"].values()) <= {"bound", "waiting"}


def test_keys_of_json_are_those_of_the_documentation() -> None:
    _, report = diagnose()
    assert list(report) == ["healthy", "versions", "hooks", "findings"]
    keys = ["check", "status", "detail", "why", "command"]
    assert all(list(finding) == keys for finding in report["findings"])
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    for key in (*report, *keys):
        assert f"| `{key}` |" in page


def test_problems_come_first_then_warnings_each_with_why_and_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "0.99.0")
    push_to(monkeypatch, f"http://127.0.0.1:{free_port()}")
    _, report = diagnose()
    statuses = [finding["status"] for finding in report["findings"]]
    assert statuses[:2] == ["problem", "warning"]
    assert set(statuses[2:]) == {"ok"}
    for finding in report["findings"]:
        assert finding["status"] == "ok" or (finding["why"] and finding["command"])
    lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:6]] == [
        "problem  otlp",
        "         why",
        "         mend",
        "warning  versions",
        "         why",
        "         mend",
    ]
    assert not [line for line in lines if " found" in line and "victor." in line]
    assert lines[-1] == f"1 problem, 1 warning, {len(statuses) - 2} ok"


def test_the_functions_are_listed_when_asked_for() -> None:
    text = CliRunner().invoke(app, ["doctor", "--verbose"]).stdout
    assert re.search(r"^(bound|waiting) +victor\.tools\.registry:", text, re.MULTILINE)
    assert re.search(r"^opentelemetry-sdk +\d", text, re.MULTILINE)


@pytest.mark.parametrize("colours", [True, False])
def test_it_fits_80_columns_and_cuts_no_command_off(*, colours: bool) -> None:
    command = "export OTEL_EXPORTER_OTLP_ENDPOINT=http://a-host-of-a-name-that-is-long.example:4318"
    finding = Finding(
        check="otlp", status="problem", detail="far " * 40, why="since " * 30, command=command
    )
    console = Console(
        file=io.StringIO(), force_terminal=True, width=80, no_color=not colours, highlight=False
    )
    console.print(Diagnosis(report=Report(findings=[finding])), soft_wrap=True)
    drawn = console.file.getvalue()
    assert ("\x1b[31m" in drawn) is colours
    lines = re.sub(r"\x1b\[[\d;]*m", "", drawn).splitlines()
    assert f"         mend: {command}" in lines
    assert all(len(line) <= 80 for line in lines if command not in line)
    assert " ".join("".join(lines).split()).count("far") == 40


def test_a_pipe_gets_each_finding_in_one_line() -> None:
    console = Console(file=io.StringIO(), width=80)
    detail = "far " * 39 + "away"
    finding = Finding(check="otlp", status="problem", detail=detail, why="x", command="y")
    console.print(Diagnosis(report=Report(findings=[finding])), soft_wrap=True)
    assert console.file.getvalue().splitlines()[0] == f"problem  otlp: {detail}"


def test_nothing_of_victor_is_imported_to_know_what_is_missing(tmp_path: Path) -> None:
    """Importing Victor takes several seconds; reading it does not."""
    program = """
import json, sys
from victor_otel.doctor import examine
report = examine()
print(json.dumps([len(report.hooks), sorted(m for m in sys.modules if m.split(".")[0] == "victor")]))
"""
    hooks, imported = answer(program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert hooks > 100
    assert imported == []


def test_findings_with_brackets_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    text = CliRunner().invoke(app, ["doctor"])
    assert text.exit_code == 1
    assert INSTALL in text.stdout


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


def test_a_function_that_cannot_be_wrapped_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: Any) -> None:
        self.health.hooks["victor.none:gone"] = "missing"
        self.health.hooks["victor.some:there"] = "bound"

    monkeypatch.setattr(instrumentation.Instrumentation, "_bind", bind)
    ((status, detail),) = found("hooks", 1, "--verbose")
    assert status == "problem"
    assert detail == "1 bound, 0 waiting, 1 missing: victor.none:gone"


def test_a_function_that_victors_source_lacks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Binds(Target(f"victor.agent.orchestrator:AgentOrchestrator.{name}"), opens=True)
        for name in ("shutdown", "gone")
    ]
    monkeypatch.setattr(catalog, "WRAPPED", rows)
    monkeypatch.setattr(source, "state", READ)
    assert found("hooks", 1) == [
        ("problem", f"2 found, 0 waiting, 1 missing: {rows[1].target.path}"),
    ]


def test_a_lost_entry_point_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [])
    assert [status for status, _ in found("plugin", 1)] == ["problem"]


def test_a_check_that_breaks_is_a_problem_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("torn")

    monkeypatch.setattr(importlib.metadata, "entry_points", broken)
    assert found("plugin", 1) == [("problem", "RuntimeError")]
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
    assert value not in detail


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


def test_a_web_configuration_that_is_wrong_is_a_problem_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_users: {prometheus: secret}")
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_WEB_CONFIG_FILE", str(tmp_path / "web.yml"))
    ((status, detail),) = found("prometheus", 1)
    assert status == "problem"
    assert "VICTOR_PROMETHEUS_WEB_CONFIG_FILE: " in detail
    assert "basic_auth_users.prometheus is no bcrypt hash" in detail
    assert "secret" not in detail


@pytest.mark.parametrize("kind", ["password", "TLS and password", "client certificate"])
def test_a_victor_process_that_shows_its_page_to_nobody_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    folder = Folder(tmp_path, trustme.CA())
    config = {
        "password": lambda: folder.write({"prometheus": hashed()}, tls=False),
        "TLS and password": lambda: folder.write({"prometheus": hashed()}),
        "client certificate": lambda: folder.write(
            client_auth_type="RequireAndVerifyClientCert", client_ca_file="ca.pem"
        ),
    }[kind]()
    scheme = "http" if kind == "password" else "https"
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_WEB_CONFIG_FILE", str(config))
    with serving_metrics(config) as served:
        port = served.endpoint.port
        monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", str(port))
        url = f"{scheme}://127.0.0.1:{port}/metrics"
        assert found("prometheus", 0) == [("ok", f"a Victor process serves {url}")]
    assert found("prometheus", 0) == [
        ("ok", f"{url} is free; it is served as soon as Victor works")
    ]


def test_an_endpoint_that_is_open_to_others_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", "0")
    assert found("access", 0) == []
    monkeypatch.setenv("VICTOR_PROMETHEUS_HOST", "0.0.0.0")
    open_to = "/metrics on 0.0.0.0 is open to other machines without"
    assert found("access", 0) == [("warning", f"{open_to} TLS and authentication")]
    folder, name = Folder(tmp_path, trustme.CA()), "VICTOR_PROMETHEUS_WEB_CONFIG_FILE"
    monkeypatch.setenv(name, str(folder.write()))
    assert found("access", 0) == [
        ("warning", f"{open_to} authentication"),
        ("ok", f"TLS, by {name}"),
    ]
    folder.write({"prometheus": hashed()})
    assert found("access", 0) == [("ok", f"TLS, passwords of 1 users, by {name}")]


# The push


def push_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")


PROTOCOLS = {"http/protobuf": http, "grpc": rpc}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
    return request.param


def shown(port: int, protocol: str, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{port}" + ("/v1/metrics" if protocol != "grpc" else "")


def test_a_backend_that_takes_an_export_is_fine_and_gets_no_data(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with PROTOCOLS[protocol]() as backend:
        push_to(monkeypatch, f"http://127.0.0.1:{backend.port}")
        expected = [("ok", f"{shown(backend.port, protocol)} answers ({protocol})")]
        assert found("otlp", 0) == expected
    assert backend.requests == [b""]
    (headers,) = backend.headers
    assert headers["authorization"] == "Bearer token"
    if protocol != "grpc":
        assert headers["Content-Encoding"] == "gzip"


def test_a_backend_of_spans_is_tried_like_one_of_metrics(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    path = "" if protocol == "grpc" else "/v1/traces"
    for refused, status, said in (
        (None, 0, f"{{}} answers ({protocol})"),
        (REFUSALS[protocol][0], 1, f"could not deliver to {{}}: {REFUSALS[protocol][0][1]}"),
    ):
        with PROTOCOLS[protocol](*(refused or ())[:1]) as backend:
            where = f"http://127.0.0.1:{backend.port}{path}"
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", where)
            word = "problem" if status else "ok"
            assert found("otlp spans", status) == [(word, said.format(where))]
        assert backend.traces == [b""]


def test_one_address_is_tried_for_each_signal_and_may_take_no_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with http(404) as backend:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{backend.port}")
        _, report = diagnose()
    tried = {f["check"]: f["command"] for f in report["findings"] if f["check"].startswith("otlp")}
    assert tried == {
        "otlp": "export OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:PORT",
        "otlp spans": "export OTEL_TRACES_EXPORTER=none",
    }


REFUSALS = {
    "http/protobuf": [
        (401, "401 Unauthorized"),
        (403, "403 Forbidden"),
        (404, "404 Not Found"),
        (302, "302 Found"),
        (500, "500 Internal Server Error"),
    ],
    "grpc": [
        ("UNAUTHENTICATED", "UNAUTHENTICATED"),
        ("PERMISSION_DENIED", "PERMISSION_DENIED"),
        ("UNAVAILABLE", "UNAVAILABLE"),
    ],
}


def test_a_backend_that_refuses_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    for answered, said in REFUSALS[protocol]:
        with PROTOCOLS[protocol](answered) as backend:
            push_to(monkeypatch, f"http://127.0.0.1:{backend.port}")
            where = shown(backend.port, protocol)
            assert found("otlp", 1) == [("problem", f"could not deliver to {where}: {said}")]
        assert len(backend.requests) == 1, "it is asked once"


def test_a_backend_that_is_not_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    port = free_port()
    push_to(monkeypatch, f"http://127.0.0.1:{port}")
    ((status, detail),) = found("otlp", 1)
    assert status == "problem"
    assert detail.startswith(f"could not deliver to {shown(port, protocol)}: ")
    assert detail.endswith("connection refused")


def test_a_backend_that_keeps_silent_is_a_problem_after_the_timeout_of_the_run(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    with PROTOCOLS[protocol]() as backend:
        backend.release.clear()
        push_to(monkeypatch, f"http://127.0.0.1:{backend.port}")
        ((status, detail),) = found("otlp", 1)
    assert (status, detail.endswith("no answer in time")) == ("problem", True)


def test_a_backend_of_the_other_protocol_is_a_problem_with_the_command_for_it(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    (other,) = set(PROTOCOLS) - {protocol}
    with PROTOCOLS[other]() as backend:
        push_to(monkeypatch, f"http://127.0.0.1:{backend.port}")
        _, report = diagnose()
    (finding,) = (f for f in report["findings"] if f["check"] == "otlp")
    assert finding["status"] == "problem"
    assert finding["command"].startswith(f"export OTEL_EXPORTER_OTLP_PROTOCOL={other}")


def test_a_service_without_metrics_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with rpc(metrics=False) as backend:
        push_to(monkeypatch, f"http://127.0.0.1:{backend.port}")
        ((status, detail),) = found("otlp", 1)
    assert (status, detail.endswith(": UNIMPLEMENTED")) == ("problem", True)


def test_an_authority_of_ones_own_is_trusted_as_in_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    with PROTOCOLS[protocol](authority=tmp_path / "ca.pem") as backend:
        push_to(monkeypatch, f"https://127.0.0.1:{backend.port}")
        ((status, detail),) = found("otlp", 1)
        assert (status, "its certificate is not trusted" in detail) == ("problem", True)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca.pem"))
        where = shown(backend.port, protocol, "https")
        assert found("otlp", 0) == [("ok", f"{where} answers ({protocol})")]


def test_a_client_certificate_is_shown_as_in_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with http(authority=tmp_path / "ca.pem", clients=True) as backend:
        push_to(monkeypatch, f"https://127.0.0.1:{backend.port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca.pem"))
        assert [status for status, _ in found("otlp", 1)] == ["problem"]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(tmp_path / "cert.pem"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(tmp_path / "key.pem"))
        assert [status for status, _ in found("otlp", 0)] == ["ok"]


def test_a_proxy_is_asked_as_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with http() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        push_to(monkeypatch, "http://nowhere.invalid:4318")
        assert [status for status, _ in found("otlp", 0)] == ["ok"]
    assert proxy.requests == [b""]


# Settings that are understood, and mislead


def test_a_name_of_an_exporter_that_nobody_provides_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otpl")
    said = "OTEL_METRICS_EXPORTER names an exporter that no installed package provides"
    assert found("exporters", 1) == [("problem", said)]


def test_a_switch_that_turns_all_off_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    said = "OTEL_SDK_DISABLED switches OpenTelemetry off: nothing is recorded"
    assert found("exporters", 0) == [("warning", said)]


def test_a_misspelt_variable_is_a_warning_also_where_it_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VICTOR_PROMETEUS_ENABLED", "true")
    assert found("variables", 0) == [("warning", "VICTOR_PROMETEUS_ENABLED is read by nobody")]


# Lifetimes


@pytest.mark.parametrize("lifetime", ["short", "auto"])
def test_short_processes_with_cumulative_series_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, lifetime: str
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_LIFETIME", lifetime)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "CUMULATIVE")
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        assert [status for status, _ in found("temporality", 0)] == ["warning"]


def test_short_processes_that_push_deltas_to_prometheus_are_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_LIFETIME", "short")
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}/api/v1/otlp")
        assert [status for status, _ in found("temporality", 1)] == ["problem"]


def test_histograms_without_buckets_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = "base2_exponential_bucket_histogram"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", kind)
    with serving() as port:
        push_to(monkeypatch, f"http://127.0.0.1:{port}")
        ((status, detail),) = found("histograms", 0)
    assert status == "warning"
    assert "no quantile" in detail


def test_a_name_for_all_processes_of_an_environment_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=shop-1")
    ((status, detail),) = found("identity", 0)
    assert status == "warning"
    assert "'shop-1'" in detail


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
from victor_otel.victor import drift, source
from victor_otel.doctor import examine
if "--own-provider" in sys.argv:
    metrics.set_meter_provider(MeterProvider())
quick = examine().hooks
looked_at = sorted(map(str, source.look()))
report = examine(thorough=True)
from victor_otel.runtime import RUNTIME
assert looked_at == sorted(map(str, drift.look())), looked_at
print(json.dumps(report.as_dict() | {"quick": quick} | {"pipeline": RUNTIME.instrumentation.pipeline is not None}))
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
    # What the source says is what an import finds.
    read = {hook for hook, state in report["quick"].items() if state == "found"}
    bound = {hook for hook, state in report["hooks"].items() if state == "bound"}
    assert read == bound
    assert report["pipeline"] is False
    details = {f["check"]: f["detail"] for f in report["findings"]}
    assert details["meter provider"].startswith("the application's: opentelemetry.sdk.metrics")
