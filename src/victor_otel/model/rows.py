"""The rows in which an area declares what is wrapped, what it tells, and what is recorded.

A row that makes no sense is refused when it is made, so when its area is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

from victor_otel.model.declared import declared
from victor_otel.model.metric import Metric, Reading, UpDown
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.span import Span

Observer = Callable[..., None]
"""`(operation, record)`, or a method `(state, operation, record)` of the area's state."""

When = Callable[[Operation], bool]
"""Whether a starting call counts at all."""


@declared
class Extra:
    """What Victor brings only with an extra of its own: the module, and the extra's name."""

    module: str
    name: str


@declared
class Target:
    """A function of Victor's that is wrapped: `path` is `"module:Class.method"`."""

    path: str
    arguments: tuple[str, ...] = ()
    """The arguments that readers may ask for."""
    overrides: bool = False
    """The base method is abstract: every class that overrides it is wrapped, later ones too."""
    stream: type[Any] | None = None
    """A `StreamFacts` class, for functions that return an iterator."""
    keeping: type[Any] | None = None
    """One that keeps the content as well, for where a user wants contents."""
    asgi: str = ""
    """The attribute that holds an ASGI application, whose requests are the calls."""
    needs: Extra | None = None
    """Without it the module cannot be imported, and the target waits."""
    since: str = ""
    """The version of Victor that brought it."""
    moved: tuple[str, str] = ("", "")
    """The version that moved it to `path`, and its path before."""

    def __post_init__(self) -> None:
        for path in filter(None, (self.path, self.moved[1])):
            module, colon, name = path.partition(":")
            if not (module and colon and name):
                raise ValueError(f"{path!r} is no target: write module:Class.method")

    def everywhere(self) -> Iterator[tuple[str, str, str]]:
        """Its paths, each with the version from which it is so and that before which it was."""
        moved, before = self.moved
        yield self.path, moved or self.since, ""
        if moved:
            yield before, self.since, moved


@declared
class Begins:
    """An operation begins where `target` is entered, unless it belongs to one under way.

    `at_start(operation)` gives the facts that only its start knows, `read(operation)` those of
    the finished operation; what `at_start` gave is `operation.facts` until then, and known to its
    span.
    """

    type: OperationType[object]
    target: Target
    level: int = 1
    when: When | None = None
    at_start: Callable[[Operation], object] | None = None
    read: Callable[[Operation], object] | None = None

    def __post_init__(self) -> None:
        if self.type.outermost and self.level != 1:
            raise ValueError(f"{self.type.name}: an outermost operation has one level")
        _has_a_reader(self)


@declared
class Tells:
    """An inner function, or operation, tells the operation of a type around it something.

    `read` is given the function's result, or UNSET after an error; of an operation its facts.
    """

    type: OperationType[object]
    name: str
    source: Target | OperationType[object]
    read: Callable[[Any], Any] | None = None
    timed: bool = False
    """What is told is `Timed`."""

    def __post_init__(self) -> None:
        if isinstance(self.source, OperationType):
            if self.timed:
                raise ValueError(f"{self.name}: an operation has its times among its facts")
            if self.source is self.type:
                raise ValueError(f"{self.name}: an operation cannot tell itself")
        elif self.source.stream is not None or self.source.asgi:
            raise ValueError(f"{self.name}: a stream tells nothing; let it begin an operation")


@declared
class Binds:
    """What holds while `target` runs, or once it has: how Victor is reached, and by whom."""

    target: Target
    interface: str = ""
    """What the call, and all it causes, is reached through."""
    opens: bool = False
    """Real work begins here: the pipeline starts on entry."""
    owner: Callable[[Operation], Any] | None = None
    """The orchestrator in whose name a call runs, where the instance does not tell."""
    owns: tuple[str, ...] = ()
    """Attributes of the instance, an orchestrator, that belong to it once the call is over."""

    def __post_init__(self) -> None:
        if not (self.interface or self.opens or self.owner or self.owns):
            raise ValueError(f"{self.target.path}: binds nothing")


@declared
class Carries:
    """`target` hands on to another process, in its one argument here, which trace it is part of.

    `put(given, fields)` gives the argument with the fields of the trace context in it. It is
    given UNSET for an argument that is left out, and may give it back; it changes no object.
    """

    target: Target
    put: Callable[[Any, Mapping[str, str]], Any]

    def __post_init__(self) -> None:
        if len(self.target.arguments) != 1:
            raise ValueError(f"{self.target.path}: one argument carries the trace context")


@declared
class Reports:
    """The operation that `target` begins tells, as it ends, of others that no function ran for.

    `find(whole)` gives the arguments and the result of each, as if there had been a call;
    `read(operation)` its facts, as in `Begins`. Each is over as it begins, when `whole` ends.
    `feeds` are the metrics of the type that they can move.
    """

    type: OperationType[object]
    target: Target
    find: Callable[[Operation], Iterable[tuple[Mapping[str, Any], Any]]]
    read: Callable[[Operation], object] | None = None
    feeds: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        _has_a_reader(self)


def _has_a_reader(row: Begins | Reports) -> None:
    if (row.type.facts is None) != (row.read is None):
        raise ValueError(f"{row.type.name}: facts need a reader, and a reader facts")


@declared
class Feeds:
    """Each operation of a type feeds a metric that others feed as well; as `Metric.of` does.

    `labels` are values that are the same for every operation of the type.
    """

    type: OperationType[object]
    metric: Metric
    when: str = ""
    value: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        metric = self.metric.name
        names = [label.name for label in self.metric.labels]
        for name in (*filter(None, (self.when, self.value)), *self.reads):
            try:
                self.type.path(name)
            except ValueError as error:
                raise ValueError(f"{metric}: {error}") from None
        for label in self.metric.labels:
            given = self.labels.get(label.name)
            if given is not None and label.closed and given not in label.values:
                raise ValueError(f"{metric}: {label.name} is never {given!r}")
        if unknown := self.labels.keys() - set(names):
            raise ValueError(f"{metric} has no label {', '.join(sorted(unknown))}")

    @property
    def reads(self) -> Iterator[str]:
        """What the labels read of an operation."""
        return (label.reads for label in self.metric.labels if label.name not in self.labels)


@declared
class Observes:
    """A function of ours that is shown each finished call of a target, or operation of a type.

    For what rows cannot say. `feeds` are the metrics that it can move.
    """

    source: Target | OperationType[object]
    observe: Observer
    feeds: tuple[Metric, ...] = ()
    when: When | None = None

    def __post_init__(self) -> None:
        if self.when is not None and isinstance(self.source, OperationType):
            raise ValueError(f"{self.source.name}: its own row says when it begins")


Row = Begins | Reports | Tells | Binds | Carries | Feeds | Observes


@declared
class Area:
    """What one module measures.

    `state` makes what its observers and readings share, one for each instrumentation; they
    are then methods of it. `at_exit` records what ends with the process.
    """

    name: str
    metrics: tuple[Metric, ...] = ()
    rows: tuple[Row, ...] = ()
    spans: tuple[Span, ...] = ()
    readings: tuple[Reading, ...] = ()
    state: Callable[[], Any] | None = None
    at_exit: Callable[..., None] | None = None

    @property
    def feeds(self) -> Iterator[Feeds]:
        """Which operations feed which metrics, whether a metric or a row says so."""
        for metric in self.metrics:
            if metric.of is not None and not isinstance(metric, UpDown):
                yield Feeds(metric.of, metric, metric.when, metric.value)
        yield from (row for row in self.rows if isinstance(row, Feeds))
