"""Coding: what was reviewed, indexed, measured, generated and refactored.

A file counts each time, where Victor has read it: one that it cannot read never does, and
its internal error is no issue. An incremental index counts what changed. The tool
`docs_coverage` is left out: it tells how many files match, not how many it read.

One tool call of the model is one refactoring, however often Victor retries it. A success is
one in Victor's word: a rename that changed nothing is one.
"""

from __future__ import annotations

from collections.abc import Callable

from victor_otel import labels
from victor_otel.shared import TOOL_CALL
from victor_otel.spec import Area, Call, Follow, Hook, Kind, Metric, Record, mapping

FILES_ANALYZED = Metric(
    name="victor.coding.files_analyzed",
    kind=Kind.COUNTER,
    meaning="Files that were reviewed, indexed or measured, each time, if they could be read",
    labels=(labels.ANALYSIS_SOURCE,),
    guide=True,
)
LOC_REVIEWED = Metric(
    name="victor.coding.loc_reviewed",
    kind=Kind.COUNTER,
    meaning="Lines of those files as Victor counts them: a final line break begins one more "
    "line; the tool `metrics` leaves out blank lines",
    labels=(labels.ANALYSIS_SOURCE,),
    guide=True,
)
ISSUES_FOUND = Metric(
    name="victor.coding.issues_found",
    kind=Kind.COUNTER,
    meaning="Findings in those files; of the tool `metrics`, files above its threshold of "
    "complexity",
    labels=(labels.ISSUE_SOURCE, labels.ISSUE_SEVERITY),
    guide=True,
)
TESTS_GENERATED = Metric(
    name="victor.coding.tests_generated",
    kind=Kind.COUNTER,
    meaning="Test cases that were generated, written to a file or not",
    guide=True,
)
REFACTORING_SUCCESS_RATE = Metric(
    name="victor.coding.refactoring_success_rate",
    kind=Kind.RATIO,
    meaning="Share of refactorings that Victor calls a success over the last 5 minutes of this "
    "process, without previews",
    guide=True,
)


def observe_review(call: Call, record: Record) -> None:
    review = call.result
    if call.error is not None or any(one.rule_id == _UNREAD for one in review.findings):
        return
    _record_file(record, "review", review.lines_analyzed)
    for finding in review.findings:
        record(ISSUES_FOUND, source="review", severity=finding.severity.value)


_UNREAD = "internal-error"
"""Victor's only finding in a file that it could not read."""


def observe_indexed(call: Call, record: Record) -> None:
    """Every way to fill the index of a code base ends here, once for each file."""
    if call.error is None:
        _record_file(record, "index", call.argument("metadata", 0).lines)


def observe_symbols(call: Call, record: Record) -> None:
    """The second index, of `victor init`; its lines are counted as the first one counts them."""
    if call.error is None:
        _record_file(record, "index", call.argument("content", 0).count("\n") + 1)


def _record_file(record: Record, source: str, lines: int) -> None:
    record(FILES_ANALYZED, source=source)
    record(LOC_REVIEWED, lines, source=source)


def observe_metrics(call: Call, record: Record) -> None:
    """The tool `metrics`; lines are in its profile only, which not every call asks for."""
    answer = mapping(call.result)
    record(FILES_ANALYZED, answer.get("files_analyzed", 0), source="metrics")
    record(LOC_REVIEWED, mapping(answer.get("summary")).get("total_lines") or 0, source="metrics")
    complexities = mapping(answer.get("results")).get("complexity", ())
    above = sum(one["status"] == "warning" for one in complexities)
    record(ISSUES_FOUND, above, source="metrics", severity="warning")


def observe_code_metrics(call: Call, record: Record) -> None:
    """`metrics` of the tool `code`, which every agent has."""
    answer = mapping(call.result)
    record(FILES_ANALYZED, answer.get("files", 0), source="metrics")
    record(LOC_REVIEWED, answer.get("loc", 0), source="metrics")


