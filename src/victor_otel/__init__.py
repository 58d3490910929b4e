"""OpenTelemetry instrumentation for Victor.

Installing the package is enough: Victor loads it as a plugin, and what it does is
recorded. Where the numbers go is up to the environment::

    pip install "victor-otel[instruments]"
    VICTOR_PROMETHEUS_ENABLED=true victor chat      # http://127.0.0.1:9091/metrics
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 victor serve

An application that owns its SDK keeps it::

    from opentelemetry.metrics import set_meter_provider
    from victor_otel import VictorInstrumentor

    set_meter_provider(provider)
    VictorInstrumentor().instrument()

A script that wants its agent's initialization measured from the first line, and the MCP
server, which loads no plugins, call `start()` first::

    import victor_otel

    victor_otel.start()

What only the application knows is told by `victor_otel.record`, metrics of its own are
declared with `victor_otel.custom`, and `victor_otel.guide` holds the integration points
of Victor's monitoring guide.

`victor otel doctor` says what is on, what is missing and what to do about it.
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
    the environment decides. Does nothing when on already. Never raises.
    """
    from victor_otel import instrumentation

    instrumentation.activate(meter_provider).open()


def stop() -> None:
    """Takes the instrumentation off again: every class of Victor's is as it was before."""
    from victor_otel import instrumentation

    instrumentation.deactivate()


def __getattr__(name: str) -> Any:
    # The instrumentor's base class costs more than the rest of the package to import.
    if name == "VictorInstrumentor":
        from victor_otel.instrumentor import VictorInstrumentor

        return VictorInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
