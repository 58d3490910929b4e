"""From an entered function to a finished operation.

A `Plan` stands behind every wrapped function, compiled once from the rows that name it. `enter`
opens the frames and operations that its rows declare, `exit` finishes them. Wrappers call both
under no guard of their own: everything here is guarded.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextvars import Token
from time import perf_counter
from typing import Any

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.engine.nesting import CURRENT, Owners, leave
from victor_otel.model.metric import Metric, Record
from victor_otel.model.operation import (
    UNSET,
    Context,
    Frame,
    Live,
    Operation,
    OperationType,
    Stream,
    Timed,
    innermost,
)
from victor_otel.model.rows import Begins, Binds, Carries, Reports, Target, Tells

BoundObserver = Callable[[Operation, Record], None]
Trace = Callable[[Operation], Live | None]
Fields = Callable[[], Mapping[str, str]]
"""Gives the fields by which another process learns of the current span; none without one."""


def _no_fields() -> Mapping[str, str]:
    return {}


def _nothing(_operation: Operation) -> None:
    """For a type that feeds no metric."""


class Followers:
    """What is done with each finished operation of one type."""

    def __init__(self, kind: OperationType[object]) -> None:
        self.record: Callable[[Operation], None] = _nothing
        """Feeds the metrics of the type."""
        self.trace: Trace | None = None
        """Begins the span of an operation, where spans are wanted."""
        self.name: Callable[[Operation], str] | None = None
        """Says whose work an operation is, where a metric shows it; it has a span as well."""
        self.in_flight: Metric | None = None
        """Counts the operations that have begun and not ended, by interface."""
        self.tells: list[Tells] = []
        self.observers: list[tuple[str, BoundObserver]] = []
        counted = bool(kind.component) or kind.has_fact("component")
        self._may_fail = counted and kind.has_fact("error_type")

    def publish(self, operation: Operation) -> None:
        """Hands the facts of a finished operation to those around it, and to the metrics."""
        facts = operation.facts
        if self._may_fail and facts.error_type:
            operation.count_failure()
        for row in self.tells:
            whole = operation.around(row.type)
            if whole is not None and whole.operation is not None:
                whole.operation.tell(row.name, facts if row.read is None else row.read(facts))
        self.record(operation)


class Engine:
    """What all plans of one instrumentation share. Disabled, it makes every wrapper inert."""

    def __init__(
        self,
        *,
        health: Health,
        record: Record,
        describe: Callable[[Any, str], Context],
        ending: Callable[[BaseException], str],
        open_pipeline: Callable[[], None],
        flush: Callable[[], None],
    ) -> None:
        self.enabled = True
        self.health = health
        self.record = record
        """For observers, which record what rows cannot say."""
        self.describe = describe
        self.ending = ending
        self.open_pipeline = open_pipeline
        self.flush = flush
        self.plans: list[Plan] = []
        self._followers: dict[OperationType[object], Followers] = {}
        self._fed: tuple[OperationType[object], ...] = ()
        self._spanned: tuple[OperationType[object], ...] = ()
        self._tells: tuple[Tells, ...] = ()
        self._names: Mapping[OperationType[object], Callable[[Operation], str]] = {}
        self.renew()

    def renew(self) -> None:
        """Starts anew under the same wrappers: in a forked child nothing is under way."""
        self.owners = Owners()
        self._in_flight: Counter[tuple[Metric, str]] = Counter()
        self._lock = threading.Lock()
        self.connect(None, None, lambda: False)

    def followers(self, kind: OperationType[object]) -> Followers:
        """What follows the operations of a type."""
        if kind not in self._followers:
            self._followers[kind] = Followers(kind)
        return self._followers[kind]

    def follow(
        self,
        tells: Iterable[Tells],
        observers: Iterable[tuple[OperationType[object], str, BoundObserver]],
        fed: Iterable[OperationType[object]],
        *,
        in_flight: Mapping[OperationType[object], Metric],
        spanned: Iterable[OperationType[object]],
        names: Mapping[OperationType[object], Callable[[Operation], str]],
    ) -> None:
        """Has operations tell those around them, observers see them, and types feed metrics.

        Those of `spanned` types have spans; `names` says of some of these whose work they are.

        Ends what was before. `in_flight` counts those under way.
        """
        for followers in self._followers.values():
            followers.observers.clear()
        self._tells = tuple(tells)
        self._names = names
        for kind, where, observe in observers:
            self.followers(kind).observers.append((where, observe))
        for kind, metric in in_flight.items():
            self.followers(kind).in_flight = metric
        self._fed = tuple(dict.fromkeys(fed))
        self._spanned = tuple(dict.fromkeys(spanned))
        self.connect(None, None, lambda: False)

    def connect(
        self,
        metrics: Callable[[OperationType[object]], Callable[[Operation], None]] | None,
        spans: Callable[[OperationType[object]], Trace] | None,
        is_unheard: Callable[[], bool],
        needless: Container[object] = (),
        *,
        fields: Fields = _no_fields,
        keeps_contents: bool = False,
    ) -> None:
        """Has `metrics(type)` feed the metrics of each type, and `spans(type)` make its spans.

        Without them the next operation opens the pipeline. `fields` are what other processes get.
        Streams keep what they said where `keeps_contents` says so.

        What leaves no state is idle as long as `is_unheard` says so. Rows in `needless` tell
        nothing, and no operation of a type there is named.
        """
        self._is_unheard = is_unheard
        self.fields = fields
        for plan in self.plans:
            plan.keep_contents(keeps_contents)
        told: dict[OperationType[object], list[Tells]] = {}
        for row in self._tells:
            if isinstance(row.source, OperationType) and row not in needless:
                told.setdefault(row.source, []).append(row)
        for kind in {*self._followers, *told}:
            # Never emptied in between: other threads may be publishing.
            self.followers(kind).tells = told.get(kind, [])
        for kind, name in self._names.items():
            self.followers(kind).name = None if kind in needless else name
        for kind in self._fed:
            record = self._record_first if metrics is None else metrics(kind)
            self.followers(kind).record = record
        for kind in self._spanned:
            self.followers(kind).trace = self._trace_first if spans is None else spans(kind)
        self._idle(is_unheard())

    def disable(self) -> None:
        self.enabled = False
        self._idle(True)

    def stays_idle(self) -> bool:
        """Whether an idle plan is to stay so: somebody may listen by now."""
        if not self.enabled or self._is_unheard():
            return True
        self._idle(False)
        return False

    def _idle(self, unheard: bool) -> None:
        for plan in self.plans:
            plan.is_idle = not self.enabled or (unheard and not plan.leaves_state)

    def _record_first(self, operation: Operation) -> None:
        self.open_pipeline()
        if operation.type is not None:
            record = self._followers[operation.type].record
            if record != self._record_first:
                record(operation)

    def _trace_first(self, operation: Operation) -> Live | None:
        self.open_pipeline()
        trace = None if operation.type is None else self._followers[operation.type].trace
        return None if trace is None or trace == self._trace_first else trace(operation)

    def add_in_flight(self, metric: Metric, interface: str, change: int) -> None:
        with self._lock:
            self._in_flight[metric, interface] += change

    def read_in_flight(self, metric: Metric) -> list[tuple[float, Mapping[str, str]]]:
        """The operations under way by interface; 0 for the process's own before its first."""
        own = self.describe(None, "").interface
        with self._lock:
            counts = {i: n for (m, i), n in self._in_flight.items() if m is metric}
        counts.setdefault(own, 0)
        return [(count, {"interface": interface}) for interface, count in counts.items()]


