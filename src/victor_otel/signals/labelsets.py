"""The label sets of metrics: which values are recorded as given, and what is kept for each set."""

from __future__ import annotations

import enum
import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.model.metric import MAX_LENGTH, OTHER, Label, Metric

Labels = dict[str, str]
"""A label set as OpenTelemetry takes it; nobody changes it."""

Kept = TypeVar("Kept")

MAX_LABEL_SETS = 1800
"""Label sets of one instrument. The SDK itself folds all beyond 2,000 into one point."""


class Replaced(enum.Enum):
    """Why a label value is recorded as `other`."""

    NOT = enum.auto()
    CAPPED = enum.auto()
    """A name that is too long, or one more than the label keeps."""
    UNDECLARED = enum.auto()
    """Not in the closed set of the label, or not given: Victor or we have moved."""


class Keep(enum.IntEnum):
    """Whether what was found for label values as given may be kept for the next time."""

    YES = 0
    BOUNDED = 1
    """A value was replaced, and of such there is no end."""
    NO = 2
    """A value is not declared, which is told each time, or is no plain text."""


class Bounds:
    """The values in use of every `Label`, shared by all metrics that carry it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Label, set[str]] = {}

    def apply(self, label: Label, value: object) -> tuple[str, Replaced]:
        """The value to record, and why it is not the given one."""
        given: Any = value  # its class tells what it is: a stand-in may say otherwise of itself
        text = str.__str__(given) if issubclass(type(given), str) else ""
        if label.closed:
            declared = text in label.values or text == OTHER
            why = Replaced.NOT if declared or label.others else Replaced.UNDECLARED
            return (text if declared else OTHER), why
        if text and len(text) <= MAX_LENGTH and self._is_kept(label, text):
            return text, Replaced.NOT
        return OTHER, Replaced.CAPPED

    def restart(self) -> None:
        """In a forked child: no other thread holds the lock."""
        self._lock = threading.Lock()
        self._known.clear()

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


class LabelSets(Generic[Kept]):
    """What is kept for each label set of one metric: `new` makes it when the set is first seen."""

    def __init__(
        self, metric: Metric, bounds: Bounds, health: Health, new: Callable[[Labels], Kept]
    ) -> None:
        self._metric = metric
        self._bounds = bounds
        self._health = health
        self._new = new
        self._names = tuple(label.name for label in metric.labels)
        self._kept: dict[tuple[str, ...], Kept] = {}
        self._given: dict[tuple[object, ...], Kept] = {}

    def of(self, labels: Mapping[str, object]) -> Kept:
        """What is kept for the label set that `labels` stand for."""
        # One lookup of what was given before saves the bounds of each value.
        given = (*labels, *labels.values())
        try:
            known = self._given.get(given)
        except Exception:  # not hashable, or not comparable, so no name
            known = None
        if known is not None:
            return known
        kept, capped, keep = self._bounded(labels)
        if capped:
            self._cap()
        if keep is Keep.YES:
            self._given[given] = kept
        return kept

    def bind(
        self, labels: Mapping[str, object], add_to: Callable[[Kept], Callable[..., None]]
    ) -> tuple[Callable[..., None], Keep]:
        """What adds to what is kept for a label set, and whether it may be kept."""
        kept, capped, keep = self._bounded(labels)
        add = add_to(kept)
        if not capped:
            return add, keep

        def counted(value: float) -> None:
            self._cap()
            add(value)

        return counted, keep

    def all(self) -> Iterable[Kept]:
        return list(self._kept.values())

    def clear(self) -> None:
        self._kept.clear()
        self._given.clear()

    def _bounded(self, labels: Mapping[str, object]) -> tuple[Kept, bool, Keep]:
        """What is kept for the label set, whether a bound was reached, and whether to keep it."""
        values: list[str] = []
        capped = False
        keep = Keep.YES if all(type(value) is str for value in labels.values()) else Keep.NO
        for label in self._metric.labels:
            if label.name not in labels:
                value, why = OTHER, Replaced.UNDECLARED
            elif label.optional and _is_empty(labels[label.name]):
                value, why = "", Replaced.NOT
            else:
                value, why = self._bounds.apply(label, labels[label.name])
            if why is Replaced.UNDECLARED:
                keep = Keep.NO
                self._undeclared(label)
            elif why is Replaced.CAPPED:
                capped = True
            values.append(value)
        if len(self._kept) >= MAX_LABEL_SETS and tuple(values) not in self._kept:
            capped = True
            values = [
                value if label.closed or not value else OTHER
                for label, value in zip(self._metric.labels, values, strict=True)
            ]
        if keep is Keep.YES and dict(zip(self._names, values, strict=True)) != labels:
            keep = Keep.BOUNDED
        return self._made(tuple(values)), capped, keep

    def _made(self, values: tuple[str, ...]) -> Kept:
        kept = self._kept.get(values)
        if kept is None:
            pairs = zip(self._names, values, strict=True)
            made = self._new({name: value for name, value in pairs if value})
            kept = self._kept.setdefault(values, made)
        return kept

    def _undeclared(self, label: Label) -> None:
        """Says which label, never the value: it could be content."""
        name = self._metric.prometheus_name
        if failsafe.STRICT:
            raise ValueError(
                f"{self._metric.name}: a value of the label {label.name!r} is not declared"
            )
        if self._health.add_undeclared(name) == 1:
            failsafe.logger.warning(
                "victor-otel: the label %r of %s has a value that victor-otel does not know; such "
                "values are recorded as `other` (victor_otel_labels_undeclared_total).",
                label.name,
                name,
            )

    def _cap(self) -> None:
        name = self._metric.prometheus_name
        if self._health.add_capped(name) == 1:
            failsafe.logger.warning(
                "victor-otel: a label of %s reached its bound; further values are recorded as "
                "`other` (victor_otel_labels_capped_total).",
                name,
            )


@functools.lru_cache(maxsize=1024)
def as_name(text: str) -> str:
    """The text, or `other` for what is no name: too long, or nothing that can be exported."""
    is_name = len(text) <= MAX_LENGTH and (text.isascii() or _encodable(text))
    return text if is_name else OTHER


def _is_empty(value: object) -> bool:
    return value is None or (type(value) is str and not value)


def _encodable(text: str) -> bool:
    """Lone surrogates, as undecodable file names have them, would break an exporter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
