"""Each environment variable means what its declaration says, or is ignored and told by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.engine.settings import (
    CUMULATIVE,
    ENABLED,
    EXPONENTIAL,
    EXPORTER,
    HISTOGRAMS,
    OURS,
    PUSHED,
    SERVED,
    TEMPORALITY,
)
from victor_otel.signals import settings
from victor_otel.signals.settings import Settings

DEFAULTS: dict[str, Any] = {
    "exporters": (),
    "trace_exporters": (),
    "otlp_traces_protocol": "http/protobuf",
    "otlp_traces_url": "http://localhost:4318/v1/traces",
    "prometheus_host": "localhost",
    "prometheus_port": 9464,
    "web_config": "",
    "otlp_protocol": "http/protobuf",
    "otlp_endpoint": "",
    "otlp_url": "http://localhost:4318/v1/metrics",
    "disabled": False,
    "lifetime": "long",
    "temporality": "",
    "histograms": "explicit_bucket_histogram",
    "instance": "",
    "exit_timeout": 1.0,
    "genai": ("0.1",),
    "user_ids": False,
    "capture": "no_content",
    "completion_hook": "",
    "config_file": False,
    "problems": (),
}

HOST = "VICTOR_PROMETHEUS_HOST"
PORT = "VICTOR_PROMETHEUS_PORT"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"


def read(**environ: str) -> dict[str, Any]:
    found = Settings.from_environment(environ)
    return dataclasses.asdict(found) | {"problems": tuple(map(str, found.problems))}


def changed(**environ: str) -> dict[str, Any]:
    """What differs from an empty environment."""
    return {key: value for key, value in read(**environ).items() if value != DEFAULTS[key]}


def exporters(**environ: str) -> tuple[str, ...]:
    return read(**environ)["exporters"]


def test_nothing_set_asks_for_nothing() -> None:
    assert read() == DEFAULTS


@pytest.mark.parametrize("variable", settings.VARIABLES, ids=lambda variable: variable.name)
@pytest.mark.parametrize("blank", ["", "  "], ids=["empty", "blank"])
def test_blank_variable_is_as_good_as_unset(variable: Any, blank: str) -> None:
    assert read(**{variable.name: blank}) == DEFAULTS


def test_each_variable_is_declared_once() -> None:
    names = [variable.name for variable in settings.VARIABLES]
    assert len(names) == len(set(names)) > 0
    assert all(variable.meaning for variable in settings.VARIABLES)


def test_process_environment_is_read_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_OTEL_EXIT_TIMEOUT", "2.5")
    assert Settings.from_environment().exit_timeout == 2.5


# Which exporters


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({ENABLED: "true"}, ("prometheus",)),
        ({ENABLED: "false"}, ()),
        ({PORT: "9091"}, ()),
        ({EXPORTER: "prometheus"}, ("prometheus",)),
        ({EXPORTER: "otlp"}, ("otlp",)),
        ({EXPORTER: "console"}, ("console",)),
        ({EXPORTER: " otlp , console,,"}, ("otlp", "console")),
        ({EXPORTER: "otlp,otlp"}, ("otlp",)),
        ({EXPORTER: "none"}, ()),
        ({EXPORTER: "none,otlp"}, ()),
        ({ENDPOINT: "http://c:4318"}, ("otlp",)),
        ({METRICS_ENDPOINT: "http://c:4318/v1/metrics"}, ("otlp",)),
        ({EXPORTER: "console", ENDPOINT: "http://c:4318"}, ("console",)),
        ({EXPORTER: "none", ENDPOINT: "http://c:4318"}, ()),
        ({ENABLED: "true", ENDPOINT: "http://c:4318"}, ("prometheus", "otlp")),
        ({ENABLED: "true", EXPORTER: "otlp,prometheus"}, ("prometheus", "otlp")),
        ({ENABLED: "true", EXPORTER: "none"}, ("prometheus",)),
        ({ENABLED: "false", EXPORTER: "prometheus"}, ("prometheus",)),
    ],
    ids=str,
)
def test_exporters_follow_the_environment(
    environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert exporters(**environ) == expected


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", "on", " true "])
def test_disabled_sdk_asks_for_nothing(value: str) -> None:
    environ = {ENABLED: "true", EXPORTER: "otlp", "OTEL_SDK_DISABLED": value}
    assert exporters(**environ) == ()


@pytest.mark.parametrize("value", ["false", "False", "0", "no", "off"])
def test_sdk_that_is_not_disabled_changes_nothing(value: str) -> None:
    assert exporters(**{ENABLED: "yes", "OTEL_SDK_DISABLED": value}) == ("prometheus",)


def test_config_file_is_noticed() -> None:
    assert changed(OTEL_CONFIG_FILE="/etc/otel.yaml") == {"config_file": True}


# Where Prometheus scrapes


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({EXPORTER: "prometheus"}, ("localhost", 9464)),
        ({ENABLED: "true"}, ("127.0.0.1", 9091)),
        ({ENABLED: "true", HOST: "0.0.0.0"}, ("0.0.0.0", 9091)),
        ({ENABLED: "true", PORT: "0"}, ("127.0.0.1", 0)),
        ({ENABLED: "true", PORT: "65535"}, ("127.0.0.1", 65535)),
        ({EXPORTER: "prometheus", HOST: "h"}, ("h", 9091)),
        ({EXPORTER: "prometheus", PORT: "1"}, ("127.0.0.1", 1)),
    ],
    ids=str,
)
def test_address_of_the_endpoint(environ: dict[str, str], address: tuple[str, int]) -> None:
    found = read(**environ)
    assert (found["prometheus_host"], found["prometheus_port"]) == address


def test_standard_address_is_used_when_only_the_standard_asks() -> None:
    standard = {"OTEL_EXPORTER_PROMETHEUS_HOST": "::", "OTEL_EXPORTER_PROMETHEUS_PORT": "9000"}
    found = read(**{EXPORTER: "prometheus"}, **standard)
    assert (found["prometheus_host"], found["prometheus_port"]) == ("::", 9000)


@pytest.mark.parametrize("ours", [{ENABLED: "true"}, {HOST: "127.0.0.1"}, {PORT: "9091"}], ids=str)
def test_any_variable_of_ours_wins_over_the_standard_address(ours: dict[str, str]) -> None:
    standard = {"OTEL_EXPORTER_PROMETHEUS_HOST": "::", "OTEL_EXPORTER_PROMETHEUS_PORT": "9000"}
    found = read(**{EXPORTER: "prometheus"}, **standard, **ours)
    assert (found["prometheus_host"], found["prometheus_port"]) == ("127.0.0.1", 9091)


# Where and how is pushed


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({ENDPOINT: "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({ENDPOINT: "http://c:4318/"}, "http://c:4318/v1/metrics"),
        ({ENDPOINT: "http://c/otlp"}, "http://c/otlp/v1/metrics"),
        ({METRICS_ENDPOINT: "http://m/push"}, "http://m/push"),
        ({METRICS_ENDPOINT: "http://m/push", ENDPOINT: "http://c:4318"}, "http://m/push"),
    ],
    ids=str,
)
def test_url_of_pushed_metrics(environ: dict[str, str], url: str) -> None:
    found = read(**environ)
    assert found["otlp_url"] == url
    assert found["otlp_endpoint"] == environ.get(METRICS_ENDPOINT, environ.get(ENDPOINT))


@pytest.mark.parametrize(
    ("general", "metrics", "protocol"),
    [
        ("", "", "http/protobuf"),
        ("grpc", "", "grpc"),
        ("http/protobuf", "grpc", "grpc"),
        ("grpc", "http/protobuf", "http/protobuf"),
    ],
)
def test_protocol_of_metrics_wins_over_the_general_one(
    general: str, metrics: str, protocol: str
) -> None:
    found = read(
        **PUSHED,
        OTEL_EXPORTER_OTLP_PROTOCOL=general,
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=metrics,
    )
    assert found["otlp_protocol"] == protocol


def test_temporality_is_passed_on_in_lower_case() -> None:
    assert read(**PUSHED, **{TEMPORALITY: "Delta"})["temporality"] == "delta"


def test_what_only_a_push_uses_is_not_read_without_one() -> None:
    assert read(**EXPONENTIAL, **CUMULATIVE) == DEFAULTS


def test_instance_is_what_the_resource_attributes_call_the_process() -> None:
    attributes = "deployment.environment=x, service.instance.id = shop%201 ,a"
    assert changed(OTEL_RESOURCE_ATTRIBUTES=attributes) == {"instance": "shop 1"}


@pytest.mark.parametrize("lifetime", ["long", "short", "auto"])
def test_lifetime_is_one_of_three(lifetime: str) -> None:
    assert read(VICTOR_OTEL_LIFETIME=lifetime)["lifetime"] == lifetime


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("0.5", 0.5), ("30", 30)])
def test_exit_timeout_is_in_seconds(value: str, seconds: float) -> None:
    assert read(VICTOR_OTEL_EXIT_TIMEOUT=value)["exit_timeout"] == seconds


# What is not understood


@pytest.mark.parametrize(
    ("name", "values", "instead", "others"),
    [
        (ENABLED, ["maybe", "2"], "true or false", {}),
        ("OTEL_SDK_DISABLED", ["maybe", "no-thanks"], "true or false", {}),
        (
            PORT,
            ["x", "-1", "65536", "9091.0", "1e3", "+1", "tcp://10.0.0.7:9091"],
            "a port from 0 to 65535",
            OURS,
        ),
        ("VICTOR_OTEL_LIFETIME", ["forever"], "long, short or auto", {}),
        (TEMPORALITY, ["deltas", "high"], "cumulative, delta or lowmemory", PUSHED),
        (
            HISTOGRAMS,
            ["base2"],
            "explicit_bucket_histogram or base2_exponential_bucket_histogram",
            PUSHED,
        ),
        (
            "VICTOR_OTEL_EXIT_TIMEOUT",
            ["soon", "-1", "nan", "inf", "1e9", "2s"],
            "seconds, such as 1 or 0.5",
            {},
        ),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", ["x", "70000"], "a port from 0 to 65535", SERVED),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", ["http/json", "udp"], "http/protobuf or grpc", PUSHED),
        (
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            ["http/json", "udp"],
            "http/protobuf or grpc",
            PUSHED,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_value_is_ignored_and_told_by_name_with_what_to_set(
    name: str, values: list[str], instead: str, others: dict[str, str]
) -> None:
    # Only that somebody has set ours decides whose address counts.
    unset = read(**others, **({PORT: "9091"} if name == ENABLED else {}))
    for value in values:
        told = f"{name} is not understood and is ignored; set it to {instead}"
        assert read(**others, **{name: value}) == {**unset, "problems": (told,)}


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "metrics", PUSHED),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "x", OURS),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", SERVED),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", {}),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/json",
            {**PUSHED, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"},
        ),
    ],
)
def test_bad_value_that_nobody_uses_is_no_problem(
    name: str, value: str, others: dict[str, str]
) -> None:
    assert read(**others, **{name: value}) == read(**others)


def test_bad_port_of_a_service_of_that_name_leaves_the_push_alone() -> None:
    """Kubernetes sets VICTOR_PROMETHEUS_PORT for a Service that is called victor-prometheus."""
    found = read(**PUSHED, **{PORT: "tcp://10.0.0.7:9091"})
    assert (found["exporters"], found["problems"]) == (("otlp",), ())


def test_general_protocol_counts_where_that_for_metrics_is_not_understood() -> None:
    found = read(
        **PUSHED,
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL="http/json",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
    )
    assert found["otlp_protocol"] == "grpc"


@pytest.mark.parametrize(
    ("name", "value", "field", "understood"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/Protobuf", "otlp_protocol", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC", "otlp_protocol", "grpc"),
        ("VICTOR_OTEL_LIFETIME", "Short", "lifetime", "short"),
    ],
)
def test_case_does_not_matter(name: str, value: str, field: str, understood: str) -> None:
    found = read(**PUSHED, **{name: value})
    assert (found[field], found["problems"]) == (understood, ())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:4318/v1/metrics", "http://127.0.0.1:4318/v1/metrics"),
        ("https://p:9090/api/v1/otlp/v1/metrics", "https://p:9090/api/v1/otlp/v1/metrics"),
        (
            "http://me:secret@host:4318/secret/v1/metrics?key=secret",
            "http://host:4318/.../v1/metrics",
        ),
        ("http://me:secret@[::1]:4318#secret", "http://[::1]:4318"),
        ("http://me:sec/ret@host/v1/metrics", "http://.../.../v1/metrics"),
        ("http://me:sec?ret@host", "http://..."),
        ("collector:4317", "collector:4317"),
        ("me:secret@nowhere.invalid", "nowhere.invalid"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_of_a_url_only_what_cannot_be_secret_is_shown(url: str, shown: str) -> None:
    assert settings.shown_url(url) == shown


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "http://c:4317"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:4317",
            },
            "http://m:4317",
        ),
    ],
    ids=str,
)
def test_url_of_metrics_pushed_by_grpc(environ: dict[str, str], url: str) -> None:
    found = read(**PUSHED, **environ, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert found["otlp_url"] == url


def test_who_switches_opentelemetry_off_is_noticed() -> None:
    found = read(**OURS, OTEL_SDK_DISABLED="true")
    assert (found["disabled"], found["exporters"]) == (True, ())


# Spans

TRACES = "OTEL_TRACES_EXPORTER"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({ENDPOINT: "http://c:4318"}, ("otlp",)),
        ({ENDPOINT: "http://c:4318/otlp"}, ("otlp",)),
        ({ENDPOINT: "http://c:4318/insert/opentelemetry"}, ("otlp",)),
        ({ENDPOINT: "http://c:4318", TRACES: "none"}, ()),
        ({ENDPOINT: "http://c:4318", TRACES: "console"}, ("console",)),
        # The receivers of Prometheus and VictoriaMetrics, which take metrics only.
        ({ENDPOINT: "http://p:9090/api/v1/otlp"}, ()),
        ({ENDPOINT: "https://p/prometheus/api/v1/otlp/"}, ()),
        ({ENDPOINT: "http://v:8428/opentelemetry"}, ()),
        ({ENDPOINT: "http://[broken"}, ("otlp",)),
        ({METRICS_ENDPOINT: "http://c:4318/v1/metrics"}, ()),
        ({TRACES_ENDPOINT: "http://c:4318/v1/traces"}, ("otlp",)),
        ({TRACES: "otlp"}, ("otlp",)),
        ({TRACES: " otlp , console,,"}, ("otlp", "console")),
        ({TRACES: "none", TRACES_ENDPOINT: "http://c:4318/v1/traces"}, ()),
        ({TRACES: "otlp", "OTEL_SDK_DISABLED": "true"}, ()),
    ],
    ids=str,
)
def test_spans_are_asked_for_by_their_variables_or_by_an_address_that_takes_them(
    environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert read(**environ)["trace_exporters"] == expected


@pytest.mark.parametrize(
    ("value", "capture", "problems"),
    [
        ("SPAN_ONLY", "span_only", 0),
        ("event_only", "event_only", 0),
        (" Span_And_Event ", "span_and_event", 0),
        ("NO_CONTENT", "no_content", 0),
        ("true", "no_content", 1),
    ],
)
def test_contents_have_four_values(value: str, capture: str, problems: int) -> None:
    found = read(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=value)
    assert (found["capture"], len(found["problems"])) == (capture, problems)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({ENDPOINT: "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({TRACES_ENDPOINT: "http://c/elsewhere"}, "http://c/elsewhere"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", ENDPOINT: "http://c:4317"}, "http://c:4317"),
    ],
    ids=str,
)
def test_the_address_of_spans_is_what_the_exporter_makes_of_its_variables(
    environ: dict[str, str], url: str
) -> None:
    assert read(**{TRACES: "otlp", **environ})["otlp_traces_url"] == url
