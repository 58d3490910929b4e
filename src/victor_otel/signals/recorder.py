"""Records values of metrics into one MeterProvider, each by the instrument of its kind."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.model.metric import Kind, Metric
from victor_otel.signals import forks
from victor_otel.signals.instruments import (
    LARGEST,
    WINDOWED,
    Distribution,
    Instrument,
    Nothing,
    Observed,
    Read,
    Reading,
    Total,
    Value,
    Windowed,
)
from victor_otel.signals.labelsets import Bounds
from victor_otel.version import __version__

_SCOPE = "victor_otel"
_GAUGES = frozenset({Kind.GAUGE, Kind.UPDOWN, *WINDOWED})
_NEVER_NEGATIVE = frozenset({Kind.COUNTER, Kind.HISTOGRAM})
_KEPT = {Kind.COUNTER: Total, Kind.UPDOWN: Total, Kind.GAUGE: Value}


class Recorder:
    """The `Record` that observers get.

    It lives as long as the provider: a second instrumentation continues its totals. While
    the provider is the API's placeholder nobody listens, and recording is left out.
    """

    def __init__(
        self, provider: metrics.MeterProvider, health: Health, *, gauges: bool = True
    ) -> None:
        self._health = health
        self._gauges = gauges
        self._provider = provider  # of a private one nobody else keeps hold
        self._live = not is_placeholder(provider)
        self._stuck = False
        self.on_live: Callable[[], None] = lambda: None
        """Called when an application sets a provider where there was none."""
        self._meter = provider.get_meter(_SCOPE, __version__)
        self._bounds = Bounds()
        self._lock = threading.Lock()
        self._instruments: dict[Metric, Instrument] = {}

    def __call__(
        self, metric: Metric, value: float = 1, total: float = 1, /, **labels: object
    ) -> None:
        if not self.listens():
            return
        # What is plainly a number needs no look at what it may be else.
        if not ((type(value) is float or type(value) is int) and 0 <= value <= LARGEST):
            number = self.checked(metric, value)
            if number is None:
                return
            value = number
        instrument = self._instruments.get(metric)
        if instrument is None:
            instrument = self.instrument(metric)
        instrument.add(value, total, labels)

    def declare(self, declared: Sequence[Metric], fed: Iterable[Metric] = ()) -> None:
        """Creates the instruments of what is recorded, and the counters that start at 0.

        A collection does deferred work first, and holds the lock that the SDK wants for a new
        instrument: what deferred work can record has its instrument before that. `fed` are
        the metrics whose hooks are bound; counters without open labels start at 0.
        """
        for metric in declared:
            if metric.kind is not Kind.HISTOGRAM:
                instrument = self.instrument(metric)
                if isinstance(instrument, Windowed):
                    instrument.declare()
        for metric in fed:
            if metric.starts_at_zero:
                instrument = self.instrument(metric)
                if isinstance(instrument, Total):
                    # Also while nobody listens: whoever comes later sees them from his first look.
                    instrument.start_at_zero()

    def leave_out(self, unwanted: Iterable[Metric]) -> None:
        """Records nothing of these metrics, whoever records them."""
        for metric in unwanted:
            self._instruments[metric] = Nothing()

    def observe(self, metric: Metric, read: Read) -> None:
        """Has `read` asked at each collection; replaces an earlier `read` of the metric."""
        instrument = self.instrument(metric, Reading)
        if isinstance(instrument, Reading):
            instrument.read = read

    def silence(self) -> None:
        """Ends all readings and gauges; totals stay."""
        for instrument in self._instruments.values():
            instrument.silence()

    def restart(self) -> None:
        """In a forked child: nothing is counted yet, and no other thread holds a lock.

        Where the locks of the provider are not known, nothing is recorded from now on.
        """
        self._lock = threading.Lock()
        self._bounds.restart()
        for instrument in self._instruments.values():
            instrument.restart()
        self._stuck = self._live and not forks.renew(self._meter, _SCOPE)
        if self._stuck:
            failsafe.logger.warning(
                "victor-otel: a fork copied a MeterProvider that is not OpenTelemetry's SDK; this "
                "child (pid %d) records nothing, since that could wait for ever for a lock. "
                "Set the provider after the fork.",
                os.getpid(),
            )

    def is_unheard(self) -> bool:
        """Whether nobody listens: the API's placeholder is still what we record into."""
        return not self._live and is_placeholder(metrics.get_meter_provider())

    def listens(self) -> bool:
        """Whether what is recorded reaches anybody."""
        return not self._stuck and (self._live or self._is_live())

    def _is_live(self) -> bool:
        """Whether the application has set a provider behind the placeholder since."""
        if not is_placeholder(metrics.get_meter_provider()):
            self._live = True
            self.on_live()
        return self._live

    def instrument(self, metric: Metric, kind: Any = None) -> Instrument:
        """The instrument of a metric; `kind` is its class where it is none of its own."""
        instrument = self._instruments.get(metric)
        if instrument is None:
            with self._lock:
                instrument = self._instruments.get(metric)
                if instrument is None:
                    instrument = self._instruments[metric] = self._created(metric, kind)
        return instrument

    def _created(self, metric: Metric, kind: Any) -> Instrument:
        if metric.kind in _GAUGES and not self._gauges:
            return Nothing()
        if metric.kind is Kind.HISTOGRAM:
            histogram = self._meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.meaning,
                explicit_bucket_boundaries_advisory=metric.buckets,
            )
            return Distribution(metric, self._bounds, self._health, histogram.record)
        if kind is None:
            kind = _KEPT.get(metric.kind, Windowed)
        instrument: Any = kind(metric, self._bounds, self._health)
        create = {
            Kind.COUNTER: self._meter.create_observable_counter,
            Kind.UPDOWN: self._meter.create_observable_up_down_counter,
        }.get(metric.kind, self._meter.create_observable_gauge)
        create(
            metric.name,
            callbacks=[lambda options: self._collect(metric, instrument, options)],
            unit=metric.unit,
            description=metric.meaning,
        )
        return instrument

    def _collect(
        self, metric: Metric, instrument: Observed, _options: CallbackOptions
    ) -> list[Observation]:
        try:
            failsafe.drain(self._health)
            return [
                Observation(number, labels)
                for value, labels in instrument.points()
                if (number := self.checked(metric, value)) is not None
            ]
        except Exception as error:
            failsafe.caught(self._health, metric.name, error)
            return []

    def checked(self, metric: Metric, value: float) -> float | None:
        """A number that every exporter can bear; what is none is accounted for as our error.

        Much of it is what Victor, its tools and its providers say: one NaN would stay in a total
        for ever, and one number that is too large would end all exports.
        """
        number = _number(value)
        if metric.unit == "s" and -LARGEST <= number < 0:
            number = 0  # a clock was set back, which must not cost a count
        least = 0 if metric.kind in _NEVER_NEGATIVE else -LARGEST
        if least <= number <= LARGEST:
            return number
        failsafe.caught(self._health, metric.name, ValueError(f"{metric.name}: not such a number"))
        return None


def _number(value: object) -> float:
    """A number as the SDK knows it, NaN for what is none; numpy's and a boolean become a float."""
    kind = type(value)
    if kind is int or kind is float:
        return value  # pyright: ignore[reportReturnType]
    if kind is bool:
        return 1.0 if value else 0.0
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except Exception:  # it says that it is a number
        return math.nan


def is_placeholder(provider: object) -> bool:
    """Whether `provider`, of metrics or of spans, is what the API gives until one is set."""
    return type(provider).__name__ in {"_ProxyMeterProvider", "ProxyTracerProvider"}
