"""Operations: the work of Victor as it is under way, and what is known of it.

An operation is a piece of logical work: a request, a chat turn, a tool call, a provider call.
Several functions of Victor may be entered for one; it counts once.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from victor_otel.model import semconv
from victor_otel.model.declared import declared

Facts_co = TypeVar("Facts_co", covariant=True)


@declared
class OperationType(Generic[Facts_co]):
    """A kind of logical work, and the typed facts that are read of each operation of it.

    A function that is entered inside another of its type belongs to the same operation when
    its level is lower, or when level and instance are equal; otherwise it begins an operation
    of its own. With `outermost`, whatever is nested belongs to the same operation.

    A fact `error_type` that is not empty counts a failure of `component`. `status` is the fact that
    tells how it ended; where there is none, the operation's ending tells.
    """

    name: str
    facts: type[Facts_co] | None = None
    component: str = ""
    outermost: bool = False
    status: str = "status"

    def has_fact(self, name: str) -> bool:
        """Whether an operation of this type has a fact, or a property of its facts, of a name."""
        fields: tuple[str, ...] = getattr(self.facts, "_fields", ())
        return name in fields or isinstance(getattr(self.facts, name, None), property)

    def path(self, name: str) -> str:
        """Where an operation of this type has `name`: a fact, else of its context, else its own.

        Raises:
            ValueError: when it has it nowhere.
        """
        if self.has_fact(name):
            return f"facts.{name}"
        if name in Context._fields:
            return f"context.{name}"
        if name in OWN:
            return name
        raise ValueError(f"{self.name} has no fact {name!r}")


class Unset(enum.Enum):
    """The result of a call that never returned one."""

    UNSET = 0


UNSET = Unset.UNSET


class Context(NamedTuple):
    """Who and what was running when an operation started."""

    interface: str = "sdk"
    vertical: str = "none"
    mode: str = "none"
    user: str | None = None


OWN = frozenset({"agent_name", "elapsed", "failed_with"})
"""What metrics may read of an operation beside its facts and its context."""

_FAILED = frozenset({"failure", "timeout"})


class StreamFacts(Protocol):
    """What is to be known of a stream's items; it must keep no content."""

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
    first_item: float | None = None
    """Seconds from the first read to the first item."""
    first_content: float | None = None
    """Seconds from the first read to the first content."""

    @property
    def complete(self) -> bool:
        return bool(getattr(self.facts, "complete", False))


class Live(Protocol):
    """The span of an operation that is under way."""

    def attach(self) -> object:
        """Makes it current, for Victor's code and all that this calls; returns what undoes it."""
        ...

    def detach(self, token: object, /) -> None: ...

    def end(self, operation: Operation, /) -> None: ...


class Frame:
    """An entered function of Victor's, as those that it calls see it.

    `operation` is what it belongs to, None for a function that only says how Victor is reached.
    """

    __slots__ = (
        "active",
        "attached",
        "attaches",
        "beside",
        "ended",
        "instance",
        "interface",
        "level",
        "operation",
        "owner",
        "parent",
        "started",
        "type",
    )

    type: OperationType[object] | None
    operation: Operation | None
    instance: Any
    attached: object
    """What takes that span back again."""

    def __init__(
        self,
        parent: Frame | None,
        operation: Operation | None,
        level: int,
        instance: Any,
        started: float,
    ) -> None:
        self.parent = parent
        self.beside: Frame | None = None
        """The frame that the same function opened before this one."""
        self.operation = operation
        self.type = None if operation is None else operation.type
        self.level = level
        self.instance = instance
        self.owner: Any = None if operation is None else operation.owner
        """The orchestrator in whose name it runs, if known."""
        self.interface = "" if parent is None else parent.interface
        """What the chain of calls came through; empty for the process's own."""
        self.started = started
        self.ended: float | None = None
        self.active = True
        self.attaches: Live | None = None
        """The span that is current while the function runs, if one begins with it."""

    def close(self) -> None:
        """Lets go of what it saw: contexts may keep the frame for long.

        The instance stays until the operation is over, whose reader may ask for it.
        """
        self.active = False
        self.owner = None
        if self.operation is None or not self.operation.active:
            self.instance = None
        self.operation = self.attaches = None


class Timed(NamedTuple):
    """What an inner function told, and when it ran, as of `time.perf_counter`."""

    value: Any
    started: float
    ended: float


_NOTHING: Mapping[str, list[Any]] = {}
_NO_ARGUMENTS: Mapping[str, Any] = {}


