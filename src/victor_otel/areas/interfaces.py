"""The doors through which users come: HTTP API, MCP server, terminal interface.

An HTTP request that ran a chat turn is the request that the turn is; its status is the
turn's, since `/chat` answers 200 although the provider was down.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from victor_otel import labels
from victor_otel.scope import ONE_SHOT
from victor_otel.shared import (
    ERRORS,
    FEATURES,
    REQUEST,
    REQUEST_FEEDS,
    TERMINAL,
    error_type,
    last_turn,
    record_error,
    record_request,
)
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Record, Scope, mapping

REQUEST_DURATION = Metric(
    name="victor.request.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="HTTP requests to the API server, to the end of their responses",
    labels=(labels.ENDPOINT, labels.HTTP_STATUS, labels.METHOD),
    buckets=(
        *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
        *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    ),
    guide=True,
)

HTTP_REQUEST = Scope(name="http_request", outermost=True)

_NO_WORK = frozenset({"/health", "/status", "/docs", "/redoc", "/openapi.json"})
_CLIENT_LEFT = 499
_CALLERS_FAULT = (-32002, -32602)
"""JSON-RPC codes of Victor's MCP server for a call before `initialize`, or without a name."""


def is_http(call: Call) -> bool:
    return call.args[0]["type"] == "http"


def is_work(call: Call) -> bool:
    """Health, status, documentation and OPTIONS requests are no requests of a user."""
    scope = call.args[0]
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    quiet = path in _NO_WORK or path.startswith(("/health/", "/docs/"))
    return is_http(call) and not quiet and scope.get("method") != "OPTIONS"


def status_code(call: Call) -> int:
    """The code sent; 499 if the client left before the end, 500 if the handler raised."""
    response = call.result
    if call.status == "cancelled" or (response.disconnected and not response.finished):
        return _CLIENT_LEFT
    if call.error is not None:
        return 500
    return response.status or 500


def observe_http(call: Call, record: Record) -> None:
    scope = call.args[0]
    code = status_code(call)
    record(
        REQUEST_DURATION,
        call.elapsed,
        endpoint=_template(scope) or "unmatched",
        status=str(code),
        method=scope.get("method"),
    )


def _template(scope: Any) -> str | None:
    """The matched route's path; only FastAPI's own routes say which one it was."""
    if (route := scope.get("route")) is not None:
        return getattr(route, "path", None)
    endpoint = scope.get("endpoint")
    routes: Any = getattr(scope.get("app"), "routes", ())
    paths = (route.path for route in routes if getattr(route, "endpoint", None) is endpoint)
    return next(paths, None) if endpoint is not None else None


def observe_http_request(call: Call, record: Record) -> None:
    turn = last_turn(call)
    code = status_code(call)
    record_request(record, call, turn.status if turn is not None else _status_of(code))
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR and not call.failures:
        kind = str(code) if call.error is None else error_type(call.error)
        record_error(record, "api", kind)


def _status_of(code: int) -> str:
    if code == _CLIENT_LEFT:
        return "cancelled"
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "failure"
    return "rejected" if code >= HTTPStatus.BAD_REQUEST else "success"


def is_tool_call(call: Call) -> bool:
    return mapping(call.argument("message", 0)).get("method") == "tools/call"


def observe_mcp_request(call: Call, record: Record) -> None:
    record(FEATURES, feature="mcp")
    answer = mapping(call.result)
    refused = mapping(answer.get("error"))
    failed = bool(refused) or bool(mapping(answer.get("result")).get("isError"))
    turn = last_turn(call)
    status = call.status if turn is None else turn.status
    if status == "success" and failed:
        status = "rejected" if refused.get("code") in _CALLERS_FAULT else "failure"
    record_request(record, call, status)
    if refused and status == "failure" and not call.failures:
        record_error(record, "mcp", str(refused.get("code")))


def client(call: Call) -> str | None:
    """The client that a valid API key stands for; None without authentication."""
    return call.result if isinstance(call.result, str) else None


def observe_mcp_client(_call: Call, record: Record) -> None:
    record(FEATURES, feature="mcp")


_API = "victor.integrations.api.fastapi_server:VictorFastAPIServer"
_SERVER = f"{_API}._setup_routes"
_MCP = "victor.integrations.mcp.server:MCPServer"

AREA = Area(
    name="interfaces",
    metrics=(REQUEST_DURATION,),
    hooks=(
        # The server bootstraps Victor's plugins, and so us, inside its own constructor;
        # the routes are set up after that.
        Hook(target=_SERVER, opens=True),
        Hook(target=_SERVER, asgi="app", interface="api"),
        Hook(
            target=_SERVER,
            asgi="app",
            scope=HTTP_REQUEST,
            when=is_http,
            interface="api",
            observe=observe_http,
            feeds=(REQUEST_DURATION,),
        ),
        Hook(
            target=_SERVER,
            asgi="app",
            scope=REQUEST,
            when=is_work,
            interface="api",
            observe=observe_http_request,
            feeds=(*REQUEST_FEEDS, ERRORS),
        ),
        Hook(target=f"{_API}._verify_api_key", part="client", of=REQUEST, digest=client),
        Hook(target=f"{_MCP}.handle_message", interface="mcp", opens=True),
        Hook(
            target=f"{_MCP}.handle_message",
            scope=REQUEST,
            when=is_tool_call,
            interface="mcp",
            observe=observe_mcp_request,
            feeds=(*REQUEST_FEEDS, FEATURES, ERRORS),
        ),
        Hook(
            target="victor.integrations.mcp.client:MCPClient.call_tool",
            observe=observe_mcp_client,
            feeds=(FEATURES,),
        ),
        Hook(target="victor.ui.commands.chat:run_oneshot", scope=ONE_SHOT),
        Hook(target="victor.ui.commands.review:_run_review", scope=ONE_SHOT, since="0.10"),
        Hook(target="victor.ui.tui.app:VictorTUIApp.run_async", interface="tui", needs=TERMINAL),
    ),
)
