"""The parts of Victor beside its agents: workflows, and the HTTP API where FastAPI is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from victor_otel.demo.ledger import Ledger
from victor_otel.demo.victor_parts import part

WORKFLOW = "demo-report"

State = Mapping[str, Any]


async def run_workflows(ledger: Ledger) -> None:
    """Run one workflow twice: to its end, and into an error that Victor keeps to itself."""

    async def write(state: State) -> State:
        return {**state, "written": True}

    async def stumble(state: State) -> State:
        message = f"nothing to write about {len(state)} things"
        raise ValueError(message)

    for work, status in ((write, "success"), (stumble, "failure")):
        await _workflow(work).invoke({"subject": "demo"})
        ledger.workflow_ended(WORKFLOW, status)


def _workflow(work: Callable[[State], Awaitable[State]]) -> Any:
    graph = part("victor.framework.graph", "StateGraph")(dict)
    graph.add_node("work", work)
    graph.set_entry_point("work")
    graph.add_edge("work", part("victor.framework.graph", "END"))
    named = part("victor.workflows.unified_compiler", "CachedCompiledGraph")
    return named(compiled_graph=graph.compile(), workflow_name=WORKFLOW)


async def call_api(ledger: Ledger) -> None:
    """Ask Victor's API server, in this process, for its health and for a page it does not have.

    Neither runs a chat turn: for that the server would need a configured provider.
    """
    if not all(map(importlib.util.find_spec, ("fastapi", "httpx", "uvicorn"))):
        return
    httpx = importlib.import_module("httpx")
    app = part("victor.integrations.api.fastapi_server", "create_fastapi_app")()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
        for path, endpoint in (("/health", "/health"), ("/no-such-page", "unmatched")):
            answer = await client.get(path)
            ledger.http_answered(endpoint, answer.status_code, "GET")
