"""Metrics by OpenTelemetry's names: as its conventions have them, and of the same calls as ours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from prometheus_client import CollectorRegistry

from tests.kit.agents import Points, Recorded, agent, model, process_ends, recording
from tests.kit.chat import ANSWER, ASK, DELEGATE, LOOK, spawner, team
from tests.kit.interfaces import call, mcp_server, message, own_tools
from tests.kit.processes import MCP_SERVER
from tests.kit.providers import own, refused_key, response
from tests.kit.tools import own_tool
from tests.kit.traced import Traced
from tests.scenarios.scenario import exported
from victor_otel.demo.script import Step, ToolCall
from victor_otel.guide import MetricsCollector
from victor_otel.model.metric import Metric
from victor_otel.numbers import GROUPS
from victor_otel.runtime import RUNTIME
from victor_otel.signals.instruments import Nothing
from victor_otel.victor import catalog, identity
from victor_otel.victor.areas import mcp

D = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
T = (
    *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304),
    *(16777216, 67108864),
)
G = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
C = (1, 2, 4, 8, 16, 32, 64, 128)
K = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)

INFERENCE = "gen_ai.operation.name! gen_ai.provider.name! gen_ai.request.model?"
MESSAGE = (
    "mcp.method.name! gen_ai.operation.name? gen_ai.tool.name? "
    "rpc.response.status_code? error.type?"
)
USAGE = ("counter", "{token}", (), f"{INFERENCE} gen_ai.token.modality!")
TABLE: dict[str, tuple[str, str, tuple[float, ...], str]] = {
    "gen_ai.client.inference.duration": ("histogram", "s", D, f"{INFERENCE} error.type?"),
    "gen_ai.client.inference.time_to_first_chunk": ("histogram", "s", D, INFERENCE),
    "gen_ai.client.inference.usage.input_tokens": USAGE,
    "gen_ai.client.inference.usage.output_tokens": USAGE,
    "gen_ai.client.inference.usage.cache_read.input_tokens": USAGE,
    "gen_ai.client.inference.usage.cache_write.input_tokens": USAGE,
    "gen_ai.client.inference.usage.reasoning.output_tokens": USAGE,
    **dict.fromkeys(
        (
            "gen_ai.client.inference.operation.input_tokens",
            "gen_ai.client.inference.operation.output_tokens",
        ),
        ("histogram", "{token}", T, f"{INFERENCE} error.type?"),
    ),
    "gen_ai.execute_tool.duration": (
        *("histogram", "s", D),
        "gen_ai.tool.name! gen_ai.tool.type! gen_ai.agent.name! error.type?",
    ),
    "gen_ai.invoke_agent.duration": (
        *("histogram", "s", G),
        "gen_ai.operation.name! gen_ai.agent.name! error.type?",
    ),
    "gen_ai.invoke_agent.inference_calls": (
        *("histogram", "{inference_call}", C),
        "gen_ai.agent.name!",
    ),
    "gen_ai.invoke_agent.tool_calls": ("histogram", "{tool_call}", C, "gen_ai.agent.name!"),
    **dict.fromkeys(
        ("mcp.client.operation.duration", "mcp.server.operation.duration"),
        ("histogram", "s", K, MESSAGE),
    ),
    **dict.fromkeys(
        ("mcp.client.session.duration", "mcp.server.session.duration"),
        ("histogram", "s", K, "error.type?"),
    ),
    "gen_ai.client.embeddings.duration": ("histogram", "s", D, f"{INFERENCE} error.type?"),
    "gen_ai.retrieval.duration": ("histogram", "s", D, "gen_ai.operation.name! error.type?"),
    # Of v1.41 for calls to models, of v0.1.0 for operations on memories.
    "gen_ai.client.operation.duration": (
        *("histogram", "s", D),
        "gen_ai.operation.name! gen_ai.provider.name? gen_ai.request.model? error.type?",
    ),
    # v1.41
    "gen_ai.client.token.usage": (
        *("histogram", "{token}", T),
        f"{INFERENCE} gen_ai.token.type!",
    ),
}
"""The conventions' table: kind, unit, buckets, attributes (`!` always, `?` where there is one)."""


def described(metric: Metric) -> tuple[str, str, tuple[float, ...], str]:
    labels = " ".join(f"{label.name}{'?' if label.optional else '!'}" for label in metric.labels)
    return metric.kind.value, metric.unit, metric.buckets, labels


def test_names_units_buckets_and_attributes_are_those_of_the_conventions() -> None:
    assert {metric.name: described(metric) for metric in catalog.CONVENTIONAL} == {
        name: (kind, unit, tuple(map(float, buckets)), attributes)
        for name, (kind, unit, buckets, attributes) in TABLE.items()
    }


