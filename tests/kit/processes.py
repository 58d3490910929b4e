"""Python programs in processes of their own, where what is global can be tested."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tools.paths import ROOT

_OURS = ("OTEL_", "VICTOR_")


AGENT = """
import asyncio, json, logging, sys, urllib.request
logging.basicConfig(level=logging.WARNING)
from victor_otel.demo.sandbox import sandbox
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

async def use(url, prompt="Say hi."):
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint=url)
    agent = await Agent.create(session_config=SessionConfig(provider_override=override))
    await agent.run(prompt)
    await agent.close()

def work():
    with sandbox(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
        asyncio.run(use(model.url))

def memory_provider():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    return MeterProvider([reader]), reader

def counts(reader):
    data = reader.get_metrics_data()
    return {
        metric.name: sum(getattr(point, "count", getattr(point, "value", 0)) for point in metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }

def scraped():
    from victor_otel.runtime import RUNTIME
    from prometheus_client.parser import text_string_to_metric_families
    endpoint = RUNTIME.instrumentation.pipeline.endpoint
    text = urllib.request.urlopen(endpoint).read().decode()
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0) + sample.value
    return values
"""
"""What programs share: `work()` is one turn of one real agent."""

OWN = """
import asyncio
from victor.providers.base import BaseProvider, CompletionResponse

class Own(BaseProvider):
    name = "own"

    async def chat(self, messages, *, model, **kwargs):
        return CompletionResponse(content="hi", role="assistant", model=model)

    async def stream(self, messages, *, model, **kwargs):
        yield

    async def close(self): ...

def call(model="m"):
    asyncio.run(Own().chat([], model=model))
"""
"""The same for `call()`, one call of a provider that needs no network, and survives a fork."""


MCP_SERVER = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.kit.interfaces import mcp_server, own_tools
asyncio.run(mcp_server(*own_tools()).start_stdio_server())
"""
"""A program that serves tools by MCP. It loads no plugins, and so records nothing."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without anything that configures us, plus `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def run(
    program: str, *arguments: str, timeout: float = 120, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs `program`; a failure shows what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}{done.stdout}"
    return done


def answer(program: str, *arguments: str, timeout: float = 120, **variables: str) -> Any:
    """What `program` printed last, as JSON."""
    done = run(program, *arguments, timeout=timeout, **variables)
    return json.loads(done.stdout.splitlines()[-1])


def victor(
    model: str, *arguments: str, given: str = "", codes: tuple[int, ...] = (0,), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs Victor's own command line, with `given` on its standard input, to one of `codes`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.victor_cli", model, *arguments],
        input=given,
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=120,
        check=False,
    )
    assert done.returncode in codes, f"ended with {done.returncode}: {done.stderr}"
    return done


def last_export(stderr: str) -> list[dict[str, Any]]:
    """The console exporter's last export: its resources, and their metrics."""
    _, _, last = stderr.rpartition('{\n    "resource_metrics"')
    document, _ = json.JSONDecoder().raw_decode('{"resource_metrics"' + last)
    return document["resource_metrics"]


def exported(stderr: str) -> dict[str, list[dict[str, Any]]]:
    """The data points of the console exporter's last export, by metric name."""
    return {
        metric["name"]: metric["data"]["data_points"]
        for resource in last_export(stderr)
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    """A port that nothing listens on, and that stays so for whoever is told of it.

    The system gives a port that is bound to nobody who asks for any. Who asks for this one gets
    it, as servers do with SO_REUSEADDR.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _KEPT.append(kept)
    return kept.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """Several of them."""
    return [free_port() for _ in range(count)]


_KEPT: list[socket.socket] = []
