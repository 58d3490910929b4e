"""MCP: messages of the Model Context Protocol that Victor's client sent and its server answered.

A tool call by MCP is a request like any other, and is counted as one as well. A message that its
sender got wrong is no error of the server, so there it has a status code and no `error.type`.

A session of the client begins with `initialize`, and ends when Victor gives the connection up. The
server's is a session of a user: sessions.py.
"""

import weakref
from time import perf_counter
from typing import Any, NamedTuple

from victor_otel.engine import failsafe
from victor_otel.model import semconv
from victor_otel.model.metric import Histogram, Record
from victor_otel.model.operation import UNSET, Operation, OperationType
from victor_otel.model.rows import Area, Begins, Observes, Target
from victor_otel.model.span import Attributes, Span, SpanKind
from victor_otel.victor import labels
from victor_otel.victor.values import mapping

CALLERS_FAULT = frozenset({-32700, -32600, -32601, -32602, -32002})
"""JSON-RPC codes for what the sender did wrong; the last is Victor's, for before `initialize`."""


class Message(NamedTuple):
    """A message and its answer."""

    method: str
    """`other` for one that Victor neither sends nor answers: it is its sender's word."""
    tool: str = ""
    """Of a call of a tool; `unknown` for whatever name a model came up with."""
    status: str = ""
    code: str = ""
    """The code of a JSON-RPC error."""
    error_type: str = ""

    @property
    def operation_name(self) -> str:
        return "execute_tool" if self.tool else ""


SENT = OperationType("mcp_sent", Message)
ANSWERED = OperationType("mcp_answered", Message)

_LABELS = (
    labels.MCP_METHOD,
    labels.MCP_OPERATION,
    labels.MCP_TOOL,
    labels.MCP_STATUS_CODE,
    labels.GENAI_ERROR,
)
CLIENT_DURATION = Histogram(
    semconv.MCP_CLIENT_DURATION,
    "Duration of a message to an MCP server, until its answer",
    unit="s",
    labels=_LABELS,
    buckets=semconv.MCP_SECONDS,
    of=SENT,
    value="elapsed",
)
SERVER_DURATION = Histogram(
    semconv.MCP_SERVER_DURATION,
    "Duration of a message to Victor's MCP server, until its answer is made",
    unit="s",
    labels=_LABELS,
    buckets=semconv.MCP_SECONDS,
    of=ANSWERED,
    value="elapsed",
)
CLIENT_SESSION = Histogram(
    semconv.MCP_CLIENT_SESSION,
    "Duration of a session with an MCP server, from its `initialize` until the connection is given "
    "up or lost",
    unit="s",
    labels=(labels.GENAI_ERROR,),
    buckets=semconv.MCP_SECONDS,
)


def expect_sent(message: Operation) -> Message:
    known = [getattr(tool, "name", None) for tool in getattr(message.instance, "tools", ())]
    return _expected(message.argument("method"), message.argument("params"), known)


def expect_answered(message: Operation) -> Message:
    given = mapping(message.argument("message"))
    registry = getattr(message.instance, "tool_registry", None)
    name = mapping(given.get("params")).get("name")
    known = isinstance(name, str) and registry is not None and registry.get(name) is not None
    return _expected(given.get("method"), given.get("params"), [name] if known else [])


def _expected(method: Any, params: Any, tools: list[Any]) -> Message:
    method = getattr(method, "value", method)
    if method == "tools/call":
        name = mapping(params).get("name")
        return Message(method, name if isinstance(name, str) and name in tools else "unknown")
    return Message(method if method in labels.MCP_METHOD.values else "other")


def read_sent(message: Operation) -> Message:
    """Victor's client turns what fails on the way into no answer."""
    if message.result is None:
        asked: Message = message.facts
        return asked._replace(status="failure", error_type="no_response")
    return _read(message)


def read_answered(message: Operation) -> Message:
    known = _read(message)
    code = mapping(mapping(message.result).get("error")).get("code")
    return known._replace(status="rejected") if code in CALLERS_FAULT else known


