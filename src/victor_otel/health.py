"""Our own numbers, so that silent telemetry is visible.

The machinery adds to a plain `Health` object, without OpenTelemetry; readings export it.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections import Counter
from collections.abc import Iterator, Mapping

from victor_otel import drift, labels
from victor_otel.spec import Area, Kind, Metric, Reading
from victor_otel.version import __version__

HOOKS = Metric(
    name="victor.otel.hooks",
    kind=Kind.GAUGE,
    meaning="Wrapped functions of Victor by state: 1 for the present state, 0 for the others",
    labels=(labels.HOOK, labels.HOOK_STATE),
)
DRIFT = Metric(
    name="victor.otel.drift",
    kind=Kind.GAUGE,
    meaning="What differs in the classes and enumerations that we know of Victor: 0 for one that "
    "is as it was, absent for one whose module Victor has not imported",
    labels=(labels.DRIFT, labels.SYMBOL),
)
ERRORS = Metric(
    name="victor.otel.errors",
    kind=Kind.COUNTER,
    meaning="Errors of the instrumentation itself, swallowed",
    labels=(labels.HOOK,),
)
LABELS_CAPPED = Metric(
    name="victor.otel.labels_capped",
    kind=Kind.COUNTER,
    meaning="Values recorded with a label replaced because a cap was reached",
    labels=(labels.METRIC,),
)
LABELS_UNDECLARED = Metric(
    name="victor.otel.labels_undeclared",
    kind=Kind.COUNTER,
    meaning="Values recorded with a label as `other` because the label does not know its value",
    labels=(labels.METRIC,),
)
EXPORTS_DROPPED = Metric(
    name="victor.otel.exports_dropped",
    kind=Kind.COUNTER,
    meaning="Exports that the backend did not accept",
)
ENDPOINT_UP = Metric(
    name="victor.otel.endpoint_up",
    kind=Kind.GAUGE,
    meaning="1 if this process serves the Prometheus endpoint it was asked for, 0 if it cannot",
)
BUILD_INFO = Metric(
    name="victor.otel.build_info",
    kind=Kind.GAUGE,
    meaning="Versions at work; always 1",
    labels=(labels.VERSION, labels.VICTOR_VERSION),
)

Points = Iterator[tuple[float, Mapping[str, str]]]


class Health:
    """Plain counters of this process; safe from any thread."""

    def __init__(self) -> None:
        self.hooks: dict[str, str] = {}
        self.restart()

    def restart(self) -> None:
        """Counts from 0 again: a forked child has the parent's wrappers, not its counts."""
        self._lock = threading.Lock()
        self.errors: Counter[str] = Counter()
        self.capped: Counter[str] = Counter()
        self.undeclared: Counter[str] = Counter()
        self.exports_dropped = 0
        self.endpoint_up: bool | None = None

    def add_error(self, where: str) -> int:
        """Counts an error and returns how many there have been at the same place."""
        return self._add(self.errors, where)

    def add_capped(self, metric: str) -> int:
        """Counts a replaced label value and returns how many the metric has had."""
        return self._add(self.capped, metric)

    def add_undeclared(self, metric: str) -> int:
        """Counts a label value that is not known, and returns how many the metric has had."""
        return self._add(self.undeclared, metric)

    def _add(self, counts: Counter[str], key: str) -> int:
        with self._lock:
            counts[key] += 1
            return counts[key]

    def add_dropped_export(self) -> None:
        with self._lock:
            self.exports_dropped += 1

    def states(self) -> dict[str, str]:
        """The state of each hook. One that waits for a module that is gone waits in vain."""
        waiting = {_module(hook) for hook, state in list(self.hooks.items()) if state == "waiting"}
        gone = {module for module in waiting if drift.is_gone(module)}
        return {
            hook: "missing" if state == "waiting" and _module(hook) in gone else state
            for hook, state in sorted(self.hooks.items())
        }

    def read_hooks(self) -> Points:
        for hook, state in self.states().items():
            for known in labels.HOOK_STATE.values:
                yield float(known == state), {"hook": hook, "state": known}

    def read_drift(self) -> Points:
        for state in drift.look():
            yield float(state.moved), {"kind": "class", "symbol": state.path}
            if state.members:
                differ = len(state.undeclared) + len(state.lost)
                yield differ, {"kind": "member", "symbol": state.path}

    def read_errors(self) -> Points:
        return _each(self.errors, "hook")

    def read_capped(self) -> Points:
        return _each(self.capped, "metric")

    def read_undeclared(self) -> Points:
        return _each(self.undeclared, "metric")

    def read_exports_dropped(self) -> Points:
        yield self.exports_dropped, {}

    def read_endpoint_up(self) -> Points:
        if self.endpoint_up is not None:
            yield float(self.endpoint_up), {}

    def read_build_info(self) -> Points:
        yield 1.0, {"version": __version__, "victor_version": victor_version() or "none"}


def _module(hook: str) -> str:
    return hook.partition(":")[0]


def _each(counts: Counter[str], label: str) -> Points:
    for key, count in list(counts.items()):
        yield count, {label: key}


def installed(package: str) -> str | None:
    """The installed version of a package, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def victor_version() -> str | None:
    """The installed version of victor-ai."""
    return installed("victor-ai")


AREA = Area(
    name="ourselves",
    metrics=(
        HOOKS,
        DRIFT,
        ERRORS,
        LABELS_CAPPED,
        LABELS_UNDECLARED,
        EXPORTS_DROPPED,
        ENDPOINT_UP,
        BUILD_INFO,
    ),
    readings=(
        Reading(metric=HOOKS, read=Health.read_hooks),
        Reading(metric=DRIFT, read=Health.read_drift),
        Reading(metric=ERRORS, read=Health.read_errors),
        Reading(metric=LABELS_CAPPED, read=Health.read_capped),
        Reading(metric=LABELS_UNDECLARED, read=Health.read_undeclared),
        Reading(metric=EXPORTS_DROPPED, read=Health.read_exports_dropped),
        Reading(metric=ENDPOINT_UP, read=Health.read_endpoint_up),
        Reading(metric=BUILD_INFO, read=Health.read_build_info),
    ),
    state=Health,
)
