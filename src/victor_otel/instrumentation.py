"""The composition root: areas become instruments, hooks become wrappers.

One `Instrumentation` is on at a time, whichever door switched it on.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from victor_otel import asgi, catalog, failsafe, scope, wrapping
from victor_otel.calls import BoundObserver, Engine, Probe
from victor_otel.health import Health, victor_version
from victor_otel.patching import Patcher
from victor_otel.spec import Area, Hook, Kind, Metric, Scope

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from victor_otel.pipeline import Pipeline

BRIDGE = "victor.core.async_utils:run_sync_in_thread"
"""How Victor calls what is asynchronous from what is not, inside of a running event loop."""

_lock = threading.RLock()
_current: Instrumentation | None = None
_private: Pipeline | None = None
_finalizer: Any = None
"""What multiprocessing runs at the end of a child, which is this process."""
HEALTH = Health()
"""What befell us in this process, whichever instrumentation was on."""


class Instrumentation:
    """All wrappers, states and health of one activation."""

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self.health = HEALTH
        self.health.hooks.clear()
        self.pipeline: Pipeline | None = None
        self._provider = meter_provider
        self._states: dict[str, Any] = {}
        self._broken = False
        self._patcher = Patcher(self.health, self._on_bound)
        self.engine = Engine(
            health=self.health,
            record=self.record,
            open_pipeline=self.open,
            flush=self.flush,
            **self._new_observers(),
        )
        self.bind()

    def _new_observers(self) -> Any:
        """Fresh states, and the observers bound to them, as `Engine.renew` takes them."""
        self._states = {
            area.name: self.health if area.state is Health else area.state()
            for area in catalog.AREAS
            if area.state is not None
        }
        observers: dict[Hook, BoundObserver] = {}
        followers: dict[Scope, list[tuple[str, BoundObserver]]] = {}
        for area in catalog.AREAS:
            for hook in area.hooks:
                if hook.observe is not None:
                    observers[hook] = self._bound(area, hook.observe)
            for follow in area.follows:
                followers.setdefault(follow.scope, []).append(
                    (f"{area.name}.{follow.observe.__name__}", self._bound(area, follow.observe))
                )
        return {"observers": observers, "followers": followers}

    def bind(self) -> None:
        """Wraps what is imported already and waits for the rest. Imports nothing of Victor."""
        for target, hooks in hooks_by_target(victor_version()).items():
            plain = [hook for hook in hooks if not hook.asgi]
            probe = Probe(target, plain, self.engine)
            served = [hook for hook in hooks if hook.asgi]
            install = asgi.installer(Probe(target, served, self.engine)) if served else None
            self._patcher.patch(
                target,
                functools.partial(_wrap, probe=probe, install=install),
                overrides=any(hook.overrides for hook in hooks),
            )
        self._patcher.patch_function(
            ThreadPoolExecutor, "submit", functools.partial(_wrap_carrying, carry=scope.carry)
        )
        self._patcher.patch(BRIDGE, functools.partial(_wrap_carrying, carry=scope.carry_coroutine))

    def retry(self) -> None:
        """Wraps what Victor had half imported when it switched us on."""
        self._patcher.retry()

    def record(
        self, metric: Metric, value: float = 1, total: float = 1, /, **labels: object
    ) -> None:
        """The `Record` of observers: opens the pipeline with the first value."""
        pipeline = self.pipeline
        if pipeline is None:
            self.open()
            pipeline = self.pipeline
        if pipeline is not None:
            pipeline.recorder(metric, value, total, **labels)

    def use(self, provider: MeterProvider) -> None:
        """An application brings its provider while we are on already, by Victor's plugin."""
        with _lock:
            if self.pipeline is None:
                self._provider = provider
            elif self.pipeline.owner == "nobody":
                self.pipeline.recorder.silence()
                self.pipeline, self._provider = None, provider
                self.open()
            elif self._provider is not provider:
                failsafe.logger.warning(
                    "victor-otel: the given MeterProvider is not used: what Victor did before is "
                    "recorded by another one. Instrument before the first agent is created."
                )

    def open(self) -> None:
        """Starts the pipeline, once."""
        if self.pipeline is not None or self._broken:
            return
        with _lock:
            if self.pipeline is not None:
                return
            try:
                self._open()
            except Exception as error:
                self._broken = True
                failsafe.caught(self.health, "pipeline", error)

    def _on_bound(self) -> None:
        """Counters that a function can move from now on exist from now on."""
        if self.pipeline is None:
            return
        try:
            self.pipeline.recorder.declare((), self._fed())
        except Exception as error:
            failsafe.caught(self.health, "pipeline", error)

    def _open(self) -> None:
        global _private
        from victor_otel import pipeline

        self.retry()
        connected = _private if self._provider is None else None
        if connected is None:
            connected = pipeline.connect(self.health, self._provider)
        if connected.owner == "victor-otel":
            _private = connected
        self.pipeline = connected
        recorder = connected.recorder
        read: dict[Metric, Any] = {
            reading.metric: functools.partial(reading.read, *self._state_of(area))
            for area in catalog.AREAS
            for reading in area.readings
        }
        entered = [hook.scope for hook in catalog.HOOKS if hook.scope is not None]
        for flying in {one.in_flight for one in entered if one.in_flight is not None}:
            read[flying] = functools.partial(self.engine.read_in_flight, flying)
        for metric, reader in read.items():
            feeders = frozenset(hook.target for hook in catalog.HOOKS if metric in hook.feeds)
            recorder.observe(metric, functools.partial(self._read, reader, feeders))
        recorder.declare([one for one in catalog.METRICS if one not in read], self._fed())
        recorder.on_live = _run_first_at_exit
        _run_first_at_exit()

    def _read(self, read: Any, feeders: frozenset[str]) -> Any:
        """Asks a reading, unless it rests on functions of which none is wrapped."""
        return read() if not feeders or feeders.intersection(self._bound_targets()) else ()

    def _bound_targets(self) -> set[str]:
        return {target for target, state in list(self.health.hooks.items()) if state == "bound"}

    def _fed(self) -> Iterable[Metric]:
        """The metrics that a bound hook can move."""
        bound = self._bound_targets()
        hooks = [hook for hook in catalog.HOOKS if hook.target in bound]
        scopes = {hook.scope for hook in hooks}
        follows = [follow for area in catalog.AREAS for follow in area.follows]
        return dict.fromkeys(
            metric
            for feeder in (*hooks, *(follow for follow in follows if follow.scope in scopes))
            for metric in feeder.feeds
            if metric.kind is Kind.COUNTER
        )

    def flush(self) -> None:
        """Exports at the end of a server, whose process may die by the signal that ended it."""
        if self.pipeline is not None:
            self.pipeline.flush()

    def close(self) -> None:
        """Records what ends with the process."""
        failsafe.drain(self.health)
        for area in catalog.AREAS:
            if area.at_exit is not None:
                try:
                    area.at_exit(*self._state_of(area), self.record)
                except Exception as error:
                    failsafe.caught(self.health, f"{area.name}.at_exit", error)

    def undo(self) -> None:
        """Puts everything back; wrappers that others still hold fall silent."""
        self.engine.enabled = False
        self._patcher.undo()
        if self.pipeline is not None:
            self.pipeline.recorder.silence()

    def restart(self) -> None:
        """In a forked child: states, windows and totals of the parent are not ours."""
        self.pipeline = None
        self.engine.renew(**self._new_observers())

    def _state_of(self, area: Area) -> tuple[Any, ...]:
        return (self._states[area.name],) if area.state is not None else ()

    def _bound(self, area: Area, observe: Any) -> BoundObserver:
        return functools.partial(observe, *self._state_of(area))