def _read(message: Operation) -> Message:
    asked: Message = message.facts
    answer = mapping(None if message.result is UNSET else message.result)
    code = mapping(answer.get("error")).get("code")
    if isinstance(code, int):
        return asked._replace(status="failure", code=str(code), error_type=str(code))
    if mapping(answer.get("result")).get("isError") is True:
        return asked._replace(status="failure", error_type="tool_error")
    return asked._replace(status=message.status)


def expect_span(message: Operation) -> Attributes:
    asked: Message = message.facts
    return {
        semconv.MCP_METHOD: asked.method,
        semconv.OPERATION_NAME: asked.operation_name,
        semconv.TOOL_NAME: asked.tool,
    }


class Sessions:
    """The open sessions of Victor's clients.

    A client may be closed more than once, and by several functions: the first of them counts.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[float, weakref.ref[Any]]] = {}

    def observe_initialize(self, call: Operation, record: Record) -> None:
        client, key = call.instance, id(call.instance)
        if call.result is True and client.initialized:
            dropped = weakref.ref(client, lambda _: self._drop(key, record))
            self._open.setdefault(key, (call.started, dropped))

    def observe_end(self, call: Operation, record: Record) -> None:
        self._end(id(call.instance), call.started, "", record)

    def observe_message(self, message: Operation, record: Record) -> None:
        """Victor's client gives up a connection on which it got no answer."""
        client = message.instance
        if not client.initialized and client._running:  # else it is being closed
            self._end(id(client), message.end, message.failed_with, record)

    def end_all(self, record: Record) -> None:
        """The process ends, and with it every session."""
        for key in list(self._open):
            self._end(key, perf_counter(), "", record)

    def _drop(self, key: int, record: Record) -> None:
        if (session := self._open.pop(key, None)) is not None:
            failsafe.defer(self._record, perf_counter() - session[0], "", record)

    def _end(self, key: int, moment: float, error: str, record: Record) -> None:
        if (session := self._open.pop(key, None)) is not None:
            self._record(moment - session[0], error, record)

    @staticmethod
    def _record(seconds: float, error: str, record: Record) -> None:
        record(CLIENT_SESSION, seconds, **{semconv.ERROR_TYPE: error})


_CLIENT = "victor.integrations.mcp.client:MCPClient"
_ENDS = ("disconnect", "_cleanup_internal", "_cleanup_process_async")
"""The last one is for a new connection. A destructor closes by others, and must not be wrapped."""
_NAMED = (semconv.MCP_METHOD, semconv.TOOL_NAME)
_FACTS = {"code": semconv.RPC_STATUS_CODE}

AREA = Area(
    name="mcp",
    metrics=(CLIENT_DURATION, SERVER_DURATION, CLIENT_SESSION),
    rows=(
        Begins(
            SENT,
            Target(f"{_CLIENT}._send_request", arguments=("method", "params")),
            at_start=expect_sent,
            read=read_sent,
        ),
        Begins(
            ANSWERED,
            Target(
                "victor.integrations.mcp.server:MCPServer.handle_message", arguments=("message",)
            ),
            at_start=expect_answered,
            read=read_answered,
        ),
        Observes(
            Target(f"{_CLIENT}.initialize"), Sessions.observe_initialize, feeds=(CLIENT_SESSION,)
        ),
        Observes(SENT, Sessions.observe_message, feeds=(CLIENT_SESSION,)),
        *(
            Observes(Target(f"{_CLIENT}.{method}"), Sessions.observe_end, feeds=(CLIENT_SESSION,))
            for method in _ENDS
        ),
    ),
    spans=(
        Span(SENT, named=_NAMED, kind=SpanKind.CLIENT, expect=expect_span, facts=_FACTS),
        Span(ANSWERED, named=_NAMED, kind=SpanKind.SERVER, expect=expect_span, facts=_FACTS),
    ),
    state=Sessions,
    at_exit=Sessions.end_all,
)
