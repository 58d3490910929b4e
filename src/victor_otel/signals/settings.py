"""Every environment variable that is read, declared once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

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
PROMETHEUS_WEB_CONFIG = Variable(
    name="VICTOR_PROMETHEUS_WEB_CONFIG_FILE",
    default="",
    meaning="file with TLS and passwords for `/metrics`, in the format of Prometheus's web config",
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
GENAI = Variable(
    name="VICTOR_OTEL_GENAI",
    default="0.1",
    meaning="version of OpenTelemetry's GenAI conventions whose metrics are recorded beside "
    "`victor_*`: `0.1`, `1.41`, `0.1,1.41` or `off`",
)
STRICT = Variable(
    name="VICTOR_OTEL_STRICT",
    default="false",
    meaning="`true`: a value given to `victor_otel.record` or a custom metric that cannot be true "
    "raises `ValueError` instead of being dropped",
)
USER_IDS = Variable(
    name="VICTOR_OTEL_USER_IDS",
    default="false",
    meaning="`true`: spans have `user.id`, the authenticated client of Victor's API",
)
CAPTURE = Variable(
    name="OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
    default="NO_CONTENT",
    meaning="what was said, `SPAN_ONLY`, `EVENT_ONLY` or `SPAN_AND_EVENT`",
)
HOOK = Variable(
    name="OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK",
    default="",
    meaning="an entry point of `opentelemetry_genai_completion_hook`, which sees each call to a "
    "model, whatever the variable above says",
)
OTEL_EXPORTER = Variable(
    name="OTEL_METRICS_EXPORTER",
    default="otlp if an OTLP endpoint is set",
    meaning="`prometheus`, `otlp`, `console`, `none`, or several, comma-separated",
)
OTEL_ENDPOINT = Variable(
    name="OTEL_EXPORTER_OTLP_ENDPOINT",
    default="http://localhost:4318",
    meaning="URL to push metrics and spans to; metrics only if it is a Prometheus's. "
    "`OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` for metrics only",
)
OTEL_METRICS_ENDPOINT = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", default="", meaning="the full metrics URL"
)
OTEL_TRACES_EXPORTER = Variable(
    name="OTEL_TRACES_EXPORTER",
    default="otlp if an OTLP endpoint is set",
    meaning="`otlp`, `console`, `none`, or several, comma-separated: where spans go",
)
OTEL_TRACES_ENDPOINT = Variable(
    name="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", default="", meaning="the full URL for spans"
)
OTEL_TRACES_PROTOCOL = Variable(
    name="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", default="", meaning="protocol for spans only"
)
OTEL_PROTOCOL = Variable(
    name="OTEL_EXPORTER_OTLP_PROTOCOL",
    default="http/protobuf",
    meaning="`http/protobuf` or `grpc`; `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL` for metrics only",
)
OTEL_METRICS_PROTOCOL = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", default="", meaning="protocol for metrics only"
)
OTEL_HEADERS = Variable(
    name="OTEL_EXPORTER_OTLP_HEADERS",
    default="",
    meaning="what each push carries, such as `authorization=Bearer%20TOKEN`",
)
OTEL_TIMEOUT = Variable(
    name="OTEL_EXPORTER_OTLP_TIMEOUT",
    default="10",
    meaning="seconds in which a push is tried again; at the exit `VICTOR_OTEL_EXIT_TIMEOUT` counts",
)
OTEL_CERTIFICATE = Variable(
    name="OTEL_EXPORTER_OTLP_CERTIFICATE",
    default="",
    meaning="who signed the certificate of the backend, a PEM file",
)
OTEL_CLIENT_CERTIFICATE = Variable(
    name="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    default="",
    meaning="what we show to it, a PEM file; its key is `OTEL_EXPORTER_OTLP_CLIENT_KEY`",
)
OTEL_TEMPORALITY = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    default="",
    meaning="`cumulative` (the default of long-lived processes), `delta` (of short-lived ones) or "
    "`lowmemory`",
)
OTEL_HISTOGRAMS = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    default="explicit_bucket_histogram",
    meaning="what rules and dashboards need; or `base2_exponential_bucket_histogram`",
)
OTEL_INTERVAL = Variable(
    name="OTEL_METRIC_EXPORT_INTERVAL",
    default="60000",
    meaning="milliseconds between two pushes; our Collector needs 15000",
)
OTEL_PROMETHEUS_HOST = Variable(
    name="OTEL_EXPORTER_PROMETHEUS_HOST",
    default="localhost",
    meaning="address when `OTEL_METRICS_EXPORTER` alone asks for prometheus",
)
OTEL_PROMETHEUS_PORT = Variable(
    name="OTEL_EXPORTER_PROMETHEUS_PORT",
    default="9464",
    meaning="port when `OTEL_METRICS_EXPORTER` alone asks for prometheus",
)
OTEL_SERVICE_NAME = Variable(
    name="OTEL_SERVICE_NAME", default="victor", meaning="name of the service in every backend"
)
OTEL_RESOURCE_ATTRIBUTES = Variable(
    name="OTEL_RESOURCE_ATTRIBUTES",
    default="",
    meaning="resource attributes of the process, `key=value,key=value`",
)
OTEL_DISABLED = Variable(name="OTEL_SDK_DISABLED", default="false", meaning="record nothing")
OTEL_CONFIG_FILE = Variable(
    name="OTEL_CONFIG_FILE",
    default="",
    meaning="configuration file for OpenTelemetry's own configurator; we then build no exporter",
)

INSTANCE = "service.instance.id"
"""The resource attribute that tells one process from another."""

_TRUE = frozenset({"true", "1", "yes", "on"})
MAX_PORT = 65535
MAX_SECONDS = 3600.0

_MODES = ("no_content", "span_only", "event_only", "span_and_event")

VARIABLES = tuple(value for value in globals().values() if isinstance(value, Variable))


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """A variable whose value is not understood, and what it is to be."""

    name: str
    instead: str

    def __str__(self) -> str:
        return f"{self.name} is not understood and is ignored; set it to {self.instead}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the environment. `exporters` is empty when no exporter is configured."""

    exporters: tuple[str, ...]
    prometheus_host: str
    prometheus_port: int
    web_config: str
    otlp_protocol: str
    otlp_endpoint: str
    """What the environment says, if anything."""
    trace_exporters: tuple[str, ...]
    """Of spans; empty when the environment asks for none."""
    otlp_traces_protocol: str
    otlp_traces_url: str
    """Where spans go, as the exporter works it out from its variables."""
    lifetime: str
    temporality: str
    histograms: str
    instance: str
    """What the environment calls this process, and every other that has it."""
    exit_timeout: float
    genai: tuple[str, ...]
    """The versions of the GenAI conventions."""
    user_ids: bool
    """Whether spans say who a client of Victor's API is."""
    capture: str
    """Where contents go: no_content, span_only, event_only or span_and_event."""
    completion_hook: str
    config_file: bool
    disabled: bool
    """Whether OpenTelemetry is switched off, which leaves no exporters."""

    otlp_url: str
    """Where metrics go, as the exporter works it out from its variables."""

    problems: tuple[Ignored, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the environment. A value that is not understood is as if it were not set."""
        env = _Environment(environ)
        ours = any(env.get(v) for v in (PROMETHEUS_ENABLED, PROMETHEUS_HOST, PROMETHEUS_PORT))
        disabled = env.read(OTEL_DISABLED, _boolean)
        exporters = () if disabled else _exporters(env)
        host = PROMETHEUS_HOST if ours else OTEL_PROMETHEUS_HOST
        port = PROMETHEUS_PORT if ours else OTEL_PROMETHEUS_PORT
        # They may be set for other programs: a value that this process does not use is no problem.
        served = "prometheus" in exporters
        pushed = "otlp" in exporters
        protocols = _one_of("http/protobuf", "grpc")
        protocol = env.read(OTEL_METRICS_PROTOCOL, protocols, OTEL_PROTOCOL, used=pushed)
        temporalities = _one_of("cumulative", "delta", "lowmemory")
        histograms = _one_of("explicit_bucket_histogram", "base2_exponential_bucket_histogram")
        trace_exporters = () if disabled else _trace_exporters(env)
        traced = "otlp" in trace_exporters
        traces_protocol = env.read(OTEL_TRACES_PROTOCOL, protocols, OTEL_PROTOCOL, used=traced)
        return cls(
            exporters=exporters,
            trace_exporters=trace_exporters,
            otlp_traces_protocol=traces_protocol,
            otlp_traces_url=_otlp_url(env, traces_protocol, OTEL_TRACES_ENDPOINT, "v1/traces"),
            prometheus_host=env.get(host) or host.default,
            prometheus_port=env.read(port, _port, used=served),
            web_config=env.get(PROMETHEUS_WEB_CONFIG) if served else "",
            otlp_protocol=protocol,
            otlp_endpoint=env.get(OTEL_METRICS_ENDPOINT) or env.get(OTEL_ENDPOINT),
            otlp_url=_otlp_url(env, protocol, OTEL_METRICS_ENDPOINT, "v1/metrics"),
            lifetime=env.read(LIFETIME, _one_of("long", "short", "auto")),
            temporality=env.read(OTEL_TEMPORALITY, temporalities, used=pushed),
            histograms=env.read(OTEL_HISTOGRAMS, histograms, used=pushed),
            instance=_attributes(env.get(OTEL_RESOURCE_ATTRIBUTES)).get(INSTANCE, ""),
            exit_timeout=env.read(EXIT_TIMEOUT, _seconds),
            genai=env.read(GENAI, _versions),
            user_ids=env.read(USER_IDS, _boolean),
            capture=env.read(CAPTURE, _one_of(*_MODES)),
            completion_hook=env.get(HOOK),
            config_file=bool(env.get(OTEL_CONFIG_FILE)),
            disabled=disabled,
            problems=tuple(env.problems),
        )


class _Environment:
    """Variables, and what of them was not understood."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Ignored] = []

    def get(self, variable: Variable) -> str:
        return self._environ.get(variable.name, "").strip()

    def read(
        self,
        variable: Variable,
        understand: Callable[[str], T],
        general: Variable | None = None,
        *,
        used: bool = True,
    ) -> T:
        """What is understood of a variable, else of the more general one, else its default."""
        value = self.get(variable)
        if value and used:
            try:
                return understand(value)
            except ValueError as error:
                # Not what it is: it may be a secret that was meant for another variable.
                self.problems.append(Ignored(name=variable.name, instead=str(error)))
        if general:
            return self.read(general, understand, used=used)
        return understand(variable.default)


def metrics_url(host: str, port: int, scheme: str = "http") -> str:
    """The address of `/metrics` on a host, which may be an IPv6 address."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/metrics"


_PLAIN = frozenset(
    {"api", "insert", "metrics", "opentelemetry", "otlp", "traces", "v1", "v2", "write"}
)
"""Parts of the paths that receivers have; any other may be a token."""


_PLACE = re.compile(
    r"[\w.-]*(:\d*)?|\[[\w:.%]+\](:\d*)?|[\da-fA-F]*:[\da-fA-F]*:[\da-fA-F:.]*(%\w+)?"
)
"""A host and a port; what is left of a URL with a password that breaks it is neither."""


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: user, password, query, unusual parts of a path."""
    scheme, _, rest = url.partition("://") if "://" in url else ("", "", url)
    place, *path = re.split("[?#]", rest, maxsplit=1)[0].split("/")
    place = place.rpartition("@")[2]
    known = [part if part in _PLAIN else "..." for part in path if part]
    shown = "/".join([place if _PLACE.fullmatch(place) else "...", *known])
    return f"{scheme}://{shown}" if scheme else shown


def is_strict(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a wrong value of an application raises; a setting that is not understood is false."""
    return environ.get(STRICT.name, "").strip().lower() in _TRUE


def _exporters(env: _Environment) -> tuple[str, ...]:
    names = _names(env, OTEL_EXPORTER)
    if not names and any(env.get(v) for v in (OTEL_ENDPOINT, OTEL_METRICS_ENDPOINT)):
        names = ["otlp"]
    if "none" in names:
        names = []
    if env.read(PROMETHEUS_ENABLED, _boolean):
        names.insert(0, "prometheus")
    return tuple(dict.fromkeys(names))


def _trace_exporters(env: _Environment) -> tuple[str, ...]:
    names = _names(env, OTEL_TRACES_EXPORTER)
    general = env.get(OTEL_ENDPOINT)
    if not names and (env.get(OTEL_TRACES_ENDPOINT) or (general and _takes_spans(general))):
        names = ["otlp"]
    return () if "none" in names else tuple(dict.fromkeys(names))


def _takes_spans(endpoint: str) -> bool:
    """The receivers of Prometheus and VictoriaMetrics have paths of their own, for metrics only."""
    path = endpoint.partition("://")[2].partition("/")[2].removesuffix("/")
    return path != "opentelemetry" and not f"/{path}".endswith("/api/v1/otlp")


def _names(env: _Environment, variable: Variable) -> list[str]:
    return [name.strip() for name in env.get(variable).split(",") if name.strip()]


def _otlp_url(env: _Environment, protocol: str, own: Variable, path: str) -> str:
    general = env.get(OTEL_ENDPOINT)
    if protocol == "grpc":
        return env.get(own) or general or "http://localhost:4317"
    general = (general or OTEL_ENDPOINT.default).removesuffix("/")
    return env.get(own) or f"{general}/{path}"


def _attributes(value: str) -> dict[str, str]:
    """Resource attributes, as OpenTelemetry's SDK reads them."""
    pairs = (pair.partition("=") for pair in value.split(","))
    return {key.strip(): unquote(given.strip()) for key, _, given in pairs}


# Each raises ValueError, whose text says what would be understood.


def _boolean(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("true or false")


def _port(value: str) -> int:
    if value.isdecimal() and len(value) <= len(str(MAX_PORT)) and int(value) <= MAX_PORT:
        return int(value)
    raise ValueError("a port from 0 to 65535")


def _one_of(*words: str) -> Callable[[str], str]:
    def understand(value: str) -> str:
        if value and value.lower() not in words:
            raise ValueError(f"{', '.join(words[:-1])} or {words[-1]}")
        return value.lower()

    return understand


def _versions(value: str) -> tuple[str, ...]:
    named = {name.strip() for name in value.lower().split(",")}
    if named == {"off"}:
        return ()
    if not named <= {"0.1", "1.41"}:
        raise ValueError("0.1, 1.41, both with a comma, or off")
    return tuple(sorted(named))


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError("seconds, such as 1 or 0.5")
    return seconds
