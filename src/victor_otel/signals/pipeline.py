"""The OpenTelemetry SDK from the environment, when nobody else set one up.

What we build is private and never becomes the global MeterProvider: that would refuse the
application's own, and swallow its metrics.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics, trace

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.cautions import METRICS, cautions, is_provided, misspelt, provided
from victor_otel.signals.contents import Contents, contents
from victor_otel.signals.recorder import Recorder, is_placeholder
from victor_otel.signals.settings import (
    CAPTURE,
    GENAI,
    INSTANCE,
    PROMETHEUS_HOST,
    PROMETHEUS_PORT,
    PROMETHEUS_WEB_CONFIG,
    USER_IDS,
    Settings,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from victor_otel.signals.delivery import Outlet
    from victor_otel.signals.endpoint import Endpoint

logger = logging.getLogger("victor_otel")

_recorders: dict[int, tuple[metrics.MeterProvider, Recorder]] = {}
"""One recorder for each provider that is not ours, by its identity: its instruments exist once."""


_guests: list[Any] = []
"""Collectors of prometheus_client that share every endpoint of ours."""


@dataclass(kw_only=True)
class Pipeline:
    """Where the data goes. `owner`: application, victor-otel, or nobody (yet)."""

    owner: str
    recorder: Recorder
    lifetime: str = "long"
    endpoint: str | None = None
    """The address that Prometheus scrapes."""
    registry: Any = None
    """The prometheus_client registry behind `endpoint`."""
    exit_timeout: float = 1.0
    tracer_provider: TracerProvider | None = None
    """The private one, where the environment asks for spans."""
    outlets: list[Outlet] = field(default_factory=list["Outlet"])
    """By which something is pushed."""
    server: Endpoint | None = None
    genai: tuple[str, ...] = ()
    """The versions of the GenAI conventions that metrics follow."""
    user_ids: bool = False
    """Whether spans say who a client of Victor's API is."""
    contents: Contents | None = None
    """What becomes of what was said; None, as nearly always, for nothing."""

    @property
    def private(self) -> bool:
        """Whether something of it is ours, so that nobody else keeps and ends it."""
        return self.owner == "victor-otel" or self.tracer_provider is not None

    def flush(self) -> bool:
        """The last export of all signals: a dead backend delays the exit by `exit_timeout` at most.

        Returns whether everything was delivered.
        """
        ended = [(outlet, outlet.begin()) for outlet in self.outlets]
        deadline = time.monotonic() + self.exit_timeout
        delivered = True
        for outlet, event in ended:
            finished = event.wait(max(0.0, deadline - time.monotonic()))
            followed = outlet.followed
            delivered &= finished if followed is None else followed.end(finished=finished)
        return delivered

    def abandon(self) -> None:
        """In a forked child: the parent's socket must not stay open behind its back."""
        if self.server is not None:
            self.server.abandon()
        for outlet in self.outlets:
            outlet.abandon()


def connect(
    health: Health, provider: metrics.MeterProvider | None = None, *, one_shot: bool = False
) -> Pipeline:
    """The pipeline for this process: the given provider, else the global one, else our own.

    A process with `one_shot` gives one answer and is over.
    """
    settings = Settings.from_environment()
    for problem in settings.problems:
        # Others do not matter to a provider of the application's.
        if provider is None or problem.name in {GENAI.name, CAPTURE.name, USER_IDS.name}:
            logger.error("victor-otel: %s.", problem)
    if provider is not None:
        connected = _of(provider, health)
    elif settings.config_file:
        connected = _of(metrics.get_meter_provider(), health)
    else:
        connected = _of_environment(settings, health, lifetime(settings, one_shot=one_shot))
    connected.genai = settings.genai
    connected.user_ids = settings.user_ids
    connected.contents = contents(settings)
    return connected


def _of(provider: metrics.MeterProvider, health: Health) -> Pipeline:
    """The pipeline of a provider that is not ours."""
    owner = "nobody" if is_placeholder(provider) else "application"
    return Pipeline(owner=owner, recorder=_recorder_of(provider, health))


