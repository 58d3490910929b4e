"""The interfaces that users reach Victor through: HTTP API, MCP server, terminal.

An HTTP request that ran a chat turn is the same request as the turn. Its status is that of the
turn, because `/chat` answers 200 even when the provider failed.
"""

from http import HTTPStatus
from typing import Any, NamedTuple

from victor_otel.model.metric import Histogram
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Binds, Feeds, Observes, Target, Tells
from victor_otel.victor import labels
from victor_otel.victor.operations import ONE_SHOT, REQUEST, TERMINAL, Request, Turn
from victor_otel.victor.outcomes import error_type
from victor_otel.victor.shared import FEATURES, read_request, used
from victor_otel.victor.values import mapping


class HttpRequest(NamedTuple):
    """An HTTP request to Victor's API server."""

    endpoint: str
    status: str
    method: object
    seconds: float


HTTP_REQUEST = OperationType("http_request", HttpRequest, outermost=True)

REQUEST_DURATION = Histogram(
    "victor.request.duration",
    "Duration of an HTTP request to the API server, until the end of its response",
    unit="s",
    labels=(labels.ENDPOINT, labels.HTTP_STATUS, labels.METHOD),
    buckets=(
        *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
        *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    ),
    guide=True,
    of=HTTP_REQUEST,
    value="seconds",
)

_NO_WORK = frozenset({"/health", "/status", "/docs", "/redoc", "/openapi.json"})
_CLIENT_LEFT = 499
_CALLERS_FAULT = (-32002, -32602)
"""JSON-RPC codes of Victor's MCP server for a call before `initialize`, or without a name."""


def is_http(call: Operation) -> bool:
    return call.args[0]["type"] == "http"


def is_work(call: Operation) -> bool:
    """Health, status, documentation and OPTIONS requests are no requests of a user."""
    scope = call.args[0]
    path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
    quiet = path in _NO_WORK or path.startswith(("/health/", "/docs/"))
    return is_http(call) and not quiet and scope.get("method") != "OPTIONS"


def status_code(call: Operation) -> int:
    """The code sent; 499 if the client left before the end, 500 if the handler raised."""
    response = call.result
    if call.status == "cancelled" or (response.disconnected and not response.finished):
        return _CLIENT_LEFT
    if call.error is not None:
        return 500
    return response.status or 500


def read_http(request: Operation) -> HttpRequest:
    scope = request.args[0]
    return HttpRequest(
        endpoint=_template(scope) or "unmatched",
        status=str(status_code(request)),
        method=scope.get("method"),
        seconds=request.elapsed,
    )


def _template(scope: Any) -> str | None:
    """The matched route's path; only FastAPI's own routes say which one it was."""
    if (route := scope.get("route")) is not None:
        return getattr(route, "path", None)
    endpoint = scope.get("endpoint")
    routes: Any = getattr(scope.get("app"), "routes", ())
    paths = (route.path for route in routes if getattr(route, "endpoint", None) is endpoint)
    return next(paths, None) if endpoint is not None else None


def read_api_request(request: Operation) -> Request:
    turn: Turn | None = request.last_told("turn")
    code = status_code(request)
    failed = code >= HTTPStatus.INTERNAL_SERVER_ERROR and not request.failures
    kind = str(code) if request.error is None else error_type(request.error)
    clients = request.told("client")
    return Request(
        status=_status_of(code) if turn is None else turn.status,
        user=clients[-1] if clients else None if turn is None else turn.user,
        component="api",
        error_type=kind if failed else "",
    )


def _status_of(code: int) -> str:
    if code == _CLIENT_LEFT:
        return "cancelled"
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "failure"
    return "rejected" if code >= HTTPStatus.BAD_REQUEST else "success"


def is_tool_call(call: Operation) -> bool:
    return mapping(call.argument("message")).get("method") == "tools/call"


def read_mcp_request(request: Operation) -> Request:
    answer = mapping(request.result)
    refused = mapping(answer.get("error"))
    failed = bool(refused) or bool(mapping(answer.get("result")).get("isError"))
    known = read_request(request)
    status = known.status
    if status == "success" and failed:
        status = "rejected" if refused.get("code") in _CALLERS_FAULT else "failure"
    arose = refused and status == "failure" and not request.failures
    return known._replace(
        status=status,
        component="mcp",
        error_type=str(refused.get("code")) if arose else "",
        mcp=True,
    )


def client(key: object) -> str | None:
    """The client that a valid API key stands for; None without authentication."""
    return key if isinstance(key, str) else None


_API = "victor.integrations.api.fastapi_server:VictorFastAPIServer"
_ROUTES = f"{_API}._setup_routes"
_SERVED = Target(_ROUTES, asgi="app")
_MESSAGE = Target("victor.integrations.mcp.server:MCPServer.handle_message", arguments=("message",))

AREA = Area(
    name="interfaces",
    metrics=(REQUEST_DURATION,),
    rows=(
        # The server bootstraps Victor's plugins, and so us, inside its own constructor;
        # the routes are set up after that.
        Binds(Target(_ROUTES), opens=True),
        Binds(_SERVED, interface="api"),
        Begins(HTTP_REQUEST, _SERVED, when=is_http, read=read_http),
        Begins(REQUEST, _SERVED, when=is_work, read=read_api_request),
        Tells(REQUEST, "client", Target(f"{_API}._verify_api_key"), read=client),
        Binds(_MESSAGE, interface="mcp", opens=True),
        Begins(REQUEST, _MESSAGE, when=is_tool_call, read=read_mcp_request),
        Feeds(REQUEST, FEATURES, when="mcp", labels={"feature": "mcp"}),
        Observes(
            Target("victor.integrations.mcp.client:MCPClient.call_tool"),
            used("mcp"),
            feeds=(FEATURES,),
        ),
        Begins(ONE_SHOT, Target("victor.ui.commands.chat:run_oneshot")),
        Begins(ONE_SHOT, Target("victor.ui.commands.review:_run_review", since="0.10")),
        Binds(Target("victor.ui.tui.app:VictorTUIApp.run_async", needs=TERMINAL), interface="tui"),
    ),
)
