"""A page of Victor's numbers as a person asks for it: grouped, in words, what is zero left out.

Pure: from samples to lines of text. `victor-otel demo` and `victor-otel top` draw them.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from victor_otel.model.metric import Kind, Metric
from victor_otel.model.rows import Area
from victor_otel.victor import catalog, shared
from victor_otel.victor.areas import (
    agents,
    chat,
    interfaces,
    process,
    providers,
    sessions,
    tools,
)
from victor_otel.victor.ourselves import AREA as OURSELVES
from victor_otel.victor.ourselves import BUILD_INFO, ENDPOINT_UP, HOOKS

Key = tuple[str, frozenset[tuple[str, str]]]
Series = Mapping[Key, float]
"""`{(Prometheus name, labels): value}`."""

WIDTH = 8
"""Columns of a spark line."""

_BARS = "▁▂▃▄▅▆▇█"
_REQUESTS = (
    shared.REQUESTS,
    shared.REQUESTS_IN_FLIGHT,
    shared.REQUEST_RATE,
    shared.ERROR_RATE,
    shared.ERRORS,
)
_SHORT = 0.1
"""Below so many seconds milliseconds say more."""
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_TOLD = ("status", "type", "result", "state", "reason", "kind")
"""Labels by which a sum is broken down, the first that a metric has; else its first label."""


_AS_USUAL = (process.MEMORY_LIMIT, BUILD_INFO, ENDPOINT_UP)
"""Metrics that every healthy process has and that need no attention."""
_LIMIT = process.MEMORY_LIMIT.prometheus_name


def _of(*areas: Area) -> tuple[Metric, ...]:
    """Their metrics, without those that tell the same by OpenTelemetry's names."""
    metrics = (metric for area in areas for metric in area.metrics)
    return tuple(metric for metric in metrics if metric not in catalog.CONVENTIONAL)


def _groups() -> dict[str, tuple[Metric, ...]]:
    asked = {
        "Requests": (*_REQUESTS, *_of(chat.AREA, interfaces.AREA, agents.AREA, sessions.AREA)),
        "Tools": _of(tools.AREA),
        "Models": _of(providers.AREA),
        "Ourselves": _of(process.AREA, OURSELVES),
    }
    known = {metric for metrics in asked.values() for metric in metrics}
    work = tuple(metric for metric in _of(*catalog.AREAS) if metric not in known)
    ourselves = asked.pop("Ourselves")
    return {**asked, "Work": work, "Ourselves": ourselves}


GROUPS = _groups()
"""What a person asks, and the metrics that answer."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric: its name in words, a value that speaks, what is behind it, its past."""

    metric: Metric
    value: str
    detail: str = ""
    trend: str = ""

    @property
    def name(self) -> str:
        return re.sub(r"[._]", " ", self.metric.name.removeprefix("victor."))


@dataclass
class History:
    """What the last pages said, for spark lines: of a counter, how much came between two."""

    _before: dict[Metric, float] = field(default_factory=dict[Metric, float])
    _past: dict[Metric, deque[float]] = field(default_factory=dict[Metric, "deque[float]"])

    def add(self, series: Series) -> None:
        for metric, values in _by_metric(series).items():
            total = sum(values.values())
            if metric.kind in {Kind.COUNTER, Kind.HISTOGRAM}:
                before, self._before[metric] = self._before.get(metric, total), total
                total -= before
            self._past.setdefault(metric, deque(maxlen=WIDTH)).append(total)

    def trend(self, metric: Metric) -> str:
        """A spark line; nothing where it would be flat."""
        past = list(self._past.get(metric, ()))
        low, high = min(past, default=0), max(past, default=0)
        if metric.kind in {Kind.RATIO, Kind.LATEST} or low == high:
            return ""
        steps = len(_BARS) - 1
        return "".join(_BARS[round((value - low) / (high - low) * steps)] for value in past)


