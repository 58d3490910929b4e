"""How a trace goes on in other processes, and comes in from them.

Only what says which trace it is, and no baggage: that is the application's, and may hold a user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from victor_otel.model.operation import UNSET, Operation
from victor_otel.model.rows import Area, Carries, Target
from victor_otel.victor.areas.interfaces import HTTP_REQUEST
from victor_otel.victor.areas.mcp import ANSWERED
from victor_otel.victor.operations import ONE_SHOT
from victor_otel.victor.values import mapping

_PARENT, _STATE = "TRACEPARENT", "TRACESTATE"
_VARIABLES = {"traceparent": _PARENT, "tracestate": _STATE}
"""As in OpenTelemetry's convention for environment variables."""


def in_message(params: Any, fields: Mapping[str, str]) -> Any:
    """The parameters of an MCP message, with what its `_meta` does not say already."""
    if not isinstance(params, dict):
        return params
    known = cast("dict[str, Any]", params)
    meta = known.get("_meta", {})
    if not isinstance(meta, dict) or not fields.keys().isdisjoint(cast("Any", meta)):
        return known
    return {**known, "_meta": {**cast("dict[str, Any]", meta), **fields}}


def in_environment(given: Any, fields: Mapping[str, str]) -> Any:
    """The environment of a command; a trace that its caller gave it, other than ours, stays."""
    inherits = given is UNSET or given is None
    environment: Any = os.environ if inherits else given
    if environment.get(_PARENT) != os.environ.get(_PARENT):
        return given
    rest = {key: value for key, value in environment.items() if key not in {_PARENT, _STATE}}
    return rest | {_VARIABLES[field]: value for field, value in fields.items()}


def caller(operation: Operation) -> Mapping[str, str]:
    """What the caller of this process sent of its trace.

    The environment counts for a run without a dialogue only: a shell that was told of a trace
    once would have every later conversation in it.
    """
    if operation.type is ANSWERED:
        params = mapping(mapping(operation.argument("message")).get("params"))
        sent = mapping(params.get("_meta"))
        return {name: value for name, value in sent.items() if isinstance(value, str)}
    request = operation.around(HTTP_REQUEST)
    if request is not None and request.operation is not None:
        headers = request.operation.args[0]["headers"]
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if operation.around(ONE_SHOT) is not None:
        known = {field: os.environ.get(name) for field, name in _VARIABLES.items()}
        return {field: value for field, value in known.items() if value}
    return {}


_RUNS = "victor.tools.subprocess_executor"

AREA = Area(
    name="propagation",
    rows=(
        Carries(
            Target("victor.integrations.mcp.client:MCPClient._send_request", arguments=("params",)),
            in_message,
        ),
        Carries(Target(f"{_RUNS}:run_managed_process", arguments=("env",)), in_environment),
        Carries(Target(f"{_RUNS}:run_command", arguments=("env",)), in_environment),
    ),
)
