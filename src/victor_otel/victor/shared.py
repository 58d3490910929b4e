"""The metrics that operations of several areas feed, and the readers that several areas use."""

from __future__ import annotations

from collections.abc import Callable

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Histogram, Rate, Ratio, Record, UpDown
from victor_otel.model.operation import Operation
from victor_otel.model.rows import Area
from victor_otel.victor import labels
from victor_otel.victor.operations import REQUEST, Request, Turn

REQUESTS = Counter(
    "victor.requests",
    "Requests that ended; a request is what a user asked for once (the guide's "
    "victor_total_requests)",
    labels=(labels.INTERFACE, labels.REQUEST_STATUS),
    guide=True,
    of=REQUEST,
)
REQUESTS_IN_FLIGHT = UpDown(
    "victor.requests_in_flight",
    "Requests that have started and not ended",
    labels=(labels.INTERFACE,),
    of=REQUEST,
)
REQUEST_RATE = Rate(
    "victor.request_rate",
    "Requests per second, over the last 5 minutes of this process",
    guide=True,
    of=REQUEST,
)
ERROR_RATE = Ratio(
    "victor.error_rate",
    "Share of requests that failed or timed out, over the last 5 minutes of this process",
    guide=True,
    of=REQUEST,
    when="judged",
    value="failed",
)
ERRORS = Counter(
    "victor.errors",
    "Failures; each counts once, where it arose",
    labels=(labels.ERROR_COMPONENT, labels.ERROR_TYPE),
)
FEATURES = Counter(
    "victor.feature.usage",
    "Uses of Victor's features",
    labels=(labels.FEATURE,),
    guide=True,
)
CACHE_REQUESTS = Counter(
    "victor.cache.requests",
    "Cache lookups by result; a tool call counts once, even if it asks several caches",
    labels=(labels.CACHE, labels.CACHE_RESULT),
)
SECURITY_EVENTS = Counter(
    "victor.security.events",
    "Security events, such as a failed authorization, a blocked tool or a vulnerability",
    labels=(labels.SECURITY_EVENT,),
)
RETRIEVAL_DURATION = Histogram(
    semconv.RETRIEVAL_DURATION,
    "Duration of a search, including the embedding of its query",
    unit="s",
    labels=(labels.GENAI_OPERATION, labels.GENAI_ERROR),
    buckets=semconv.SECONDS,
)
RETRIEVED = {semconv.OPERATION_NAME: "retrieval"}
"""The label of each search."""

AREA = Area(
    name="shared",
    metrics=(
        REQUESTS,
        REQUESTS_IN_FLIGHT,
        REQUEST_RATE,
        ERROR_RATE,
        ERRORS,
        FEATURES,
        CACHE_REQUESTS,
        SECURITY_EVENTS,
        RETRIEVAL_DURATION,
    ),
)

WITHHELD = "result_withheld"
"""Victor's outcome of a call that ran and whose result a middleware then refused to hand on."""


def read_request(operation: Operation) -> Request:
    """A request that is a turn itself, or has no other answer than its ending."""
    turn: Turn | None = operation.last_told("turn")
    if turn is None:
        return Request(operation.status, agent=operation.agent)
    return Request(turn.status, turn.user, turn.agent)


def used(feature: str) -> Callable[[Operation, Record], None]:
    """The observer of a function whose calls are uses of a feature."""

    def observe(_: Operation, record: Record) -> None:
        record(FEATURES, feature=feature)

    return observe


def record_error(record: Record, operation: Operation, component: str, error_type: str) -> None:
    """Counts a failure that an observer found; the operations around learn that it is counted."""
    operation.count_failure()
    record(ERRORS, component=component, error_type=error_type)
