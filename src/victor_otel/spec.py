"""The vocabulary in which areas declare what is measured and where.

An area is plain data made of these types plus small functions. Nothing here knows
OpenTelemetry or Victor, so an area can be read, tested and documented without either.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from victor_otel.classes import (
    APPROVAL_PAUSE,
    PROVIDER_TIMEOUT_ERROR,
    TOOL_TIMEOUT_ERROR,
    is_a,
)

__all__ = [
    "MAX_LENGTH",
    "UNSET",
    "Area",
    "Call",
    "Context",
    "Extra",
    "Follow",
    "Hook",
    "Kind",
    "Label",
    "Metric",
    "NoFacts",
    "Observer",
    "Part",
    "Reading",
    "Record",
    "Scope",
    "Stream",
    "StreamFacts",
    "Unset",
    "is_timeout",
    "mapping",
]


class Kind(enum.Enum):
    """What a metric is, and so how `Record` treats a value.

    `RATIO`, `RATE` and `LATEST` are exported as gauges: the share of true values, the
    number of values per second, and the last value, each over the last five minutes of
    this process.
    """

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    UPDOWN = "updowncounter"
    RATIO = "ratio"
    RATE = "rate"
    LATEST = "latest"


MAX_LENGTH = 120
"""Characters of a label value; longer ones are no names."""


OTHER = "other"
"""Stands for every label value that is outside of a label's set or bound."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Label:
    """A label and what keeps it bounded.

    `values` closes the set; without it the first `limit` distinct values are kept. What
    is outside becomes `other`. Outside of a closed set it is counted as undeclared, unless
    `others` says that anything may come.
    """

    name: str
    values: tuple[str, ...] = ()
    limit: int = 100
    others: bool = False
    meaning: str

    @property
    def closed(self) -> bool:
        return bool(self.values)


