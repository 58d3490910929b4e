"""Tools: every call that the model made, whether it ran, and how it ended.

A call passes through up to three levels: the pipeline, an executor or registry, the tool
itself; retries repeat the lower ones. It counts once, as seen from the outermost level,
which alone knows of timeouts. It ran if the tool itself was entered.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from victor_otel import labels
from victor_otel.shared import (
    CACHE_REQUESTS,
    ERRORS,
    TOOL_BATCH,
    TOOL_CALL,
    WITHHELD,
    error_type,
    record_error,
)
from victor_otel.spec import UNSET, Area, Call, Context, Hook, Kind, Metric, Part, Record, mapping

EXECUTIONS = Metric(
    name="victor.tool.executions",
    kind=Kind.COUNTER,
    meaning="Tool calls that ran",
    labels=(labels.TOOL, labels.STATUS, labels.VERTICAL, labels.MODE),
    siblings=(labels.STATUS,),
    guide=True,
)
DURATION = Metric(
    name="victor.tool.execution.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="First entry to last exit of the tool itself, without waiting for a human",
    labels=(labels.TOOL, labels.VERTICAL, labels.STATUS),
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0),
    guide=True,
)
SUCCESS_RATE = Metric(
    name="victor.tool.success_rate",
    kind=Kind.RATIO,
    meaning="Share of tool calls that succeeded over the last 5 minutes of this process",
    labels=(labels.TOOL, labels.VERTICAL),
    guide=True,
)
REJECTED = Metric(
    name="victor.tool_calls_rejected",
    kind=Kind.COUNTER,
    meaning="Tool calls of the model that were not run",
    labels=(labels.TOOL, labels.REASON),
)

_ERROR_MARKER = "### \u274c"
"""Victor's unified tools report a failure as text that begins so, and as a success."""


def observe_call(call: Call, record: Record) -> None:
    runs = call.parts.get("run")
    answered = _record_cache(call, record)
    if runs:
        status = _status(call)
        record_execution(record, _tool(call), status, call.context, _duration(call, runs))
        if status in {"failure", "timeout"} and not call.failures:
            record_error(record, "tool", _error_type(call))
    elif not answered and call.status not in {"cancelled", "paused"}:
        record(REJECTED, tool=_tool(call), reason=_reason(call))


def record_execution(
    record: Record, tool: str, status: str, context: Context, seconds: float
) -> None:
    """Counts a call that ran."""
    record(EXECUTIONS, tool=tool, status=status, vertical=context.vertical, mode=context.mode)
    record(DURATION, seconds, tool=tool, vertical=context.vertical, status=status)
    if status != "cancelled":
        record(SUCCESS_RATE, status == "success", tool=tool, vertical=context.vertical)


def _duration(call: Call, runs: list[Part]) -> float:
    first = runs[0].started
    last = max(run.ended or call.ended for run in runs)
    waited = sum(
        max(0.0, min(part.ended or last, last) - max(part.started, first))
        for part in call.parts.get("confirm", ())
    )
    return last - first - waited


def _status(call: Call) -> str:
    if call.status != "success":
        return "cancelled" if call.status == "paused" else call.status
    result = call.result
    if getattr(result, "outcome_kind", None) == WITHHELD:
        # Victor says failure of the call, and here how the tool itself ended.
        ended = mapping(getattr(result.error_info, "details", None)).get("execution_outcome")
        return "success" if ended == "succeeded" else "failure"
    if not getattr(result, "success", True):
        return "timeout" if _category(result) == "tool_timeout" else "failure"
    output = getattr(result, "result", getattr(result, "output", result))
    marked = isinstance(output, str) and output.lstrip().startswith(_ERROR_MARKER)
    return "failure" if marked else "success"


def _category(result: Any) -> str | None:
    category = getattr(getattr(result, "error_info", None), "category", None)
    return getattr(category, "value", None)


def _error_type(call: Call) -> str:
    if call.error is not None:
        return error_type(call.error)
    raised = mapping(getattr(call.result, "metadata", None)).get("exception")
    return _category(call.result) or raised or "tool_execution"


def _tool(call: Call) -> str:
    """The name of the registered tool, `unknown` for one that is not."""
    runs = call.parts.get("run")
    named = getattr(call.result, "tool_name", None)
    if runs:
        return named or runs[-1].instance.name
    requested = mapping(call.argument("tool_call", 0)).get("name")
    name = named or requested or call.argument("tool_name", 0, call.argument("name", 0))
    return registered(getattr(call.instance, "tools", call.instance), name)


def registered(registry: Any, name: Any) -> str:
    known = isinstance(name, str) and registry.get(name) is not None
    return name if known else "unknown"


def _reason(call: Call) -> str:
    result = call.result
    kind = getattr(result, "outcome_kind", None)
    if kind:
        return kind
    for part, reason in (
        ("confirm", "user_declined"),
        ("rbac", "rbac"),
        ("arguments", "invalid_arguments"),
    ):
        if any(verdict.digest is False for verdict in call.parts.get(part, ())):
            return reason
    # Victor tells of an error where it tried to run the tool, of a missing tool it does not.
    tried = result is UNSET or getattr(result, "error_info", None) is not None
    return "other" if tried else "tool_unavailable"


