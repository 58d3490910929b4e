"""An engine of our own whose observers note every finished operation."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from victor_otel.engine import failsafe, wrapping
from victor_otel.engine.health import Health
from victor_otel.engine.patching import Patcher
from victor_otel.engine.plan import Engine, Plan
from victor_otel.model.metric import UpDown
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Begins, Binds, Reports, Target, Tells
from victor_otel.victor.context import describe
from victor_otel.victor.outcomes import ending

FAKE = "tests:fake"

IN_FLIGHT = UpDown("test.in_flight", "operations under way")

Observe = Callable[[Operation, Any], None]


class Facts:
    """The facts of a stream of strings: empty ones are no content, "end" completes it."""

    def __init__(self) -> None:
        self.started = self.complete = False

    def add(self, item: Any) -> None:
        self.started = self.started or bool(item)
        self.complete = self.complete or item == "end"


@dataclass(frozen=True)
class Hook:
    """The rows of a wrapped function."""

    target: str
    rows: Sequence[Begins | Binds | Reports | Tells]


class Bench:
    """Wraps functions and keeps what their observers were shown, in the order of the endings."""

    def __init__(self) -> None:
        self.health = Health()
        self.calls: list[Operation] = []
        """Copies, since a finished operation lets go of what it saw."""
        self.opened = 0
        self.leaves_state = True
        """Whether the functions that are wrapped from now on change what later calls count as."""
        self.engine = self.new_engine()
        self.patcher = Patcher(self.health)

    def new_engine(self) -> Engine:
        return Engine(
            health=self.health,
            record=lambda *args, **labels: None,
            describe=describe,
            ending=ending,
            open_pipeline=self._open,
            flush=lambda: None,
        )

    def note(self, operation: Operation, _record: Any = None) -> None:
        self.calls.append(copy.copy(operation))

    def hook(
        self,
        observe: Observe | None = None,
        *,
        target: str = FAKE,
        type: OperationType[Any] | None = None,  # noqa: A002
        stream: Any = None,
        interface: str = "",
        opens: bool = False,
        owns: tuple[str, ...] = (),
        owner: Any = None,
        arguments: tuple[str, ...] = (),
        **begins: Any,
    ) -> Hook:
        """A function in which an operation begins; it is noted, or handed to `observe`."""
        where = Target(target, arguments, stream=stream)
        type = type or OperationType("fake")  # noqa: A001
        followers = self.engine.followers(type)
        followers.in_flight = IN_FLIGHT
        observe = observe or self.note
        if all(known != observe for _, known in followers.observers):
            followers.observers.append((target, observe))
        rows: list[Any] = [Begins(type, where, **{"at_start": _enclosing, **begins})]
        if interface or opens or owner or owns:
            rows.append(Binds(where, interface, opens, owner, owns))
        return Hook(target, rows)

    @staticmethod
    def telling(type: OperationType[Any], name: str = "part", **tells: Any) -> Hook:  # noqa: A002
        """An inner function that tells an operation of a type what it returned."""
        return Hook(FAKE, [Tells(type, name, Target(FAKE), **tells)])

    def plan(self, *hooks: Hook) -> Plan:
        hooks = hooks or (self.hook(),)
        rows = [row for hook in hooks for row in hook.rows]
        return Plan(hooks[0].target, rows, self.engine, leaves_state=self.leaves_state)

    def wrap(self, original: Any, *hooks: Hook, owner: Any = None) -> Any:
        return wrapping.wrap(original, owner, plan=self.plan(*hooks))

    def stream(self, original: Any, **options: Any) -> Any:
        """`original`, which returns an iterator, wrapped by a hook that says so."""
        return self.wrap(original, self.hook(stream=Facts, **options))

    def wrap_method(self, owner: Any, name: str, *hooks: Hook) -> None:
        setattr(owner, name, self.wrap(vars(owner)[name], *hooks, owner=owner))

    def patch(self, target: str, *hooks: Hook, overrides: bool = False) -> None:
        plan = self.plan(*(hooks or (self.hook(target=target),)))
        self.patcher.patch(
            target,
            lambda original, owner: wrapping.wrap(original, owner, plan=plan),
            overrides=overrides,
        )

    def in_flight(self) -> dict[str, float]:
        """The calls under way, by interface; those of this process's own interface always."""
        return {
            labels["interface"]: value for value, labels in self.engine.read_in_flight(IN_FLIGHT)
        }

    def statuses(self) -> list[str]:
        return [call.status for call in self.calls]

    def endings(self) -> list[str]:
        return [call.stream.ending for call in self.calls if call.stream is not None]

    def later(self) -> list[str]:
        """The statuses once everything unreachable is gone and the deferred work is done."""
        gc.collect()
        self.drain()
        return self.statuses()

    @staticmethod
    def drain() -> None:
        failsafe.drain(Health())

    def _open(self) -> None:
        self.opened += 1


def _enclosing(operation: Operation) -> set[str]:
    """The names of the types of operations that it begins inside of; these are its facts."""
    names = set[str]()
    frame = operation.parent
    while frame is not None:
        if frame.active and frame.type is not None:
            names.add(frame.type.name)
        frame = frame.parent
    return names


def identities(owner: Any) -> list[tuple[str, int]]:
    """The dictionary of a class or module, in order. A wrapper equals what it wraps: ids tell."""
    return [(name, id(value)) for name, value in vars(owner).items()]