def series_of(families: Iterable[Any]) -> Series:
    """The samples of metric families, as prometheus_client's registry and parser give them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def lines(series: Series, history: History) -> dict[str, list[Line]]:
    """Those that say something, by the title of their group; what is 0 is left out."""
    found = _by_metric(series)
    return {
        title: list(_lines(metrics, found, series, history)) for title, metrics in GROUPS.items()
    }


def _lines(
    metrics: Iterable[Metric], found: Mapping[Metric, Values], series: Series, history: History
) -> Iterator[Line]:
    for metric in metrics:
        values = found.get(metric, {})
        if metric.kind not in {Kind.RATIO, Kind.LATEST, Kind.RATE}:
            values = {labels: value for labels, value in values.items() if value}
        if metric is HOOKS:
            values = {labels: v for labels, v in values.items() if ("state", "missing") in labels}
        if not values or metric in _AS_USUAL:
            continue
        value, detail = _said(metric, values, series)
        yield Line(metric=metric, value=value, detail=detail, trend=history.trend(metric))


Values = dict[frozenset[tuple[str, str]], float]


def _by_metric(series: Series) -> dict[Metric, Values]:
    """Of a histogram, its counts."""
    found: defaultdict[str, Values] = defaultdict(dict)
    for (name, labels), value in series.items():
        found[name][labels] = value
    keys = {metric: _key(metric) for metric in catalog.METRICS}
    return {metric: found[key] for metric, key in keys.items() if key in found}


def _key(metric: Metric) -> str:
    name = metric.prometheus_name
    return f"{name}_count" if metric.kind is Kind.HISTOGRAM else name


def _said(metric: Metric, values: Values, series: Series) -> tuple[str, str]:
    if metric.kind is Kind.HISTOGRAM:
        name = f"{metric.prometheus_name}_sum"
        total = sum(value for key, value in series.items() if key[0] == name)
        count = sum(values.values())
        return amount(count), f"mean {amount(total / count, metric.unit)}"
    if metric.kind is Kind.COUNTER or metric is HOOKS:
        return amount(sum(values.values())), _broken_down(metric, values)
    if metric.kind is Kind.LATEST:
        down = sorted(_joined(labels) for labels, value in values.items() if not value)
        return "down" if down else "up", ", ".join(down or sorted(map(_joined, values)))
    if metric is process.MEMORY_USAGE:
        limit = max((value for (name, _), value in series.items() if name == _LIMIT), default=0)
        return amount(sum(values.values()), "By"), f"of {amount(limit, 'By')}" if limit else ""
    low, high = min(values.values()), max(values.values())
    unit = {Kind.RATIO: "share", Kind.RATE: "/s"}.get(metric.kind, metric.unit)
    if low == high:
        return amount(low, unit), ""
    return amount(low, unit), f"to {amount(high, unit)}"


def _broken_down(metric: Metric, values: Values) -> str:
    """The largest parts of a sum, by the label that says most."""
    names = [label.name for label in metric.labels]
    by = next((name for name in _TOLD if name in names), names[0] if names else "")
    parts: defaultdict[str, float] = defaultdict(float)
    for labels, value in values.items():
        parts[dict(labels).get(by, "")] += value
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {amount(value, metric.unit)}" for name, value in ranked if name)


def _joined(labels: Iterable[tuple[str, str]]) -> str:
    return " ".join(value for _, value in sorted(labels))


def amount(value: float, unit: str = "") -> str:
    """A number with its unit as one says it: 1,234; 0.31 s; 295 MiB; 12 %; 97 %."""
    if unit == "By":
        power, name = next((each for each in _BYTES if abs(value) >= each[0]), (1, "B"))
        return f"{value / power:.4g} {name}" if name == "GiB" else f"{value / power:,.0f} {name}"
    if unit == "s" and 0 < abs(value) < _SHORT:
        value, unit = 1000 * value, "ms"
    if unit == "share":
        return f"{100 * value:.3g} %"
    number = f"{value:,.0f}" if value == int(value) else f"{value:.3g}"
    return f"{number}{unit}" if unit == "/s" else f"{number} {unit}".rstrip()