def told(recorded: Recorded, *names: str) -> Points:
    """The counts of what is recorded under the conventions' names, zeros included."""
    found = recorded.points(*names, zeros=True)
    return {key: value for key, value in found.items() if not key[0].startswith("victor.")}


def sums(recorded: Recorded, name: str, by: str = "gen_ai.agent.name") -> dict[str, float]:
    """What a histogram adds up to, by an attribute."""
    data = recorded.reader.get_metrics_data()
    return {
        str((point.attributes or {}).get(by, "")): point.sum
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if metric.name == name and isinstance(point, HistogramDataPoint)
    }


def called(provider: str = "own", **more: str) -> tuple[tuple[str, str], ...]:
    """The attributes of calls of the model `m`."""
    more = {name.replace("_", "."): value for name, value in more.items()}
    chat = {"operation.name": "chat", "provider.name": provider, "request.model": "m", **more}
    return tuple(sorted((n if n == "error.type" else f"gen_ai.{n}", v) for n, v in chat.items()))


# Calls to models


async def test_a_call_has_its_tokens_once_for_totals_and_once_for_percentiles() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "cache_read_input_tokens": 2}

    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        return response(usage=usage)

    with recording() as recorded:
        await own(chat=chat).chat([], model="m")
        names = "gen_ai.client.inference."
        unknown = called(token_modality="unknown")
        assert told(recorded) == {
            (f"{names}duration", *called()): 1,
            (f"{names}usage.input_tokens", *unknown): 9,
            (f"{names}usage.output_tokens", *unknown): 4,
            (f"{names}usage.cache_read.input_tokens", *unknown): 2,
            (f"{names}operation.input_tokens", *called()): 1,
            (f"{names}operation.output_tokens", *called()): 1,
        }


async def test_a_call_that_failed_has_its_error_and_no_tokens() -> None:
    with recording() as recorded, pytest.raises(Exception, match="no"):
        await own(refused_key()).chat([], model="m")
    failed, unknown = called(error_type="provider_auth"), called(token_modality="unknown")
    names = "gen_ai.client.inference."
    assert told(recorded) == {
        (f"{names}duration", *failed): 1,
        (f"{names}usage.input_tokens", *unknown): 0,
        (f"{names}usage.output_tokens", *unknown): 0,
        (f"{names}operation.input_tokens", *failed): 1,
        (f"{names}operation.output_tokens", *failed): 1,
    }


async def test_prometheus_shows_each_call_under_its_own_labels() -> None:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False)
    with recording(Recorded(reader)):
        for failure in (None, refused_key(), None):
            with contextlib.suppress(type(failure)):
                await own(failure).chat([], model="m")
        name = "gen_ai_client_inference_duration_seconds_count"
        calls = {
            dict(labels)["error_type"]: (value, dict(labels)["gen_ai_request_model"])
            for (found, labels), value in exported(registry).items()
            if found == name
        }
    assert calls == {"": (2, "m"), "provider_auth": (1, "m")}


async def test_span_and_metrics_call_a_provider_by_the_same_name() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        await own(name="google").chat([], model="m")
    (span,) = traced.ours
    assert (span.attributes or {})["gen_ai.provider.name"] == "gcp.gemini"
    duration = "gen_ai.client.inference.duration"
    assert told(recorded, duration) == {(duration, *called("gcp.gemini")): 1}


async def test_a_call_lasts_as_long_as_its_span_also_where_its_stream_waits_for_a_reader() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        async for _ in own().stream([], model="m"):
            await asyncio.sleep(0.02)
    (span,) = traced.ours
    taken = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    lasted = sums(recorded, "gen_ai.client.inference.duration", by="gen_ai.request.model")
    assert lasted == {"m": pytest.approx(taken, abs=1e-8)}
    assert sums(recorded, "victor.provider.latency", by="model")["m"] < taken - 0.04


async def test_a_call_of_no_model_has_none() -> None:
    with recording() as recorded:
        await own().chat([], model="")
    duration = "gen_ai.client.inference.duration"
    (found,) = told(recorded, duration)
    assert [name for name, _ in found[1:]] == ["gen_ai.operation.name", "gen_ai.provider.name"]


# Tools and agents


