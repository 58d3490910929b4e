"""Our own numbers: the only ones of which we are the source as well."""

from __future__ import annotations

import asyncio
import enum
import http.server
import importlib.metadata
import os
import socket
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from tests.kit.agents import agent, model
from tests.kit.providers import own
from tests.scenarios.scenario import Count, Scenario
from victor_otel import instrumentation
from victor_otel.engine import failsafe
from victor_otel.runtime import RUNTIME
from victor_otel.signals import pipeline
from victor_otel.victor import catalog, labels, shared
from victor_otel.victor import ourselves as area
from victor_otel.victor.areas import providers, tools

UP, DROPPED = "victor_otel_endpoint_up", "victor_otel_exports_dropped_total"


async def hooks(count: Count) -> None:
    """Switched on where Victor has not imported one module, and another one is not as expected."""
    import victor

    absent, strange = "victor.providers.concurrency", "victor.integrations.mcp.client"
    running = RUNTIME.instrumentation
    assert running is not None
    RUNTIME.deactivate()
    with mock.patch.dict(sys.modules, {strange: ModuleType(strange)}):
        sys.modules.pop(absent, None)
        RUNTIME.activate(running._provider).open()
        imported = {name for name in sys.modules if name != strange}
    version = importlib.metadata.version("victor-ai")
    for target in {*catalog.targets(version), instrumentation.BRIDGE}:
        module = target.partition(":")[0]
        state = "bound" if module in imported else "waiting"
        count.set(
            "victor_otel_hooks", 1, hook=target, state="missing" if module == strange else state
        )
    ours = importlib.metadata.version("victor-otel")
    count.set("victor_otel_build_info", 1, version=ours, victor_version=victor.__version__)


async def drift(count: Count) -> None:
    """A Victor that has moved one class and has one state of health more."""
    from victor.core import errors
    from victor.core import health as victors
    from victor.integrations.mcp import server

    states = {state.name: state.value for state in victors.HealthStatus} | {"DROWSY": "drowsy"}
    elsewhere = type("MCPServer", (server.MCPServer,), {"__module__": "victor.mcp"})
    for module, name, there in (
        (victors, "HealthStatus", enum.Enum("HealthStatus", states)),
        (server, "MCPServer", elsewhere),
    ):
        count.lasting.enter_context(mock.patch.object(module, name, there))
    assert errors.VictorError.__module__ == errors.__name__
    count.set("victor_otel_drift", 1, kind="member", symbol="victor.core.health:HealthStatus")
    count.set(
        "victor_otel_drift", 1, kind="class", symbol="victor.integrations.mcp.server:MCPServer"
    )
    for path in ("victor.core.errors:VictorError", "victor.core.health:HealthStatus"):
        count.set("victor_otel_drift", 0, kind="class", symbol=path)


async def swallowed_errors(count: Count) -> None:
    """A provider that breaks our observers, not its callers."""
    from victor.providers.base import BaseProvider, CompletionResponse, StreamChunk

    class Nameless(BaseProvider):
        @property
        def name(self) -> str:
            raise RuntimeError

        async def chat(self, messages: Any, **options: Any) -> CompletionResponse:
            return CompletionResponse(content="hi", role="assistant")

        async def stream(self, messages: Any, **options: Any) -> AsyncIterator[StreamChunk]:
            yield StreamChunk(content="hi", is_final=True)

        async def close(self) -> None: ...

    chats, streams = 3, 2
    with mock.patch.object(failsafe, "STRICT", new=False):
        for _ in range(chats):
            assert (await Nameless().chat([], model="m")).content == "hi"
        for _ in range(streams):
            assert [one.content async for one in Nameless().stream([], model="m")] == ["hi"]
    for method, times in (("chat", chats), ("stream", streams)):
        hook = f"victor.providers.base:BaseProvider.{method}"
        count.add("victor_otel_errors_total", times, hook=hook)


async def capped_labels(count: Count) -> None:
    """Calls of more models than the label holds, and of one whose name is none."""
    names = [f"model-{number}" for number in range(labels.MODEL.limit + 5)]
    known = set(names[: labels.MODEL.limit])
    provider = own()
    for name in (*names, "x" * 1000, names[0]):
        await provider.chat([], model=name)
        call = {"provider": "own", "status": "success", "tool_calls": "false"}
        shown = name if name in known else "other"
        count.add("victor_provider_requests_total", model=shown, **call)
        if name not in known:
            for metric in ("requests_total", "latency_seconds", "success_rate"):
                count.add("victor_otel_labels_capped_total", metric=f"victor_provider_{metric}")
            for metric in (
                "inference_duration_seconds",
                "inference_usage_input_tokens_total",
                "inference_usage_output_tokens_total",
                "inference_operation_input_tokens",
                "inference_operation_output_tokens",
                "operation_duration_seconds",
            ):
                count.add("victor_otel_labels_capped_total", metric=f"gen_ai_client_{metric}")


