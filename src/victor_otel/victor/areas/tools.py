"""Tools: each call that a model made, whether its tool was executed, and how it ended.

A call passes through up to three levels: the pipeline, an executor or registry, and the tool
itself; retries repeat the lower ones. A call counts once, at the outermost level, because only
that level knows of timeouts. The tool was executed if the call reached the tool itself.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Histogram, Ratio
from victor_otel.model.operation import UNSET, Frame, Operation
from victor_otel.model.rows import Area, Begins, Feeds, Reports, Target, Tells
from victor_otel.model.span import Attributes, Span
from victor_otel.victor import content, labels
from victor_otel.victor.operations import CACHE_LOOKUP, TOOL_BATCH, TOOL_CALL, CacheLookup, ToolCall
from victor_otel.victor.outcomes import error_type
from victor_otel.victor.shared import CACHE_REQUESTS, WITHHELD
from victor_otel.victor.values import attribute, mapping

EXECUTIONS = Counter(
    "victor.tool.executions",
    "Tool calls whose tool was executed",
    labels=(labels.TOOL, labels.STATUS, labels.VERTICAL, labels.MODE),
    siblings=(labels.STATUS,),
    guide=True,
    of=TOOL_CALL,
    when="ran",
)
DURATION = Histogram(
    "victor.tool.execution.duration",
    "Duration of a tool execution, including its retries, without waiting for a human",
    unit="s",
    labels=(labels.TOOL, labels.VERTICAL, labels.STATUS),
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0),
    guide=True,
    of=TOOL_CALL,
    when="ran",
    value="seconds",
)
SUCCESS_RATE = Ratio(
    "victor.tool.success_rate",
    "Share of tool calls that succeeded, over the last 5 minutes of this process",
    labels=(labels.TOOL, labels.VERTICAL),
    guide=True,
    of=TOOL_CALL,
    when="judged",
    value="succeeded",
)
REJECTED = Counter(
    "victor.tool_calls_rejected",
    "Tool calls of the model that were not executed",
    labels=(labels.TOOL, labels.REASON),
    of=TOOL_CALL,
    when="reason",
)

_TOOL, _EXECUTOR_LEVEL, _PIPELINE_LEVEL = 1, 2, 3
"""The levels of a tool call, from the tool itself outwards."""

_ERROR_MARKER = "### \u274c"
"""Victor's unified tools report a failure as text that begins so, and as a success."""


def read_call(call: Operation) -> ToolCall:
    runs = call.entered(_TOOL)
    asked = call.told("cache")
    hit = _is_cached(call.result) or True in asked
    outcome = attribute(call.result, "outcome_kind")
    status = _status(call, outcome) if runs else ""
    failed = status in {"failure", "timeout"}
    answered = runs or hit or call.status in {"cancelled", "paused"}
    return ToolCall(
        tool=_tool(call, runs),
        ran=bool(runs),
        status=status,
        seconds=_duration(call, runs) if runs else 0.0,
        judged=failed or status == "success",
        succeeded=status == "success",
        reason="" if answered else _reason(call, outcome),
        cache_hit=hit,
        cache_miss=not hit and False in asked,
        blocked=outcome in _BLOCKED or False in call.told("rbac"),
        withheld=outcome == WITHHELD,
        error_type=_error_type(call) if failed and not call.failures else "",
    )


def expect_call(call: Operation) -> Attributes:
    asked = mapping(call.argument("tool_call")).get("id")
    return {
        semconv.TOOL_NAME: _tool(call, call.entered(_TOOL)),
        semconv.TOOL_TYPE: "function",
        semconv.TOOL_CALL_ID: asked if isinstance(asked, str) and asked else None,
    }


_BLOCKED = ("permission_denied", "middleware_blocked")


def _duration(call: Operation, runs: Sequence[Frame]) -> float:
    first = runs[0].started
    last = max([run.ended or call.end for run in runs])
    waited = [
        max(0.0, min(asked.ended, last) - max(asked.started, first))
        for asked in call.told("confirm")
    ]
    return last - first - sum(waited)


