"""Victor's own health checks and queues, where it has them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from victor_otel import labels
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Reading, Record, mapping

COMPONENT_HEALTH = Metric(
    name="victor.component_health",
    kind=Kind.LATEST,
    meaning="Last answer of Victor's health checks in the last 5 minutes: 1 healthy, 0.5 degraded, "
    "0 unhealthy",
    labels=(labels.HEALTH_COMPONENT,),
)

QUEUE_DEPTH = Metric(
    name="victor.queue_depth",
    kind=Kind.GAUGE,
    meaning="Requests waiting in Victor's provider queues; absent where Victor made none",
)

_VALUES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}


def _record_report(call: Call, record: Record) -> None:
    for name, component in mapping(getattr(call.result, "components", None)).items():
        status: Any = getattr(component, "status", None)
        value = _VALUES.get(getattr(status, "value", status))
        if value is not None:  # "unknown" is no value
            record(COMPONENT_HEALTH, value, component=name)


class Queues:
    """Victor's living request queues."""

    def __init__(self) -> None:
        self._queues: weakref.WeakSet[Any] = weakref.WeakSet()

    def observe_check(self, call: Call, record: Record) -> None:
        _record_report(call, record)

    def observe_queue(self, call: Call, _record: Record) -> None:
        self._queues.add(call.instance)

    def read_depth(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        queues = list(self._queues)
        if queues:
            yield sum(len(queue._pending_requests) for queue in queues), {}


AREA = Area(
    name="components",
    metrics=(COMPONENT_HEALTH, QUEUE_DEPTH),
    hooks=(
        Hook(
            target="victor.core.health:HealthChecker.check_health",
            observe=Queues.observe_check,
            feeds=(COMPONENT_HEALTH,),
        ),
        Hook(
            target="victor.providers.concurrency:RequestQueue.__init__",
            observe=Queues.observe_queue,
        ),
    ),
    readings=(Reading(metric=QUEUE_DEPTH, read=Queues.read_depth),),
    state=Queues,
)
