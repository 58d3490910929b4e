"""The demo's table, and how it differs from the independent count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from rich.table import Table

from victor_otel import catalog
from victor_otel.spec import Kind, Metric

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]

_UNKNOWN = (
    ("victor_cache_requests_total", ("result", "miss")),
    ("victor_errors_total", ("component", "agent")),
    ("victor_errors_total", ("component", "workflow")),
)
"""What only Victor knows (`Ledger.expected`), so that nothing can be held against it."""


def differences(observed: Series, expected: Series) -> list[str]:
    """One line for each series that is not as counted independently."""
    names = {name for name, _ in expected}
    keys = set(expected) | {key for key in observed if key[0] in names and not _unknown(key)}
    return [
        f"{name}{dict(sorted(labels))} is {observed.get((name, labels), 0):g}, "
        f"counted {expected.get((name, labels), 0):g}"
        for name, labels in sorted(keys, key=str)
        if observed.get((name, labels), 0) != expected.get((name, labels), 0)
    ]


def _unknown(key: tuple[str, frozenset[tuple[str, str]]]) -> bool:
    return any(key[0] == name and label in key[1] for name, label in _UNKNOWN)


def table(observed: Series, expected: Series, where: str) -> Table:
    """What was seen or counted; counts are sums over all label sets."""
    shown = Table(title=f"Victor's numbers, {where}", title_justify="left", expand=False)
    shown.add_column("metric", no_wrap=True)
    shown.add_column("now", justify="right", no_wrap=True)
    shown.add_column("counted", justify="right", no_wrap=True)
    seen, counted = _by_name(observed), _by_name(expected)
    wrong = {line.partition("{")[0] for line in differences(observed, expected)}
    for metric in catalog.METRICS:
        name = metric.prometheus_name
        key = f"{name}_count" if metric.kind is Kind.HISTOGRAM else name
        values = seen.get(key)
        if values is None and key not in counted:
            continue
        known = counted.get(key)
        total = sum(counted.get(key, ()))
        mark = "" if known is None else f"[{'yellow' if key in wrong else 'green'}]{total:g}[/]"
        shown.add_row(name, _shown(metric, values, seen), mark)
    return shown


def _by_name(series: Series) -> Mapping[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for key, value in series.items():
        if not _unknown(key):
            values[key[0]].append(value)
    return values


def _shown(metric: Metric, values: list[float] | None, seen: Mapping[str, list[float]]) -> str:
    if not values:
        return "absent"
    if metric.kind is Kind.COUNTER:
        return f"{sum(values):g}"
    if metric.kind is Kind.HISTOGRAM:
        count, total = sum(values), sum(seen[f"{metric.prometheus_name}_sum"])
        return f"{count:g} (mean {total / count:.3g}{metric.unit and ' ' + metric.unit})"
    if metric.unit == "By":
        return " + ".join(f"{value / 2**20:,.0f} MiB" for value in values)
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
