"""Metrics and their labels, as an area declares them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Protocol

from victor_otel.model.declared import declared
from victor_otel.model.operation import OperationType

MAX_LENGTH = 120
"""Characters of a label value; longer ones are no names."""


OTHER = "other"
"""Stands for every label value that is outside of a label's set or bound."""


class Kind(enum.Enum):
    """What a metric is, and so how `Record` treats a value.

    `RATIO`, `RATE` and `LATEST` are exported as gauges: the share of true values, the
    number of values per second, and the last value, each over the last five minutes of
    this process.
    """

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    UPDOWN = "updowncounter"
    RATIO = "ratio"
    RATE = "rate"
    LATEST = "latest"


@declared
class Label:
    """A label and what keeps it bounded.

    `values` closes the set; without it the first `limit` distinct values are kept. What
    is outside becomes `other`. Outside of a closed set it is counted as undeclared, unless
    `others` says that anything may come. Where an `optional` one is empty there is no such label.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    limit: int = 100
    others: bool = False
    fact: str = ""
    """What it reads of an operation; without it what has the label's own name."""
    optional: bool = False

    @property
    def reads(self) -> str:
        return self.fact or self.name

    @property
    def prometheus_name(self) -> str:
        return self.name.replace(".", "_")

    @property
    def closed(self) -> bool:
        return bool(self.values)


_UNIT_SUFFIX = {"s": "_seconds", "By": "_bytes", "%": "_percent"}


@declared
class Metric:
    """One metric: `name` in OpenTelemetry's dotted form, `unit` in UCUM.

    `siblings` are labels whose other values are created at 0 when a label set is first
    seen, so that the first increment of each is visible to `increase()`.

    With `of`, each operation of that type feeds the metric: it adds the fact that `value`
    names, or 1, if the fact that `when` names is true. A label has the value of what it reads.
    A metric that several types feed has `Feeds` rows instead. An `UpDown` has those that are
    under way, by their interface.
    """

    kind: ClassVar[Kind]

    name: str
    meaning: str
    labels: tuple[Label, ...] = ()
    unit: str = ""
    siblings: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    guide: bool = False
    of: OperationType[object] | None = None
    when: str = ""
    value: str = ""

    @property
    def prometheus_name(self) -> str:
        """The name on every route (held by a test against all three).

        https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
        """
        name = self.name.replace(".", "_") + _UNIT_SUFFIX.get(self.unit, "")
        return f"{name}_total" if self.kind is Kind.COUNTER else name

    @property
    def starts_at_zero(self) -> bool:
        """A counter whose every label set is known beforehand exists from the start."""
        return self.kind is Kind.COUNTER and all(label.closed for label in self.labels)


class Counter(Metric):
    """Adds up what is recorded."""

    kind = Kind.COUNTER


class Histogram(Metric):
    """The distribution of what is recorded."""

    kind = Kind.HISTOGRAM


class Gauge(Metric):
    """The last recorded value, or what a `Reading` yields."""

    kind = Kind.GAUGE


class UpDown(Metric):
    """How many there are at this moment."""

    kind = Kind.UPDOWN


class Ratio(Metric):
    """The share of true values over the last minutes."""

    kind = Kind.RATIO


class Rate(Metric):
    """Values per second over the last minutes."""

    kind = Kind.RATE


class Latest(Metric):
    """The last value, while it is not older than some minutes."""

    kind = Kind.LATEST


class Record(Protocol):
    """Records one value: adds to a counter, a distribution or a window, sets a gauge.

    For a `RATIO` it adds `value` successes of `total` events.
    """

    def __call__(
        self, metric: Metric, value: float = 1, total: float = 1, /, **labels: object
    ) -> None: ...


@declared
class Reading:
    """Yields `(value, labels)` for a gauge, or an observed counter, at each collection."""

    metric: Metric
    read: Callable[..., Iterable[tuple[float, Mapping[str, str]]]]
