"""The integration points of Victor's monitoring guide, under the guide's names.

    from victor.core.health import CallableHealthCheck
    from victor_otel.guide import MetricsCollector, MetricsMiddleware

    collector = MetricsCollector()
    await bus.subscribe("tool.*", collector.handle_tool_event)
    await bus.subscribe("agent.*", collector.handle_agent_event)
    await bus.subscribe("error.*", collector.handle_error_event)
    orchestrator.get_middleware_chain().add(MetricsMiddleware(collector))
    checker.add_check(CallableHealthCheck("metrics", collector.health_check, critical=False))

They are optional, because the wrappers count everything. Each adds something:

- the handlers: the number of events of each family that the bus delivered
  (`victor_bus_events_total`). Tool calls, agents and errors are not counted from events,
  because their calls are already counted;
- the middleware: tool calls that an application runs through a middleware chain of its own.
  Calls that go through Victor's tool pipeline are counted there, and not here;
- the health check: whether the metrics are complete, as one of Victor's own checks.
"""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any

from victor_otel.engine import failsafe
from victor_otel.engine.nesting import CURRENT
from victor_otel.intake import DECLARED, REGISTERED, take
from victor_otel.model.operation import Operation, innermost
from victor_otel.runtime import RUNTIME
from victor_otel.victor import ourselves
from victor_otel.victor.areas import events
from victor_otel.victor.context import describe
from victor_otel.victor.identity import agent_name
from victor_otel.victor.operations import TOOL_CALL, ToolCall
from victor_otel.victor.outcomes import error_type, is_timeout

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from prometheus_client.registry import Collector
    from victor.core.health import ComponentHealth
    from victor.core.verticals.protocols import MiddlewarePriority, MiddlewareResult


class MetricsCollector:
    """The guide's collector. Creating it switches the instrumentation on, as `start()` does.

    A program that creates one has all of Victor's metrics; a second one changes nothing.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        RUNTIME.activate(meter_provider).open()

    async def handle_tool_event(self, _event: Any) -> None:
        """For `bus.subscribe("tool.*", ...)`: counts the event, not the call that it reports."""
        take("guide.handle_tool_event", events.BUS_EVENTS, family="tool")

    async def handle_agent_event(self, _event: Any) -> None:
        """For `bus.subscribe("agent.*", ...)`: counts messages between agents."""
        take("guide.handle_agent_event", events.BUS_EVENTS, family="agent")

    async def handle_error_event(self, _event: Any) -> None:
        """For `bus.subscribe("error.*", ...)`: counts the event, not the error that it reports."""
        take("guide.handle_error_event", events.BUS_EVENTS, family="error")

    @staticmethod
    def register_metric(metric: Collector) -> None:
        """Shows a metric of prometheus_client on our `/metrics`, now or as soon as it is served.

        It appears only on a `/metrics` that victor-otel serves, and is not exported through OTLP:
        declare such metrics with `victor_otel.custom`.

        Raises:
            TypeError: for what is no prometheus_client collector.
            ValueError: for a name that begins with `victor_` or is taken.
        """
        from victor_otel.signals import pipeline

        if not callable(getattr(metric, "collect", None)):
            raise TypeError(
                f"{type(metric).__name__} is no metric of prometheus_client; one of "
                "victor_otel.custom needs no registration"
            )
        names = {family.name for family in metric.collect()}
        if any(name.startswith("victor_") for name in names):
            raise ValueError("names that begin with victor_ are Victor's own")
        declared = {name.removesuffix("_total") for name in DECLARED}
        if taken := names & (declared | {"target_info"}):
            raise ValueError(f"{', '.join(sorted(taken))}: is on /metrics already")
        on = RUNTIME.instrumentation
        pipeline.host(metric, on.pipeline if on is not None else None)
        REGISTERED.update(names)

    async def health_check(self) -> ComponentHealth:
        """For Victor's `CallableHealthCheck("metrics", collector.health_check)`.

        Unhealthy when the instrumentation is off; degraded when numbers are missing or do not
        arrive. Do not make the check critical: Victor itself works without its metrics.
        """
        from victor.core.health import ComponentHealth, HealthStatus

        health = RUNTIME.health
        on = RUNTIME.instrumentation
        states = list(ourselves.states(health).values())
        trouble = {
            "hooks_missing": states.count("missing"),
            "classes_differ": int(sum(value for value, _ in ourselves.read_drift(health))),
            "errors": sum(health.errors.values()),
            "exports_dropped": health.exports_dropped,
            "endpoint_refused": int(health.endpoint_up is False),
            "not_exported": int(on is None or on.pipeline is None or on.pipeline.owner == "nobody"),
        }
        found = [name.replace("_", " ") for name, count in trouble.items() if count]
        status = HealthStatus.DEGRADED if found else HealthStatus.HEALTHY
        return ComponentHealth(
            name="metrics",
            status=HealthStatus.UNHEALTHY if on is None else status,
            message="; ".join(found) or "every number is recorded",
            details={"hooks_bound": states.count("bound"), **trouble},
        )

    @staticmethod
    def tool_ended(tool: str, seconds: float, success: bool, error: BaseException | None) -> None:
        """Counts a tool call that only a middleware saw."""
        on = RUNTIME.instrumentation
        if on is None:
            return
        try:
            status = _status(success, error)
            failed = status in {"failure", "timeout"}
            around = CURRENT.get()
            call = Operation(TOOL_CALL, around, 1, None, perf_counter())
            call.context = describe(None, call.interface)
            call.agent_name = agent_name(call)
            kind = "tool_execution" if error is None else error_type(error)
            call.facts = ToolCall(
                tool,
                ran=True,
                status=status,
                seconds=seconds,
                judged=failed or success,
                succeeded=status == "success",
                error_type=kind if failed else "",
            )
            on.engine.followers(TOOL_CALL).publish(call)
        except Exception as ours:
            failsafe.caught(on.health, "guide.MetricsMiddleware", ours)


def _status(success: bool, error: BaseException | None) -> str:
    """Victor's chain calls a cancelled tool a success, but its exception is on the way."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if error is not None and is_timeout(error):
        return "timeout"
    return "success" if success else "failure"


