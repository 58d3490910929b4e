"""The door that every OpenTelemetry user knows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from victor_otel.engine import failsafe
from victor_otel.runtime import RUNTIME
from victor_otel.victor.supported import RANGE


class VictorInstrumentor(BaseInstrumentor):
    """Instruments Victor; `instrument(meter_provider=..., tracer_provider=...)`, `uninstrument()`.

    Without a provider the global one is used if it is set; for metrics, else the environment
    decides.
    Idempotent, and the same instrumentation whichever door switched it on.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        return (f"victor-ai {RANGE}",)

    def _instrument(self, **kwargs: Any) -> None:
        # Anything but ImportError would keep all remaining instrumentors from starting.
        try:
            RUNTIME.activate(kwargs.get("meter_provider"), kwargs.get("tracer_provider"))
        except Exception as error:
            failsafe.logger.warning(
                "victor-otel could not be switched on.\n%s", failsafe.shown(error)
            )

    def _uninstrument(self, **_kwargs: Any) -> None:
        RUNTIME.deactivate()
