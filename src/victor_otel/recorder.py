"""From a `Metric` to an OpenTelemetry instrument: label bounds, windows, zero siblings."""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from victor_otel import failsafe
from victor_otel.health import Health
from victor_otel.spec import MAX_LENGTH, OTHER, Kind, Label, Metric
from victor_otel.version import __version__
from victor_otel.windows import Window

Points = Iterable[tuple[float, Mapping[str, str]]]
Read = Callable[[], Points]

MAX_LABEL_SETS = 1800
"""Label sets of one instrument. The SDK itself folds all beyond 2,000 into one point."""

_WINDOWED = {Kind.RATIO: Window.ratio, Kind.RATE: Window.rate, Kind.LATEST: Window.last}
_GAUGES = frozenset({Kind.GAUGE, Kind.UPDOWN, *_WINDOWED})


class Replaced(enum.Enum):
    """Why a label value is recorded as `other`."""

    NOT = enum.auto()
    CAPPED = enum.auto()
    """A name that is too long, or one more than the label keeps."""
    UNDECLARED = enum.auto()
    """Not in the closed set of the label, or not given: Victor or we have moved."""


class Bounds:
    """The values in use of every `Label`, shared by all metrics that carry it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Label, set[str]] = {}

    def apply(self, label: Label, value: object) -> tuple[str, Replaced]:
        """The value to record, and why it is not the given one."""
        text = str.__str__(value) if isinstance(value, str) else ""
        if label.closed:
            declared = text in label.values or text == OTHER
            why = Replaced.NOT if declared or label.others else Replaced.UNDECLARED
            return (text if declared else OTHER), why
        if text and len(text) <= MAX_LENGTH and self._is_kept(label, text):
            return text, Replaced.NOT
        return OTHER, Replaced.CAPPED

    def _is_kept(self, label: Label, text: str) -> bool:
        known = self._known.get(label)
        if known is not None and text in known:
            return True
        if not _encodable(text):
            return False
        with self._lock:
            known = self._known.setdefault(label, set())
            if len(known) < label.limit or text in known or text == OTHER:
                known.add(text)
                return True
        return False


class Recorder:
    """Records values of metrics into one MeterProvider; the `Record` that observers get.

    It lives as long as the provider: a second instrumentation continues its totals. While
    the provider is the API's placeholder nobody listens, and recording is left out.

    Totals and gauges are kept here and observed: that costs a third of a call of the SDK's
    counter, and the SDK's gauge forgets its value with the first collection.
    """

    def __init__(
        self, provider: metrics.MeterProvider, health: Health, *, gauges: bool = True
    ) -> None:
        self._health = health
        self._gauges = gauges
        self._provider = provider  # of a private one nobody else keeps hold
        self._live = not is_placeholder(provider)
        self.on_live: Callable[[], None] = lambda: None
        """Called when an application sets a provider where there was none."""
        self._meter = provider.get_meter("victor_otel", __version__)
        self._bounds = Bounds()
        self._lock = threading.Lock()
        self._histograms: dict[Metric, Callable[..., None]] = {}
        self._sets: dict[Metric, dict[tuple[str, ...], dict[str, str]]] = {}
        self._given: dict[tuple[Metric, tuple[tuple[str, object], ...]], dict[str, str]] = {}
        self._seen: set[tuple[Metric, tuple[str, ...]]] = set()
        self._windows: dict[Metric, dict[tuple[str, ...], Window]] = {}
        self._values: dict[Metric, dict[tuple[str, ...], float]] = {}
        self._reads: dict[Metric, Read] = {}

    def __call__(
        self, metric: Metric, value: float = 1, total: float = 1, /, **labels: object
    ) -> None:
        if not (self._live or self._is_live()):
            return
        if metric.kind in _GAUGES and not self._gauges:
            return
        attributes = self._attributes(metric, labels)
        if metric.kind in _WINDOWED:
            self._window(metric, tuple(attributes.values())).add(float(value), total)
        elif metric.kind is Kind.GAUGE:
            self._kept(metric)[tuple(attributes.values())] = value
        elif metric.kind is Kind.HISTOGRAM:
            self._histogram(metric)(value, attributes)
        else:
            self._add(metric, attributes, value)

    def declare(self, declared: Sequence[Metric], fed: Iterable[Metric] = ()) -> None:
        """Creates the instruments of what is recorded, and the counters that start at 0.

        A collection does deferred work first, and holds the lock that the SDK wants for a new
        instrument: what deferred work can record has its instrument before that. `fed` are
        the metrics whose hooks are bound; counters without open labels start at 0.
        """
        for metric in declared:
            if metric.kind in _WINDOWED and self._gauges:
                if metric.kind is Kind.RATE:
                    self._window(metric, ())
                self.observe(metric, lambda metric=metric: self._read_windows(metric))
            elif metric.kind in {Kind.COUNTER, Kind.GAUGE}:
                self._kept(metric)
        for metric in fed:
            observed = metric in self._reads and metric not in self._values
            if metric.starts_at_zero and not observed:
                # Also while nobody listens: whoever comes later sees them from his first look.
                for values in itertools.product(*(label.values for label in metric.labels)):
                    labels = dict(zip(_names(metric.labels), values, strict=True))
                    self._add(metric, self._attributes(metric, labels), 0)

    def observe(self, metric: Metric, read: Read) -> None:
        """Has `read` asked at each collection; replaces an earlier `read` of the metric."""
        if metric.kind in _GAUGES and not self._gauges:
            return
        known = metric in self._reads
        self._reads[metric] = read
        if not known:
            create = {
                Kind.COUNTER: self._meter.create_observable_counter,
                Kind.UPDOWN: self._meter.create_observable_up_down_counter,
            }.get(metric.kind, self._meter.create_observable_gauge)
            create(
                metric.name,
                callbacks=[lambda options: self._collect(metric, options)],
                unit=metric.unit,
                description=metric.meaning,
            )

    def silence(self) -> None:
        """Ends all readings; totals stay."""
        for metric in self._reads:
            if metric.kind is not Kind.COUNTER or metric not in self._values:
                self._values.pop(metric, None)
                self._reads[metric] = lambda: ()

    def restart(self) -> None:
        """In a forked child: empty windows, and locks that no other thread holds."""
        self._lock = threading.Lock()
        self._bounds = Bounds()
        self._windows.clear()
        self.silence()

    def _is_live(self) -> bool:
        """Whether the application has set a provider behind the placeholder since."""
        if not is_placeholder(metrics.get_meter_provider()):
            self._live = True
            self.on_live()
        return self._live

    def _collect(self, metric: Metric, _options: CallbackOptions) -> list[Observation]:
        try:
            failsafe.drain(self._health)
            return [
                Observation(value, self._attributes(metric, labels))
                for value, labels in self._reads[metric]()
            ]
        except Exception as error:
            failsafe.caught(self._health, metric.name, error)
            return []

    def _histogram(self, metric: Metric) -> Callable[..., None]:
        histogram = self._histograms.get(metric)
        if histogram is not None:
            return histogram
        with self._lock:
            created = self._meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.meaning,
                explicit_bucket_boundaries_advisory=metric.buckets,
            )
            return self._histograms.setdefault(metric, created.record)

    def _add(self, metric: Metric, attributes: dict[str, str], value: float) -> None:
        values = self._kept(metric)
        if metric.siblings:
            self._create_siblings(metric, attributes, values)
        key = tuple(attributes.values())
        with self._lock:
            values[key] = values.get(key, 0) + value

    def _kept(self, metric: Metric) -> dict[tuple[str, ...], float]:
        """The totals of a counter, or the values of a gauge, that collections read."""
        values = self._values.get(metric)
        if values is None:
            values = self._values.setdefault(metric, {})
            self.observe(metric, lambda: self._read_values(metric))
        return values

    def _read_values(self, metric: Metric) -> Points:
        for key, value in list(self._values.get(metric, {}).items()):
            yield value, dict(zip(_names(metric.labels), key, strict=True))

    def _attributes(self, metric: Metric, labels: Mapping[str, object]) -> dict[str, str]:
        given = metric, tuple(labels.items())
        try:
            known = self._given.get(given)
        except TypeError:  # not hashable, so no name
            return self._bounded(metric, labels)
        if known is not None:
            return known
        attributes = self._bounded(metric, labels)
        if attributes == labels:  # what was replaced is not remembered: there is no end to it
            self._given[given] = attributes
        return attributes

    def _bounded(self, metric: Metric, labels: Mapping[str, object]) -> dict[str, str]:
        """The label set to record under: the given one, where no bound replaces a value."""
        values: list[str] = []
        replaced = Replaced.NOT
        for label in metric.labels:
            if label.name not in labels:
                value, why = OTHER, Replaced.UNDECLARED
            else:
                value, why = self._bounds.apply(label, labels[label.name])
            if why is Replaced.UNDECLARED:
                self._undeclared(metric, label)
            elif why is Replaced.CAPPED:
                replaced = why
            values.append(value)
        key = tuple(values)
        sets = self._sets.setdefault(metric, {})
        attributes = sets.get(key)
        if attributes is None:
            if len(sets) >= MAX_LABEL_SETS:
                replaced = Replaced.CAPPED
                key = tuple(
                    value if label.closed else OTHER
                    for label, value in zip(metric.labels, values, strict=True)
                )
            attributes = sets.setdefault(key, dict(zip(_names(metric.labels), key, strict=True)))
        if replaced is Replaced.CAPPED:
            self._cap(metric)
        return attributes

    def _undeclared(self, metric: Metric, label: Label) -> None:
        """Says which label, never the value: it could be content."""
        if failsafe.STRICT:
            raise ValueError(f"{metric.name}: a value of the label {label.name!r} is not declared")
        if self._health.add_undeclared(metric.prometheus_name) == 1:
            failsafe.logger.warning(
                "victor-otel: the label %r of %s has a value that victor-otel does not know; such "
                "values are recorded as `other` (victor_otel_labels_undeclared_total).",
                label.name,
                metric.prometheus_name,
            )

    def _cap(self, metric: Metric) -> None:
        if self._health.add_capped(metric.prometheus_name) == 1:
            failsafe.logger.warning(
                "victor-otel: a label of %s reached its bound; further values are recorded as "
                "`other` (victor_otel_labels_capped_total).",
                metric.prometheus_name,
            )

    def _create_siblings(
        self, metric: Metric, attributes: dict[str, str], values: dict[tuple[str, ...], float]
    ) -> None:
        """A counter born above 0 loses its first increments to `increase()`."""
        varied = _names(metric.siblings)
        kept = tuple(value for name, value in attributes.items() if name not in varied)
        if (metric, kept) in self._seen:
            return
        self._seen.add((metric, kept))
        for combination in itertools.product(*(label.values for label in metric.siblings)):
            sibling = {**attributes, **dict(zip(varied, combination, strict=True))}
            values.setdefault(tuple(self._attributes(metric, sibling).values()), 0)

    def _window(self, metric: Metric, key: tuple[str, ...]) -> Window:
        windows = self._windows.setdefault(metric, {})
        window = windows.get(key)
        return window if window is not None else windows.setdefault(key, Window())

    def _read_windows(self, metric: Metric) -> Points:
        read = _WINDOWED[metric.kind]
        for key, window in list(self._windows.get(metric, {}).items()):
            value = read(window)
            if value is not None:
                yield value, dict(zip(_names(metric.labels), key, strict=True))


def _encodable(text: str) -> bool:
    """Lone surrogates, as undecodable file names have them, would break an exporter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(labels: Iterable[Label]) -> list[str]:
    return [label.name for label in labels]


def is_placeholder(provider: metrics.MeterProvider) -> bool:
    """Whether `provider` is what the API gives as long as nobody has set one."""
    return type(provider).__name__ == "_ProxyMeterProvider"