async def undeclared_labels(count: Count) -> None:
    """A tool of an agent in a mode that only a later Victor has."""
    later = SimpleNamespace(current_mode=SimpleNamespace(value="meditate"))
    listing = {"name": "ls", "arguments": {"path": "."}}
    with model() as served:
        async with agent(served, "m") as created:
            orchestrator: Any = created.get_orchestrator()
            with (
                mock.patch.object(orchestrator, "mode_controller", later),
                mock.patch.object(failsafe, "STRICT", new=False),
            ):
                await orchestrator._tool_pipeline.execute_tool_calls([listing], {})
    executed = {"tool": "ls", "vertical": "none", "mode": "other", "status": "success"}
    count.add("victor_tool_executions_total", **executed)
    count.add("victor_otel_labels_undeclared_total", metric="victor_tool_executions_total")


async def refusing_backend(count: Count) -> None:
    """A pipeline of our own whose endpoint is scraped, and whose backend accepts nothing."""
    with (
        _backend() as backend,
        _pipeline(
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{backend.server_port}",
            VICTOR_PROMETHEUS_ENABLED="true",
            VICTOR_PROMETHEUS_PORT="0",
        ) as built,
    ):
        built.recorder(shared.FEATURES, feature="ours")
        assert built.tracer_provider is not None
        tracer = built.tracer_provider.get_tracer("own")
        for spans in (1, 2, 3):
            for _ in range(spans):
                tracer.start_span("own").end()
            assert not await asyncio.to_thread(built.flush)
            count.add("victor_otel_spans_dropped_total", spans)
        assert built.endpoint is not None
        with await asyncio.to_thread(urllib.request.urlopen, built.endpoint) as answer:
            assert b'victor_feature_usage_total{feature="ours"} 1.0' in answer.read()
    paths = Counter(backend.refused)
    assert paths["/v1/traces"] == 3
    assert paths["/v1/metrics"] > 3  # the pipeline's end is an export as well
    count.add(DROPPED, len(backend.refused))
    count.set(UP, 1)


async def taken_port(count: Count) -> None:
    """A pipeline whose port another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with _pipeline(VICTOR_PROMETHEUS_ENABLED="true", VICTOR_PROMETHEUS_PORT=port) as built:
            assert built.endpoint is None
    count.set(UP, 0)


class _Refusing(http.server.ThreadingHTTPServer):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.refused: list[str] = []
        """The paths that were posted to."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Refusing

    def do_POST(self) -> None:
        self.server.refused.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_error(400)

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


@contextmanager
def _backend() -> Iterator[_Refusing]:
    with _Refusing(("127.0.0.1", 0), _Handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True).start()
        yield served
        served.shutdown()


@contextmanager
def _pipeline(**variables: str) -> Iterator[pipeline.Pipeline]:
    """What the environment would have us build in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with mock.patch.dict(os.environ, {**kept, **variables}, clear=True):
        built = pipeline.connect(RUNTIME.health)
    assert built.owner == "victor-otel"
    yield built
    built.recorder._provider.shutdown()
    if built.server is not None:
        built.server.close()


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=hooks, proves=(area.HOOKS, area.BUILD_INFO), alone=True),
    Scenario(run=drift, proves=(area.DRIFT,), alone=True),
    Scenario(run=swallowed_errors, proves=(area.ERRORS,), alone=True),
    Scenario(run=capped_labels, proves=(area.LABELS_CAPPED, providers.REQUESTS), alone=True),
    Scenario(run=undeclared_labels, proves=(area.LABELS_UNDECLARED, tools.EXECUTIONS), alone=True),
    Scenario(
        run=refusing_backend,
        proves=(area.EXPORTS_DROPPED, area.SPANS_DROPPED, area.ENDPOINT_UP),
        alone=True,
    ),
    Scenario(run=taken_port, proves=(area.ENDPOINT_UP,), alone=True),
)
