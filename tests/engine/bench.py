"""An engine of our own whose observers note every finished call."""

from __future__ import annotations

import gc
from typing import Any

from victor_otel import failsafe, wrapping
from victor_otel.calls import BoundObserver, Engine, Probe
from victor_otel.health import Health
from victor_otel.patching import Patcher
from victor_otel.spec import Call, Hook, Kind, Metric, Scope

FAKE = "tests:fake"

IN_FLIGHT = Metric(name="test.in_flight", kind=Kind.UPDOWN, meaning="calls under way")


class Facts:
    """The facts of a stream of strings: empty ones are no content, "end" completes it."""

    def __init__(self) -> None:
        self.started = self.complete = False

    def add(self, item: Any) -> None:
        self.started = self.started or bool(item)
        self.complete = self.complete or item == "end"


def _declared(_call: Call, _record: Any) -> None:
    """Marks a hook as observed; what runs is the bench's own observer."""


class Bench:
    """Wraps functions and keeps what their observers were shown, in the order of the endings."""

    def __init__(self) -> None:
        self.health = Health()
        self.calls: list[Call] = []
        self.opened = 0
        self.observers: dict[Hook, BoundObserver] = {}
        self.followers: dict[Scope, list[tuple[str, BoundObserver]]] = {}
        self.engine = self.new_engine()
        self.patcher = Patcher(self.health)

    def new_engine(self) -> Engine:
        return Engine(
            health=self.health,
            record=lambda *args, **labels: None,
            observers=self.observers,
            followers=self.followers,
            open_pipeline=self._open,
            flush=lambda: None,
        )

    def hook(self, observer: BoundObserver | None = None, **options: Any) -> Hook:
        """A hook whose finished calls are noted, or handed to `observer`."""
        hook = Hook(**{"target": FAKE, "observe": _declared, **options})
        self.observers[hook] = observer or (lambda call, _record: self.calls.append(call))
        return hook

    def probe(self, *hooks: Hook) -> Probe:
        hooks = hooks or (self.hook(),)
        return Probe(hooks[0].target, hooks, self.engine)

    def wrap(self, original: Any, *hooks: Hook, owner: Any = None) -> Any:
        return wrapping.wrap(original, self.probe(*hooks), owner)

    def stream(self, original: Any, **options: Any) -> Any:
        """`original`, which returns an iterator, wrapped by a hook that says so."""
        return self.wrap(original, self.hook(stream=Facts, **options))

    def wrap_method(self, owner: Any, name: str, *hooks: Hook) -> None:
        setattr(owner, name, self.wrap(vars(owner)[name], *hooks, owner=owner))

    def patch(self, target: str, *hooks: Hook, overrides: bool = False) -> None:
        probe = Probe(target, hooks or (self.hook(target=target),), self.engine)
        self.patcher.patch(
            target,
            lambda original, owner, name: wrapping.wrap(original, probe, owner, name),
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


def identities(owner: Any) -> list[tuple[str, int]]:
    """The dictionary of a class or module, in order. A wrapper equals what it wraps: ids tell."""
    return [(name, id(value)) for name, value in vars(owner).items()]