class _Kind:
    """Operations of one type, as one function makes them known."""

    def __init__(self, row: Begins | Reports, plan: Plan) -> None:
        self.type = row.type
        self.read = row.read
        self.plan = plan
        self.followers = plan.engine.followers(row.type)

    def begin(self, operation: Operation) -> None:
        """Whose it is, how it was reached, and its span; what cannot be told costs no count."""
        plan, engine = self.plan, self.plan.engine
        try:
            if plan.owner is None:
                operation.owner = engine.owners.of(operation.instance, operation.parent)
            else:
                operation.owner = plan.owner(operation)
            operation.context = engine.describe(operation.owner, operation.interface)
            operation.interface = operation.context.interface
        except Exception as error:
            operation.context = Context()
            failsafe.caught(engine.health, plan.target, error)
        followers = self.followers
        if followers.trace is not None:
            try:
                if followers.name is not None:
                    operation.agent_name = followers.name(operation)
                operation.span = operation.attaches = followers.trace(operation)
            except Exception as error:
                failsafe.caught(engine.health, plan.target, error)
        if followers.in_flight is not None:
            engine.add_in_flight(followers.in_flight, operation.context.interface, +1)

    def finish(self, operation: Operation) -> None:
        """Reads the facts of an operation that ended, and has everybody see it."""
        engine, followers = self.plan.engine, self.followers
        if followers.in_flight is not None:
            engine.add_in_flight(followers.in_flight, operation.context.interface, -1)
        span = operation.span
        attached = None if span is None else span.attach()  # so that exemplars name it
        try:
            if engine.enabled:
                plain = operation.error is None and operation.stream is None
                operation.status = "success" if plain else self._status(operation)
                if self.read is not None:
                    operation.facts = self.read(operation)
                followers.publish(operation)
        except Exception as error:
            failsafe.caught(engine.health, self.plan.target, error)
        if span is not None:
            span.detach(attached)
            span.end(operation)
        if not engine.enabled:
            return
        for where, observe in followers.observers:
            try:
                observe(operation, engine.record)
            except Exception as error:
                failsafe.caught(engine.health, where, error)

    def _status(self, operation: Operation) -> str:
        stream = operation.stream
        if stream is not None and stream.ending != "failed":
            whole = stream.ending == "exhausted" or stream.complete
            return "success" if whole else "cancelled"
        return "success" if operation.error is None else self.plan.engine.ending(operation.error)