def observe_tests(call: Call, record: Record) -> None:
    record(TESTS_GENERATED, getattr(call.result, "total_test_cases", 0))


def outcome(call: Call) -> bool | None:
    """Victor's own word on a refactoring; None for one that was cancelled."""
    if call.status == "cancelled":
        return None
    return mapping(call.result).get("success", getattr(call.result, "success", False)) is True


def observe_refactoring(call: Call, record: Record) -> None:
    _record_outcome(record, outcome(call))


def observe_tool_call(call: Call, record: Record) -> None:
    """Victor tries other spellings of a path that it does not find: the last attempt decides."""
    attempt = call.last_part("refactoring")
    _record_outcome(record, attempt.digest if attempt is not None else None)


def _record_outcome(record: Record, succeeded: bool | None) -> None:
    if succeeded is not None:
        record(REFACTORING_SUCCESS_RATE, succeeded)


def not_previewed(position: int) -> Callable[[Call], bool]:
    """Whether a tool, whose argument `preview` is at `position`, is to change the code."""
    return lambda call: not call.argument("preview", position, default=False)


_FILE_FEEDS = (FILES_ANALYZED, LOC_REVIEWED)
_METRICS = "victor.tools.metrics_tool:metrics"
_REFACTORING = "victor.tools.refactor_tool"
_REFACTORING_TOOLS = {"rename": 5, "extract": 4, "inline": 2, "organize_imports": 1}
"""The refactoring tools, and where each has its argument `preview`."""

AREA = Area(
    name="coding",
    metrics=(
        FILES_ANALYZED,
        LOC_REVIEWED,
        ISSUES_FOUND,
        TESTS_GENERATED,
        REFACTORING_SUCCESS_RATE,
    ),
    hooks=(
        Hook(
            target="victor_coding.review.manager:ReviewManager.review_file",
            observe=observe_review,
            feeds=(*_FILE_FEEDS, ISSUES_FOUND),
        ),
        Hook(
            target="victor_coding.codebase.indexer:CodebaseIndex._record_symbols",
            observe=observe_indexed,
            feeds=_FILE_FEEDS,
        ),
        *(
            Hook(
                target=f"victor_coding.codebase.symbol_store:SymbolStore.{extraction}",
                observe=observe_symbols,
                feeds=_FILE_FEEDS,
            )
            for extraction in ("_extract_python_symbols_robust", "_extract_generic_symbols")
        ),
        # Tools are called as functions, or by what is registered.
        *(
            Hook(target=target, observe=observe_metrics, feeds=(*_FILE_FEEDS, ISSUES_FOUND))
            for target in (_METRICS, f"{_METRICS}.Tool._fn")
        ),
        Hook(
            target="victor.tools.unified.code_tool:analyze_metrics",
            observe=observe_code_metrics,
            feeds=_FILE_FEEDS,
        ),
        Hook(
            target="victor_coding.testgen.manager:TestGenManager.generate_for_file",
            observe=observe_tests,
            feeds=(TESTS_GENERATED,),
        ),
        Hook(
            target="victor_coding.refactor.manager:RefactorManager.apply",
            observe=observe_refactoring,
            feeds=(REFACTORING_SUCCESS_RATE,),
        ),
        *(
            hook
            for name, position in _REFACTORING_TOOLS.items()
            for hook in (
                Hook(
                    target=f"{_REFACTORING}:{name}",
                    when=not_previewed(position),
                    observe=observe_refactoring,
                    feeds=(REFACTORING_SUCCESS_RATE,),
                ),
                Hook(
                    target=f"{_REFACTORING}:{name}.Tool._fn",
                    when=not_previewed(position),
                    part="refactoring",
                    of=TOOL_CALL,
                    digest=outcome,
                ),
            )
        ),
    ),
    follows=(
        Follow(scope=TOOL_CALL, observe=observe_tool_call, feeds=(REFACTORING_SUCCESS_RATE,)),
    ),
)
