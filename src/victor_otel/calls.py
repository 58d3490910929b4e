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
        flush: Callable[[], None],
    ) -> None:
        self.enabled = True
        self.health = health
        self.record = record
        self.open_pipeline = open_pipeline
        self.flush = flush
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
    """An entered function: the one call its hooks share, and what is finished on exit."""

    __slots__ = ("begun", "call", "frame", "frames", "parts")

    def __init__(self, call: Call, frame: Frame | None) -> None:
        self.call = call
        self.frame = frame
        """The innermost frame while the function runs."""
        self.frames: list[Frame] = []
        self.begun: list[Hook] = []
        """The hooks for which a logical call begins here."""
        self.parts: list[tuple[Hook, Part]] = []


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
        call = Call(instance, args, kwargs)
        entry = Entry(call, outside)
        call.started = perf_counter()
        counting = [hook for hook in self.hooks if self._counts(hook, call)]
        if any(hook.scope or hook.observe or hook.owns for hook in counting):
            self._guarded(self.target, self._describe, call, counting, outside)
        for hook in counting:
            self._guarded(hook.target, self._open, hook, entry)
        for hook in counting:
            if hook.part and hook.of is not None:
                self._join(hook, hook.of, entry)
        return entry if entry.frames or entry.parts or entry.begun else None

    def _counts(self, hook: Hook, call: Call) -> bool:
        try:
            if hook.opens:
                self.engine.open_pipeline()
            return hook.when is None or hook.when(call)
        except Exception as error:
            failsafe.caught(self.engine.health, hook.target, error)
            return False

    def _describe(self, call: Call, hooks: Sequence[Hook], outside: Frame | None) -> None:
        owner = next((hook.owner for hook in hooks if hook.owner is not None), None)
        if owner is None:
            call.owner = self.engine.owners.of(call.instance, outside)
        else:
            call.owner = owner(call)
        interface = next((hook.interface for hook in hooks if hook.interface), "")
        call.context = describe(outside, call.owner, interface)
        call.enclosing = frozenset(f.scope.name for f in active(outside) if f.scope)

    def _open(self, hook: Hook, entry: Entry) -> None:
        """Begins a call for one hook: a logical call of its own, or an inner level of another."""
        call = entry.call
        around = innermost(entry.frame, hook.scope) if hook.scope is not None else None
        if around is not None and continues(around, around.scope, hook.level, call.instance):
            logical = around.call
        else:
            logical = call
            if hook.scope or hook.observe or hook.owns:
                entry.begun.append(hook)
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
        if logical is call and hook.scope is not None and hook.scope.in_flight is not None:
            self.engine.add_in_flight(hook.scope.in_flight, call.context.interface, +1)

    @staticmethod
    def _join(hook: Hook, scope: Scope, entry: Entry) -> None:
        """Makes the call known to the logical call of `scope` that it is a part of."""
        whole = innermost(entry.frame, scope)
        if whole is not None:
            part = Part(entry.call.instance, entry.call.started)
            whole.call.parts.setdefault(hook.part, []).append(part)
            entry.parts.append((hook, part))

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
        call = entry.call
        now = perf_counter() if ended is None else ended
        for frame in entry.frames:
            frame.close()
        call.result, call.error, call.stream = result, error, stream
        call.elapsed = now - call.started
        for hook, part in entry.parts:
            part.ended = now
            if hook.digest is not None:
                self._guarded(hook.target, self._digest, hook.digest, call, part)
        failsafe.drain(self.engine.health)
        for hook in entry.begun:
            self._finish(hook, call)

    @staticmethod
    def _digest(digest: Callable[[Call], Any], call: Call, part: Part) -> None:
        part.digest = digest(call)

    def _finish(self, hook: Hook, call: Call) -> None:
        engine = self.engine
        if hook.scope is not None and hook.scope.in_flight is not None:
            engine.add_in_flight(hook.scope.in_flight, call.context.interface, -1)
        if hook.owns and call.error is None:
            parts = (getattr(call.instance, name, None) for name in hook.owns)
            self._guarded(hook.target, engine.owners.add, call.instance, *parts)
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
