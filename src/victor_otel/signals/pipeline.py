"""The OpenTelemetry SDK from the environment, when nobody else set one up.

What we build is private and never becomes the global MeterProvider: that would refuse the
application's own, and swallow its metrics.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.cautions import cautions, is_provided, misspelt
from victor_otel.signals.recorder import Recorder, is_placeholder
from victor_otel.signals.settings import (
    INSTANCE,
    PROMETHEUS_HOST,
    PROMETHEUS_PORT,
    PROMETHEUS_WEB_CONFIG,
    Settings,
    shown_url,
)

if TYPE_CHECKING:
    from victor_otel.signals.delivery import Delivering
    from victor_otel.signals.endpoint import Endpoint

logger = logging.getLogger("victor_otel")

_recorders: dict[int, tuple[metrics.MeterProvider, Recorder]] = {}
"""One recorder for each provider that is not ours, by its identity: its instruments exist once."""


_guests: list[Any] = []
"""Collectors of prometheus_client that share every endpoint of ours."""


class Flusher:
    """Runs `work` when asked, on a thread that exists beforehand.

    CPython 3.12.0 to 3.12.2 starts no thread once the interpreter shuts down, and that is
    when the last export is made.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._asked: SimpleQueue[threading.Event] = SimpleQueue()
        threading.Thread(target=self._serve, name="victor-otel-flush", daemon=True).start()

    def run(self, timeout: float) -> bool:
        """Whether `work` ended within `timeout` seconds; a slow one goes on by itself."""
        ended = threading.Event()
        self._asked.put(ended)
        return ended.wait(timeout)

    def _serve(self) -> None:
        while True:
            ended = self._asked.get()
            try:
                self._work()
            except Exception as error:
                logger.error("victor-otel: an export failed.\n%s", failsafe.shown(error))
            ended.set()


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
    readers: list[Any] = field(default_factory=list[Any])
    exporters: dict[Any, Delivering] = field(default_factory=dict[Any, "Delivering"])
    """By their readers, which are among `readers`."""
    server: Endpoint | None = None
    flusher: Flusher | None = None
    """Present where something is exported."""
    _collected: set[Any] = field(default_factory=set[Any])
    """The readers whose last export has ended."""

    def flush(self) -> bool:
        """The last export, bounded: a dead backend delays the exit by `exit_timeout` at most.

        Returns whether everything was delivered.
        """
        if self.flusher is None:
            return True
        for exporter in self.exporters.values():
            exporter.expect_the_last()
        self._collected.clear()
        self.flusher.run(self.exit_timeout)
        ends = [
            exporter.end(finished=reader in self._collected)
            for reader, exporter in list(self.exporters.items())
        ]
        return all(ends)

    def collect(self) -> None:
        """One export of every reader."""
        for reader in self.readers:
            reader.collect(timeout_millis=self.exit_timeout * 1000)
            self._collected.add(reader)

    def abandon(self) -> None:
        """In a forked child: the parent's socket must not stay open behind its back."""
        if self.server is not None:
            self.server.abandon()


def connect(
    health: Health, provider: metrics.MeterProvider | None = None, *, one_shot: bool = False
) -> Pipeline:
    """The pipeline for this process: the given provider, else the global one, else our own.

    A process with `one_shot` gives one answer and is over.
    """
    if provider is None:
        provider = metrics.get_meter_provider()
        settings = Settings.from_environment()
        for problem in settings.problems:
            logger.error("victor-otel: %s.", problem)
        if is_placeholder(provider) and not settings.config_file:
            lived = lifetime(settings, one_shot=one_shot)
            _warn(settings, lived)
            if settings.exporters:
                return _build(settings, health, lived)
    owner = "nobody" if is_placeholder(provider) else "application"
    return Pipeline(owner=owner, recorder=_recorder_of(provider, health))


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
        asked = settings.exporters
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
    from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider

    built = Pipeline(
        owner="victor-otel",
        recorder=None,  # pyright: ignore[reportArgumentType]
        lifetime=lifetime,
        exit_timeout=settings.exit_timeout,
    )
    for name in filter(is_provided, settings.exporters):
        try:
            if name == "prometheus":
                _serve(built, settings, health)
            else:
                _push(built, name, settings, health)
        except Exception as error:
            logger.error(
                "victor-otel: the exporter %s cannot be made.\n%s", name, failsafe.shown(error)
            )
    provider = MeterProvider(
        built.readers,
        resource=_resource(built.lifetime, settings.instance),
        exemplar_filter=AlwaysOffExemplarFilter(),
        shutdown_on_exit=False,
    )
    built.recorder = Recorder(provider, health, gauges=built.lifetime == "long")
    if built.exporters:
        built.flusher = Flusher(built.collect)
    return built


def _serve(built: Pipeline, settings: Settings, health: Health) -> None:
    if built.lifetime == "short":
        return
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
        return
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
        return
    built.registry = registry
    for guest in _guests:
        registry.register(guest)
    built.server = server
    built.readers.append(PrometheusMetricReader(registry=registry, scope_info_enabled=False))
    built.endpoint = server.url
    health.endpoint_up = True
    if port == 0:
        logger.warning("victor-otel: metrics are served at %s", built.endpoint)


def _push(built: Pipeline, name: str, settings: Settings, health: Health) -> None:
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    from victor_otel.signals.delivery import Delivering

    made = exporter(name, settings, built.lifetime)
    if isinstance(made, MetricReader):
        built.readers.append(made)
        return

    class Reader(PeriodicExportingMetricReader):
        def _at_fork_reinit(self) -> None:
            """No thread for it in a child, which builds a pipeline of its own."""

    where = shown_url(settings.otlp_url) if name == "otlp" else f"the exporter {name}"
    delivering = Delivering(made, where, health)
    reader = Reader(delivering)
    built.exporters[reader] = delivering
    built.readers.append(reader)


def exporter(name: str, settings: Settings, lifetime: str) -> Any:
    """The exporter of a name, which `is_provided`, as the environment configures it."""
    options: dict[str, Any] = {}
    if lifetime == "short" and settings.temporality != "cumulative":
        options["preferred_temporality"] = _deltas()
    if name == "console":
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

        return ConsoleMetricExporter(out=sys.stderr, **options)
    if name == "otlp":
        name = f"otlp_proto_{'grpc' if settings.otlp_protocol == 'grpc' else 'http'}"
    (entry_point, *_) = importlib.metadata.entry_points(
        group="opentelemetry_metrics_exporter", name=name
    )
    return entry_point.load()(**options)


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