def _of_environment(settings: Settings, health: Health, lifetime: str) -> Pipeline:
    """What the application has not set up for itself, as the environment asks for it."""
    provider = metrics.get_meter_provider()
    is_ours = is_placeholder(provider)
    if is_ours:
        _warn(settings, lifetime)
    if is_ours and settings.exporters:
        built = _build(settings, health, lifetime)
    else:
        built = _of(provider, health)
    if settings.trace_exporters and is_placeholder(trace.get_tracer_provider()):
        from victor_otel.signals import traces

        resource = _resource(lifetime, settings.instance)
        built.tracer_provider, outlets = traces.connect(settings, resource, health)
        built.exit_timeout = settings.exit_timeout
        built.outlets += outlets
    return built


def _recorder_of(provider: Any, health: Health) -> Recorder:
    """The one recorder of a provider, which may be neither hashable nor weakly referable."""
    known = _recorders.get(id(provider))
    if known is None:
        known = _recorders[id(provider)] = (provider, Recorder(provider, health))
    return known[1]


def host(collector: Any, pipeline: Pipeline | None) -> None:
    """Shows a prometheus_client collector on our endpoint, the present and any later one.

    Raises:
        ValueError: for a name that is taken there.
    """
    if collector in _guests:
        return
    if pipeline is not None and pipeline.registry is not None:
        pipeline.registry.register(collector)
    _guests.append(collector)


def after_fork() -> None:
    """In a forked child what the parent recorded is not ours, though the provider is."""
    for _, recorder in _recorders.values():
        recorder.restart()


def _warn(settings: Settings, lifetime: str) -> None:
    """Says once what the settings make impossible, also where they ask for nothing by a slip."""
    if not _is_child():  # a parent has said it
        asked = settings.exporters or settings.trace_exporters
        for caution in cautions(settings, lifetime) if asked else misspelt():
            level = logging.ERROR if caution.lost else logging.WARNING
            logger.log(level, "victor-otel: %s", caution)


