"""The OpenTelemetry SDK from the environment, when nobody else set one up.

What we build is private and never becomes the global MeterProvider: that would refuse the
application's own, and swallow its metrics.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics

from victor_otel.health import Health
from victor_otel.recorder import Recorder, is_placeholder
from victor_otel.scope import CURRENT, ONE_SHOT, innermost
from victor_otel.settings import (
    EXIT_TIMEOUT,
    OTEL_EXPORTER,
    OTEL_RESOURCE_ATTRIBUTES,
    PROMETHEUS_PORT,
    Settings,
    metrics_url,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

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
            except Exception:
                logger.exception("victor-otel: an export failed.")
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
    exporters: list[Any] = field(default_factory=list[Any])
    server: Any = None
    flusher: Flusher | None = None
    """Present where something is exported."""

    def flush(self) -> bool:
        """The last export, bounded: a dead backend delays the exit by `exit_timeout` at most.

        Returns whether everything was delivered.
        """
        if self.flusher is None:
            return True
        finished = self.flusher.run(self.exit_timeout)
        delivered = finished and all(one.delivered for one in self.exporters)
        if not delivered:
            logger.error(
                "victor-otel: the last metrics could not be delivered within %g s (%s).",
                self.exit_timeout,
                EXIT_TIMEOUT.name,
            )
        return delivered

    def collect(self) -> None:
        """One export of every reader."""
        for reader in self.readers:
            reader.collect(timeout_millis=self.exit_timeout * 1000)

    def abandon(self) -> None:
        """In a forked child: the parent's socket must not stay open behind its back."""
        if self.server is not None:
            self.server.socket.close()


def connect(health: Health, provider: metrics.MeterProvider | None = None) -> Pipeline:
    """The pipeline for this process: the given provider, else the global one, else our own."""
    if provider is None:
        provider = metrics.get_meter_provider()
        settings = _settings()
        if is_placeholder(provider) and settings.exporters and not settings.config_file:
            return _build(settings, health)
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
    """In a forked child the windows of the parent are not ours; the provider's totals stay."""
    for _, recorder in _recorders.values():
        recorder.restart()


def _settings() -> Settings:
    settings = Settings.from_environment()
    for problem in settings.problems:
        logger.error("victor-otel: %s.", problem)
    return settings


def is_multiprocessing_child() -> bool:
    """Whether multiprocessing made this process, which then has imported it."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def lifetime(settings: Settings) -> str:
    """`short` for a process that is over before anyone could scrape it, else `long`."""
    if settings.lifetime != "auto":
        return settings.lifetime
    return "short" if innermost(CURRENT.get(), ONE_SHOT) is not None else "long"


def _build(settings: Settings, health: Health) -> Pipeline:
    from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider

    built = Pipeline(
        owner="victor-otel",
        recorder=None,  # pyright: ignore[reportArgumentType]
        lifetime=lifetime(settings),
        exit_timeout=settings.exit_timeout,
    )
    for name in settings.exporters:
        try:
            if name == "prometheus":
                _serve(built, settings, health)
            else:
                _push(built, name, settings, health)
        except Exception as error:
            logger.error("victor-otel: exporter %r of %s: %s", name, OTEL_EXPORTER.name, error)
    provider = MeterProvider(
        built.readers,
        resource=_resource(built.lifetime),
        exemplar_filter=AlwaysOffExemplarFilter(),
        shutdown_on_exit=False,
    )
    built.recorder = Recorder(provider, health, gauges=built.lifetime == "long")
    if built.exporters:
        built.flusher = Flusher(built.collect)
    return built


def _serve(built: Pipeline, settings: Settings, health: Health) -> None:
    if built.lifetime == "short":
        logger.warning("victor-otel: a short-lived process serves no /metrics; push by OTLP.")
        return
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server

    registry = _registry()
    host, port = settings.prometheus_host, settings.prometheus_port
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        health.endpoint_up = False
        logger.error(
            "victor-otel: %s:%d cannot be served (%s), so Prometheus does not observe this "
            "process. Set %s to another port (0 picks one), or push by OTLP, which suits "
            "several processes on one machine: OTEL_EXPORTER_OTLP_ENDPOINT.",
            host,
            port,
            error.strerror or error,
            PROMETHEUS_PORT.name,
        )
        return
    built.registry = registry
    for guest in _guests:
        registry.register(guest)
    built.server = server
    built.readers.append(PrometheusMetricReader(registry=registry, scope_info_enabled=False))
    built.endpoint = metrics_url(host, server.server_port)
    health.endpoint_up = True
    if port == 0:
        logger.warning("victor-otel: metrics are served at %s", built.endpoint)


def _registry() -> CollectorRegistry:
    """A registry that answers `name[]` for OpenTelemetry's reader, which names nothing before."""
    from prometheus_client import CollectorRegistry

    class Registry(CollectorRegistry):
        def restricted_registry(self, names: Iterable[str]) -> Any:
            return Chosen(self, frozenset(names))

    class Chosen:
        """The families, or series, of these names."""

        def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
            self._registry, self._names = registry, names

        def collect(self) -> Iterator[Any]:
            for family in self._registry.collect():
                samples = [
                    s for s in family.samples if not self._names.isdisjoint((s.name, family.name))
                ]
                if samples:
                    family.samples = samples
                    yield family

    return Registry()


