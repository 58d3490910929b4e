"""What rows say that an observer feeds is what it can record.

It decides what starts at 0, what rests while a function is missing, and what the documentation
says of each function.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import pytest

from victor_otel.model.metric import Metric
from victor_otel.model.rows import Area, Observes, Reports
from victor_otel.victor import catalog

OBSERVERS = [
    pytest.param(area, row, id=f"{area.name}-{row.observe.__name__}-{kind.name}")
    for area, kind, row in catalog.OBSERVED
]


class Reach:
    """The metrics that a function of ours names, or any function of ours that it names."""

    def __init__(self, state: Any) -> None:
        self._methods: dict[str, Any] = vars(state) if isinstance(state, type) else {}
        self._seen: set[object] = set()

    def of(self, value: Any) -> set[Metric]:
        if isinstance(value, Metric):
            return {value}
        if isinstance(value, dict):
            value = tuple(value.values())
        if isinstance(value, (tuple, list, frozenset)):
            return {metric for one in value for metric in self.of(one)}
        if isinstance(value, functools.partial):
            value = value.func
        if isinstance(value, staticmethod):
            value = value.__func__
        ours = isinstance(value, types.FunctionType) and value.__module__.startswith("victor_otel")
        if not ours or value in self._seen:
            return set()
        self._seen.add(value)
        cells = (cell.cell_contents for cell in value.__closure__ or ())
        named = (
            value.__globals__.get(name, self._methods.get(name)) for name in names(value.__code__)
        )
        return {metric for one in (*cells, *named) for metric in self.of(one)}


def names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names(constant)


@pytest.mark.parametrize("row", [row for row in catalog.ROWS if isinstance(row, Reports)])
def test_what_is_reported_feeds_metrics_of_its_type(row: Reports) -> None:
    assert {*row.feeds} < {feeds.metric for feeds in catalog.FEEDS if feeds.type is row.type}


@pytest.mark.parametrize(("area", "row"), OBSERVERS)
def test_a_row_feeds_what_its_observer_can_record(area: Area, row: Observes) -> None:
    # What is read from the state that an observer keeps is fed by it as well.
    read = {reading.metric for reading in area.readings}
    recorded = Reach(area.state).of(row.observe)
    assert set(row.feeds) - read == recorded - read