class Operation(Frame):
    """A piece of Victor's work. Readers and observers read it and do not keep it."""

    # What is not known of an operation costs nothing: it stands here.
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = _NO_ARGUMENTS
    positions: Mapping[str, int] = {}
    context: Context
    """Who and what was running when it started."""
    facts: Any = None
    result: Any = UNSET
    error: BaseException | None = None
    stream: Stream | None = None
    status = ""
    """success, failure, timeout, cancelled or paused, as far as the ending alone tells."""
    agent_name = ""
    """The agent, team or workflow whose work it is; empty until a span or a metric asks."""
    failures = 0
    """Errors already counted inside the operation, where they arose."""
    beginning: Any = None
    """The compiled row by which it began."""
    span: Live | None = None
    _levels: Sequence[Frame] = ()
    _told: Mapping[str, list[Any]] = _NOTHING

    def __init__(
        self,
        kind: OperationType[object],
        parent: Frame | None,
        level: int,
        instance: Any,
        started: float,
    ) -> None:
        # Not through `super`, which each operation would pay for.
        self.type = kind
        self.operation = self  # until it is closed
        self.parent = parent
        self.beside = None
        self.level = level
        self.instance = instance
        self.owner = None
        self.interface = "" if parent is None else parent.interface
        self.started = started
        self.ended = None
        self.active = True
        self.attaches = None

    @property
    def agent(self) -> int:
        """The identity of its owner; 0 if that is not known."""
        return 0 if self.owner is None else id(self.owner)

    @property
    def end(self) -> float:
        """When it ended, as of `time.perf_counter`; its start while it is under way."""
        return self.started if self.ended is None else self.ended

    @property
    def elapsed(self) -> float:
        """Seconds from its start to its end."""
        return self.end - self.started

    @property
    def outcome(self) -> str:
        """How it ended: by its facts, else by its ending alone."""
        facts = self.facts
        told = "" if self.type is None else getattr(facts, self.type.status, "")
        status = told or self.status
        return "failure" if status not in _FAILED and getattr(facts, "failed", False) else status

    @property
    def failed_with(self) -> str:
        """The conventions' `error.type`: empty unless it failed."""
        if self.outcome not in _FAILED:
            return ""
        # Where the cause has been counted already, facts do not tell it.
        other = semconv.OTHER_ERROR if self.error is None else type(self.error).__name__
        return getattr(self.facts, "error_type", "") or other

    def argument(self, name: str, default: Any = None) -> Any:
        """The argument `name`, which the row's target declares."""
        if name in self.kwargs:
            return self.kwargs[name]
        position = self.positions.get(name, len(self.args))
        return self.args[position] if position < len(self.args) else default

    def tell(self, name: str, value: Any) -> None:
        """Keeps what an inner function, or operation, tells."""
        if self._told is _NOTHING:
            self._told = {}
        cast("dict[str, list[Any]]", self._told).setdefault(name, []).append(value)

    def told(self, name: str) -> Sequence[Any]:
        """What the rows of that name told, in the order in which they ended."""
        return self._told.get(name, ())

    def last_told(self, name: str) -> Any:
        """What was told last: the outermost of nested ones ends last. None if nothing was."""
        told = self.told(name)
        return told[-1] if told else None

    def enter(self, frame: Frame) -> None:
        """A function on another level is entered."""
        if not self._levels:
            self._levels = []
        cast("list[Frame]", self._levels).append(frame)

    def entered(self, level: int) -> list[Frame]:
        """The functions of that level, in the order of their start; the first one included."""
        return [frame for frame in (self, *self._levels) if frame.level == level]

    def around(self, *types: OperationType[object]) -> Frame | None:
        """The innermost frame of an operation of one of `types` that it began in."""
        return innermost(self.parent, *types)

    def count_failure(self) -> None:
        """A failure arose and is counted here; the operations around learn of it."""
        frame = self.parent
        while frame is not None:
            if frame.operation is not None:
                frame.operation.failures += 1
            frame = frame.parent

    def close(self) -> None:
        self.active = False
        for frame in self._levels:
            if not frame.active:
                frame.instance = None
        self.instance = self.owner = self.operation = self.attaches = None
        self.__dict__.clear()  # back to what stands in the class


def innermost(frame: Frame | None, *types: OperationType[object]) -> Frame | None:
    """The innermost frame of an operation of one of `types` that is under way."""
    while frame is not None:
        if frame.type in types and frame.active:
            return frame
        frame = frame.parent
    return None
