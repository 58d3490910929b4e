"""Workflows: every outermost run, whichever engine it went through."""

from __future__ import annotations

from typing import Any

from victor_otel import labels
from victor_otel.shared import ERRORS, FEATURES, WORKFLOW_RUN, error_type, record_error
from victor_otel.spec import Area, Call, Hook, Kind, Metric, NoFacts, Record, mapping

EXECUTIONS = Metric(
    name="victor.workflow.executions",
    kind=Kind.COUNTER,
    meaning="Workflow runs; an error in a node is a failure although Victor does not raise it",
    labels=(labels.WORKFLOW, labels.STATUS),
    siblings=(labels.STATUS,),
    guide=True,
)


def observe_run(call: Call, record: Record) -> None:
    status = _status(call)
    record(EXECUTIONS, workflow=_name(call), status=status)
    record(FEATURES, feature="workflow")
    if status in {"failure", "timeout"} and not call.failures:
        kind = "node_error" if call.error is None else error_type(call.error)
        record_error(record, "workflow", kind)


def _status(call: Call) -> str:
    graphs = call.parts.get("outcome")
    graph = graphs[0].digest if graphs else None
    told = call.result if hasattr(call.result, "success") else graph
    if getattr(told, "success", True) is False and call.status in {"success", "failure"}:
        error = str(getattr(told, "error", None) or "")
        return "timeout" if error.startswith(_TIMEOUTS) else "failure"
    return call.status


_TIMEOUTS = ("Execution timeout", "Workflow execution timed out", "TimeoutError")
"""How Victor begins the error of a run, or of a node in it, that took too long."""


def returned(call: Call) -> Any:
    return call.result


def _name(call: Call) -> str:
    """The compiled workflow's own name, else that of the definition or state it was given."""
    named = (
        getattr(call.instance, "workflow_name", None),
        getattr(call.argument("workflow", 0), "name", None),
        mapping(call.argument("input_state", 0)).get("_workflow_name"),
    )
    return next((name for name in named if isinstance(name, str) and name), "unnamed")


_FEEDS = (EXECUTIONS, FEATURES, ERRORS)
_GRAPH = "victor.framework.graph:CompiledGraph"
_CACHED = "victor.workflows.unified_compiler:CachedCompiledGraph"
_EXECUTOR = "victor.workflows.unified_executor:StateGraphExecutor"

AREA = Area(
    name="workflows",
    metrics=(EXECUTIONS,),
    hooks=(
        # Both versions of `stream` hide the outcome from their caller, here it is known.
        Hook(
            target="victor.framework.graph_runtime:_run_graph_execution_loop",
            part="outcome",
            of=WORKFLOW_RUN,
            digest=returned,
        ),
        *(
            Hook(
                target=target, scope=WORKFLOW_RUN, stream=stream, observe=observe_run, feeds=_FEEDS
            )
            for target, stream in (
                (f"{_EXECUTOR}.execute", None),
                (f"{_EXECUTOR}.stream", NoFacts),
                (f"{_CACHED}.invoke", None),
                (f"{_CACHED}.stream", NoFacts),
                (f"{_GRAPH}.invoke", None),
                (f"{_GRAPH}.stream", NoFacts),
            )
        ),
    ),
)