def _status(call: Operation, outcome: str | None) -> str:
    if call.status != "success":
        return "cancelled" if call.status == "paused" else call.status
    result = call.result
    if outcome == WITHHELD:
        # Victor says failure of the call, and here how the tool itself ended.
        ended = mapping(getattr(result.error_info, "details", None)).get("execution_outcome")
        return "success" if ended == "succeeded" else "failure"
    if not attribute(result, "success", True):
        return "timeout" if _category(result) == "tool_timeout" else "failure"
    output = content.tool_output(result)
    marked = isinstance(output, str) and output.lstrip().startswith(_ERROR_MARKER)
    return "failure" if marked else "success"


def _category(result: Any) -> str | None:
    category = attribute(attribute(result, "error_info"), "category")
    return getattr(category, "value", None)


def _error_type(call: Operation) -> str:
    if call.error is not None:
        return error_type(call.error)
    raised = mapping(getattr(call.result, "metadata", None)).get("exception")
    # Victor puts the class's name there; what a tool of one's own puts there may be content.
    named = raised if isinstance(raised, str) and raised.isidentifier() else ""
    return _category(call.result) or named or "tool_execution"


def _tool(call: Operation, runs: Sequence[Frame]) -> str:
    """The name of the registered tool, `unknown` for one that is not."""
    named = attribute(call.result, "tool_name")
    if runs:
        return named or runs[-1].instance.name
    requested = mapping(call.argument("tool_call")).get("name")
    name = named or requested or call.argument("tool_name", call.argument("name"))
    return registered(getattr(call.instance, "tools", call.instance), name)


def registered(registry: Any, name: Any) -> str:
    known = isinstance(name, str) and registry.get(name) is not None
    return name if known else "unknown"


def _reason(call: Operation, outcome: str | None) -> str:
    if outcome:
        return outcome
    for verdicts, reason in (
        ([asked.value for asked in call.told("confirm")], "user_declined"),
        (call.told("rbac"), "rbac"),
        (call.told("arguments"), "invalid_arguments"),
    ):
        if False in verdicts:
            return reason
    # Victor tells of an error where it tried to run the tool, of a missing tool it does not.
    result = call.result
    tried = result is UNSET or getattr(result, "error_info", None) is not None
    return "other" if tried else "tool_unavailable"


def _is_cached(result: Any) -> bool:
    """Whether Victor says that a cache answered; a duplicate in a batch it skips as well."""
    return bool(attribute(result, "cached", False)) and not attribute(result, "skipped", False)


def left_out(batch: Operation) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Duplicates and the tail over budget, which never reach the single-call path.

    Victor copies the results of single calls into the batch's (since 0.11), but keeps the
    object that holds a call's arguments. A duplicate shares it too, and comes after.
    """
    single = collections.Counter(id(arguments) for arguments in batch.told("single"))
    calls = [mapping(call) for call in batch.argument("tool_calls", ())]
    for result in getattr(batch.result, "results", ()):
        arguments = id(result.arguments)
        if single[arguments]:
            single[arguments] -= 1
        elif result.skipped:
            known = getattr(result, "tool_call_id", None)
            asked = [call for call in calls if known and call.get("id") == known]
            yield {"tool_call": asked[0] if asked else {}}, result


def read_left_out(call: Operation) -> ToolCall:
    reason = getattr(call.result, "outcome_kind", None) or "other"
    return ToolCall(tool=_tool(call, ()), reason=reason)


def arguments_of(result: Any) -> Any:
    """The object by which a batch knows a single call again; dropped when the batch ends."""
    return getattr(result, "arguments", None)


def accepted(verdict: Any) -> bool:
    """The verdict of a check that answers `(allowed, reason)`."""
    return verdict is UNSET or bool(verdict[0])


def nothing_missing(missing: Any) -> bool:
    return not missing or missing is UNSET


def valid(verdict: Any) -> bool:
    return bool(getattr(verdict, "valid", True))


def found(answer: Any) -> bool:
    return answer is not UNSET and answer is not None


def tool_cache_hit(lookup: CacheLookup) -> bool | None:
    """None for a cache that was not asked for the tool's result, or is no cache of tools."""
    asked = lookup.result and not lookup.tiered
    return lookup.result == "hit" if asked else None


