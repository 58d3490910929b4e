"""The composition root: rows become wrappers, and operations become metrics."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from victor_otel.engine import asgi, failsafe, nesting, wrapping
from victor_otel.engine.health import Health
from victor_otel.engine.patching import Patcher
from victor_otel.engine.plan import Engine, Plan
from victor_otel.model.metric import Kind, Metric
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area
from victor_otel.victor import catalog
from victor_otel.victor.areas.propagation import caller
from victor_otel.victor.context import describe
from victor_otel.victor.identity import agent_name, belongs, belongs_to_user
from victor_otel.victor.outcomes import ending
from victor_otel.victor.supported import victor_version

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from victor_otel.signals.pipeline import Pipeline

BRIDGE = "victor.core.async_utils:run_sync_in_thread"
"""How Victor calls what is asynchronous from what is not, inside of a running event loop."""


class Instrumentation:
    """All wrappers and states of one activation.

    `connect` gives the pipeline, for a provider of the application's or for none, when the
    first operation or value wants one.
    """

    def __init__(
        self,
        health: Health,
        connect: Callable[[MeterProvider | None], Pipeline],
        provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self.health = health
        self.health.hooks.clear()
        self.pipeline: Pipeline | None = None
        self._connect = connect
        self._provider = provider
        self._tracer_provider = tracer_provider
        self._lock = threading.RLock()
        self._states: dict[str, Any] = {}
        self._broken = False
        self._targets = catalog.targets(victor_version())
        self._patcher = Patcher(self.health, self._on_bound)
        self.engine = Engine(
            health=self.health,
            record=self.record,
            describe=describe,
            ending=ending,
            open_pipeline=self.open,
            flush=self.flush,
        )
        self._bind()
        self._observe()

    def _bind(self) -> None:
        """Wraps what is imported already and waits for the rest. Imports nothing of Victor."""
        for path, rows in self._targets.items():
            plain = [row for row in rows if not catalog.target_of(row).asgi]
            served = [row for row in rows if catalog.target_of(row).asgi]
            plan = Plan(path, plain, self.engine, leaves_state=catalog.leave_state(plain))
            install = None
            if served:
                attribute = catalog.target_of(served[0]).asgi
                install = asgi.installer(Plan(path, served, self.engine), attribute)
            self._patcher.patch(
                path,
                functools.partial(wrapping.wrap, plan=plan, then=install),
                overrides=any(catalog.target_of(row).overrides for row in rows),
            )
        self._patcher.patch_function(
            ThreadPoolExecutor, "submit", functools.partial(_wrap_carrying, carry=nesting.carry)
        )
        self._patcher.patch(
            BRIDGE, functools.partial(_wrap_carrying, carry=nesting.carry_coroutine)
        )

    def _observe(self) -> None:
        """Fresh states of the areas, and their observers bound to them."""
        self._states = {}
        self.engine.follow(
            catalog.TELLS,
            (
                (kind, f"{area.name}.{row.observe.__name__}", self._bound(area, row.observe))
                for area, kind, row in catalog.OBSERVED
            ),
            (row.type for row in catalog.FEEDS),
            in_flight=catalog.IN_FLIGHT,
            spanned=catalog.SPANS,
            names=dict.fromkeys(catalog.NAMED, agent_name),
        )

    def retry(self) -> None:
        """Wraps what Victor had half imported when it switched us on."""
        self._patcher.retry()

    def record(
        self, metric: Metric, value: float = 1, total: float = 1, /, **labels: object
    ) -> None:
        """The `Record` of observers and doors: opens the pipeline with the first value."""
        pipeline = self.pipeline
        if pipeline is None:
            self.open()
            pipeline = self.pipeline
        if pipeline is not None:
            pipeline.recorder(metric, value, total, **labels)

    def use(self, provider: MeterProvider) -> None:
        """An application brings its provider while we are on already, by Victor's plugin."""
        with self._lock:
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

    def trace(self, provider: TracerProvider) -> None:
        """An application brings its TracerProvider while we are on already."""
        with self._lock:
            self._tracer_provider = provider
            if self.pipeline is not None:
                self._feed(self.pipeline)

    def open(self) -> None:
        """Starts the pipeline, once."""
        if self.pipeline is not None or self._broken:
            return
        with self._lock:
            if self.pipeline is not None:
                return
            try:
                self.retry()
                self.pipeline = self._connect(self._provider)
                self._feed(self.pipeline)
            except Exception as error:
                self._broken = True
                failsafe.caught(self.health, "pipeline", error)

    def _feed(self, pipeline: Pipeline) -> None:
        """Connects operations, readings and declarations with a pipeline."""
        from victor_otel.signals.recording import Recording
        from victor_otel.signals.spans import Spans, nobody_listens

        recorder = pipeline.recorder
        left_out = catalog.left_out(pipeline.genai)
        rows = [row for row in catalog.FEEDS if row not in left_out]
        recorder.leave_out(metric for metric in catalog.CONVENTIONAL if metric in left_out)

        def metrics(kind: OperationType[object]) -> Callable[[Operation], None]:
            return Recording(kind, [row for row in rows if row.type is kind], recorder)

        provider = self._tracer_provider or pipeline.tracer_provider
        whose = belongs_to_user if pipeline.user_ids else belongs
        spans = Spans(provider, self.health, whose, caller, pipeline.contents)
        self.engine.connect(
            metrics,
            lambda kind: spans.of(catalog.SPANS[kind]),
            nobody_listens if recorder.is_unheard() and spans.is_unheard() else lambda: False,
            left_out,
            fields=spans.fields,
            keeps_contents=pipeline.contents is not None,
        )
        read: dict[Metric, Any] = {
            reading.metric: functools.partial(reading.read, *self._state_of(area))
            for area in catalog.AREAS
            for reading in area.readings
        }
        for flying in catalog.IN_FLIGHT.values():
            read[flying] = functools.partial(self.engine.read_in_flight, flying)
        for metric, reader in read.items():
            feeders = frozenset(path for path, fed in self._feeding.items() if metric in fed)
            recorder.observe(metric, functools.partial(self._read, reader, feeders))
        recorder.declare([one for one in catalog.METRICS if one not in read], self._fed())

    def _read(self, read: Any, feeders: frozenset[str]) -> Any:
        """Asks a reading, unless it rests on functions of which none is wrapped."""
        return read() if not feeders or feeders.intersection(self._bound_targets()) else ()

    def _bound_targets(self) -> Iterator[str]:
        return (target for target, state in list(self.health.hooks.items()) if state == "bound")

    def _on_bound(self) -> None:
        """Counters that a function can move from now on exist from now on."""
        if self.pipeline is None:
            return
        try:
            self.pipeline.recorder.declare((), self._fed())
        except Exception as error:
            failsafe.caught(self.health, "pipeline", error)

    @functools.cached_property
    def _feeding(self) -> dict[str, set[Metric]]:
        """The metrics that each function can move; asked whenever one is bound, so kept."""
        return {path: catalog.fed_by(rows) for path, rows in self._targets.items()}

    def _fed(self) -> Iterable[Metric]:
        """The counters that a bound function can move."""
        return dict.fromkeys(
            metric
            for target in self._bound_targets()
            for metric in self._feeding.get(target, ())
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
        self.engine.disable()
        self._patcher.undo()
        if self.pipeline is not None:
            self.pipeline.recorder.silence()

    def restart(self) -> None:
        """In a forked child: states, windows and totals of the parent are not ours."""
        self._lock = threading.RLock()
        self.pipeline = None
        self.engine.renew()
        self._observe()

    def _state_of(self, area: Area) -> tuple[Any, ...]:
        """The area's state, if it has one: made when it is first needed."""
        if area.state is None:
            return ()
        if area.name not in self._states:
            self._states[area.name] = self.health if area.state is Health else area.state()
        return (self._states[area.name],)

    def _bound(self, area: Area, observe: Any) -> Any:
        return functools.partial(observe, *self._state_of(area))


def _wrap_carrying(original: Any, _owner: Any, *, carry: Any) -> Any:
    return wrapping.dressed(carry(original), original)