def hooks_by_target(version: str | None) -> Mapping[str, list[Hook]]:
    """The hooks for a version of Victor; those of one function share one wrapper."""
    grouped: dict[str, list[Hook]] = {}
    for hook in catalog.HOOKS:
        if catalog.applies(hook, version):
            grouped.setdefault(hook.target, []).append(hook)
    return grouped


def _wrap(original: Any, owner: Any, name: str, *, probe: Probe, install: Any) -> Any:
    return wrapping.wrap(original, probe, owner, name, then=install)


def _wrap_carrying(original: Any, owner: Any, name: str, *, carry: Any) -> Any:
    return wrapping.Wrapper(original, carry, owner, name)


def activate(meter_provider: MeterProvider | None = None) -> Instrumentation:
    """Switches on, once: a second call returns what is on already."""
    global _current
    with _lock:
        if _current is None:
            _current = Instrumentation(meter_provider)
        elif meter_provider is not None:
            _current.use(meter_provider)
        return _current


def deactivate() -> None:
    """Switches off; harmless when off already."""
    global _current
    with _lock:
        if _current is not None:
            _current.undo()
            _current = None


def current() -> Instrumentation | None:
    """What is switched on now."""
    return _current


def note_activation() -> None:
    """Remembers the moment if Victor is switching us on from inside a running creation.

    The first `Agent.create` of a process may itself load the plugins: its call was not
    wrapped when it began, so its initialization counts from now on.
    """
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_qualname == "AgentFactory.create" and code.co_filename.endswith(
            "agent_factory.py"
        ):
            from time import perf_counter

            scope.ACTIVATED.set(perf_counter())
            return
        frame = frame.f_back


def _run_first_at_exit() -> None:
    """Last registered, first run: sessions end before a provider shuts down."""
    global _finalizer
    from victor_otel.pipeline import is_multiprocessing_child

    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    if _finalizer is not None:
        _finalizer.cancel()
    if is_multiprocessing_child():  # most of them end without atexit
        from multiprocessing.util import Finalize

        _finalizer = Finalize(None, _at_exit, exitpriority=100)


def _at_exit() -> None:
    atexit.unregister(_at_exit)
    if _current is not None:
        _current.close()
    if _private is not None:
        _private.flush()


def _after_fork() -> None:
    global _lock, _private
    _lock = threading.RLock()
    failsafe.forget()
    HEALTH.restart()
    if (pipeline := sys.modules.get("victor_otel.pipeline")) is not None:
        pipeline.after_fork()
    if _private is not None:
        _private.abandon()
        _private = None
    if _current is not None:
        _current.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
