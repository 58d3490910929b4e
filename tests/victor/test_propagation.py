"""One trace through several processes: MCP servers, commands, callers of the API, single runs."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.kit.agents import agent, model, recording
from tests.kit.chat import ANSWER, ASK
from tests.kit.interfaces import CHAT, client, mcp_server, message, own_tools, server
from tests.kit.otlp import http
from tests.kit.processes import victor
from tests.kit.spans import tracing
from tests.kit.traced import Traced
from tools.paths import ROOT
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script
from victor_otel.engine import failsafe
from victor_otel.runtime import RUNTIME
from victor_otel.victor.areas import propagation

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"
STATE = "vendor=1"


def written(span: ReadableSpan) -> str:
    """A span as `traceparent` names it."""
    known = span.context
    return f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags:02x}"


def above(span: ReadableSpan) -> tuple[str, str] | None:
    """The trace of a span and its parent, as text."""
    parent = span.parent
    return None if parent is None else (f"{parent.trace_id:032x}", f"{parent.span_id:016x}")


# Out, to MCP servers.

LISTENING = f"""
import asyncio, json, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.kit.interfaces import mcp_server, own_tools
served = mcp_server(*own_tools())
handle = served.handle_message
async def watch(message):
    with open(sys.argv[1], "a") as seen:
        seen.write(json.dumps(message) + "\\n")
    return await handle(message)
