"""Metrics about victor-otel itself, so that missing telemetry is visible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from victor_otel.engine.health import Health
from victor_otel.model.metric import Counter, Gauge, Reading
from victor_otel.model.rows import Area
from victor_otel.version import __version__
from victor_otel.victor import labels
from victor_otel.victor.supported import victor_version

HOOKS = Gauge(
    "victor.otel.hooks",
    "State of each function of Victor that is wrapped: 1 for its present state, 0 for the others",
    labels=(labels.HOOK, labels.HOOK_STATE),
)
DRIFT = Gauge(
    "victor.otel.drift",
    "Differences between Victor's classes and enumerations and what victor-otel knows of "
    "them: 0 if they are equal; absent if Victor has not imported their module",
    labels=(labels.DRIFT, labels.SYMBOL),
)
ERRORS = Counter(
    "victor.otel.errors",
    "Errors of the instrumentation itself, which it caught",
    labels=(labels.HOOK,),
)
LABELS_CAPPED = Counter(
    "victor.otel.labels_capped",
    "Recorded values with a label replaced because a limit was reached",
    labels=(labels.METRIC,),
)
LABELS_UNDECLARED = Counter(
    "victor.otel.labels_undeclared",
    "Recorded values with a label replaced by `other` because its value is not declared",
    labels=(labels.METRIC,),
)
EXPORTS_DROPPED = Counter(
    "victor.otel.exports_dropped",
    "Exports that the backend did not accept",
)
SPANS_DROPPED = Counter(
    "victor.otel.spans_dropped",
    "Spans that were not delivered: the backend did not accept them, or too many were waiting",
)
ENDPOINT_UP = Gauge(
    "victor.otel.endpoint_up",
    "1 if this process serves the Prometheus endpoint it was asked for, 0 if it cannot",
)
BUILD_INFO = Gauge(
    "victor.otel.build_info",
    "Versions of victor-otel and victor-ai in this process; always 1",
    labels=(labels.VERSION, labels.VICTOR_VERSION),
)

Points = Iterator[tuple[float, Mapping[str, str]]]


def states(health: Health) -> dict[str, str]:
    """The state of each hook. It is missing if the module that it waits for does not exist."""
    from victor_otel.victor import drift  # at a collection, not at each start

    hooks = list(health.hooks.items())
    waiting = {_module(hook) for hook, state in hooks if state == "waiting"}
    gone = {module for module in waiting if drift.is_gone(module)}
    return {
        hook: "missing" if state == "waiting" and _module(hook) in gone else state
        for hook, state in sorted(hooks)
    }


def read_hooks(health: Health) -> Points:
    for hook, state in states(health).items():
        for known in labels.HOOK_STATE.values:
            yield float(known == state), {"hook": hook, "state": known}


def read_drift(_health: Health) -> Points:
    from victor_otel.victor import drift

    for state in drift.look():
        yield float(state.moved), {"kind": "class", "symbol": state.path}
        if state.members:
            differ = len(state.undeclared) + len(state.lost)
            yield differ, {"kind": "member", "symbol": state.path}


def read_errors(health: Health) -> Points:
    return _each(health.errors, "hook")


def read_capped(health: Health) -> Points:
    return _each(health.capped, "metric")


def read_undeclared(health: Health) -> Points:
    return _each(health.undeclared, "metric")


def read_exports_dropped(health: Health) -> Points:
    yield health.exports_dropped, {}


def read_spans_dropped(health: Health) -> Points:
    yield health.spans_dropped, {}


def read_endpoint_up(health: Health) -> Points:
    if health.endpoint_up is not None:
        yield float(health.endpoint_up), {}


def read_build_info(_health: Health) -> Points:
    yield 1.0, {"version": __version__, "victor_version": victor_version() or "none"}


def _module(hook: str) -> str:
    return hook.partition(":")[0]


def _each(counts: Mapping[str, int], label: str) -> Points:
    for key, count in list(counts.items()):
        yield count, {label: key}


AREA = Area(
    name="ourselves",
    metrics=(
        HOOKS,
        DRIFT,
        ERRORS,
        LABELS_CAPPED,
        LABELS_UNDECLARED,
        EXPORTS_DROPPED,
        SPANS_DROPPED,
        ENDPOINT_UP,
        BUILD_INFO,
    ),
    readings=(
        Reading(metric=HOOKS, read=read_hooks),
        Reading(metric=DRIFT, read=read_drift),
        Reading(metric=ERRORS, read=read_errors),
        Reading(metric=LABELS_CAPPED, read=read_capped),
        Reading(metric=LABELS_UNDECLARED, read=read_undeclared),
        Reading(metric=EXPORTS_DROPPED, read=read_exports_dropped),
        Reading(metric=SPANS_DROPPED, read=read_spans_dropped),
        Reading(metric=ENDPOINT_UP, read=read_endpoint_up),
        Reading(metric=BUILD_INFO, read=read_build_info),
    ),
    state=Health,
)
