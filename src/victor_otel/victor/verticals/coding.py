"""Coding: files reviewed, indexed and measured, tests generated, code refactored.

A file counts each time Victor has read it. A file that Victor cannot read does not count, and its
internal error is not an issue. An incremental index counts the files that changed. The tool
`docs_coverage` is left out, because it reports how many files match, not how many it read.

One tool call of the model is one refactoring, however often Victor retries it. It is a success if
Victor says so: a rename that changed nothing is a success.
"""

from collections.abc import Sequence
from typing import NamedTuple

from victor_otel.model.metric import Counter, Ratio, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Observes, Target, Tells
from victor_otel.victor import labels
from victor_otel.victor.operations import TOOL_CALL
from victor_otel.victor.values import mapping


class Analysis(NamedTuple):
    """Files that Victor has read, none if it failed to."""

    source: str
    files: int = 0
    lines: int = 0
    findings: Sequence[str] = ()
    """The severity of each."""


class Refactoring(NamedTuple):
    """A change of the code, not a preview of it."""

    succeeded: bool | None
    """Victor's own word; None for one that was cancelled."""


ANALYSIS = OperationType("analysis", Analysis)
REFACTORING = OperationType("refactoring", Refactoring)
ATTEMPT = OperationType("refactoring_attempt", Refactoring)
"""A refactoring on behalf of a tool call, which may need several."""

FILES_ANALYZED = Counter(
    "victor.coding.files_analyzed",
    "Files that were read to be reviewed, indexed or measured; a file counts each time",
    labels=(labels.ANALYSIS_SOURCE,),
    guide=True,
    of=ANALYSIS,
    value="files",
)
LOC_REVIEWED = Counter(
    "victor.coding.loc_reviewed",
    "Lines of the analyzed files, as Victor counts them: a final line break begins one "
    "more line; the tool `metrics` leaves out blank lines",
    labels=(labels.ANALYSIS_SOURCE,),
    guide=True,
    of=ANALYSIS,
    value="lines",
)
ISSUES_FOUND = Counter(
    "victor.coding.issues_found",
    "Findings in the analyzed files; for the tool `metrics`, files above its threshold of "
    "complexity",
    labels=(labels.ISSUE_SOURCE, labels.ISSUE_SEVERITY),
    guide=True,
)
TESTS_GENERATED = Counter(
    "victor.coding.tests_generated",
    "Test cases that were generated, whether or not they were written to a file",
    guide=True,
)
REFACTORING_SUCCESS_RATE = Ratio(
    "victor.coding.refactoring_success_rate",
    "Share of refactorings that Victor reports as successful, without previews, over the "
    "last 5 minutes of this process",
    guide=True,
    of=REFACTORING,
    value="succeeded",
)


def read_review(call: Operation) -> Analysis:
    review = call.result
    if call.error is not None or any(one.rule_id == _UNREAD for one in review.findings):
        return Analysis("review")
    found = [one.severity.value for one in review.findings]
    return Analysis("review", 1, review.lines_analyzed, found)


_UNREAD = "internal-error"
"""Victor's only finding in a file that it could not read."""


def read_indexed(call: Operation) -> Analysis:
    """Every way to fill the index of a code base ends here, once for each file."""
    if call.error is not None:
        return Analysis("index")
    return Analysis("index", 1, call.argument("metadata").lines)


def read_symbols(call: Operation) -> Analysis:
    """The second index, of `victor init`; its lines are counted as the first one counts them."""
    if call.error is not None:
        return Analysis("index")
    return Analysis("index", 1, call.argument("content").count("\n") + 1)


def read_metrics(call: Operation) -> Analysis:
    """The tool `metrics`; lines are in its profile only, which not every call asks for."""
    answer = mapping(call.result)
    lines = mapping(answer.get("summary")).get("total_lines") or 0
    complexities = mapping(answer.get("results")).get("complexity", ())
    above = ["warning" for one in complexities if one["status"] == "warning"]
    return Analysis("metrics", answer.get("files_analyzed", 0), lines, above)


def read_code_metrics(call: Operation) -> Analysis:
    """`metrics` of the tool `code`, which every agent has."""
    answer = mapping(call.result)
    return Analysis("metrics", answer.get("files", 0), answer.get("loc", 0))


def observe_findings(analysis: Operation, record: Record) -> None:
    for severity in analysis.facts.findings:
        record(ISSUES_FOUND, source=analysis.facts.source, severity=severity)


def observe_tests(generation: Operation, record: Record) -> None:
    record(TESTS_GENERATED, getattr(generation.result, "total_test_cases", 0))


def changes_code(call: Operation) -> bool:
    return not call.argument("preview")


def read_refactoring(call: Operation) -> Refactoring:
    if call.status == "cancelled":
        return Refactoring(None)
    told = mapping(call.result).get("success", getattr(call.result, "success", False))
    return Refactoring(told is True)


def observe_tool_call(call: Operation, record: Record) -> None:
    """Victor tries other spellings of a path that it does not find: the last attempt decides."""
    succeeded = call.last_told("refactoring")
    if succeeded is not None:
        record(REFACTORING_SUCCESS_RATE, succeeded)


_METRICS = "victor.tools.metrics_tool:metrics"
_INDEX = "victor_coding.codebase.indexer:CodebaseIndex"
_SYMBOLS = "victor_coding.codebase.symbol_store:SymbolStore"

AREA = Area(
    name="coding",
    metrics=(
        FILES_ANALYZED,
        LOC_REVIEWED,
        ISSUES_FOUND,
        TESTS_GENERATED,
        REFACTORING_SUCCESS_RATE,
    ),
    rows=(
        *(
            Begins(ANALYSIS, Target(path, arguments), read=read)
            for path, arguments, read in (
                ("victor_coding.review.manager:ReviewManager.review_file", (), read_review),
                (f"{_INDEX}._record_symbols", ("metadata",), read_indexed),
                (f"{_SYMBOLS}._extract_python_symbols_robust", ("content",), read_symbols),
                (f"{_SYMBOLS}._extract_generic_symbols", ("content",), read_symbols),
                # Tools are called as functions, or by what is registered.
                (_METRICS, (), read_metrics),
                (f"{_METRICS}.Tool._fn", (), read_metrics),
                ("victor.tools.unified.code_tool:analyze_metrics", (), read_code_metrics),
            )
        ),
        Observes(ANALYSIS, observe_findings, feeds=(ISSUES_FOUND,)),
        Observes(
            Target("victor_coding.testgen.manager:TestGenManager.generate_for_file"),
            observe_tests,
            feeds=(TESTS_GENERATED,),
        ),
        Begins(
            REFACTORING,
            Target("victor_coding.refactor.manager:RefactorManager.apply"),
            read=read_refactoring,
        ),
        *(
            Begins(
                kind,
                Target(f"victor.tools.refactor_tool:{name}{route}", arguments=("preview",)),
                when=changes_code,
                read=read_refactoring,
            )
            for name in ("rename", "extract", "inline", "organize_imports")
            for kind, route in ((REFACTORING, ""), (ATTEMPT, ".Tool._fn"))
        ),
        Tells(TOOL_CALL, "refactoring", ATTEMPT, read=lambda attempt: attempt.succeeded),
        Observes(TOOL_CALL, observe_tool_call, feeds=(REFACTORING_SUCCESS_RATE,)),
    ),
)
