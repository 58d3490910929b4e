"""Victor's interfaces, and clients of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from victor_otel.demo.model import ScriptedModel

ASK = "Read the file and tell me what it says."


Points = dict[tuple[Any, ...], float]


def point(name: str, value: float = 1, **labels: str) -> Points:
    return {(name, *sorted(labels.items())): value}


def server(served: ScriptedModel | None = None, **options: Any) -> Any:
    """Victor's API server, whose agent follows the script `m`."""
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    from victor.integrations.api.fastapi_server import VictorFastAPIServer

    url = served.url if served is not None else "http://127.0.0.1:9/v1"
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint=url)
    return VictorFastAPIServer(
        session_config=SessionConfig(provider_override=override), enable_graphql=False, **options
    )


@contextlib.asynccontextmanager
async def client(api: Any, key: str = "") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=api.app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api", headers=headers
    ) as connected:
        yield connected
    if api._victor_client is not None:
        await api._victor_client.close()


CHAT: Mapping[str, Any] = {"messages": [{"role": "user", "content": ASK}]}


class Sent:
    def __init__(self) -> None:
        self.status = 0
        self.body = b""


async def connect(
    app: Any,
    path: str,
    *,
    method: str = "POST",
    body: Mapping[str, Any] = CHAT,
    leave_after: bytes | None = None,
    spec_version: str = "2.3",
) -> Sent:
    """One request as a server passes it on; the client leaves after it has read `leave_after`."""
    sent, left = Sent(), asyncio.Event()
    messages: list[Any] = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if left.is_set() and spec_version >= "2.4":
            raise OSError("the client has left")
        if message["type"] == "http.response.start":
            sent.status = message["status"]
        else:
            sent.body += message.get("body", b"")
        if leave_after is not None and leave_after in sent.body:
            left.set()

    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"api"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        },
        receive,
        send,
    )
    return sent


async def websocket(app: Any, *messages: Mapping[str, Any]) -> list[Any]:
    """Sends the messages to `/ws` one by one, each after the answer to the one before."""
    answers: list[Any] = []
    waiting = [{"type": "websocket.connect"}]
    waiting += [{"type": "websocket.receive", "text": json.dumps(one)} for one in messages]
    waiting.append({"type": "websocket.disconnect", "code": 1000})

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            answers.append(json.loads(message["text"]))

    await app(
        {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/ws",
            "raw_path": b"/ws",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"api")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "subprotocols": [],
        },
        receive,
        send,
    )
    return answers


def mcp_server(*tools: Any, initialized: bool = True) -> Any:
    from victor.integrations.mcp.server import MCPServer
    from victor.tools.registry import ToolRegistry

    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    served = MCPServer(tool_registry=registry)
    served.initialized = initialized
    return served


def own_tools() -> Sequence[Any]:
    from victor.tools.decorators import tool

    @tool
    async def water(plant: str) -> str:
        """Waters.

        Args:
            plant: What to water.
        """
        return f"{plant} is wet"

    @tool
    async def dig(place: str) -> str:
        """Digs.

        Args:
            place: Where to dig.
        """
        raise LookupError("no spade")

    return water, dig


def call(tool: str | None, **arguments: Any) -> dict[str, Any]:
    params = {"arguments": arguments, **({"name": tool} if tool is not None else {})}
    return {"jsonrpc": "2.0", "id": "1", "method": "tools/call", "params": params}


def message(method: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "1", "method": method, "params": {}}
