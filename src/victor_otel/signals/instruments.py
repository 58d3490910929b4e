"""How each kind of metric keeps what is recorded, and shows it to OpenTelemetry.

Totals and gauges are kept here and observed: that costs a third of a call of the SDK's counter, and
the SDK's gauge forgets its value with the first collection.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from victor_otel.engine.health import Health
from victor_otel.model.metric import Kind, Metric
from victor_otel.signals.labelsets import Bounds, Keep, Labels, LabelSets
from victor_otel.signals.windows import Window

Points = Iterable[tuple[float, Mapping[str, str]]]
Read = Callable[[], Iterable[tuple[float, Mapping[str, object]]]]

LARGEST = 2**53
"""Beyond it a float is not exact and an export may fail, and nothing that is counted is."""


Add = Callable[..., None]
"""Records a value in one label set; a ratio's also takes of how many events."""


class Instrument(Protocol):
    """One metric in one MeterProvider."""

    def add(self, value: float, total: float, labels: Mapping[str, object], /) -> None:
        """Records a value; `total` is of how many events, for a ratio."""
        ...

    def bind(self, labels: Mapping[str, object], /) -> tuple[Add, Keep]:
        """What records in a label set, and whether it may be kept."""
        ...

    def silence(self) -> None:
        """The instrumentation ends: gauges and readings have no points any more."""
        ...

    def restart(self) -> None:
        """In a forked child: nothing is counted yet, and no other thread holds a lock."""
        ...


class Observed(Instrument, Protocol):
    """An instrument that OpenTelemetry asks at each collection."""

    def points(self) -> Points: ...


def _ignore(_value: float) -> None: ...


class Nothing:
    """Stands for the gauges of a short-lived process, which has none."""

    def add(self, value: float, total: float, labels: Mapping[str, object]) -> None: ...

    def bind(self, _labels: Mapping[str, object]) -> tuple[Add, Keep]:
        return _ignore, Keep.YES

    def silence(self) -> None: ...

    def restart(self) -> None: ...


class Distribution:
    """A histogram of the SDK's."""

    def __init__(
        self, metric: Metric, bounds: Bounds, health: Health, record: Callable[..., None]
    ) -> None:
        self._record = record
        self._sets: LabelSets[Labels] = LabelSets(metric, bounds, health, lambda labels: labels)

    def add(self, value: float, _total: float, labels: Mapping[str, object]) -> None:
        self._record(value, self._sets.of(labels))

    def bind(self, labels: Mapping[str, object]) -> tuple[Add, Keep]:
        return self._sets.bind(labels, self._adding)

    def _adding(self, labels: Labels) -> Add:
        return functools.partial(self._record, attributes=labels)

    def silence(self) -> None: ...

    def restart(self) -> None:
        self._sets.clear()


class _Number:
    """The value of one label set."""

    __slots__ = ("_lock", "labels", "value")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.value: float = 0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        with self._lock:
            summed = self.value + value
            self.value = summed if summed <= LARGEST else float(summed)

    def set(self, value: float) -> None:
        self.value = value


class _Numbers:
    """One number for each label set."""

    def __init__(self, metric: Metric, bounds: Bounds, health: Health) -> None:
        self._sets: LabelSets[_Number] = LabelSets(metric, bounds, health, _Number)

    def points(self) -> Points:
        return [(number.value, number.labels) for number in self._sets.all()]


class Total(_Numbers):
    """A counter. A label set that is new gets the siblings that the metric declares, at 0."""

    def __init__(self, metric: Metric, bounds: Bounds, health: Health) -> None:
        super().__init__(metric, bounds, health)
        self._metric = metric
        self._varied = {label.name: label.values for label in metric.siblings}
        self._multiplied: set[tuple[str, ...]] = set()

    def add(self, value: float, _total: float, labels: Mapping[str, object]) -> None:
        number = self._sets.of(labels)
        if self._varied and not number.value:
            self._create_siblings(number.labels)
        number.add(value)

    def bind(self, labels: Mapping[str, object]) -> tuple[Add, Keep]:
        return self._sets.bind(labels, self._adding)

    def _adding(self, number: _Number) -> Add:
        if self._varied:
            self._create_siblings(number.labels)
        return number.add

    def start_at_zero(self) -> None:
        """Creates every label set of a metric whose labels are all closed."""
        names = [label.name for label in self._metric.labels]
        for values in itertools.product(*(label.values for label in self._metric.labels)):
            self._sets.of(dict(zip(names, values, strict=True)))

    def silence(self) -> None: ...

    def restart(self) -> None:
        self._sets.clear()
        self._multiplied.clear()

    def _create_siblings(self, labels: Labels) -> None:
        """A counter born above 0 loses its first increments to `increase()`."""
        kept = tuple(value for name, value in labels.items() if name not in self._varied)
        if kept in self._multiplied:
            return
        self._multiplied.add(kept)
        for values in itertools.product(*self._varied.values()):
            self._sets.of({**labels, **dict(zip(self._varied, values, strict=True))})


class Value(_Numbers):
    """A gauge that is set; it stays until the next value."""

    def add(self, value: float, _total: float, labels: Mapping[str, object]) -> None:
        self._sets.of(labels).set(value)

    def bind(self, labels: Mapping[str, object]) -> tuple[Add, Keep]:
        return self._sets.bind(labels, lambda number: number.set)

    def silence(self) -> None:
        self._sets.clear()

    restart = silence


class _Looked:
    """The window of one label set."""

    __slots__ = ("labels", "window")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.window = Window()


_READ: dict[Kind, Callable[[Window], float | None]] = {
    Kind.RATIO: Window.ratio,
    Kind.RATE: Window.rate,
    Kind.LATEST: Window.last,
}
WINDOWED = frozenset(_READ)


class Windowed:
    """A ratio, a rate or a latest value over the last minutes; seen while it is declared."""

    def __init__(self, metric: Metric, bounds: Bounds, health: Health) -> None:
        self._sets: LabelSets[_Looked] = LabelSets(metric, bounds, health, _Looked)
        self._kind = metric.kind
        self._seen = False

    def declare(self) -> None:
        self._seen = True
        if self._kind is Kind.RATE:
            self._sets.of({})  # known to be 0 before the first event

    def add(self, value: float, total: float, labels: Mapping[str, object]) -> None:
        self._sets.of(labels).window.add(float(value), total)

    def bind(self, labels: Mapping[str, object]) -> tuple[Add, Keep]:
        return self._sets.bind(labels, lambda looked: looked.window.add)

    def points(self) -> Points:
        if not self._seen:
            return ()
        read = _READ[self._kind]
        found = [(read(each.window), each.labels) for each in self._sets.all()]
        return [(value, labels) for value, labels in found if value is not None]

    def silence(self) -> None:
        self._seen = False

    def restart(self) -> None:
        self._seen = False
        self._sets.clear()


class Reading:
    """What a function answers at each collection."""

    def __init__(self, metric: Metric, bounds: Bounds, health: Health) -> None:
        self._sets: LabelSets[Labels] = LabelSets(metric, bounds, health, lambda labels: labels)
        self.read: Read = tuple

    def add(self, _value: float, _total: float, _labels: Mapping[str, object]) -> None:
        raise TypeError("a metric that is read is not recorded")

    def bind(self, _labels: Mapping[str, object]) -> tuple[Add, Keep]:
        raise TypeError("a metric that is read is not recorded")

    def points(self) -> Points:
        return [(value, self._sets.of(labels)) for value, labels in self.read()]

    def silence(self) -> None:
        self.read = tuple

    def restart(self) -> None:
        self.silence()
        self._sets.clear()
