"""Every environment variable that is read, declared once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variable:
    """An environment variable as the documentation shows it."""

    name: str
    default: str
    meaning: str


PROMETHEUS_ENABLED = Variable(
    name="VICTOR_PROMETHEUS_ENABLED", default="false", meaning="serve `/metrics` from the process"
)
PROMETHEUS_HOST = Variable(
    name="VICTOR_PROMETHEUS_HOST",
    default="127.0.0.1",
    meaning="address of `/metrics`; containers set 0.0.0.0",
)
PROMETHEUS_PORT = Variable(
    name="VICTOR_PROMETHEUS_PORT", default="9091", meaning="port of `/metrics`; 0 picks a free one"
)
LIFETIME = Variable(
    name="VICTOR_OTEL_LIFETIME",
    default="long",
    meaning="`long`, `short` (push deltas, no gauges), or `auto` (one-shot commands are short)",
)
EXIT_TIMEOUT = Variable(
    name="VICTOR_OTEL_EXIT_TIMEOUT",
    default="1",
    meaning="seconds that the last export may delay the exit",
)
STRICT = Variable(
    name="VICTOR_OTEL_STRICT",
    default="false",
    meaning="values given to `victor_otel.record` and custom metrics that cannot be true raise "
    "`ValueError` instead of being dropped",
)
OTEL_EXPORTER = Variable(
    name="OTEL_METRICS_EXPORTER",
    default="otlp if an OTLP endpoint is set",
    meaning="`prometheus`, `otlp`, `console`, `none`, or several, comma-separated",
)
OTEL_ENDPOINT = Variable(
    name="OTEL_EXPORTER_OTLP_ENDPOINT",
    default="http://localhost:4318",
    meaning="where to push; `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` for metrics alone",
)
OTEL_METRICS_ENDPOINT = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", default="", meaning="the full metrics URL"
)
OTEL_PROTOCOL = Variable(
    name="OTEL_EXPORTER_OTLP_PROTOCOL",
    default="http/protobuf",
    meaning="or `grpc`; `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL` for metrics alone",
)
OTEL_METRICS_PROTOCOL = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", default="", meaning="protocol for metrics alone"
)
OTEL_TEMPORALITY = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    default="cumulative, delta in a short process",
    meaning="wins over `VICTOR_OTEL_LIFETIME`",
)
OTEL_INTERVAL = Variable(
    name="OTEL_METRIC_EXPORT_INTERVAL",
    default="60000",
    meaning="milliseconds between two pushes; our Collector wants 15000",
)
OTEL_PROMETHEUS_HOST = Variable(
    name="OTEL_EXPORTER_PROMETHEUS_HOST",
    default="localhost",
    meaning="address when `OTEL_METRICS_EXPORTER` alone asks for prometheus",
)
OTEL_PROMETHEUS_PORT = Variable(
    name="OTEL_EXPORTER_PROMETHEUS_PORT", default="9464", meaning="its port"
)
OTEL_SERVICE_NAME = Variable(
    name="OTEL_SERVICE_NAME", default="victor", meaning="name of the service in every backend"
)
OTEL_RESOURCE_ATTRIBUTES = Variable(
    name="OTEL_RESOURCE_ATTRIBUTES",
    default="",
    meaning="attributes of the process, `key=value,key=value`",
)
OTEL_DISABLED = Variable(name="OTEL_SDK_DISABLED", default="false", meaning="record nothing")
OTEL_CONFIG_FILE = Variable(
    name="OTEL_CONFIG_FILE",
    default="",
    meaning="left to OpenTelemetry's own configurator; we then build nothing",
)

_TRUE = frozenset({"true", "1", "yes", "on"})
MAX_PORT = 65535
MAX_SECONDS = 3600.0

VARIABLES = tuple(value for value in globals().values() if isinstance(value, Variable))


class SettingsError(ValueError):
    """A variable holds what it cannot mean; the message says what to set instead."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The environment, understood. `exporters` is empty when nothing is asked for."""

    exporters: tuple[str, ...]
    prometheus_host: str
    prometheus_port: int
    otlp_protocol: str
    otlp_endpoint: str
    lifetime: str
    temporality: str
    exit_timeout: float
    config_file: bool

    otlp_metrics_url: str
    """Where http/protobuf metrics go, as the exporter works it out from its variables."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the environment.

        Raises:
            SettingsError: for a value that cannot be understood.
        """

        def get(variable: Variable, default: str = "") -> str:
            return environ.get(variable.name, "").strip() or default

        ours = any(get(v) for v in (PROMETHEUS_ENABLED, PROMETHEUS_HOST, PROMETHEUS_PORT))
        disabled = _boolean(OTEL_DISABLED.name, get(OTEL_DISABLED, "false"))
        host, port = (
            (get(PROMETHEUS_HOST, PROMETHEUS_HOST.default), PROMETHEUS_PORT)
            if ours
            else (get(OTEL_PROMETHEUS_HOST, OTEL_PROMETHEUS_HOST.default), OTEL_PROMETHEUS_PORT)
        )
        spoken = OTEL_METRICS_PROTOCOL if get(OTEL_METRICS_PROTOCOL) else OTEL_PROTOCOL
        protocol = get(spoken, OTEL_PROTOCOL.default)
        if protocol not in {"grpc", "http/protobuf"}:
            raise SettingsError(f"{spoken.name} is {protocol!r}; set it to http/protobuf or grpc")
        lifetime = get(LIFETIME, LIFETIME.default)
        if lifetime not in {"long", "short", "auto"}:
            raise SettingsError(f"{LIFETIME.name} is {lifetime!r}; set it to long, short or auto")
        return cls(
            exporters=() if disabled else _exporters(environ),
            prometheus_host=host,
            prometheus_port=_port(port.name, get(port, port.default)),
            otlp_protocol=protocol,
            otlp_endpoint=get(OTEL_METRICS_ENDPOINT) or get(OTEL_ENDPOINT),
            otlp_metrics_url=get(OTEL_METRICS_ENDPOINT)
            or get(OTEL_ENDPOINT, OTEL_ENDPOINT.default).rstrip("/") + "/v1/metrics",
            lifetime=lifetime,
            temporality=get(OTEL_TEMPORALITY).lower(),
            exit_timeout=_seconds(EXIT_TIMEOUT.name, get(EXIT_TIMEOUT, EXIT_TIMEOUT.default)),
            config_file=bool(get(OTEL_CONFIG_FILE)),
        )


def is_strict(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether an application wants to hear of its mistakes; a value not understood says no."""
    return environ.get(STRICT.name, "").strip().lower() in _TRUE


def _exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    raw = environ.get(OTEL_EXPORTER.name, "").strip()
    names = [name.strip() for name in raw.split(",") if name.strip()]
    if not names and any(
        environ.get(v.name, "").strip() for v in (OTEL_ENDPOINT, OTEL_METRICS_ENDPOINT)
    ):
        names = ["otlp"]
    if "none" in names:
        names = []
    enabled = environ.get(PROMETHEUS_ENABLED.name, "").strip() or "false"
    if _boolean(PROMETHEUS_ENABLED.name, enabled):
        names.insert(0, "prometheus")
    return tuple(dict.fromkeys(names))


def _boolean(name: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in {"false", "0", "no", "off"}:
        return False
    raise SettingsError(f"{name} is {value!r}; set it to true or false")


def _port(name: str, value: str) -> int:
    if value.isdecimal() and int(value) <= MAX_PORT:
        return int(value)
    raise SettingsError(f"{name} is {value!r}; set it to a port from 0 to 65535")


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise SettingsError(f"{name} is {value!r}; set it to seconds, such as 1 or 0.5")
    return seconds