def is_multiprocessing_child() -> bool:
    """Whether multiprocessing made this process, which then has imported it."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def lifetime(settings: Settings, *, one_shot: bool) -> str:
    """`short` for a process that is over before anyone could scrape it, else `long`."""
    if settings.lifetime != "auto":
        return settings.lifetime
    return "short" if one_shot else "long"


def _build(settings: Settings, health: Health, lifetime: str) -> Pipeline:
    from opentelemetry.sdk.metrics import (
        AlwaysOffExemplarFilter,
        MeterProvider,
        TraceBasedExemplarFilter,
    )

    built = Pipeline(
        owner="victor-otel",
        recorder=None,  # pyright: ignore[reportArgumentType]
        lifetime=lifetime,
        exit_timeout=settings.exit_timeout,
    )
    readers: list[Any] = []
    for name in filter(is_provided, settings.exporters):
        try:
            if name == "prometheus":
                readers += _serve(built, settings, health)
            else:
                readers.append(_push(built, name, settings, health))
        except Exception as error:
            logger.error(
                "victor-otel: the exporter %s cannot be made.\n%s", name, failsafe.shown(error)
            )
    provider = MeterProvider(
        readers,
        resource=_resource(built.lifetime, settings.instance),
        # Without spans there is nothing that an exemplar could name.
        exemplar_filter=AlwaysOffExemplarFilter()
        if is_placeholder(trace.get_tracer_provider()) and not settings.trace_exporters
        else TraceBasedExemplarFilter(),
        shutdown_on_exit=False,
    )
    built.recorder = Recorder(provider, health, gauges=built.lifetime == "long")
    return built


def _serve(built: Pipeline, settings: Settings, health: Health) -> list[Any]:
    """The reader of the endpoint, unless that cannot be served."""
    if built.lifetime == "short":
        return []
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    from victor_otel.signals.endpoint import Endpoint, Registry
    from victor_otel.signals.webconfig import WebConfigError

    registry = Registry()
    host, port = settings.prometheus_host, settings.prometheus_port
    try:
        server = Endpoint(host, port, registry, health, settings.web_config)
    except WebConfigError as error:
        health.endpoint_up = False
        logger.error(
            "victor-otel: /metrics is not served, and not openly instead, since %s is wrong: %s.",
            PROMETHEUS_WEB_CONFIG.name,
            error,
        )
        return []
    except (OSError, UnicodeError) as error:
        health.endpoint_up = False
        unresolved = isinstance(error, (socket.gaierror, UnicodeError))
        logger.error(
            "victor-otel: %s:%d cannot be served (%s), so Prometheus does not observe this "
            "process. Set %s to another port (0 picks one), or push by OTLP, which suits "
            "several processes on one machine: OTEL_EXPORTER_OTLP_ENDPOINT.",
            PROMETHEUS_HOST.name if unresolved else host,
            port,
            getattr(error, "strerror", None) or type(error).__name__,
            PROMETHEUS_PORT.name,
        )
        return []
    built.registry = registry
    for guest in _guests:
        registry.register(guest)
    built.server = server
    built.endpoint = server.url
    health.endpoint_up = True
    if port == 0:
        logger.warning("victor-otel: metrics are served at %s", built.endpoint)
    return [PrometheusMetricReader(registry=registry, scope_info_enabled=False)]


def _push(built: Pipeline, name: str, settings: Settings, health: Health) -> Any:
    """The reader of an exporter of metrics."""
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    from victor_otel.signals.delivery import Delivering, Outlet, place

    made = exporter(name, settings, built.lifetime)
    if isinstance(made, MetricReader):
        built.outlets.append(Outlet(partial(made.collect, built.exit_timeout * 1000)))
        return made

    class Reader(PeriodicExportingMetricReader):
        def _at_fork_reinit(self) -> None:
            """No thread for it in a child, which builds a pipeline of its own."""

    delivering = Delivering(made, place(name, settings.otlp_url), health)
    reader = Reader(delivering)
    built.outlets.append(Outlet(partial(reader.collect, built.exit_timeout * 1000), delivering))
    return reader


def exporter(name: str, settings: Settings, lifetime: str) -> Any:
    """The exporter of a name, which `is_provided`, as the environment configures it."""
    options: dict[str, Any] = {}
    if lifetime == "short" and settings.temporality != "cumulative":
        options["preferred_temporality"] = _deltas()
    if name == "console":
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

        return ConsoleMetricExporter(out=sys.stderr, **options)
    return provided(name, METRICS, settings.otlp_protocol)(**options)


def _deltas() -> Mapping[type, Any]:
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    return dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA)


def _resource(lifetime: str, named: str) -> Any:
    """What tells this process from others, of which some may have its environment."""
    from opentelemetry.sdk.resources import Resource

    # Not by the SDK's detectors, which tell the command line, its paths and the user as well.
    found = Resource({"host.name": socket.gethostname(), "process.pid": os.getpid()})
    resource = _encodable(found.merge(Resource.create()))
    ours: dict[str, str] = {}
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        ours["service.name"] = "victor"
    if lifetime == "short":
        ours["victor.process.lifetime"] = "short"
    if named and _is_child():
        ours[INSTANCE] = f"{named}-{os.getpid()}"
    return resource.merge(Resource(ours))


def _is_child() -> bool:
    """Whether we are a fork, or one of multiprocessing's: with our parent's environment."""
    return os.getpid() != _IMPORTED_BY or is_multiprocessing_child()


def _encodable(resource: Any) -> Any:
    """Without bytes of the environment that are no text: they would break every export."""
    from opentelemetry.sdk.resources import Resource

    def clean(value: Any) -> Any:
        return value.encode(errors="replace").decode() if isinstance(value, str) else value

    attributes = {clean(key): clean(value) for key, value in resource.attributes.items()}
    return Resource(attributes, resource.schema_url)


_IMPORTED_BY = os.getpid()
