"""The end of a process: what is still open is recorded and delivered, and nothing hangs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.exits import TIMED, exit_seconds, undelivered
from tests.kit.processes import (
    AGENT,
    OWN,
    answer,
    environment,
    exported,
    free_port,
    last_export,
    run,
    silent_server,
    victor,
)
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

SIGNALS = {"metrics": "metrics", "spans": "traces"}
"""What one address gets, and the end of each one's path."""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_refusing_backend_delays_the_exit_by_the_bound_at_most(protocol: str) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    done = run(TIMED, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert exit_seconds(done.stderr) < 4  # the plain SDK takes 7 to 10
    said = "UNAVAILABLE, connection refused" if protocol == "grpc" else "connection refused"
    lines = undelivered(done.stderr)
    for line, what, pieces in zip(lines, SIGNALS, ("data points", "spans"), strict=True):
        shown = endpoint if protocol == "grpc" else rf"{endpoint}/v1/{SIGNALS[what]}"
        assert re.fullmatch(
            rf"ERROR:victor_otel:victor-otel: could not deliver the last {what} to {shown}: {said} "
            rf"\(\d+ (try|tries) in [\d.]+ s, VICTOR_OTEL_EXIT_TIMEOUT\); \d+ {pieces} lost\.",
            line,
        ), line


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_silent_backend_delays_the_exit_by_the_bound_at_most(protocol: str) -> None:
    with silent_server() as port:
        done = run(
            TIMED,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            VICTOR_OTEL_EXIT_TIMEOUT="0.5",
        )
    assert exit_seconds(done.stderr) < 4
    lines = undelivered(done.stderr)
    for line, pieces in zip(lines, ("data points", "spans"), strict=True):
        assert re.search(
            r": no answer \(1 try in [\d.]+ s, VICTOR_OTEL_EXIT_TIMEOUT\); "
            rf"\d+ {pieces} may be lost\.",
            line,
        ), line


def test_the_console_exporter_writes_to_stderr_and_open_sessions_end_with_the_process() -> None:
    done = run(
        AGENT
        + """
async def leave_open(url):
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint=url)
    agent = await Agent.create(session_config=SessionConfig(provider_override=override))
    await agent.run("Say hi.")
    return agent
with sandbox(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    kept = asyncio.run(leave_open(model.url))
""",
        OTEL_METRICS_EXPORTER="console",
        VICTOR_OTEL_EXIT_TIMEOUT="10",
    )
    assert done.stdout == ""
    metrics = exported(done.stderr)
    assert [point["count"] for point in metrics["victor.session.duration"]] == [1]
    assert [point["sum"] for point in metrics["victor.requests_per_user"]] == [1]
    (session,), (turn,) = (
        metrics["victor.session.duration"],
        metrics["victor.chat.request.duration"],
    )
    assert session["sum"] >= turn["sum"]


def test_an_api_server_that_is_terminated_has_exported_before() -> None:
    program = """
import os, signal, threading, urllib.error, urllib.request
import uvicorn
from victor_otel.demo.sandbox import sandbox

with sandbox():
    from victor.integrations.api.fastapi_server import create_fastapi_app
    server = uvicorn.Server(uvicorn.Config(create_fastapi_app(), port=0, log_level="error"))
    startup = server.startup

    async def started(*args, **kwargs):
        await startup(*args, **kwargs)
        threading.Thread(target=ask).start()

    def ask():
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/nowhere")
        except urllib.error.HTTPError:
            os.kill(os.getpid(), signal.SIGTERM)

    server.startup = started
    server.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment(OTEL_METRICS_EXPORTER="console", VICTOR_OTEL_EXIT_TIMEOUT="10"),
        timeout=120,
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    (point,) = exported(done.stderr)["victor.request.duration"]
    assert (point["count"], point["attributes"]["status"]) == (1, "404")


def test_an_agent_dropped_unclosed_ends_its_session_outside_of_the_finalizer() -> None:
    found = answer(
        AGENT
        + """
import gc
import victor_otel
provider, reader = memory_provider()
victor_otel.start(provider)
async def drop(url):
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint=url)
    await Agent.create(session_config=SessionConfig(provider_override=override))
    gc.collect()
with sandbox(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    asyncio.run(drop(model.url))
values = counts(reader)
print(json.dumps([values["victor.user.sessions"], values["victor.session.duration"]]))
"""
    )
    assert found == [1, 1]


def test_a_forked_child_starts_empty_and_does_not_hold_the_parents_port() -> None:
    found = answer(
        AGENT
        + OWN
        + """
import os
work()
call()
from victor_otel.runtime import RUNTIME
parent = RUNTIME.instrumentation.pipeline
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    call()
    values = scraped()
    told = [
        RUNTIME.instrumentation.pipeline.endpoint != parent.endpoint,
        parent.server.socket.fileno(),
        values["victor_requests_total"],
        values["victor_request_rate"],
        values["victor_provider_latency_seconds_count"],
    ]
    os.write(writer, json.dumps(told).encode())
    os._exit(0)
os.close(writer)
os.waitpid(child, 0)
told = json.loads(os.read(reader, 10_000))
print(json.dumps([told, scraped()["victor_requests_total"]]))
""",
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT="0",
    )
    assert found == [[True, -1, 0, 0, 1], 1]


def test_a_short_process_pushes_deltas_without_gauges_and_serves_nothing() -> None:
    done = run(
        AGENT + "work()",
        OTEL_METRICS_EXPORTER="console,prometheus",
        VICTOR_OTEL_EXIT_TIMEOUT="10",
        VICTOR_OTEL_LIFETIME="short",
        OTEL_EXPORTER_PROMETHEUS_PORT="0",
    )
    assert done.stderr.count("a short-lived process serves no /metrics") == 1
    (resource,) = last_export(done.stderr)
    assert resource["resource"]["attributes"]["victor.process.lifetime"] == "short"
    data = [metric["data"] for scope in resource["scope_metrics"] for metric in scope["metrics"]]
    assert data
    assert {points.get("aggregation_temporality") for points in data} == {1}
    assert all(points.get("is_monotonic", True) for points in data)


def test_a_review_is_a_short_process(tmp_path: Path) -> None:
    diff = tmp_path / "change.diff"
    diff.write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n", encoding="utf-8")
    verdict = Step("The change is right. Task complete.")
    with ScriptedModel({"m": Script([verdict], verdict)}) as model:
        done = victor(
            model.url,
            *("review", "diff", str(diff)),
            codes=(0, 1, 2),  # approved, changes requested, neither
            OTEL_METRICS_EXPORTER="console",
            VICTOR_OTEL_LIFETIME="auto",
            VICTOR_OTEL_EXIT_TIMEOUT="10",
        )
    (resource,) = last_export(done.stderr)
    assert resource["resource"]["attributes"]["victor.process.lifetime"] == "short"
