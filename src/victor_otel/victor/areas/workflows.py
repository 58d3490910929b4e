"""Workflows: each outermost run, in any of Victor's engines."""

from __future__ import annotations

from victor_otel.model import semconv
from victor_otel.model.metric import Counter
from victor_otel.model.operation import NoFacts, Operation
from victor_otel.model.rows import Area, Begins, Feeds, Target, Tells
from victor_otel.model.span import Span
from victor_otel.victor import labels
from victor_otel.victor.identity import workflow_name
from victor_otel.victor.operations import WORKFLOW_RUN, WorkflowRun
from victor_otel.victor.outcomes import error_type
from victor_otel.victor.shared import FEATURES

EXECUTIONS = Counter(
    "victor.workflow.executions",
    "Workflow runs that ended; an error in a node makes a run a failure, even if Victor "
    "does not raise it",
    labels=(labels.WORKFLOW, labels.STATUS),
    siblings=(labels.STATUS,),
    guide=True,
    of=WORKFLOW_RUN,
)


def read_run(run: Operation) -> WorkflowRun:
    status = _status(run)
    failed = status in {"failure", "timeout"} and not run.failures
    kind = "node_error" if run.error is None else error_type(run.error)
    return WorkflowRun(workflow_name(run), status, run.elapsed, kind if failed else "")


def _status(run: Operation) -> str:
    told = run.result if hasattr(run.result, "success") else run.last_told("outcome")
    if getattr(told, "success", True) is False and run.status in {"success", "failure"}:
        error = str(getattr(told, "error", None) or "")
        return "timeout" if error.startswith(_TIMEOUTS) else "failure"
    return run.status


_TIMEOUTS = ("Execution timeout", "Workflow execution timed out", "TimeoutError")
"""How Victor begins the error of a run, or of a node in it, that took too long."""


_GRAPH = "victor.framework.graph:CompiledGraph"
_CACHED = "victor.workflows.unified_compiler:CachedCompiledGraph"
_EXECUTOR = "victor.workflows.unified_executor:StateGraphExecutor"

AREA = Area(
    name="workflows",
    metrics=(EXECUTIONS,),
    rows=(
        *(
            Begins(WORKFLOW_RUN, Target(path, arguments, stream=stream), read=read_run)
            for path, arguments, stream in (
                (f"{_EXECUTOR}.execute", ("workflow",), None),
                (f"{_EXECUTOR}.stream", ("workflow",), NoFacts),
                (f"{_CACHED}.invoke", ("input_state",), None),
                (f"{_CACHED}.stream", ("input_state",), NoFacts),
                (f"{_GRAPH}.invoke", ("input_state",), None),
                (f"{_GRAPH}.stream", ("input_state",), NoFacts),
            )
        ),
        # Both versions of `stream` hide the outcome from their caller, here it is known.
        Tells(
            WORKFLOW_RUN,
            "outcome",
            Target("victor.framework.graph_runtime:_run_graph_execution_loop"),
            read=lambda result: result,
        ),
        Feeds(WORKFLOW_RUN, FEATURES, labels={"feature": "workflow"}),
    ),
    spans=(Span(WORKFLOW_RUN, "invoke_workflow", named=(semconv.AGENT_NAME,)),),
)
