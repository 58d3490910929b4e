"""From an entered function to a finished logical call.

A `Probe` stands behind every wrapped function. `enter` opens the frames and calls that
its hooks declare, `exit` closes them and runs the observers. Wrappers call both under
no guard of their own: everything here is guarded.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from victor_otel import failsafe
from victor_otel.health import Health
from victor_otel.scope import (
    CURRENT,
    Frame,
    Owners,
    active,
    continues,
    default_interface,
    describe,
    innermost,
)
from victor_otel.spec import Call, Hook, Metric, Part, Record, Scope, Stream

BoundObserver = Callable[[Call, Record], None]


class Engine:
    """What all probes of one instrumentation share. Disabled, it makes every wrapper inert."""

    def __init__(
        self,
        *,
        health: Health,
        record: Record,
        observers: Mapping[Hook, BoundObserver],
        followers: Mapping[Scope, Sequence[tuple[str, BoundObserver]]],
        open_pipeline: Callable[[], None],
    ) -> None:
        self.enabled = True
        self.health = health
        self.record = record
        self.open_pipeline = open_pipeline
        self._in_flight: Counter[tuple[Metric, str]]
        self.renew(observers, followers)

    def renew(
        self,
        observers: Mapping[Hook, BoundObserver],
        followers: Mapping[Scope, Sequence[tuple[str, BoundObserver]]],
    ) -> None:
        """Starts anew under the same wrappers: in a forked child nothing is under way."""
        self.observers = observers
        self.followers = followers
        self.owners = Owners()
        self._in_flight = Counter()
        self._lock = threading.Lock()

    def add_in_flight(self, metric: Metric, interface: str, change: int) -> None:
        with self._lock:
            self._in_flight[metric, interface] += change

    def read_in_flight(self, metric: Metric) -> list[tuple[float, Mapping[str, str]]]:
        """The calls under way by interface; 0 for the process's own before its first."""
        with self._lock:
            counts = {i: n for (m, i), n in self._in_flight.items() if m is metric}
        counts.setdefault(default_interface(), 0)
        return [(count, {"interface": interface}) for interface, count in counts.items()]


class Entry:
    """An entered function: its innermost frame and what has to be finished on exit."""

    __slots__ = ("calls", "frame", "frames", "parts", "started")

    def __init__(self, started: float, frame: Frame | None) -> None:
        self.started = started
        self.frame = frame
        self.frames: list[Frame] = []
        self.calls: list[tuple[Hook, Call, bool]] = []
        self.parts: list[tuple[Hook, Call, Part]] = []


class Probe:
    """The hooks of one wrapped function."""

    def __init__(self, target: str, hooks: Sequence[Hook], engine: Engine) -> None:
        self.target = target
        self.hooks = hooks
        self.engine = engine
        self.facts = next((hook.stream for hook in hooks if hook.stream is not None), None)

    def enter(
        self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Entry | None:
        """Opens what the hooks declare; None when there is nothing to follow."""
        outside = CURRENT.get()
        entry = Entry(perf_counter(), outside)
        for hook in self.hooks:
            call = Call(instance, args, kwargs)
            call.started = entry.started
            self._guarded(hook.target, self._open, hook, call, entry, outside)
        for hook, call, _ in entry.calls:
            if hook.part and hook.of is not None:
                self._join(hook, hook.of, call, entry)
        follows = entry.frames or entry.parts or any(new for _, _, new in entry.calls)
        return entry if follows else None

    def _open(self, hook: Hook, call: Call, entry: Entry, outside: Frame | None) -> None:
        """Begins a call for one hook: a logical call of its own, or an inner level of another."""
        if hook.opens:
            self.engine.open_pipeline()
        if hook.when is not None and not hook.when(call):
            return
        around = innermost(entry.frame, hook.scope) if hook.scope is not None else None
        if around is not None and continues(around, around.scope, hook.level, call.instance):
            logical, new = around.call, False
        else:
            logical, new = call, bool(hook.scope or hook.observe or hook.owns)
        if new or hook.scope is not None:
            call.owner = (
                self.engine.owners.of(call.instance, entry.frame)
                if hook.owner is None
                else hook.owner(call)
            )
            call.context = describe(entry.frame, call.owner, hook.interface)
        if new:
            call.enclosing = frozenset(f.scope.name for f in active(outside) if f.scope)
        entry.calls.append((hook, call, new))
        if hook.scope is not None or hook.interface:
            entry.frame = Frame(
                entry.frame,
                hook.scope,
                hook.level,
                call,
                interface=hook.interface,
                logical=logical,
            )
            entry.frames.append(entry.frame)
        if new and hook.scope is not None and hook.scope.in_flight is not None:
            self.engine.add_in_flight(hook.scope.in_flight, call.context.interface, +1)

    @staticmethod
    def _join(hook: Hook, scope: Scope, call: Call, entry: Entry) -> None:
        """Makes the call known to the logical call of `scope` that it is a part of."""
        whole = innermost(entry.frame, scope)
        if whole is not None:
            part = Part(call.instance, entry.started)
            whole.call.parts.setdefault(hook.part, []).append(part)
            entry.parts.append((hook, call, part))

    def exit(
        self,
        entry: Entry | None,
        result: Any,
        error: BaseException | None,
        stream: Stream | None = None,
        ended: float | None = None,
    ) -> None:
        """Closes the frames and lets the observers see the finished calls."""
        if entry is None:
            return
        now = perf_counter() if ended is None else ended
        for frame in entry.frames:
            frame.close()
        for _, call, _ in entry.calls:
            call.result, call.error, call.stream = result, error, stream
            call.elapsed = now - call.started
        for hook, call, part in entry.parts:
            part.ended = now
            if hook.digest is not None:
                self._guarded(hook.target, self._digest, hook.digest, call, part)
        failsafe.drain(self.engine.health)
        for hook, call, new in entry.calls:
            if hook.owns and error is None:
                parts = (getattr(call.instance, name, None) for name in hook.owns)
                self._guarded(hook.target, self.engine.owners.add, call.instance, *parts)
            if new:
                self._finish(hook, call)

    @staticmethod
    def _digest(digest: Callable[[Call], Any], call: Call, part: Part) -> None:
        part.digest = digest(call)

    def _finish(self, hook: Hook, call: Call) -> None:
        engine = self.engine
        if hook.scope is not None and hook.scope.in_flight is not None:
            engine.add_in_flight(hook.scope.in_flight, call.context.interface, -1)
        if not engine.enabled:
            return
        observer = engine.observers.get(hook)
        if observer is not None:
            self._guarded(hook.target, observer, call, engine.record)
        if hook.scope is not None:
            for target, follower in engine.followers.get(hook.scope, ()):
                self._guarded(target, follower, call, engine.record)

    def _guarded(self, where: str, function: Callable[..., None], *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:
            failsafe.caught(self.engine.health, where, error)