_UNIT_SUFFIX = {"s": "_seconds", "By": "_bytes", "%": "_percent"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """One metric: `name` in OpenTelemetry's dotted form, `unit` in UCUM.

    `siblings` are labels whose other values are created at 0 when a label set is first
    seen, so that the first increment of each is visible to `increase()`.
    """

    name: str
    kind: Kind
    unit: str = ""
    meaning: str
    labels: tuple[Label, ...] = ()
    siblings: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    guide: bool = False

    @property
    def prometheus_name(self) -> str:
        """The name on every route (held by a test against all three).

        https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
        """
        name = self.name.replace(".", "_") + _UNIT_SUFFIX.get(self.unit, "")
        return f"{name}_total" if self.kind is Kind.COUNTER else name

    @property
    def starts_at_zero(self) -> bool:
        """A counter whose every label set is known beforehand exists from the start."""
        return self.kind is Kind.COUNTER and all(label.closed for label in self.labels)


class Unset(enum.Enum):
    """The result of a call that never returned one."""

    UNSET = 0


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Context:
    """Who and what was running when a call started."""

    interface: str = "sdk"
    vertical: str = "none"
    mode: str = "none"
    user: str | None = None


@dataclass(slots=True)
class Part:
    """One inner call, as the finished outer call sees it; times as of `time.perf_counter`."""

    instance: Any
    started: float
    ended: float | None = None
    """None while the inner call outlives the outer one."""
    digest: Any = None
    """What `Hook.digest` kept of the finished inner call."""


class StreamFacts(Protocol):
    """What a hook wants to know of a stream's items; it must keep no content."""

    started: bool
    """Real content was seen."""
    complete: bool
    """The stream said all it had to say, however it is closed after that."""

    def add(self, item: Any, /) -> None: ...


class NoFacts:
    """For a stream of whose items nothing needs to be known."""

    started = complete = False

    def add(self, _item: Any, /) -> None: ...


@dataclass(slots=True)
class Stream:
    """How a stream went. `ending`: exhausted, closed, failed, cancelled or dropped."""

    facts: Any
    ending: str = ""
    items: int = 0
    inside: float = 0.0
    """Seconds spent in the iterator, its consumer's time excluded."""
    first_content: float | None = None
    """Seconds from the first read to the first content."""

    @property
    def complete(self) -> bool:
        return bool(getattr(self.facts, "complete", False))


class Call:
    """A finished call of a hooked function, read by observers and kept by nobody."""

    __slots__ = (
        "args",
        "context",
        "elapsed",
        "enclosing",
        "error",
        "failures",
        "instance",
        "kwargs",
        "owner",
        "parts",
        "result",
        "started",
        "stream",
    )

    def __init__(self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.instance = instance
        self.args = args
        self.kwargs = kwargs
        self.context = Context()
        self.owner: Any = None
        """The orchestrator in whose name the call ran, if known."""
        self.enclosing: frozenset[str] = frozenset()
        """Names of the scopes that were active around the call when it started."""
        self.started = 0.0
        self.elapsed = 0.0
        self.result: Any = UNSET
        self.error: BaseException | None = None
        self.stream: Stream | None = None
        self.parts: dict[str, list[Part]] = {}
        self.failures = 0
        """Errors already counted inside the call, where they arose."""

    def argument(self, name: str, position: int, default: Any = None) -> Any:
        """The argument `name`, or the one at `position` (self excluded)."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else default

    def last_part(self, name: str) -> Part | None:
        """The part that ended last; inner calls of the same name end before outer ones."""
        return max(self.parts.get(name, ()), key=lambda part: part.ended or 0.0, default=None)

    @property
    def ended(self) -> float:
        return self.started + self.elapsed

    @property
    def status(self) -> str:
        """success, failure, timeout, cancelled or paused, as far as the ending alone tells."""
        if self.stream is not None and self.stream.ending != "failed":
            whole = self.stream.ending == "exhausted" or self.stream.complete
            return "success" if whole else "cancelled"
        if self.error is None:
            return "success"
        if is_a(self.error, APPROVAL_PAUSE):
            return "paused"
        if isinstance(self.error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
            return "cancelled"
        return "timeout" if is_timeout(self.error) else "failure"


def mapping(value: object) -> Mapping[Any, Any]:
    """`value` if it is a mapping, else an empty one: Victor's objects promise little."""
    return cast("Mapping[Any, Any]", value) if isinstance(value, Mapping) else {}


def is_timeout(error: BaseException) -> bool:
    """A timeout of Python's or of Victor's, whose own classes do not derive from Python's."""
    return isinstance(error, TimeoutError) or is_a(
        error, PROVIDER_TIMEOUT_ERROR, TOOL_TIMEOUT_ERROR
    )


class Record(Protocol):
    """Records one value: adds to a counter, a distribution or a window, sets a gauge.

    For a `RATIO` it adds `value` successes of `total` events.
    """

    def __call__(
        self, metric: Metric, value: float = 1, total: float = 1, /, **labels: object
    ) -> None: ...


Observer = Callable[..., None]
"""`(call, record)`, or a method `(state, call, record)` of the area's state."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scope:
    """A kind of logical call that several functions may enter, counted once.

    A function entered inside another of its scope is the same call when its level is
    lower, or when level and instance are equal; otherwise it is a nested call of its own.
    With `outermost`, whatever is nested is the same call.
    """

    name: str
    outermost: bool = False
    in_flight: Metric | None = None
    """Counts the calls that have begun and not ended, by interface."""


@dataclass(frozen=True)
class Extra:
    """What Victor brings only with an extra of its own: the module, and the extra's name."""

    module: str
    name: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Hook:
    """A function of Victor's that is wrapped: `target` is `"module:Class.method"`.

    `observe` runs when a logical call that began here has finished. `part` names the
    role that this function plays inside an enclosing call of scope `of`.
    """

    target: str
    observe: Observer | None = None
    feeds: tuple[Metric, ...] = ()
    scope: Scope | None = None
    level: int = 1
    part: str = ""
    of: Scope | None = None
    digest: Callable[[Call], Any] | None = None
    """What the outer call keeps of this finished part; nothing by default."""
    when: Callable[[Call], bool] | None = None
    """Whether a starting call counts at all."""
    stream: type[Any] | None = None
    """A `StreamFacts` class, for functions that return an iterator."""
    overrides: bool = False
    """The base method is abstract: every class that overrides it is wrapped, later ones too."""
    asgi: str = ""
    """The attribute that holds an ASGI application, whose requests enter `scope`."""
    interface: str = ""
    """What the call, and all it causes, is reached through."""
    owner: Callable[[Call], Any] | None = None
    """The orchestrator in whose name a call runs, where the instance does not tell."""
    owns: tuple[str, ...] = ()
    """Attributes of the instance, an orchestrator, that belong to it once the call is over."""
    needs: Extra | None = None
    """Without it the target's module cannot be imported, and the hook waits."""
    opens: bool = False
    """Real work begins here: the pipeline starts on entry."""
    since: str = ""
    until: str = ""
    """Versions of Victor in which the target exists: from `since`, before `until`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Follow:
    """An observer of every finished logical call of a scope that another area hooks."""

    scope: Scope
    observe: Observer
    feeds: tuple[Metric, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """Yields `(value, labels)` for a gauge, or an observed counter, at each collection."""

    metric: Metric
    read: Callable[..., Iterable[tuple[float, Mapping[str, str]]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Area:
    """What one module measures.

    `state` makes what its observers and readings share, one for each instrumentation; they
    are then methods of it. `at_exit` records what ends with the process.
    """

    name: str
    metrics: tuple[Metric, ...] = ()
    hooks: tuple[Hook, ...] = ()
    follows: tuple[Follow, ...] = ()
    readings: tuple[Reading, ...] = ()
    state: Callable[[], Any] | None = None
    at_exit: Callable[..., None] | None = None
