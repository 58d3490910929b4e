"""Backends of spans, and what they show; and a process that plays sessions and exports their spans.

`python -m tests.stack.traces` exports as its environment says, and prints the trees that must
be seen: that of the demo and that of `tests.kit.whole_session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import victor_otel
from tests.kit import whole_session
from tests.kit.processes import answer as answer_of
from tests.kit.tree import Conversation, Node, Seen, of_demo
from tests.stack.processes import HOST, answer, free_ports, program, running
from victor_otel import demo

SERVICE = "garden"
PATIENCE = 400
"""Seconds for the sessions, of which each agent takes some to be made; more on a busy machine."""


class Backend(NamedTuple):
    """A running backend: its pages and API, and where it takes OTLP over HTTP."""

    url: str
    otlp: str


# Jaeger


@contextlib.contextmanager
def jaeger() -> Iterator[Backend]:
    """Run Jaeger, which keeps its spans in memory."""
    names = ("query.http-server", "query.grpc-server", "collector.otlp.http", "collector.otlp.grpc")
    names += ("collector.http-server", "collector.grpc-server", "admin.http")
    ports = free_ports(len(names))
    command = [
        program("jaeger"),
        *(f"--{name}.host-port={HOST}:{port}" for name, port in zip(names, ports, strict=True)),
    ]
    url, otlp = f"http://{HOST}:{ports[0]}", f"http://{HOST}:{ports[2]}/v1/traces"
    with (
        tempfile.TemporaryDirectory(prefix="jaeger-") as folder,
        running(command, Path(folder), url, 30),
    ):
        yield Backend(url, otlp)


def in_jaeger(backend: Backend) -> list[Seen]:
    """All spans that its query API gives."""
    asked = urlencode({"service": SERVICE, "limit": 1000})
    traces = answer(f"{backend.url}/api/traces?{asked}")["data"]
    return [_of_jaeger(span) for trace in traces for span in trace["spans"]]


def _of_jaeger(span: Mapping[str, Any]) -> Seen:
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    assert tags.get("error", False) is (tags.get("otel.status_code") == "ERROR")
    above = [each["spanID"] for each in span["references"] if each["refType"] == "CHILD_OF"]
    return Seen(
        id=span["spanID"],
        parent="".join(above),
        begun=span["startTime"],
        name=span["operationName"],
        kind=tags["span.kind"],
        is_error=tags.get("error", False),
        attributes=tags,
    )


# Phoenix


@contextlib.contextmanager
def phoenix() -> Iterator[Backend]:
    """Run Phoenix on a database of its own."""
    http, grpc = free_ports(2)
    url = f"http://{HOST}:{http}"
    with tempfile.TemporaryDirectory(prefix="phoenix-") as folder:
        settings = {
            "PHOENIX_HOST": HOST,
            "PHOENIX_PORT": str(http),
            "PHOENIX_GRPC_PORT": str(grpc),
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        command = [program("phoenix"), "serve"]
        with running(command, Path(folder), f"{url}/healthz", 240, settings):
            yield Backend(url, f"{url}/v1/traces")


def in_phoenix(backend: Backend) -> list[Seen]:
    """All spans that its API gives."""
    return list(map(_of_phoenix, _spans_in_phoenix(backend)))


def page_in_phoenix(backend: Backend, name: str) -> str:
    """The page with the trace that has a span of that name."""
    traces = {
        span["context"]["trace_id"] for span in _spans_in_phoenix(backend) if span["name"] == name
    }
    (trace,) = traces
    (project,) = answer(f"{backend.url}/v1/projects")["data"]
    return f"{backend.url}/projects/{project['id']}/traces/{trace}"


def _spans_in_phoenix(backend: Backend) -> list[dict[str, Any]]:
    page = answer(f"{backend.url}/v1/projects/default/spans?limit=1000")
    assert page["next_cursor"] is None
    return page["data"]


def _of_phoenix(span: Mapping[str, Any]) -> Seen:
    begun = datetime.fromisoformat(span["start_time"])
    return Seen(
        id=span["context"]["span_id"],
        parent=span["parent_id"] or "",
        begun=round(begun.timestamp() * 1e6),
        name=span["name"],
        kind=span["span_kind"],
        is_error=span["status_code"] == "ERROR",
        attributes=span["attributes"],
    )


_PHOENIX_KINDS = {
    "invoke_agent": "AGENT",
    "chat": "LLM",
    "execute_tool": "TOOL",
    "tools/call": "TOOL",
}


def as_phoenix_has_it(node: Node) -> Node:
    """With the kinds that Phoenix makes of the operations: its icons."""
    kind = _PHOENIX_KINDS.get(node.name.partition(" ")[0], "UNKNOWN")
    return node._replace(kind=kind, below=tuple(map(as_phoenix_has_it, node.below)))


# The sessions


def played(otlp: str) -> list[Conversation]:
    """Plays in a process that exports its spans there; what must be seen of it."""
    told = answer_of(
        "from tests.stack.traces import main; main()",
        timeout=PATIENCE,
        OTEL_SERVICE_NAME=SERVICE,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=otlp,
        NO_PROXY=HOST,
    )
    return sorted(tuple(map(_read, turns)) for turns in told)


def _read(written: list[Any]) -> Node:
    node = Node(*written)
    return node._replace(below=tuple(map(_read, node.below)), tokens=tuple(node.tokens))


def main() -> None:
    scenario = demo.Scenario(agents=2)
    scripts = {**scenario.scripts, whole_session.MODEL: whole_session.SCRIPT}
    with demo.sandbox(), demo.ScriptedModel(scripts) as served:
        victor_otel.start()
        with contextlib.redirect_stdout(sys.stderr):
            expected = asyncio.run(_both(served, scenario))
    print(json.dumps(expected), flush=True)


async def _both(served: demo.ScriptedModel, scenario: demo.Scenario) -> Iterable[Conversation]:
    ledger = demo.Ledger(served)
    whole = await asyncio.create_task(whole_session.play(served))
    others = served.answers
    await demo.run_session(served.url, ledger, scenario)
    assert ledger.problems() == []
    return [whole, *of_demo(scenario, served.answers[len(others) :])]