def _push(built: Pipeline, name: str, settings: Settings, health: Health) -> None:
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    exporter = _exporter(name, settings, built.lifetime)
    if isinstance(exporter, MetricReader):
        built.readers.append(exporter)
        return
    counted = counting(exporter, health)
    built.exporters.append(counted)
    built.readers.append(PeriodicExportingMetricReader(counted))


def _exporter(name: str, settings: Settings, lifetime: str) -> Any:
    options: dict[str, Any] = {}
    if lifetime == "short" and not settings.temporality:
        options["preferred_temporality"] = _deltas()
    if name == "console":
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

        return ConsoleMetricExporter(out=sys.stderr, **options)
    if name == "otlp":
        name = f"otlp_proto_{'grpc' if settings.otlp_protocol == 'grpc' else 'http'}"
    group = importlib.metadata.entry_points(group="opentelemetry_metrics_exporter", name=name)
    for entry_point in group:
        return entry_point.load()(**options)
    raise LookupError("no installed package provides it; known are prometheus, otlp, console, none")


def _deltas() -> Mapping[type, Any]:
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    return dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA)


def counting(exporter: Any, health: Health) -> Any:
    """`exporter`, with its failures counted; silent in a forked child, where it is the parent's."""
    from opentelemetry.sdk.metrics import Counter
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        MetricExporter,
        MetricExportResult,
        MetricsData,
    )

    class CountingExporter(MetricExporter):
        def __init__(self) -> None:
            self.temporality = dict(exporter._preferred_temporality or {})  # noqa: SLF001
            super().__init__(
                preferred_temporality=self.temporality,
                preferred_aggregation=exporter._preferred_aggregation,  # noqa: SLF001
            )
            self.delivered = True
            self._pid = os.getpid()
            self._said = False

        def export(
            self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
        ) -> MetricExportResult:
            if os.getpid() != self._pid:
                return MetricExportResult.SUCCESS
            try:
                result = exporter.export(metrics_data, timeout_millis=timeout_millis, **kwargs)
            except BaseException:
                self.delivered = False
                raise
            # Not before: the next export may have begun when `flush` asks for the last one.
            self.delivered = result is MetricExportResult.SUCCESS
            if not self.delivered:
                self._failed()
            return result

        def _failed(self) -> None:
            health.add_dropped_export()
            delta = self.temporality.get(Counter) is AggregationTemporality.DELTA
            if delta and not self._said:
                self._said = True
                logger.error(
                    "victor-otel: the backend did not accept a push of deltas. They need a "
                    "Collector that accumulates (ours, collector/config.yaml); Prometheus's own "
                    "OTLP receiver stores none."
                )

        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            return exporter.force_flush(timeout_millis)

        def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
            exporter.shutdown(timeout_millis, **kwargs)

    return CountingExporter()


def _resource(lifetime: str) -> Any:
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create()
    ours: dict[str, str] = {}
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        ours["service.name"] = "victor"
    named = resource.attributes.get(_INSTANCE)
    if lifetime == "short":
        ours["victor.process.lifetime"] = "short"
    elif named is None:
        ours[_INSTANCE] = str(uuid.uuid4())
    elif os.getpid() != _IMPORTED_BY or is_multiprocessing_child():
        ours[_INSTANCE] = f"{named}-{os.getpid()}"
    else:
        logger.warning(
            "victor-otel: this process is %r, as %s says, and so is any other with this "
            "environment: they would overwrite each other's numbers. Leave %s out where there may "
            "be several.",
            named,
            OTEL_RESOURCE_ATTRIBUTES.name,
            _INSTANCE,
        )
    return resource.merge(Resource(ours))


_INSTANCE = "service.instance.id"
_IMPORTED_BY = os.getpid()
"""Another process than this one: we are its fork, and have its environment."""