async def test_calls_belong_to_the_agent_that_made_them(tmp_path: Path) -> None:
    # Of a folder of its own: Victor keeps what `ls` said of others.
    look = Step(calls=(ToolCall("ls", {"path": str(tmp_path)}),))
    with model(m=[DELEGATE, look, ANSWER, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            created.get_orchestrator().tools.register(spawner(created))
            await created.run(ASK)
        assert sums(recorded, "gen_ai.invoke_agent.inference_calls") == {
            "victor": 2,
            "researcher": 2,
        }
        assert sums(recorded, "gen_ai.invoke_agent.tool_calls") == {"victor": 1, "researcher": 1}
        tools = {
            dict(key[1:])["gen_ai.tool.name"]: dict(key[1:])["gen_ai.agent.name"]
            for key in told(recorded, "gen_ai.execute_tool.duration")
        }
        assert tools == {"delegate": "victor", "ls": "researcher"}


async def test_a_team_is_a_workflow_whose_own_name_stays_inside() -> None:
    with model(m=[LOOK, ANSWER, LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            await (await team(created, "researcher", "planner")).run()
        duration = "gen_ai.invoke_agent.duration"
        assert told(recorded, duration) == {
            (duration, ("gen_ai.agent.name", name), ("gen_ai.operation.name", operation)): 1
            for name, operation in (
                ("team", "invoke_workflow"),
                ("researcher", "invoke_agent"),
                ("planner", "invoke_agent"),
            )
        }


async def test_what_a_middleware_saw_is_a_tool_of_the_agent() -> None:
    with recording() as recorded:
        MetricsCollector.tool_ended("own_tool", 0.1, True, None)
    (key,) = told(recorded, "gen_ai.execute_tool.duration")
    assert dict(key[1:])["gen_ai.agent.name"] == "victor"


async def test_the_first_call_of_a_process_has_its_agent() -> None:
    recorded = Recorded()
    RUNTIME.deactivate()
    RUNTIME.activate(recorded.provider)
    try:
        await own_tool(lambda _, number: number).execute({}, number=1)
    finally:
        RUNTIME.deactivate()
    (key,) = told(recorded, "gen_ai.execute_tool.duration")
    assert dict(key[1:])["gen_ai.agent.name"] == "victor"


# MCP


def messages(recorded: Recorded, side: str) -> dict[tuple[str, ...], float]:
    """The messages of a side: by method, operation, tool, code and error."""
    name = f"mcp.{side}.operation.duration"
    return {
        tuple(dict(key[1:]).get(label.name, "") for label in mcp.CLIENT_DURATION.labels): count
        for key, count in told(recorded, name).items()
    }


async def test_messages_to_the_server_are_counted_by_what_they_ask_for() -> None:
    served = mcp_server(*own_tools())
    with recording() as recorded:
        for sent in (message("ping"), message("a secret"), call("water", plant="fern")):
            await served.handle_message(sent)
        for asked in ("dig", "a secret", None):
            await served.handle_message(call(asked))
        assert messages(recorded, "client") == {}
        assert messages(recorded, "server") == {
            ("ping", "", "", "", ""): 1,
            ("other", "", "", "-32700", ""): 1,  # a client's mistake is no error of the server
            ("tools/call", "execute_tool", "water", "", ""): 1,
            ("tools/call", "execute_tool", "dig", "", "tool_error"): 1,
            ("tools/call", "execute_tool", "unknown", "", "tool_error"): 1,
            ("tools/call", "execute_tool", "unknown", "-32602", ""): 1,
        }


async def test_a_message_without_an_answer_is_an_error_of_the_client() -> None:
    from victor.integrations.mcp.client import MCPClient

    with recording() as recorded:
        assert not await MCPClient().ping()
        assert messages(recorded, "client") == {("ping", "", "", "", "no_response"): 1}


async def test_a_message_lasts_as_long_as_its_span() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        await mcp_server().handle_message(message("ping"))
    (span,) = traced.ours
    taken = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    lasted = sums(recorded, "mcp.server.operation.duration", by="mcp.method.name")
    assert lasted == {"ping": pytest.approx(taken, abs=1e-8)}


async def close(client: Any) -> None:
    await client.close()
    await client.close()
    client.disconnect()


async def disconnect(client: Any) -> None:
    client.disconnect()


async def connect_anew(client: Any) -> None:
    assert await client._try_reconnect()
    await client.close()


async def lose(client: Any) -> None:
    """The server dies, which the client learns when it asks for something."""
    client.process.kill()
    assert not await client.ping()
    await client.close()


async def give_up(client: Any) -> None:
    """A message is cancelled, and with it goes the connection."""
    client.process.send_signal(signal.SIGSTOP)
    asked = asyncio.ensure_future(client.ping())
    while not client._request_lock.locked():
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await client.close()


async def leave_open(_client: Any) -> None:
    process_ends()


SESSION = "mcp.client.session.duration"


@pytest.mark.parametrize(
    ("end", "sessions"),
    [
        (close, {(SESSION,): 1}),
        (disconnect, {(SESSION,): 1}),
        (connect_anew, {(SESSION,): 2}),
        (lose, {(SESSION, ("error.type", "no_response")): 1}),
        (give_up, {(SESSION,): 1}),
        (leave_open, {(SESSION,): 1}),
    ],
)
async def test_a_session_with_a_server_ends_once_however_it_ends(
    end: Callable[[Any], Awaitable[None]], sessions: Points
) -> None:
    from victor.integrations.mcp.client import MCPClient

    client = MCPClient(health_check_interval=0, reconnect_delay=0)
    with recording() as recorded:
        before = perf_counter()
        assert await client.connect([sys.executable, "-c", MCP_SERVER])
        assert told(recorded, SESSION) == {}
        await end(client)
        taken = perf_counter() - before
        assert told(recorded, SESSION) == sessions
        assert 0 < sum(sums(recorded, SESSION, by="error.type").values()) < taken
    await client.close()


async def test_a_session_of_a_client_that_is_dropped_ends_with_it() -> None:
    from victor.integrations.mcp.client import MCPClient

    with recording() as recorded:
        client = MCPClient(health_check_interval=0)
        assert await client.connect([sys.executable, "-c", MCP_SERVER])
        del client
        gc.collect()
        assert told(recorded, SESSION) == {(SESSION,): 1}


async def test_there_is_no_session_with_a_server_that_cannot_be_started() -> None:
    from victor.integrations.mcp.client import MCPClient

    client = MCPClient(health_check_interval=0)
    with recording() as recorded:
        assert not await client.connect([sys.executable, "-c", ""])
        await client.close()
        assert told(recorded, SESSION) == {}


@contextmanager
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The types of the operations whose agent is looked for."""
    found: list[str] = []
    role = identity._role

    def look(operation: Any) -> str:
        found.append(operation.type.name)
        return role(operation)

    with monkeypatch.context() as patch:
        patch.setattr(identity, "_role", look)
        yield found


async def test_whose_work_it_is_is_read_once_and_where_it_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work() -> None:
        await own_tool(lambda _, number: number).execute({}, number=1)
        await own().chat([], model="m")

    with named(monkeypatch) as found:
        with recording(traced=Traced()):
            await work()
        assert found == ["tool_call", "provider_call"]  # of the latter by the span alone
        found.clear()
        with recording():
            await work()
        assert found == ["tool_call"]
        found.clear()
        monkeypatch.setenv("VICTOR_OTEL_GENAI", "off")
        with recording():
            await work()
        assert found == []


# Versions


async def names(value: str | None, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What a turn and a tool leave under the conventions' names."""
    if value is not None:
        monkeypatch.setenv("VICTOR_OTEL_GENAI", value)
    with model(m=[ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            await created.run(ASK)
        await own_tool(lambda _, number: number).execute({}, number=1)
        await mcp_server().handle_message(message("ping"))
        process_ends()
        return {key[0] for key in told(recorded)}


_NOT_IN_A_TURN = ("cache", "reasoning", "chunk", "mcp.client", "embeddings", "retrieval")
OLD = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
NEW = {
    name for name in TABLE if name not in OLD and not any(part in name for part in _NOT_IN_A_TURN)
}


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (None, NEW),
        ("0.1", NEW),
        ("1.41", OLD),
        ("0.1,1.41", NEW | OLD),
        (" 1.41 , 0.1 ", NEW | OLD),
        ("OFF", set[str]()),
    ],
)
async def test_the_versions_that_are_asked_for_are_recorded(
    value: str | None, recorded: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await names(value, monkeypatch) == recorded


async def test_a_version_that_is_not_understood_is_told_and_the_default_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert await names("1.40", monkeypatch) == NEW
    said = [record.getMessage() for record in caplog.records if record.name == "victor_otel"]
    instead = "set it to 0.1, 1.41, both with a comma, or off"
    assert said == [f"victor-otel: VICTOR_OTEL_GENAI is not understood and is ignored; {instead}."]


async def test_the_old_names_have_the_old_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_OTEL_GENAI", "1.41")

    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        return response(usage={"prompt_tokens": 9, "completion_tokens": 4})

    with recording() as recorded:
        await own(chat=chat).chat([], model="m")
        await own().chat([], model="m")  # without usage
        assert told(recorded) == {
            ("gen_ai.client.operation.duration", *called()): 2,
            ("gen_ai.client.token.usage", *called(token_type="input")): 1,
            ("gen_ai.client.token.usage", *called(token_type="output")): 1,
        }


def test_nothing_is_created_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICTOR_OTEL_GENAI", "off")
    with recording():
        on = RUNTIME.instrumentation
        assert on is not None
        assert on.pipeline is not None
        instruments = on.pipeline.recorder._instruments
        made = {one.name for one, made in instruments.items() if not isinstance(made, Nothing)}
    assert made
    assert all(name.startswith("victor.") for name in made)


def test_a_board_shows_each_call_once() -> None:
    shown = {metric for metrics in GROUPS.values() for metric in metrics}
    assert shown == set(catalog.METRICS) - set(catalog.CONVENTIONAL)