class _Reported(_Kind):
    """One `Reports` row, compiled."""

    def __init__(self, row: Reports, plan: Plan) -> None:
        super().__init__(row, plan)
        self._find = row.find

    def report(self, whole: Operation) -> None:
        """The operations that the end of another one tells of."""
        try:
            for arguments, result in self._find(whole):
                one = Operation(self.type, whole, 0, whole.instance, whole.end)
                one.kwargs, one.result, one.ended = arguments, result, whole.end
                self.begin(one)
                self.finish(one)
                one.close()
        except Exception as error:
            failsafe.caught(self.plan.engine.health, self.plan.target, error)


class _Beginning(_Kind):
    """One `Begins` row, compiled."""

    def __init__(self, row: Begins, plan: Plan) -> None:
        super().__init__(row, plan)
        self.row = row

    def open(
        self,
        around: Frame | None,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        started: float,
    ) -> Frame | None:
        """The operation that begins, or the level that is entered, inside the frame `around`."""
        row = self.row
        operation: Operation | None = None
        if row.when is not None:
            operation = self._operation(around, instance, args, kwargs, started)
            if not row.when(operation):
                return None
        whole = innermost(around, row.type)
        if whole is not None and whole.operation is not None:
            if row.type.outermost:
                return None  # whatever is nested belongs to it, and leaves no trace
            deeper = row.level < whole.level
            same = row.level == whole.level and instance is not None and instance is whole.instance
            if deeper or same:
                frame = Frame(around, whole.operation, row.level, instance, started)
                whole.operation.enter(frame)
                return frame
        if operation is None:
            operation = self._operation(around, instance, args, kwargs, started)
        if row.at_start is not None:
            operation.facts = row.at_start(operation)
        self.begin(operation)
        return operation

    def _operation(
        self,
        around: Frame | None,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        started: float,
    ) -> Operation:
        operation = Operation(self.row.type, around, self.row.level, instance, started)
        operation.args, operation.kwargs = args, kwargs
        operation.positions = self.plan.positions
        operation.beginning = self
        return operation


