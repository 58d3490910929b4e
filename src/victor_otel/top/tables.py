"""What each tab of `victor otel top` shows: a row for each tool, model or interface."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from victor_otel.model.metric import Kind, Metric
from victor_otel.numbers import Series, amount
from victor_otel.victor import labels, shared
from victor_otel.victor.areas import chat, providers, sessions, tools


@dataclass(frozen=True, kw_only=True)
class Column:
    """A number of a row: the sum of a metric, or its mean if it is a histogram."""

    title: str
    metric: Metric
    where: Mapping[str, tuple[str, ...]] | None = None
    """Label values to count; all by default."""


@dataclass(frozen=True, kw_only=True)
class Tab:
    """A table; its rows are the sets of values of the labels `by`."""

    title: str
    by: tuple[str, ...]
    columns: tuple[Column, ...]


_FAILED = {"status": ("failure", "timeout")}

TABS = (
    Tab(
        title="Requests",
        by=("interface",),
        columns=(
            Column(title="requests", metric=shared.REQUESTS),
            Column(title="failed", metric=shared.REQUESTS, where=_FAILED),
            Column(title="in flight", metric=shared.REQUESTS_IN_FLIGHT),
            Column(title="mean turn", metric=chat.DURATION),
        ),
    ),
    Tab(
        title="Tools",
        by=("tool",),
        columns=(
            Column(title="calls", metric=tools.EXECUTIONS),
            Column(title="failed", metric=tools.EXECUTIONS, where=_FAILED),
            Column(title="rejected", metric=tools.REJECTED),
            Column(title="mean", metric=tools.DURATION),
        ),
    ),
    Tab(
        title="Models",
        by=("provider", "model"),
        columns=(
            Column(title="calls", metric=providers.REQUESTS),
            Column(title="failed", metric=providers.REQUESTS, where=_FAILED),
            Column(title="mean", metric=providers.LATENCY),
            Column(title="first token", metric=providers.TIME_TO_FIRST_TOKEN),
        ),
    ),
    Tab(
        title="Tokens",
        by=("provider", "model"),
        columns=tuple(
            Column(title=kind.replace("_", " "), metric=providers.TOKENS, where={"type": (kind,)})
            for kind in labels.TOKEN_TYPE.values
        ),
    ),
    Tab(
        title="Errors",
        by=("component", "error_type"),
        columns=(Column(title="errors", metric=shared.ERRORS),),
    ),
    Tab(
        title="Sessions",
        by=("interface",),
        columns=(
            Column(title="sessions", metric=sessions.STARTED),
            Column(title="users active", metric=sessions.ACTIVE_USERS),
            Column(title="mean length", metric=sessions.DURATION),
            Column(title="requests each", metric=sessions.REQUESTS_PER_USER),
        ),
    ),
)

Row = tuple[tuple[str, ...], tuple[float | None, ...]]
"""The values of `by`, and a number for each column, where there is one."""


def rows(tab: Tab, series: Series) -> list[Row]:
    """Those with any number but 0, the largest first."""
    cells = [_cells(tab, column, series) for column in tab.columns]
    names = dict.fromkeys(name for column in cells for name, value in column.items() if value)
    found = [(name, tuple(column.get(name) for column in cells)) for name in names]
    return sorted(found, key=lambda row: (-(row[1][0] or 0), row[0]))


def said(column: Column, value: float | None) -> str:
    """A number of that column in words; nothing where there is none."""
    return "" if value is None else amount(value, column.metric.unit)


def _cells(tab: Tab, column: Column, series: Series) -> dict[tuple[str, ...], float]:
    name = column.metric.prometheus_name
    if column.metric.kind is not Kind.HISTOGRAM:
        return _sums(tab, column, series, name)
    counts = _sums(tab, column, series, f"{name}_count")
    sums = _sums(tab, column, series, f"{name}_sum")
    return {key: sums[key] / count for key, count in counts.items() if count}


def _sums(tab: Tab, column: Column, series: Series, name: str) -> dict[tuple[str, ...], float]:
    found: defaultdict[tuple[str, ...], float] = defaultdict(float)
    where = column.where or {}
    for (sample, pairs), value in series.items():
        given = dict(pairs)
        counts = all(given.get(label, "") in allowed for label, allowed in where.items())
        if sample == name and counts:
            found[tuple(given.get(label, "") for label in tab.by)] += value
    return dict(found)
