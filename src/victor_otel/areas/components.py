"""Victor's own health checks and queues, where it has them.

The turns of one agent run one after another (before 0.10: those that stream), and whoever asks
meanwhile waits at a lock. An API server has one agent for all its users.
"""

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
    meaning="Who waits: `turn` for an earlier turn of the same agent to end, `provider` in "
    "Victor's queues of provider requests; absent without an agent or queue",
    labels=(labels.QUEUE,),
)

_VALUES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}


def _record_report(call: Call, record: Record) -> None:
    for name, component in mapping(getattr(call.result, "components", None)).items():
        status: Any = getattr(component, "status", None)
        value = _VALUES.get(getattr(status, "value", status))
        if value is not None:  # "unknown" is no value
            record(COMPONENT_HEALTH, value, component=name)


class Living:
    """Objects as long as they live; added to by any thread, and read by a reader's."""

    def __init__(self) -> None:
        self._references: set[weakref.ref[Any]] = set()

    def add(self, one: Any) -> None:
        self._references.add(weakref.ref(one, self._references.discard))

    def __iter__(self) -> Iterator[Any]:
        found = [reference() for reference in list(self._references)]
        return (one for one in found if one is not None)


def waiting_turns(lock: Any) -> int:
    """How many wait at the lock of an agent's turns, which asyncio does not tell."""
    return len(lock._waiters or ())


class Queues:
    """Victor's living queues."""

    def __init__(self) -> None:
        self._requests, self._turns = Living(), Living()

    def observe_check(self, call: Call, record: Record) -> None:
        _record_report(call, record)

    def observe_queue(self, call: Call, _record: Record) -> None:
        self._requests.add(call.instance)

    def observe_session(self, call: Call, _record: Record) -> None:
        self._turns.add(call.instance.stream_turn_lock)

    def read_depth(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        if requests := [len(queue._pending_requests) for queue in self._requests]:
            yield sum(requests), {"queue": "provider"}
        if turns := [waiting_turns(lock) for lock in self._turns]:
            yield sum(turns), {"queue": "turn"}


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
        Hook(
            target="victor.agent.session_state_accessor:SessionStateAccessor.__init__",
            observe=Queues.observe_session,
        ),
    ),
    readings=(Reading(metric=QUEUE_DEPTH, read=Queues.read_depth),),
    state=Queues,
)
