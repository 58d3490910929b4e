"""What settings make impossible is told, and nothing else is."""

from __future__ import annotations

import pytest

from tests.engine.settings import CUMULATIVE, DELTA, EXPONENTIAL, EXPORTER, OURS, PUSHED, SERVED
from victor_otel.signals.cautions import cautions
from victor_otel.signals.settings import VARIABLES, Settings

LOWMEMORY = dict.fromkeys(DELTA, "lowmemory")
STRAIGHT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://prometheus:9090/api/v1/otlp"}
NAMED = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=shop-1"}
SECURE = {**PUSHED, "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318"}
CA = {"OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem"}
BUNDLE = {"REQUESTS_CA_BUNDLE": "all.pem"}
GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
OPEN = {"VICTOR_PROMETHEUS_HOST": "0.0.0.0"}
LIFETIMES = ("long", "short", "auto")
NONE: dict[str, list[str]] = {lifetime: [] for lifetime in LIFETIMES}


def told(lifetime: str, **environ: str) -> list[tuple[str, bool]]:
    found = list(cautions(Settings.from_environment(environ), lifetime, environ))
    assert all(one.why and one.command and not one.detail.endswith(".") for one in found)
    return [(one.about, one.lost) for one in found]


@pytest.mark.parametrize("lifetime", LIFETIMES)
@pytest.mark.parametrize("environ", [{}, PUSHED, PUSHED | DELTA, PUSHED | LOWMEMORY], ids=str)
def test_a_push_to_a_collector_suits_every_lifetime(environ: dict[str, str], lifetime: str) -> None:
    assert told(lifetime, **environ) == []


@pytest.mark.parametrize(
    ("environ", "about", "lost", "lifetimes"),
    [
        (OURS, "lifetime", True, ("short",)),
        (OURS, "lifetime", False, ("auto",)),
        (SERVED | STRAIGHT, "lifetime", True, ("short",)),
        (PUSHED | CUMULATIVE, "temporality", False, ("short", "auto")),
        (STRAIGHT, "temporality", True, ("short", "auto")),
        (STRAIGHT | DELTA, "temporality", True, LIFETIMES),
        (STRAIGHT | LOWMEMORY, "temporality", True, LIFETIMES),
        (PUSHED | EXPONENTIAL, "histograms", False, LIFETIMES),
        (PUSHED | NAMED, "identity", False, ("long", "auto")),
        (SECURE | CA | BUNDLE, "tls", False, LIFETIMES),
        (PUSHED | {"VICTOR_PROMETEUS_ENABLED": "true"}, "variables", False, LIFETIMES),
        ({EXPORTER: "otpl"}, "exporters", True, LIFETIMES),
    ],
    ids=str,
)
def test_what_cannot_work_is_told_where_it_cannot(
    environ: dict[str, str], about: str, *, lost: bool, lifetimes: tuple[str, ...]
) -> None:
    for lifetime in LIFETIMES:
        expected = [(about, lost)] if lifetime in lifetimes else []
        found = told(lifetime, **environ)
        assert [one for one in found if one == (about, lost)] == expected
        assert {one for one, _ in found} <= {about}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (OURS | PUSHED, {"long": ["routes"], "auto": ["routes"], "short": ["lifetime"]}),
        (OURS | OPEN, {"long": ["access"], "auto": ["access", "lifetime"], "short": ["lifetime"]}),
        (
            SERVED | OPEN,
            {"long": ["access"], "auto": ["access", "lifetime"], "short": ["lifetime"]},
        ),
        (OURS, {"long": [], "auto": ["lifetime"], "short": ["lifetime"]}),
        (PUSHED | OPEN, NONE),
        (SECURE | CA, NONE),
        (SECURE | BUNDLE, NONE),
        (SECURE | CA | BUNDLE | GRPC, NONE),
        (NAMED, NONE | {"long": ["identity"], "auto": ["identity"]}),
    ],
    ids=str,
)
def test_each_lifetime_has_cautions_of_its_own(
    environ: dict[str, str], expected: dict[str, list[str]]
) -> None:
    for lifetime, abouts in expected.items():
        assert [about for about, _ in told(lifetime, **environ)] == abouts


def test_of_two_routes_it_is_said_what_is_known() -> None:
    straight, through = (
        next(cautions(Settings.from_environment(environ), "long", environ)).why
        for environ in (OURS | STRAIGHT | {EXPORTER: "otlp"}, OURS | PUSHED)
    )
    assert straight.startswith("the push goes into a Prometheus")
    assert "Collector" in through


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("VICTOR_PROMETEUS_ENABLED", "VICTOR_PROMETHEUS_ENABLED"),
        ("VICTOR_PROMETHEUS_ENABLE", "VICTOR_PROMETHEUS_ENABLED"),
        ("VICTOR_OTEL_LIFETIMES", "VICTOR_OTEL_LIFETIME"),
        ("VICTOR_PROMETHEUS_WEBCONFIG_FILE", "VICTOR_PROMETHEUS_WEB_CONFIG_FILE"),
        ("OTEL_METRIC_EXPORTER", "OTEL_METRICS_EXPORTER"),
        ("OTEL_METRICS_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_INTERVAL"),
        ("OTEL_EXPORTER_OLTP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_HEADER", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("otel_exporter_otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_one_that_is_meant(name: str, near: str) -> None:
    (caution,) = cautions(Settings.from_environment({}), "long", {name: "x"})
    assert (caution.detail, caution.why, caution.command) == (
        f"{name} is read by nobody",
        f"it is probably meant to be {near}",
        f"unset {name}; export {near}=...",
    )


def test_a_variable_with_our_beginning_that_is_like_no_other_is_told() -> None:
    (caution,) = cautions(Settings.from_environment({}), "long", {"VICTOR_OTEL_COLOUR": "x"})
    assert (caution.why, caution.command) == (
        "no such variable is known",
        "unset VICTOR_OTEL_COLOUR",
    )


@pytest.mark.parametrize(
    "name",
    [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
        "OTEL_EXPORTER_OTLP_INSECURE",
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "OTEL_TRACES_EXPORTER",
        "OTEL_PYTHON_LOG_LEVEL",
        "VICTOR_MODEL",
        "VICTOR_API_KEY",
        "VICTOR_DIR_NAME",
        "HOME",
        *(variable.name for variable in VARIABLES),
    ],
)
def test_a_variable_that_somebody_reads_is_no_slip(name: str) -> None:
    assert list(cautions(Settings.from_environment({}), "long", {name: "x"})) == []


def test_the_name_of_an_unknown_exporter_is_not_shown() -> None:
    environ = {EXPORTER: "token-5f0c"}
    (caution,) = cautions(Settings.from_environment(environ), "long", environ)
    assert "5f0c" not in str(caution)
    (near,) = cautions(Settings.from_environment({EXPORTER: "promethus"}), "long", {})
    assert near.command == "export OTEL_METRICS_EXPORTER=prometheus"