def _record_cache(call: Call, record: Record) -> bool:
    """Whether a cache answered. The caches that one call asks count once."""
    asked = call.parts.get("cache", ())
    skipped = getattr(call.result, "skipped", False)
    cached = bool(getattr(call.result, "cached", False)) and not skipped
    answered = cached or any(part.digest for part in asked)
    if answered or asked:
        record(CACHE_REQUESTS, cache="tool", result="hit" if answered else "miss")
    return answered


def observe_batch(call: Call, record: Record) -> None:
    """Duplicates and the tail over budget never reach the single-call path.

    Victor copies the results of single calls into the batch's (since 0.11), but keeps the
    object that holds a call's arguments. A duplicate shares it too, and comes after.
    """
    single = Counter(id(part.digest) for part in call.parts.get("single", ()))
    for result in getattr(call.result, "results", ()):
        arguments = id(result.arguments)
        if single[arguments]:
            single[arguments] -= 1
        elif result.skipped:
            record(
                REJECTED,
                tool=registered(call.instance.tools, result.tool_name),
                reason=getattr(result, "outcome_kind", None) or "other",
            )


def arguments_of(call: Call) -> Any:
    """The object by which a batch knows a single call again; dropped when the batch ends."""
    return getattr(call.result, "arguments", None)


def accepted(call: Call) -> bool:
    """The verdict of a check that answers `(allowed, reason)`."""
    return call.result is UNSET or bool(call.result[0])


def nothing_missing(call: Call) -> bool:
    return not call.result


def valid(call: Call) -> bool:
    return bool(getattr(call.result, "valid", True))


def found(call: Call) -> bool:
    return call.result is not UNSET and call.result is not None


def is_cacheable(call: Call) -> bool:
    """A tool outside the cache's allow-list is no miss: the cache was not asked."""
    return call.argument("tool_name", 0) in call.instance.allowlist


_CALL_FEEDS = (EXECUTIONS, DURATION, SUCCESS_RATE, REJECTED, CACHE_REQUESTS, ERRORS)
_EXECUTOR = "victor.agent.tool_executor:ToolExecutor"
_PIPELINE = "victor.agent.tool_pipeline:ToolPipeline"

AREA = Area(
    name="tools",
    metrics=(EXECUTIONS, DURATION, SUCCESS_RATE, REJECTED),
    hooks=(
        Hook(
            target=f"{_PIPELINE}.execute_tool_calls",
            scope=TOOL_BATCH,
            observe=observe_batch,
            feeds=(REJECTED,),
        ),
        Hook(
            target=f"{_PIPELINE}._execute_single_call",
            scope=TOOL_CALL,
            level=3,
            part="single",
            of=TOOL_BATCH,
            digest=arguments_of,
            observe=observe_call,
            feeds=_CALL_FEEDS,
        ),
        Hook(
            target=f"{_EXECUTOR}.execute",
            scope=TOOL_CALL,
            level=2,
            observe=observe_call,
            feeds=_CALL_FEEDS,
        ),
        Hook(
            target="victor.tools.registry:ToolRegistry.execute",
            scope=TOOL_CALL,
            level=2,
            observe=observe_call,
            feeds=_CALL_FEEDS,
        ),
        Hook(
            target="victor.tools.base:BaseTool.execute",
            scope=TOOL_CALL,
            part="run",
            of=TOOL_CALL,
            overrides=True,
            observe=observe_call,
            feeds=_CALL_FEEDS,
        ),
        Hook(
            target="victor.agent.safety:SafetyChecker.check_and_confirm",
            part="confirm",
            of=TOOL_CALL,
            digest=accepted,
        ),
        # Victor moved it; the old module repeats the new one, but need not be imported.
        Hook(
            target="victor.framework.hitl:HITLController.process_approval",
            part="confirm",
            of=TOOL_CALL,
            until="0.16",
        ),
        Hook(
            target="victor.agent.hitl:HITLController.process_approval",
            part="confirm",
            of=TOOL_CALL,
            since="0.16",
        ),
        Hook(target=f"{_EXECUTOR}._check_rbac", part="rbac", of=TOOL_CALL, digest=accepted),
        Hook(
            target=f"{_EXECUTOR}._check_missing_required_args",
            part="arguments",
            of=TOOL_CALL,
            digest=nothing_missing,
        ),
        Hook(
            target=f"{_EXECUTOR}._validate_arguments",
            part="arguments",
            of=TOOL_CALL,
            digest=accepted,
        ),
        Hook(
            target="victor.tools.base:BaseTool.validate_parameters_detailed",
            part="arguments",
            of=TOOL_CALL,
            digest=valid,
        ),
        Hook(
            target="victor.agent.tool_pipeline:LRUToolCache.get",
            part="cache",
            of=TOOL_CALL,
            digest=found,
        ),
        Hook(
            target="victor.storage.cache.tool_cache:ToolCache.get",
            part="cache",
            of=TOOL_CALL,
            when=is_cacheable,
            digest=found,
        ),
        Hook(
            target="victor.agent.tool_result_cache:ToolResultCache.get",
            part="cache",
            of=TOOL_CALL,
            digest=found,
        ),
    ),
)