served.handle_message = watch
asyncio.run(served.start_stdio_server())
"""


async def test_a_message_to_an_mcp_server_names_the_span_of_the_client(tmp_path: Path) -> None:
    from victor.integrations.mcp.client import MCPClient

    seen, caller = tmp_path / "seen", MCPClient()
    with tracing() as traced:
        assert await caller.connect([sys.executable, "-c", LISTENING, str(seen)])
        assert (await caller.call_tool("water", plant="fern")).success
        caller.disconnect()
    sent = [json.loads(line) for line in seen.read_text().splitlines()]
    found = {one["method"]: one["params"] for one in sent if "_meta" in one.get("params", {})}
    spans = {str((span.attributes or {})["mcp.method.name"]): span for span in traced.ours}
    assert {"initialize", "tools/list", "tools/call"} <= found.keys()
    assert {method: params["_meta"] for method, params in found.items()} == {
        method: {"traceparent": written(spans[method])} for method in found
    }
    call = found["tools/call"]
    assert {key: call[key] for key in call if key != "_meta"} == {
        "name": "water",
        "arguments": {"plant": "fern"},
    }


INSTRUMENTED = f"""
import asyncio, os, sys
sys.path.insert(0, {str(ROOT)!r})
os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = sys.argv[1]
os.environ["VICTOR_OTEL_EXIT_TIMEOUT"] = "20"
import victor_otel
victor_otel.start()
from tests.kit.interfaces import mcp_server, own_tools
asyncio.run(mcp_server(*own_tools()).start_stdio_server())
"""


async def test_the_tool_of_a_server_that_is_instrumented_is_below_the_client() -> None:
    from victor.integrations.mcp.client import MCPClient

    with http() as backend, tracing() as traced:
        caller = MCPClient()
        url = f"http://127.0.0.1:{backend.port}/v1/traces"
        assert await caller.connect([sys.executable, "-c", INSTRUMENTED, url])
        assert (await caller.call_tool("water", plant="fern")).success
        server = caller.process
        server.stdin.close()  # so that it ends by itself, and exports
        server.wait(60)
        caller.disconnect()
    served = [span for each in backend.spans().values() for span in each]
    (answered,) = (span for span in served if span.name == "tools/call water")
    (ran,) = (span for span in served if span.name == "execute_tool water")
    (sent,) = traced.named("tools/call water")
    assert answered.trace_id.hex() == ran.trace_id.hex() == f"{sent.context.trace_id:032x}"
    assert answered.parent_span_id.hex() == f"{sent.context.span_id:016x}"
    assert ran.parent_span_id == answered.span_id


async def test_without_spans_a_message_is_as_it_was(tmp_path: Path) -> None:
    from victor.integrations.mcp.client import MCPClient

    seen, caller = tmp_path / "seen", MCPClient()
    with recording():
        assert await caller.connect([sys.executable, "-c", LISTENING, str(seen)])
        caller.disconnect()
    assert "_meta" not in seen.read_text()
    assert "initialize" in seen.read_text()


FIELDS = {"traceparent": PARENT, "tracestate": STATE}


@pytest.mark.parametrize(
    ("given", "put"),
    [
        ({}, {"_meta": FIELDS}),
        ({"name": "a"}, {"name": "a", "_meta": FIELDS}),
        ({"_meta": {"progressToken": 1}}, {"_meta": {"progressToken": 1, **FIELDS}}),
        ({"_meta": {"traceparent": "own"}}, {"_meta": {"traceparent": "own"}}),
        ({"_meta": {"tracestate": "own"}}, {"_meta": {"tracestate": "own"}}),
        ({"_meta": None}, {"_meta": None}),
        ([1], [1]),
        (None, None),
    ],
)
def test_what_a_message_says_already_stays(given: Any, put: Any) -> None:
    before = json.dumps(given)
    assert propagation.in_message(given, FIELDS) == put
    assert json.dumps(given) == before


# Out, to commands.

EXECUTOR = "victor.tools.subprocess_executor"
SHOW = f'{sys.executable} -c \'import os; print(os.environ.get("TRACEPARENT"), os.environ.get("HOME"))\''


async def ran(**options: Any) -> str:
    from victor.tools.subprocess_executor import run_command_async

    result = await run_command_async(SHOW, **options)
    assert result.success, result.error_message
    return result.stdout.split()[0]


async def test_a_command_of_the_shell_tool_learns_of_the_span_of_its_call() -> None:
    from victor.tools.bash import shell

    with tracing() as traced:
        result = await shell.Tool.execute({}, cmd=SHOW)
    (called,) = traced.named("execute_tool shell")
    assert written(called) in str(result.output)


@pytest.mark.parametrize(
    ("inherited", "given", "arrives"),
    [
        ({}, None, "ours"),
        ({}, {}, "ours"),
        ({"TRACEPARENT": PARENT, "TRACESTATE": STATE}, None, "ours"),
        ({"TRACEPARENT": PARENT}, {"TRACEPARENT": PARENT}, "ours"),
        ({}, {"TRACEPARENT": PARENT, "TRACESTATE": STATE}, PARENT),
        ({"TRACEPARENT": PARENT}, {"TRACEPARENT": UNSAMPLED}, UNSAMPLED),
    ],
)
async def test_a_command_keeps_a_trace_that_its_caller_gave_it(
    inherited: Mapping[str, str],
    given: Mapping[str, str] | None,
    arrives: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from victor.tools import subprocess_executor as executor

    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    known = None if given is None else {"PATH": os.environ["PATH"], **given}
    before = None if known is None else dict(known)
    traced = Traced()
    with recording(traced=traced), traced.provider.get_tracer("app").start_as_current_span("s"):
        told = await ran(env=known)
        at_once = executor.run_command(SHOW, shell=True, env=known).stdout.split()[0]
    (span,) = (span for span in traced.ended if span.name == "s")
    assert (told, at_once) == ((written(span) if arrives == "ours" else arrives),) * 2
    assert known == before
    assert os.environ.get("TRACEPARENT") == inherited.get("TRACEPARENT")


async def test_a_trace_that_is_not_sampled_is_not_sampled_in_a_command() -> None:
    traced = Traced(ALWAYS_OFF)
    with recording(traced=traced), traced.provider.get_tracer("app").start_as_current_span("s"):
        assert int((await ran())[-2:], 16) & 1 == 0


async def test_without_a_span_a_command_has_the_environment_that_it_had() -> None:
    with tracing():
        assert await ran() == "None"
    with recording(), Traced().provider.get_tracer("app").start_as_current_span("s"):
        assert await ran() == "None"  # nobody asked us for spans


async def test_what_cannot_be_carried_harms_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(TextMapPropagator):
        def inject(self, *_: Any, **__: Any) -> None:
            raise LookupError

        def extract(self, *_: Any, **__: Any) -> Any:
            raise LookupError

        @property
        def fields(self) -> set[str]:
            return set()

    monkeypatch.setattr(failsafe, "STRICT", False)
    monkeypatch.setattr(propagate, "get_global_textmap", Broken)
    traced = Traced()
    with recording(traced=traced), traced.provider.get_tracer("app").start_as_current_span("s"):
        before = Counter(RUNTIME.health.errors)
        assert await ran() == "None"
        assert RUNTIME.health.errors - before == {f"{EXECUTOR}:run_managed_process": 1}


async def test_baggage_stays_in_the_process() -> None:
    traced = Traced()
    token = context.attach(baggage.set_baggage("user.id", "somebody"))
    try:
        with recording(traced=traced), traced.provider.get_tracer("app").start_as_current_span("s"):
            assert RUNTIME.instrumentation is not None
            assert set(RUNTIME.instrumentation.engine.fields()) == {"traceparent"}
    finally:
        context.detach(token)


# In, from callers.


async def test_a_message_of_an_mcp_client_is_part_of_its_trace() -> None:
    served = mcp_server(*own_tools())
    called = {**message("ping"), "params": {"_meta": {"traceparent": PARENT, "x": 1}}}
    broken = {**message("ping"), "params": {"_meta": {"traceparent": 7, "tracestate": "x"}}}
    traced = Traced()
    with recording(traced=traced):
        await served.handle_message(called)
        await served.handle_message(broken)
        with traced.provider.get_tracer("app").start_as_current_span("http"):
            await served.handle_message(called)
    alone, of_nobody, below_http = traced.ours
    (http,) = (span for span in traced.ended if span.name == "http")
    assert [above(alone), above(of_nobody), above(below_http)] == [
        (TRACE, CALLER),
        None,
        (TRACE, CALLER),
    ]
    assert list(alone.links) == []
    assert [link.context for link in below_http.links] == [http.context]


async def test_a_request_to_the_api_is_part_of_its_callers_trace() -> None:
    traced = Traced()
    headers = {"traceparent": PARENT, "tracestate": STATE}
    with recording(traced=traced), model(m=[ANSWER, ANSWER]) as served:
        async with client(server(served)) as api:
            assert (await api.post("/chat", json=CHAT, headers=headers)).status_code == 200
            assert (await api.post("/chat", json=CHAT)).status_code == 200
    first, second = traced.named("invoke_agent victor")
    assert above(first) == (TRACE, CALLER)
    assert first.parent is not None
    assert first.parent.trace_state.to_header() == STATE
    assert above(second) is None


async def test_the_span_of_an_instrumented_server_is_nearer_than_its_callers() -> None:
    traced = Traced()
    tracer = traced.provider.get_tracer("app")
    with recording(traced=traced), model(m=[ANSWER]) as served:
        api = server(served)

        @api.app.middleware("http")
        async def instrumented(request: Any, call_next: Any) -> Any:
            with tracer.start_as_current_span("POST /chat"):
                return await call_next(request)

        async with client(api) as connected:
            await connected.post("/chat", json=CHAT, headers={"traceparent": PARENT})
    (turn,) = traced.named("invoke_agent victor")
    (http,) = (span for span in traced.ended if span.name == "POST /chat")
    assert turn.parent is not None
    assert turn.parent.span_id == http.context.span_id


def printed(stderr: str) -> list[dict[str, Any]]:
    """The spans that the console exporter wrote, between whatever else was logged."""
    decoder, found, at = json.JSONDecoder(), [], stderr.find('{\n    "name"')
    while at >= 0:
        span, end = decoder.raw_decode(stderr, at)
        found.append(span)
        at = stderr.find('{\n    "name"', end)
    return found


@pytest.mark.parametrize(
    ("arguments", "given"), [(("run", "Say hi."), ""), (("chat",), "Say hi.")], ids=["run", "piped"]
)
def test_the_environment_says_the_trace_of_a_single_run(
    arguments: tuple[str, ...], given: str
) -> None:
    with ScriptedModel({"m": Script([ANSWER], ANSWER)}) as served:
        said = {"TRACEPARENT": PARENT, "OTEL_TRACES_EXPORTER": "console"}
        done = victor(served.url, *arguments, given=given, **said)
    turns = [span for span in printed(done.stderr) if span["name"] == "invoke_agent victor"]
    assert [span["parent_id"] for span in turns] == [f"0x{CALLER}"]


async def test_the_environment_says_nothing_of_any_other_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACEPARENT", PARENT)
    with tracing() as traced, model(m=[ANSWER]) as served:
        async with agent(served, "m") as created:
            await created.run(ASK)
    (turn,) = traced.named("invoke_agent victor")
    assert above(turn) is None
