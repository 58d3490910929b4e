"""How the metrics of a type of operation are fed: compiled once, found by one lookup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from victor_otel.model.metric import Kind
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Feeds
from victor_otel.signals.instruments import LARGEST, Add
from victor_otel.signals.labelsets import Keep
from victor_otel.signals.recorder import Recorder

MAX_COMBINATIONS = 10_000
"""Combinations of what decides of a type that are kept; further ones are bound each time."""

_ROOM = {Keep.YES: MAX_COMBINATIONS, Keep.BOUNDED: MAX_COMBINATIONS // 2, Keep.NO: 0}

_PLAIN = (float, int)
_TRUTHS = frozenset({Kind.RATIO, Kind.LATEST})
"""Kinds whose values are few, so that each has a combination of its own."""


class _Measured:
    """A fact that is a number, and where it is added once the label set is bound."""

    __slots__ = ("add", "read", "row")

    def __init__(self, row: Feeds, read: Callable[[Operation], Any]) -> None:
        self.row = row
        self.read = read
        self.add: Add | None = None


class _Bound(NamedTuple):
    """What a combination records."""

    fixed: Sequence[tuple[Add, float]]
    measured: Sequence[_Measured]


class Recording:
    """Feeds all metrics of one type of operation.

    All facts that decide on what is recorded, labels among them, are the key under which the
    bound label sets are kept: what remains of a finished operation is to add to them.
    """

    def __init__(
        self,
        kind: OperationType[object],
        rows: Sequence[Feeds],
        recorder: Recorder,
    ) -> None:
        self._rows = rows
        self._recorder = recorder
        decide = [name for row in rows for name in (*row.reads, *_deciding(row))]
        named = dict.fromkeys((*decide, *(row.value for row in rows if row.value)))
        self._read = {name: attrgetter(kind.path(name)) for name in named}
        self._key = _getter([kind.path(name) for name in dict.fromkeys(decide)])
        self._known: dict[tuple[object, ...], _Bound] = {}

    def __call__(self, operation: Operation) -> None:
        """Records what the facts of a finished operation say."""
        if not self._recorder.listens():
            return
        key = self._key(operation)
        try:
            bound = self._known.get(key)
        except Exception:  # a value that is not hashable, or not comparable, is no name
            bound = None
        if bound is None:
            bound = self._bind(key, operation)
        for add, value in bound.fixed:
            add(value)
        for each in bound.measured:
            value = each.read(operation)
            # What is plainly a number needs no look at what it may be else.
            if type(value) not in _PLAIN or not 0 <= value <= LARGEST:
                value = None if value is None else self._recorder.checked(each.row.metric, value)
            if value is not None:
                (each.add or self._measure(each, operation))(value)

    def _bind(self, key: tuple[object, ...], operation: Operation) -> _Bound:
        """What a new combination records; those with a replaced label leave room for others."""
        fixed: list[tuple[Add, float]] = []
        measured: list[_Measured] = []
        keep = Keep.YES
        for row in self._rows:
            if row.when and not self._read[row.when](operation):
                continue
            if row.value and row.metric.kind not in _TRUTHS:
                measured.append(_Measured(row, self._read[row.value]))
                continue
            # A count stays a whole number; what is true or false becomes 1.0 or 0.0.
            known = self._read[row.value](operation) if row.value else None
            if known is not None or not row.value:
                add, each = self._label_set(row, operation)
                fixed.append((add, 1 if known is None else float(known)))
                keep = max(keep, each)
        bound = _Bound(fixed, measured)
        if len(self._known) < _ROOM[keep]:
            self._known[key] = bound
        return bound

    def _measure(self, each: _Measured, operation: Operation) -> Add:
        add, keep = self._label_set(each.row, operation)
        if keep is not Keep.NO:
            each.add = add
        return add

    def _label_set(self, row: Feeds, operation: Operation) -> tuple[Add, Keep]:
        """What adds to the label set of an operation, and whether that may be kept."""
        labels = {
            label.name: row.labels[label.name]
            if label.name in row.labels
            else self._read[label.reads](operation)
            for label in row.metric.labels
        }
        return self._recorder.instrument(row.metric).bind(labels)


def _deciding(row: Feeds) -> Iterator[str]:
    """What, beside its labels, decides of what a row records."""
    if row.when:
        yield row.when
    if row.value and row.metric.kind in _TRUTHS:
        yield row.value


def _getter(paths: Sequence[str]) -> Callable[[Operation], tuple[object, ...]]:
    """What reads these of an operation, as a tuple."""
    if not paths:
        return lambda _: ()
    read = attrgetter(*paths)
    return (lambda one: (read(one),)) if len(paths) == 1 else read
