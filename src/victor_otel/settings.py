"""Every environment variable that is read, declared once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


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

    problems: tuple[str, ...] = ()
    """What was not understood, by name, and what to set instead."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the environment. A value that is not understood is as if it were not set."""
        env = _Environment(environ)
        ours = any(env.get(v) for v in (PROMETHEUS_ENABLED, PROMETHEUS_HOST, PROMETHEUS_PORT))
        disabled = env.read(OTEL_DISABLED, _boolean)
        exporters = () if disabled else _exporters(env)
        host, port = (
            (PROMETHEUS_HOST, PROMETHEUS_PORT)
            if ours
            else (OTEL_PROMETHEUS_HOST, OTEL_PROMETHEUS_PORT)
        )
        # Others may have set these for other programs: what nobody uses is nobody's problem.
        served = "prometheus" in exporters
        pushed = "otlp" in exporters
        return cls(
            exporters=exporters,
            prometheus_host=env.get(host) or host.default,
            prometheus_port=env.read(port, _port) if served else _port(port.default),
            otlp_protocol=env.read(OTEL_METRICS_PROTOCOL, _protocol, OTEL_PROTOCOL)
            if pushed
            else OTEL_PROTOCOL.default,
            otlp_endpoint=env.get(OTEL_METRICS_ENDPOINT) or env.get(OTEL_ENDPOINT),
            otlp_metrics_url=env.get(OTEL_METRICS_ENDPOINT)
            or (env.get(OTEL_ENDPOINT) or OTEL_ENDPOINT.default).rstrip("/") + "/v1/metrics",
            lifetime=env.read(LIFETIME, _lifetime),
            temporality=env.get(OTEL_TEMPORALITY).lower(),
            exit_timeout=env.read(EXIT_TIMEOUT, _seconds),
            config_file=bool(env.get(OTEL_CONFIG_FILE)),
            problems=tuple(env.problems),
        )


class _Environment:
    """Variables, and what of them was not understood."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def get(self, variable: Variable) -> str:
        return self._environ.get(variable.name, "").strip()

    def read(
        self, variable: Variable, understand: Callable[[str], T], general: Variable | None = None
    ) -> T:
        """What is understood of a variable, else of the more general one, else its default."""
        value = self.get(variable)
        if value:
            try:
                return understand(value)
            except ValueError as error:
                problem = f"{variable.name} is {value!r} and is ignored; set it to {error}"
                self.problems.append(problem)
        return self.read(general, understand) if general else understand(variable.default)


def metrics_url(host: str, port: int) -> str:
    """The address of `/metrics` on a host, which may be an IPv6 address."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"


def is_strict(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether an application wants to hear of its mistakes; a value not understood says no."""
    return environ.get(STRICT.name, "").strip().lower() in _TRUE


def _exporters(env: _Environment) -> tuple[str, ...]:
    names = [name.strip() for name in env.get(OTEL_EXPORTER).split(",") if name.strip()]
    if not names and any(env.get(v) for v in (OTEL_ENDPOINT, OTEL_METRICS_ENDPOINT)):
        names = ["otlp"]
    if "none" in names:
        names = []
    if env.read(PROMETHEUS_ENABLED, _boolean):
        names.insert(0, "prometheus")
    return tuple(dict.fromkeys(names))


# Each raises ValueError, whose text says what would be understood.


def _boolean(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("true or false")


def _port(value: str) -> int:
    if value.isdecimal() and int(value) <= MAX_PORT:
        return int(value)
    raise ValueError("a port from 0 to 65535")


def _protocol(value: str) -> str:
    if value.lower() in {"grpc", "http/protobuf"}:
        return value.lower()
    raise ValueError("http/protobuf or grpc")


def _lifetime(value: str) -> str:
    if value.lower() in {"long", "short", "auto"}:
        return value.lower()
    raise ValueError("long, short or auto")


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError("seconds, such as 1 or 0.5")
    return seconds
