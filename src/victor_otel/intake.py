"""The door for numbers that an application gives us: checked, then recorded.

Without an instrumentation nothing is recorded. A value that cannot be true is never
recorded: with `VICTOR_OTEL_STRICT` it is a `ValueError` at the caller, else it is counted
in `victor_otel_errors_total`, logged once and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

from victor_otel.engine import failsafe
from victor_otel.model.metric import MAX_LENGTH, Kind, Metric
from victor_otel.runtime import RUNTIME
from victor_otel.signals import settings
from victor_otel.signals.instruments import LARGEST

DECLARED: dict[str, Metric] = {}
"""Metrics of the application's own, by the name that Prometheus sees."""

REGISTERED = {"target_info"}
"""Families of prometheus_client that are on `/metrics` as well; there each name is once."""


def take(
    where: str, metric: Metric, value: float = 1, total: float | None = None, /, **labels: str
) -> None:
    """Records `value`, or the share `value` of `total`; a share of nothing says nothing.

    `where` is the public function that it was given to.

    Raises:
        ValueError: when it cannot be true, under `VICTOR_OTEL_STRICT`.
    """
    try:
        wrong = _wrong_value(metric, value, total) or _wrong_labels(metric, labels)
    except Exception as error:  # an object that cannot even be looked at
        wrong = f"what is given raises {type(error).__name__}"
    on = RUNTIME.instrumentation
    if wrong:
        _refuse(where, wrong)
    elif on is not None and total != 0:
        try:
            if total is None:
                on.record(metric, value, **labels)
            elif metric.kind is Kind.RATIO:
                on.record(metric, value, total, **labels)
            else:
                on.record(metric, value / total, **labels)
        except Exception as error:
            failsafe.caught(on.health, where, error)


def _wrong_value(metric: Metric, value: float, total: float | None) -> str | None:
    for number in (value, 0 if total is None else total):
        if not isinstance(number, (int, float)) or not -LARGEST <= number <= LARGEST:  # pyright: ignore[reportUnnecessaryIsInstance]
            return "a value must be a finite number"
    if total is not None and not 0 <= value <= total:
        return f"{value:g} of {total:g} is no share from 0 to 1"
    if metric.kind in {Kind.COUNTER, Kind.HISTOGRAM} and value < 0:
        return f"{value:g} is negative"
    return None


def _wrong_labels(metric: Metric, labels: Mapping[str, str]) -> str | None:
    """Says what a label must be, never what it was: that could be content."""
    for label in metric.labels:
        value = labels.get(label.name)
        if value is None:
            return f"the label {label.name!r} is missing"
        if label.closed and value not in label.values:
            return f"the label {label.name!r} must be one of {', '.join(label.values)}"
        if not isinstance(value, str) or not 0 < len(value) <= MAX_LENGTH:  # pyright: ignore[reportUnnecessaryIsInstance]
            return f"the label {label.name!r} must be a name of 1 to {MAX_LENGTH} characters"
    if len(labels) > len(metric.labels):
        expected = ", ".join(label.name for label in metric.labels) or "none"
        return f"there are labels beyond those declared ({expected})"
    return None


def _refuse(where: str, wrong: str) -> None:
    if failsafe.STRICT or settings.is_strict():
        raise ValueError(f"{where}: {wrong}")
    if RUNTIME.health.add_error(where) == 1:
        failsafe.logger.warning(
            "victor-otel: %s: %s. The value is dropped; further ones are only counted "
            "(victor_otel_errors_total). %s=true raises instead.",
            where,
            wrong,
            settings.STRICT.name,
        )
