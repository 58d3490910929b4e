"""What several areas feed or nest in: the logical calls, and the few metrics they share.

Each metric here has the one function that records it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from victor_otel import labels
from victor_otel.classes import VICTOR_ERROR, is_a
from victor_otel.scope import CURRENT, active
from victor_otel.spec import Call, Extra, Kind, Metric, Record, Scope, is_timeout

REQUESTS = Metric(
    name="victor.requests",
    kind=Kind.COUNTER,
    meaning="Requests that ended: what a user asked for, once (the guide's victor_total_requests)",
    labels=(labels.INTERFACE, labels.REQUEST_STATUS),
    guide=True,
)
REQUESTS_IN_FLIGHT = Metric(
    name="victor.requests_in_flight",
    kind=Kind.UPDOWN,
    meaning="Requests that have begun and not ended",
    labels=(labels.INTERFACE,),
)
REQUEST_RATE = Metric(
    name="victor.request_rate",
    kind=Kind.RATE,
    meaning="Requests per second over the last 5 minutes of this process",
    guide=True,
)
ERROR_RATE = Metric(
    name="victor.error_rate",
    kind=Kind.RATIO,
    meaning="Share of requests that failed or timed out over the last 5 minutes of this process",
    guide=True,
)
ERRORS = Metric(
    name="victor.errors",
    kind=Kind.COUNTER,
    meaning="Failures, once each, where they arose",
    labels=(labels.ERROR_COMPONENT, labels.ERROR_TYPE),
)
FEATURES = Metric(
    name="victor.feature.usage",
    kind=Kind.COUNTER,
    meaning="Features used",
    labels=(labels.FEATURE,),
    guide=True,
)
CACHE_REQUESTS = Metric(
    name="victor.cache.requests",
    kind=Kind.COUNTER,
    meaning="Questions to a cache by its answer; a tool call counts once, whatever caches it asks",
    labels=(labels.CACHE, labels.CACHE_RESULT),
)
SECURITY_EVENTS = Metric(
    name="victor.security.events",
    kind=Kind.COUNTER,
    meaning="What a security team wants to hear of",
    labels=(labels.SECURITY_EVENT,),
)
METRICS = (
    REQUESTS,
    REQUESTS_IN_FLIGHT,
    REQUEST_RATE,
    ERROR_RATE,
    ERRORS,
    FEATURES,
    CACHE_REQUESTS,
    SECURITY_EVENTS,
)

REQUEST = Scope(name="request", outermost=True, in_flight=REQUESTS_IN_FLIGHT)
INITIALIZATION = Scope(name="initialization", outermost=True)
CHAT_TURN = Scope(name="chat_turn")
TOOL_BATCH = Scope(name="tool_batch")
TOOL_CALL = Scope(name="tool_call")
PROVIDER_CALL = Scope(name="provider_call")
WORKFLOW_RUN = Scope(name="workflow_run", outermost=True)
PLANNING = Scope(name="planning", outermost=True)

TERMINAL = Extra(module="textual", name="tui")

WITHHELD = "result_withheld"
"""Victor's outcome of a call that ran and whose result a middleware then refused to hand on."""

REQUEST_FEEDS = (REQUESTS, REQUEST_RATE, ERROR_RATE)


def record_request(record: Record, call: Call, status: str) -> None:
    """Counts a request. Cancelled, paused and rejected ones are in no ratio."""
    record(REQUESTS, interface=call.context.interface, status=status)
    record(REQUEST_RATE)
    if status in {"success", "failure", "timeout"}:
        record(ERROR_RATE, status != "success")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request keeps of a chat turn, or team run, inside it."""

    status: str
    user: str | None
    owner: Any


def keep_turn(status: Callable[[Call], str]) -> Callable[[Call], Turn]:
    """The digest of a function that is a turn, whose outcome `status` tells."""
    return lambda call: Turn(status(call), call.context.user, call.owner)


def last_turn(call: Call) -> Turn | None:
    """The turn that decides a request: the outermost one ends last."""
    turn = call.last_part("turn")
    return turn.digest if turn is not None else None


def observe_turn_request(call: Call, record: Record) -> None:
    """The observer of a request that is a turn itself."""
    turn = last_turn(call)
    record_request(record, call, turn.status if turn is not None else call.status)


def record_error(record: Record, component: str, error_type: str) -> None:
    """Counts a failure where it arose; the calls around it learn that it is counted."""
    record(ERRORS, component=component, error_type=error_type)
    for frame in active(CURRENT.get()):
        frame.call.failures += 1


def record_security_event(record: Record, kind: str) -> None:
    """Counts what a security team wants to hear of."""
    record(SECURITY_EVENTS, kind=kind)


def error_type(error: BaseException) -> str:
    """Victor's category of an error, else its class; never its text."""
    if is_a(error, VICTOR_ERROR) and not is_timeout(error):
        # A provider's timeout has the category of a lost connection.
        category = getattr(error, "category", None)
        return str(getattr(category, "value", category))
    return type(error).__name__
