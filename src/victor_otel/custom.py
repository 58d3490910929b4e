"""The application's own metrics, beside Victor's.

    from victor_otel import custom

    reviews = custom.counter(
        "acme.reviews", "Reviews that were asked for", labels={"outcome": ("accepted", "declined")}
    )
    reviews.add(outcome="accepted")

They are exported on the same routes as Victor's metrics, this one as `acme_reviews_total`, and
their labels are bounded in the same way. While the instrumentation is off, nothing is recorded:
Victor switches it on with its first work, `victor_otel.start()` earlier.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping, Sequence

from victor_otel.intake import DECLARED, REGISTERED, take
from victor_otel.model import metric as kinds
from victor_otel.model.metric import Label, Metric

__all__ = ["Counter", "Gauge", "Histogram", "counter", "gauge", "histogram"]

Labels = Sequence[str] | Mapping[str, Sequence[str]]
"""Names, or names with their allowed values. Without these the first 100 values are kept."""

_NAME = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
_LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_LENGTH = 200
_RESERVED = frozenset({"le", "quantile", "job", "instance", "gateway"})
_UNITS = ("", "s", "By", "%")
_ADDED = frozenset(
    {"total", "seconds", "bytes", "percent", "ratio", "bucket", "count", "sum", "created"}
)
"""Words that exporters add to names, or leave out where they find them."""

_lock = threading.Lock()


class _Instrument:
    """A declared metric; the same declaration twice is one metric."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    @property
    def prometheus_name(self) -> str:
        """The name on every route."""
        return self.metric.prometheus_name


class Counter(_Instrument):
    """What `counter` declared; `prometheus_name` is its name on every route."""

    def add(self, value: float = 1, /, **labels: str) -> None:
        """Adds `value`, which is not negative."""
        take(f"custom.{self.metric.name}", self.metric, value, **labels)


class Histogram(_Instrument):
    """What `histogram` declared; `prometheus_name` is its name on every route."""

    def record(self, value: float, /, **labels: str) -> None:
        """Adds one observation, which is not negative."""
        take(f"custom.{self.metric.name}", self.metric, value, **labels)


class Gauge(_Instrument):
    """What `gauge` declared; `prometheus_name` is its name on every route."""

    def set(self, value: float, /, **labels: str) -> None:
        """Sets the value; it stays until the next one."""
        take(f"custom.{self.metric.name}", self.metric, value, **labels)


def counter(name: str, meaning: str, *, unit: str = "", labels: Labels = ()) -> Counter:
    """Declares a counter.

    `name` has dots and no `_total`; `unit` is `""`, `"s"`, `"By"` (bytes) or `"%"`. `labels` are
    names, or names with their allowed values; without these the first 100 values are kept.

    Raises:
        ValueError: for a declaration that no route would export as it stands; says why.
    """
    return Counter(_declare(kinds.Counter, name, meaning, unit, labels))


def histogram(
    name: str, meaning: str, *, buckets: Sequence[float], unit: str = "", labels: Labels = ()
) -> Histogram:
    """Declares a histogram with upper bounds that rise. Else as `counter`."""
    bounds = tuple(float(bound) for bound in buckets)
    if not bounds or list(bounds) != sorted(set(bounds)) or not all(map(math.isfinite, bounds)):
        raise ValueError(f"{name}: buckets must be finite and rise")
    return Histogram(_declare(kinds.Histogram, name, meaning, unit, labels, buckets=bounds))


def gauge(name: str, meaning: str, *, unit: str = "", labels: Labels = ()) -> Gauge:
    """Declares a gauge; it has no series before its first value. Else as `counter`."""
    return Gauge(_declare(kinds.Gauge, name, meaning, unit, labels))


def _declare(
    kind: type[Metric],
    name: str,
    meaning: str,
    unit: str,
    labels: Labels,
    *,
    buckets: tuple[float, ...] = (),
) -> Metric:
    if not _NAME.fullmatch(name) or len(name) > MAX_LENGTH:
        raise ValueError(f"{name!r} is no name here: lower-case words with dots and underscores")
    if added := _ADDED.intersection(re.split("[._]", name)):
        raise ValueError(f"{name}: leave out {', '.join(added)}: exporters add it where it belongs")
    if name.startswith(("victor.", "victor_")):
        raise ValueError(f"{name}: names that begin with victor are Victor's own")
    if unit not in _UNITS:
        raise ValueError(f"{name}: the unit must be one of {', '.join(map(repr, _UNITS))}")
    if isinstance(labels, str) or len(set(labels)) < len(labels):
        raise ValueError(f"{name}: labels must be a list of different names")
    values = labels if isinstance(labels, Mapping) else dict.fromkeys(labels, ())
    made = tuple(_label(name, label, allowed) for label, allowed in values.items())
    metric = kind(
        name,
        meaning,
        unit=unit,
        labels=made,
        siblings=tuple(label for label in made if label.closed) if kind is kinds.Counter else (),
        buckets=buckets,
    )
    with _lock:
        if metric.prometheus_name.removesuffix("_total") in REGISTERED:
            raise ValueError(f"{name}: a metric of prometheus_client has this name on /metrics")
        known = DECLARED.setdefault(metric.prometheus_name, metric)
    if _facts(known) != _facts(metric):
        raise ValueError(f"{name}: {metric.prometheus_name} is declared already, otherwise")
    return known


def _label(metric: str, name: str, values: Sequence[str]) -> Label:
    if isinstance(values, str):
        raise ValueError(  # noqa: TRY004
            f"{metric}: the values of {name!r} must be a list, such as ({values!r},)"
        )
    allowed = tuple(values)
    if not _LABEL.fullmatch(name) or name in _RESERVED:
        raise ValueError(f"{metric}: {name!r} is no label name here, or is Prometheus's own")
    if len(set(allowed)) < len(allowed) or not all(allowed):
        raise ValueError(f"{metric}: the values of {name!r} must be different names")
    return Label(name=name, values=allowed, meaning="declared by the application")


def _facts(metric: Metric) -> tuple[object, ...]:
    labels = tuple((label.name, label.values) for label in metric.labels)
    return metric.name, metric.kind, metric.unit, metric.meaning, labels, metric.buckets