_EXECUTOR = "victor.agent.tool_executor:ToolExecutor"
_PIPELINE = "victor.agent.tool_pipeline:ToolPipeline"
_BATCH = Target(f"{_PIPELINE}.execute_tool_calls", arguments=("tool_calls",))
_SINGLE = Target(f"{_PIPELINE}._execute_single_call", arguments=("tool_call",))

AREA = Area(
    name="tools",
    metrics=(EXECUTIONS, DURATION, SUCCESS_RATE, REJECTED),
    spans=(
        Span(
            TOOL_CALL,
            "execute_tool",
            named=(semconv.TOOL_NAME,),
            expect=expect_call,
            facts={"reason": "victor.tool.rejection", "cache_hit": "victor.tool.cached"},
            content=content.tool_call,
        ),
    ),
    rows=(
        Begins(TOOL_BATCH, _BATCH),
        Reports(TOOL_CALL, _BATCH, find=left_out, read=read_left_out, feeds=(REJECTED,)),
        Begins(TOOL_CALL, _SINGLE, level=_PIPELINE_LEVEL, read=read_call),
        Begins(
            TOOL_CALL,
            Target(f"{_EXECUTOR}.execute", arguments=("tool_name", "arguments")),
            level=_EXECUTOR_LEVEL,
            read=read_call,
        ),
        Begins(
            TOOL_CALL,
            Target("victor.tools.registry:ToolRegistry.execute", arguments=("name",)),
            level=_EXECUTOR_LEVEL,
            read=read_call,
        ),
        Begins(
            TOOL_CALL,
            Target("victor.tools.base:BaseTool.execute", overrides=True),
            level=_TOOL,
            read=read_call,
        ),
        Tells(TOOL_BATCH, "single", _SINGLE, read=arguments_of),
        Tells(
            TOOL_CALL,
            "confirm",
            Target("victor.agent.safety:SafetyChecker.check_and_confirm"),
            read=accepted,
            timed=True,
        ),
        Tells(
            TOOL_CALL,
            "confirm",
            # The old module repeats the new one, but need not be imported.
            Target(
                "victor.agent.hitl:HITLController.process_approval",
                moved=("0.16", "victor.framework.hitl:HITLController.process_approval"),
            ),
            timed=True,
        ),
        Tells(TOOL_CALL, "rbac", Target(f"{_EXECUTOR}._check_rbac"), read=accepted),
        Tells(
            TOOL_CALL,
            "arguments",
            Target(f"{_EXECUTOR}._check_missing_required_args"),
            read=nothing_missing,
        ),
        Tells(TOOL_CALL, "arguments", Target(f"{_EXECUTOR}._validate_arguments"), read=accepted),
        Tells(
            TOOL_CALL,
            "arguments",
            Target("victor.tools.base:BaseTool.validate_parameters_detailed"),
            read=valid,
        ),
        Tells(
            TOOL_CALL, "cache", Target("victor.agent.tool_pipeline:LRUToolCache.get"), read=found
        ),
        Tells(
            TOOL_CALL,
            "cache",
            Target("victor.agent.tool_result_cache:ToolResultCache.get"),
            read=found,
        ),
        Tells(TOOL_CALL, "cache", CACHE_LOOKUP, read=tool_cache_hit),
        Feeds(
            TOOL_CALL,
            CACHE_REQUESTS,
            when="cache_hit",
            labels={"cache": "tool", "result": "hit"},
        ),
        Feeds(
            TOOL_CALL,
            CACHE_REQUESTS,
            when="cache_miss",
            labels={"cache": "tool", "result": "miss"},
        ),
    ),
)