class Plan:
    """What the rows of one wrapped function come to."""

    def __init__(
        self,
        target: str,
        rows: Sequence[Begins | Binds | Carries | Reports | Tells],
        engine: Engine,
        *,
        leaves_state: bool = True,
    ) -> None:
        self.target = target
        self.engine = engine
        self.leaves_state = leaves_state
        """Whether a call changes what later calls are counted by, though nobody listens."""
        self.is_idle = False
        """Whether calls need not be followed, unless `stays_idle` has learned otherwise."""
        targets = [row.source if isinstance(row, Tells) else row.target for row in rows]
        declared = (each.arguments for each in targets if isinstance(each, Target))
        self.arguments = tuple({name: None for names in declared for name in names})
        """What readers may ask for."""
        self._variants: dict[tuple[tuple[str, int], ...], Plan] = {(): self}
        self.positions: Mapping[str, int] = {}
        """Where these stand, the instance excluded."""
        begins = [row for row in rows if isinstance(row, Begins)]
        binds = [row for row in rows if isinstance(row, Binds)]
        streams = [row.target for row in begins if row.target.stream is not None]
        self._streams = streams[0] if streams else None
        self.facts = None if self._streams is None else self._streams.stream
        """What is known of each stream is an instance of this class."""
        self.owner = next((row.owner for row in binds if row.owner), None)
        self.tells = tuple(row for row in rows if isinstance(row, Tells))
        self.only_tells = bool(self.tells) and not begins and not binds
        """Whether it is an inner function of operations that others begin, and nothing else."""
        self.opens = any(row.opens for row in binds)
        self.carries = next((row for row in rows if isinstance(row, Carries)), None)
        self._told = tuple({row.type for row in self.tells})
        self._begins = tuple(_Beginning(row, self) for row in begins)
        self._reports = tuple(_Reported(row, self) for row in rows if isinstance(row, Reports))
        self._interface = next((row.interface for row in binds if row.interface), "")
        self._owns = next((row.owns for row in binds if row.owns), ())
        engine.plans.append(self)

    def at(self, positions: Mapping[str, int]) -> Plan:
        """This plan for a function that has its arguments at these positions.

        Overrides of one method have them where they like.
        """
        key = tuple(positions.items())
        if key not in self._variants:
            variant = copy.copy(self)
            variant.positions = positions
            variant._begins = tuple(_Beginning(one.row, variant) for one in self._begins)  # noqa: SLF001
            self.engine.plans.append(variant)
            self._variants[key] = variant
        return self._variants[key]

    def keep_contents(self, wanted: bool) -> None:
        """Whether what is known of a stream includes what it said."""
        if self._streams is not None:
            self.facts = (wanted and self._streams.keeping) or self._streams.stream

    def stays_idle(self) -> bool:
        """Asked of an idle plan at each call: whether it is to stay so."""
        return self.engine.stays_idle()

    def carried(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], skip: int
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, with the trace context in the one that takes it on."""
        row = self.carries
        try:
            fields = self.engine.fields() if self.engine.enabled else None
            if row is not None and fields:
                (name,) = row.target.arguments
                at = self.positions.get(name, len(args)) + skip
                if at < len(args):
                    args = (*args[:at], row.put(args[at], fields), *args[at + 1 :])
                elif (value := row.put(kwargs.get(name, UNSET), fields)) is not UNSET:
                    kwargs = {**kwargs, name: value}
        except Exception as error:
            failsafe.caught(self.engine.health, self.target, error)
        return args, kwargs

    def told(self) -> Frame | None:
        """The innermost frame of an operation under way that is to be told something."""
        if self.is_idle and self.stays_idle():
            return None
        return innermost(CURRENT.get(), *self._told)

    def tell(self, frame: Frame | None, started: float, result: Any) -> None:
        """Tells the operations from `frame` outwards what was returned; UNSET after an error."""
        for row in self.tells:
            whole = innermost(frame, row.type)
            if whole is not None and whole.operation is not None:
                try:
                    value = None if row.read is None else row.read(result)
                    if row.timed:
                        value = Timed(value, started, perf_counter())
                    whole.operation.tell(row.name, value)
                except Exception as error:
                    failsafe.caught(self.engine.health, self.target, error)

    def enter(
        self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Frame | None:
        """Opens what the rows declare; the innermost frame, or None when nothing is to follow."""
        started = perf_counter()
        if self.opens:
            self._open_pipeline()
        opened: Frame | None = None
        span: Live | None = None
        around = CURRENT.get()
        if self._interface or self._owns:
            opened = around = Frame(around, None, 0, instance, started)
            opened.interface = self._interface or opened.interface
        for beginning in self._begins:
            # Each in a guard of its own: one that fails leaves the others as they are.
            try:
                frame = beginning.open(around, instance, args, kwargs, started)
            except Exception as error:
                failsafe.caught(self.engine.health, self.target, error)
            else:
                if frame is not None:
                    frame.beside = opened
                    opened = around = frame
                    span = frame.attaches or span
        if opened is None and self.tells and self.told() is not None:
            opened = Frame(around, None, 0, instance, started)  # no operation, and yet it tells
        if span is not None and opened is not None:
            opened.attaches = span
        return opened

    def exit(
        self,
        opened: Frame | None,
        result: Any,
        error: BaseException | None,
        stream: Stream | None = None,
        ended: float | None = None,
    ) -> None:
        """Finishes what `enter` opened, the innermost first."""
        if opened is None:
            return
        now = perf_counter() if ended is None else ended
        failsafe.drain(self.engine.health)
        if self.tells:
            self.tell(opened, opened.started, result)
        if self._owns and error is None:
            self._own(opened.instance)
        frame: Frame | None = opened
        while frame is not None:
            frame.ended = now
            if isinstance(frame, Operation):
                frame.result, frame.error, frame.stream = result, error, stream
                frame.beginning.finish(frame)
                if self._reports and self.engine.enabled:
                    for reported in self._reports:
                        reported.report(frame)
            frame.close()
            frame = frame.beside

    def fail(
        self,
        opened: Frame,
        token: Token[Frame | None],
        error: BaseException,
        result: Any = UNSET,
    ) -> None:
        """`exit` of a coroutine that `error` ends; a finalizer may be closing it."""
        leave(opened, token)
        if is_closing(error):
            failsafe.defer(self.exit, opened, result, error, None, perf_counter())
        else:
            self.exit(opened, result, error)

    def _open_pipeline(self) -> None:
        try:
            self.engine.open_pipeline()
        except Exception as error:
            failsafe.caught(self.engine.health, self.target, error)

    def _own(self, instance: Any) -> None:
        try:
            parts = (getattr(instance, name, None) for name in self._owns)
            self.engine.owners.add(instance, *parts)
        except Exception as error:
            failsafe.caught(self.engine.health, self.target, error)


_CONTEXT: Any = vars(BaseException)["__context__"]


def raised(error: BaseException, *classes: type[BaseException]) -> bool:
    """`isinstance`, without a word from the error: what it says of itself may raise as well."""
    return issubclass(type(error), classes)


def is_closing(error: BaseException) -> bool:
    """Whether a coroutine is being closed: by hand or by the garbage collector, no telling."""
    text = error.args[0] if type(error) is RuntimeError and error.args else None
    if type(text) is str and text.endswith("ignored GeneratorExit"):
        return True
    context: BaseException | None = error
    seen: set[int] = set()
    while context is not None and id(context) not in seen:
        if raised(context, GeneratorExit):
            return True
        seen.add(id(context))
        context = _CONTEXT.__get__(context)
    return False
