"""Victor's own health checks, and its queues.

The turns of one agent run one after another (before Victor 0.10 only streamed ones do), so a turn
waits for the earlier turns of its agent. An API server has one agent for all its users.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from victor_otel.model.metric import Gauge, Latest, Reading, Record
from victor_otel.model.operation import Operation
from victor_otel.model.rows import Area, Observes, Target
from victor_otel.victor import labels
from victor_otel.victor.values import mapping

COMPONENT_HEALTH = Latest(
    "victor.component_health",
    "Most recent result of Victor's health checks in the last 5 minutes: 1 healthy, 0.5 "
    "degraded, 0 unhealthy",
    labels=(labels.HEALTH_COMPONENT,),
)

QUEUE_DEPTH = Gauge(
    "victor.queue_depth",
    "Chat turns that wait for an earlier turn of their agent (`turn`), and requests in "
    "Victor's provider queues (`provider`); absent without an agent or a queue",
    labels=(labels.QUEUE,),
)

_VALUES = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}


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

    def observe_check(self, check: Operation, record: Record) -> None:
        for name, component in mapping(getattr(check.result, "components", None)).items():
            status: Any = getattr(component, "status", None)
            value = _VALUES.get(getattr(status, "value", status))
            if value is not None:  # "unknown" is no value
                record(COMPONENT_HEALTH, value, component=name)

    def observe_queue(self, creation: Operation, _record: Record) -> None:
        self._requests.add(creation.instance)

    def observe_session(self, creation: Operation, _record: Record) -> None:
        self._turns.add(creation.instance.stream_turn_lock)

    def read_depth(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        if requests := [len(queue._pending_requests) for queue in self._requests]:
            yield sum(requests), {"queue": "provider"}
        if turns := [waiting_turns(lock) for lock in self._turns]:
            yield sum(turns), {"queue": "turn"}


AREA = Area(
    name="components",
    metrics=(COMPONENT_HEALTH, QUEUE_DEPTH),
    rows=(
        Observes(
            Target("victor.core.health:HealthChecker.check_health"),
            Queues.observe_check,
            feeds=(COMPONENT_HEALTH,),
        ),
        Observes(
            Target("victor.providers.concurrency:RequestQueue.__init__"), Queues.observe_queue
        ),
        Observes(
            Target("victor.agent.session_state_accessor:SessionStateAccessor.__init__"),
            Queues.observe_session,
        ),
    ),
    readings=(Reading(metric=QUEUE_DEPTH, read=Queues.read_depth),),
    state=Queues,
)
