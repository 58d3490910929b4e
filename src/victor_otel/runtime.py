"""The state of the process: what is switched on, where it exports, and what a fork makes of it."""

from __future__ import annotations

import atexit
import inspect
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.engine.nesting import CURRENT
from victor_otel.instrumentation import Instrumentation
from victor_otel.model.operation import innermost
from victor_otel.victor.context import ACTIVATED
from victor_otel.victor.operations import ONE_SHOT

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from victor_otel.signals.pipeline import Pipeline


class Runtime:
    """One for each process; one `Instrumentation` is on at a time, whichever door asked for it."""

    def __init__(self) -> None:
        self.health = Health()
        """What befell us in this process, whichever instrumentation was on."""
        self.instrumentation: Instrumentation | None = None
        self._lock = threading.RLock()
        self._private: Pipeline | None = None
        """The pipeline that the environment asked for; it outlives an instrumentation."""
        self._before: Any = None
        """The recorder before whose provider we end: at exit, what registers last runs first."""
        self._finalizer: Any = None
        """What multiprocessing runs at the end of a child, which is this process."""

    def activate(
        self,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> Instrumentation:
        """Switches on, once: a second call returns what is on already."""
        with self._lock:
            if self.instrumentation is None:
                self.instrumentation = Instrumentation(
                    self.health, self._connect, meter_provider, tracer_provider
                )
            else:
                if tracer_provider is not None:
                    self.instrumentation.trace(tracer_provider)
                if meter_provider is not None:
                    self.instrumentation.use(meter_provider)
            return self.instrumentation

    def deactivate(self) -> None:
        """Switches off; harmless when off already."""
        with self._lock:
            if self.instrumentation is not None:
                self.instrumentation.undo()
                self.instrumentation = None

    def _connect(self, provider: MeterProvider | None) -> Pipeline:
        """The pipeline of a provider; without one that of the environment, which is made once."""
        from victor_otel.signals import pipeline

        with self._lock:
            connected = self._private if provider is None else None
            if connected is None:
                one_shot = innermost(CURRENT.get(), ONE_SHOT) is not None
                connected = pipeline.connect(self.health, provider, one_shot=one_shot)
            if connected.private:
                self._private = connected
            connected.recorder.on_live = self._run_first_at_exit
            if connected.recorder is not self._before:
                self._before = connected.recorder
                self._run_first_at_exit()
            return connected

    def _run_first_at_exit(self) -> None:
        """Has sessions end before a provider shuts down.

        Python keeps the place of what is unregistered, so this is done once for each provider.
        """
        from victor_otel.signals.pipeline import is_multiprocessing_child

        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)
        if self._finalizer is not None:
            self._finalizer.cancel()
        if is_multiprocessing_child():  # most of them end without atexit
            from multiprocessing.util import Finalize

            self._finalizer = Finalize(None, self._at_exit, exitpriority=100)

    def _at_exit(self) -> None:
        atexit.unregister(self._at_exit)
        if self.instrumentation is not None:
            self.instrumentation.close()
        if self._private is not None:
            self._private.flush()

    def after_fork(self) -> None:
        """In a forked child nothing is under way, counted or exported yet, and no lock is held."""
        self._lock = threading.RLock()
        self._before = None
        failsafe.forget()
        self.health.restart()
        if (pipeline := sys.modules.get("victor_otel.signals.pipeline")) is not None:
            pipeline.after_fork()
        if self._private is not None:
            self._private.abandon()
            self._private = None
        if self.instrumentation is not None:
            self.instrumentation.restart()


RUNTIME = Runtime()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RUNTIME.after_fork)


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

            ACTIVATED.set(perf_counter())
            return
        frame = frame.f_back
