"""OpenTelemetry instrumentation for Victor.

Installing the package is enough: Victor loads it as a plugin, and its work is recorded.
Environment variables say where the metrics go:

    VICTOR_PROMETHEUS_ENABLED=true victor chat      # http://127.0.0.1:9091/metrics
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 victor serve

An application that owns its SDK keeps it:

    from opentelemetry.metrics import set_meter_provider
    from victor_otel import VictorInstrumentor

    set_meter_provider(provider)
    VictorInstrumentor().instrument()

A script that wants its agent's initialization measured from the first line, and the MCP
server, which loads no plugins, call `start()` first:

    import victor_otel

    victor_otel.start()

`victor_otel.record` records what only the application knows, `victor_otel.custom` declares
the application's own metrics, and `victor_otel.guide` has the integration points of Victor's
monitoring guide.

`victor otel doctor` says what is missing, why, and what mends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from victor_otel.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from victor_otel.instrumentor import VictorInstrumentor

__all__ = ["VictorInstrumentor", "__version__", "start", "stop"]


def start(meter_provider: MeterProvider | None = None) -> None:
    """Switches the instrumentation on and opens the pipeline, in one call.

    Without `meter_provider` the global one is used if the application has set it, else
    the environment decides. Does nothing if it is already on. Never raises.
    """
    from victor_otel.runtime import RUNTIME

    RUNTIME.activate(meter_provider).open()


def stop() -> None:
    """Switches the instrumentation off and restores every class of Victor."""
    from victor_otel.runtime import RUNTIME

    RUNTIME.deactivate()


def __getattr__(name: str) -> Any:
    # The instrumentor's base class costs more than the rest of the package to import.
    if name == "VictorInstrumentor":
        from victor_otel.instrumentor import VictorInstrumentor

        return VictorInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
