"""Messages of the Model Context Protocol, sent by Victor's client and answered by its server.

They have spans and no metrics of their own: a tool call by MCP is a request like any other.
"""

from typing import Any, NamedTuple

from victor_otel.model import semconv
from victor_otel.model.operation import UNSET, Operation, OperationType
from victor_otel.model.rows import Area, Begins, Target
from victor_otel.model.span import Attributes, Span, SpanKind
from victor_otel.victor.values import mapping

METHODS = frozenset(
    {"initialize", "ping", "tools/list", "tools/call", "resources/list", "resources/read"}
)
"""Those that Victor sends or answers; any other is its sender's word."""

CALLERS_FAULT = frozenset({-32700, -32600, -32601, -32602, -32002})
"""JSON-RPC codes for what the sender did wrong; the last is Victor's, for before `initialize`."""


class Message(NamedTuple):
    """A message and its answer."""

    status: str
    code: str = ""
    """The code of a JSON-RPC error."""
    error_type: str = ""


SENT = OperationType("mcp_sent", Message)
ANSWERED = OperationType("mcp_answered", Message)


def read_sent(message: Operation) -> Message:
    """Victor's client turns what fails on the way into no answer."""
    if message.result is None:
        return Message("failure", error_type="no_response")
    return _read(message)


def read_answered(message: Operation) -> Message:
    known = _read(message)
    code = mapping(mapping(message.result).get("error")).get("code")
    return known._replace(status="rejected") if code in CALLERS_FAULT else known


def _read(message: Operation) -> Message:
    answer = mapping(None if message.result is UNSET else message.result)
    code = mapping(answer.get("error")).get("code")
    if isinstance(code, int):
        return Message("failure", str(code), str(code))
    failed = mapping(answer.get("result")).get("isError") is True
    return Message("failure", error_type="tool_error") if failed else Message(message.status)


def expect_sent(message: Operation) -> Attributes:
    known = [getattr(tool, "name", None) for tool in getattr(message.instance, "tools", ())]
    return _expected(message.argument("method"), message.argument("params"), known)


def expect_answered(message: Operation) -> Attributes:
    given = mapping(message.argument("message"))
    registry = getattr(message.instance, "tool_registry", None)
    name = mapping(given.get("params")).get("name")
    known = isinstance(name, str) and registry is not None and registry.get(name) is not None
    return _expected(given.get("method"), given.get("params"), [name] if known else [])


def _expected(method: Any, params: Any, tools: list[Any]) -> Attributes:
    """A tool is named if it is known: a name that is not is whatever a model came up with."""
    method = getattr(method, "value", method)
    attributes: dict[str, Any] = {semconv.MCP_METHOD: method if method in METHODS else "other"}
    if method == "tools/call":
        name = mapping(params).get("name")
        attributes[semconv.OPERATION_NAME] = "execute_tool"
        attributes[semconv.TOOL_NAME] = name if name in tools else "unknown"
    return attributes


_NAMED = (semconv.MCP_METHOD, semconv.TOOL_NAME)
_FACTS = {"code": semconv.RPC_STATUS_CODE}

AREA = Area(
    name="mcp",
    rows=(
        Begins(
            SENT,
            Target(
                "victor.integrations.mcp.client:MCPClient._send_request",
                arguments=("method", "params"),
            ),
            read=read_sent,
        ),
        Begins(
            ANSWERED,
            Target(
                "victor.integrations.mcp.server:MCPServer.handle_message", arguments=("message",)
            ),
            read=read_answered,
        ),
    ),
    spans=(
        Span(SENT, named=_NAMED, kind=SpanKind.CLIENT, expect=expect_sent, facts=_FACTS),
        Span(ANSWERED, named=_NAMED, kind=SpanKind.SERVER, expect=expect_answered, facts=_FACTS),
    ),
)