_started: ContextVar[tuple[tuple[str, float], ...]] = ContextVar("victor_otel_middleware")
"""The calls that run through a chain of the application's own: tool and when it began."""


class MetricsMiddleware:
    """A middleware of Victor's `MiddlewareChain`, for chains that an application runs itself.

    `chain.add(MetricsMiddleware(collector))`. It changes neither arguments nor results.
    """

    def __init__(self, collector: MetricsCollector) -> None:
        self._collector = collector

    async def before_tool_call(
        self,
        tool_name: str,
        arguments: dict[str, Any],  # noqa: ARG002
    ) -> MiddlewareResult:
        """Notes when the call began, unless Victor's own pipeline, which counts it, runs it."""
        from victor.core.verticals.protocols import MiddlewareResult

        if innermost(CURRENT.get(), TOOL_CALL) is None:
            _started.set((*_started.get(()), (tool_name, perf_counter())))
        return MiddlewareResult()

    async def after_tool_call(
        self,
        tool_name: str,
        arguments: dict[str, Any],  # noqa: ARG002
        result: Any,  # noqa: ARG002
        success: bool,
    ) -> None:
        """Counts the call; None leaves its result as it is."""
        raised = sys.exc_info()[1]
        try:
            stack = _started.get(())
            begun = [i for i, (name, _) in enumerate(stack) if name == tool_name]
            if begun and innermost(CURRENT.get(), TOOL_CALL) is None:
                _started.set(stack[: begun[-1]])
                seconds = perf_counter() - stack[begun[-1]][1]
                self._collector.tool_ended(tool_name, seconds, success, raised)
        except Exception as ours:
            failsafe.caught(RUNTIME.health, "guide.MetricsMiddleware", ours)

    def get_priority(self) -> MiddlewarePriority:
        """Nearest to the tool: what other middlewares take is not the tool's time."""
        from victor.core.verticals.protocols import MiddlewarePriority

        return MiddlewarePriority.DEFERRED

    def get_applicable_tools(self) -> set[str] | None:
        """All of them."""
        return None
