"""What Victor is used for, and what comes of it in each vertical."""

from __future__ import annotations

from tools.grafana.alerts import fires
from tools.grafana.model import Dashboard, Kind, Panel, Query, Row
from tools.grafana.promql import (
    ENDED,
    each,
    grown,
    quantile,
    rare_quantile,
    rate,
    ratio,
    summed,
    worst,
)

_TURNS = "victor_vertical_usage_total"
_TOOLS = "victor_tool_executions_total"


def _counted(number: int, title: str, says: str, width: int, *counters: tuple[str, str]) -> Panel:
    """Totals of the chosen time, side by side: name and counter."""
    return Panel(
        id=number,
        title=title,
        says=says,
        kind=Kind.STAT,
        width=width,
        height=6,
        queries=tuple(Query(expr=grown(counter), legend=name) for name, counter in counters),
        unit="locale",
        base="blue",
        decimals=0,
        empty="not used yet",
    )


def _split(number: int, title: str, says: str, counter: str, by: str, *, width: int = 6) -> Panel:
    """A total of the chosen time by one label, without what did not happen."""
    return Panel(
        id=number,
        title=title,
        says=says,
        kind=Kind.BARS,
        width=width,
        height=6,
        queries=(Query(expr=f"{grown(counter, by=by)} > 0", legend=f"{{{{{by}}}}}"),),
        unit="locale",
        base="blue",
        decimals=0,
        empty="not used yet",
    )


def _share(
    number: int,
    title: str,
    says: str,
    gauge: str,
    *,
    good: float | str,
    width: int = 6,
    by: str = "",
    alerts: tuple[str, ...] = (),
) -> Panel:
    """A share that each process computes for itself: the lowest one."""
    least = good.replace("}", ":percent}") if isinstance(good, str) else f"{good:.0%}"
    return Panel(
        id=number,
        title=title,
        says=f"{says} (`{gauge}`): the lowest of the processes, since shares have no sum. "
        f"Red below {least}.",
        kind=Kind.BARS if by else Kind.STAT,
        width=width,
        height=6,
        queries=(Query(expr=worst(gauge, by=by), legend=f"{{{{{by}}}}}" if by else "lowest"),),
        unit="percentunit",
        base="red",
        steps=((good, "green"),),
        most=1,
        decimals=0,
        empty="none in 5 min",
        alerts=alerts,
    )


def _slow(
    number: int,
    title: str,
    says: str,
    width: int,
    expr: str,
    *,
    unit: str = "s",
    steps: tuple[tuple[float | str, str], ...] = (),
    alerts: tuple[str, ...] = (),
) -> Panel:
    return Panel(
        id=number,
        title=title,
        says=says,
        width=width,
        height=6,
        queries=(Query(expr=expr, legend="p95"),),
        unit=unit,
        steps=steps,
        empty="none in 5 min",
        alerts=alerts,
    )


_USAGE = Row(
    title="Who uses which vertical, and with what success?",
    panels=(
        Panel(
            id=1,
            title="Vertical usage",
            says=f"Chat turns per second by the vertical they began in (`{_TURNS}`); `none` is an "
            "agent without one.",
            queries=(Query(expr=rate(_TURNS, by="vertical"), legend="{{vertical}}"),),
            unit="reqps",
            stacked=True,
            empty="no turns",
        ),
        Panel(
            id=2,
            title="Tool usage by vertical",
            says=f"Tool calls of the chosen time, the 15 most used (`{_TOOLS}`).",
            kind=Kind.BARS,
            queries=(
                Query(
                    expr=f"topk(15, {grown(_TOOLS, by='vertical, tool')})",
                    legend="{{vertical}}: {{tool}}",
                ),
            ),
            unit="locale",
            base="blue",
            decimals=0,
            empty="no tool calls",
        ),
        Panel(
            id=3,
            title="Success rates by vertical",
            says="Tool calls that succeeded, of those that succeeded, failed or timed out, over 5 "
            f"minutes (`{_TOOLS}`). Should stay above "
            "${LowVerticalSuccessRate.threshold:percent}.",
            queries=(
                Query(
                    expr=ratio(_TOOLS, part='status="success"', by="vertical"),
                    legend="{{vertical}}",
                ),
            ),
            unit="percentunit",
            base="red",
            steps=(("${LowVerticalSuccessRate.threshold}", "green"),),
            most=1,
            empty="no tool calls",
            alerts=("LowVerticalSuccessRate",),
            detail=("victor-errors", 30),
        ),
        Panel(
            id=4,
            title="Chat p95 by vertical",
            says="95% of the turns of 5 minutes took less "
            "(`victor_chat_request_duration_seconds`). Should stay below ${SlowChat.threshold} s.",
            queries=(
                Query(
                    expr=quantile(
                        0.95,
                        "victor_chat_request_duration_seconds",
                        ENDED,
                        by="vertical",
                    ),
                    legend="{{vertical}}",
                ),
            ),
            unit="s",
            steps=(("${SlowChat.threshold}", "red"),),
            empty="no turns",
            detail=("victor-performance", 20),
        ),
        Panel(
            id=5,
            title="Features used",
            says="In the chosen time: commands, teams, planning, workflows and what applications "
            "declared (`victor_feature_usage_total`).",
            kind=Kind.BARS,
            queries=(
                Query(
                    expr=f"topk(10, {grown('victor_feature_usage_total', by='feature')})",
                    legend="{{feature}}",
                ),
            ),
            unit="locale",
            base="blue",
            decimals=0,
            empty="none used",
        ),
        Panel(
            id=6,
            title="Sessions",
            says="Sessions that began in the chosen time, by interface "
            "(`victor_user_sessions_total`). An agent's life, a connection or a "
            "visit, depending on it.",
            kind=Kind.BARS,
            queries=(
                Query(
                    expr=grown("victor_user_sessions_total", by="interface"),
                    legend="{{interface}}",
                ),
            ),
            unit="locale",
            base="blue",
            decimals=0,
            empty="no process yet",
        ),
    ),
)

_CODING = Row(
    title="Coding: reviews, tests, refactorings",
    panels=(
        _counted(
            10,
            "Coding: files analyzed, LOC reviewed, tests generated",
            "In the chosen time. A file counts each time it is reviewed, indexed or measured.",
            10,
            ("files", "victor_coding_files_analyzed_total"),
            ("lines", "victor_coding_loc_reviewed_total"),
            ("tests", "victor_coding_tests_generated_total"),
        ),
        _split(
            11,
            "Coding: issues found",
            "Findings in these files in the chosen time, by severity "
            "(`victor_coding_issues_found_total`).",
            "victor_coding_issues_found_total",
            "severity",
            width=8,
        ),
        _share(
            12,
            "Coding: refactorings that succeeded",
            "Of the last 5 minutes",
            "victor_coding_refactoring_success_rate",
            good=0.9,
        ),
    ),
    collapsed=True,
)

_RAG = Row(
    title="RAG: documents, searches",
    panels=(
        _split(
            20,
            "RAG: documents ingested",
            "In the chosen time, by type (`victor_rag_documents_ingested_total`).",
            "victor_rag_documents_ingested_total",
            "doc_type",
        ),
        _share(
            21,
            "RAG: search accuracy",
            "Retrieved passages that the application called relevant, of the last 5 minutes",
            "victor_rag_search_accuracy",
            good=0.5,
        ),
        _slow(
            22,
            "RAG: retrieval p95",
            "95% of the searches of 5 minutes took less "
            "(`victor_rag_retrieval_latency_seconds`). A warning from "
            "${HighRAGRetrievalLatency.threshold} s.",
            6,
            rare_quantile(0.95, "victor_rag_retrieval_latency_seconds"),
            steps=(("${HighRAGRetrievalLatency.threshold}", "red"),),
            alerts=("HighRAGRetrievalLatency",),
        ),
        Panel(
            id=23,
            title="RAG: index size",
            says="Bytes on disk of the stores of the process that holds most "
            "(`victor_rag_index_size_bytes`): several may have opened the same store.",
            width=6,
            height=6,
            queries=(
                Query(
                    expr=f"max by (job) ({each('victor_rag_index_size_bytes')})",
                    legend="{{job}}",
                ),
            ),
            unit="bytes",
            empty="no store open",
            alerts=("RagIndexGrowing",),
        ),
    ),
    collapsed=True,
)

_DEVOPS = Row(
    title="DevOps: deployments, containers, CI",
    panels=(
        _split(
            30,
            "DevOps: deployments",
            "That ended in the chosen time, however, by the way they went "
            "(`victor_devops_deployments_total`).",
            "victor_devops_deployments_total",
            "source",
        ),
        _share(
            31,
            "DevOps: deployments that succeeded",
            "Of the last 5 minutes",
            "victor_devops_deployment_success_rate",
            good="${DevOpsDeploymentFailure.threshold}",
            by="source",
            alerts=("DevOpsDeploymentFailure",),
        ),
        Panel(
            id=32,
            title="DevOps: containers managed",
            says="That Victor started and has not stopped, of all processes "
            "(`victor_devops_containers_managed`).",
            kind=Kind.STAT,
            width=6,
            height=6,
            queries=(
                Query(expr=summed(each("victor_devops_containers_managed")), legend="containers"),
            ),
            unit="none",
            base="blue",
            empty="no process yet",
        ),
        _split(
            33,
            "DevOps: CI pipelines",
            "Runs that ended in the chosen time, by outcome "
            "(`victor_devops_ci_pipelines_executed_total`).",
            "victor_devops_ci_pipelines_executed_total",
            "status",
        ),
    ),
    collapsed=True,
)

_DATA = Row(
    title="Data analysis: queries, visualizations",
    panels=(
        _counted(
            40,
            "DataAnalysis: queries executed, visualizations created",
            "In the chosen time. Visualizations as the application says.",
            6,
            ("queries", "victor_dataanalysis_queries_total"),
            ("visualizations", "victor_dataanalysis_visualizations_total"),
        ),
        _split(
            41,
            "DataAnalysis: queries by outcome",
            "SQL statements of the chosen time (`victor_dataanalysis_queries_total`). A failed one "
            "is mostly an attempt of the model, which reads the error and tries again.",
            "victor_dataanalysis_queries_total",
            "status",
        ),
        _slow(
            42,
            "DataAnalysis: query p95",
            "95% of the statements of 5 minutes took less "
            "(`victor_dataanalysis_query_duration_seconds`).",
            6,
            rare_quantile(0.95, "victor_dataanalysis_query_duration_seconds", ENDED),
        ),
        _slow(
            43,
            "DataAnalysis: data size p95",
            "95% of the results of 5 minutes were smaller (`victor_dataanalysis_data_size_bytes`).",
            6,
            rare_quantile(0.95, "victor_dataanalysis_data_size_bytes"),
            unit="bytes",
        ),
    ),
    collapsed=True,
)

_RESEARCH = Row(
    title="Research: searches, citations",
    panels=(
        _counted(
            50,
            "Research: searches performed, citations generated, sources analyzed",
            "In the chosen time. Answers from Victor's cache are no searches.",
            10,
            ("searches", "victor_research_searches_total"),
            ("citations", "victor_research_citations_generated_total"),
            ("sources", "victor_research_sources_analyzed_total"),
        ),
        _split(
            51,
            "Research: searches by outcome",
            "Web searches of the chosen time (`victor_research_searches_total`).",
            "victor_research_searches_total",
            "status",
            width=8,
        ),
        _slow(
            52,
            "Research: synthesis p95",
            "Writing an answer from what was found, 95% of 5 minutes took less "
            "(`victor_research_synthesis_duration_seconds`).",
            6,
            rare_quantile(0.95, "victor_research_synthesis_duration_seconds"),
        ),
    ),
    collapsed=True,
)

_AGENTS = Row(
    title="Agents: plans, memories, skills",
    panels=(
        _share(
            60,
            "Plans carried out whole",
            "Of the last 5 minutes",
            "victor_planning_success_rate",
            good="${LowPlanningSuccessRate.threshold}",
            by="vertical",
            alerts=("LowPlanningSuccessRate",),
        ),
        _share(
            61,
            "Recalls that helped",
            "Of those of the last 5 minutes whose outcome was recorded",
            "victor_memory_recall_accuracy",
            good="${LowMemoryRecallAccuracy.threshold}",
            by="memory_type",
            alerts=("LowMemoryRecallAccuracy",),
        ),
        Panel(
            id=62,
            title="Proficiency",
            says="How well a skill is mastered, from 0 to 1 (`victor_proficiency_score`), in the "
            "process where it is lowest: the ten weakest skills.",
            kind=Kind.BARS,
            width=6,
            height=6,
            queries=(
                Query(
                    expr=f"bottomk(10, {worst('victor_proficiency_score', by='skill')})",
                    legend="{{skill}}",
                ),
            ),
            unit="percentunit",
            most=1,
            base="blue",
            empty="nothing learned yet",
        ),
        _counted(
            63,
            "Skills discovered, attempts to improve",
            "In the chosen time: skills registered for the first time in a process, and loops in "
            "which Victor tried to improve its own prompt.",
            6,
            ("skills", "victor_skill_discovery_total"),
            ("loops", "victor_self_improvement_loops_total"),
        ),
    ),
    collapsed=True,
)

_PACKAGES = (
    ("Coding: files", "victor_coding_files_analyzed_total"),
    ("RAG: searches", "victor_rag_retrieval_latency_seconds_count"),
    ("DevOps: deployments", "victor_devops_deployments_total"),
    ("Data analysis: queries", "victor_dataanalysis_queries_total"),
    ("Research: searches", "victor_research_searches_total"),
)

_NOW = Row(
    title="What is Victor used for, and is anything wrong with it?",
    panels=(
        fires(7, _USAGE, _CODING, _RAG, _DEVOPS, _DATA, _RESEARCH, _AGENTS),
        Panel(
            id=8,
            title="Packages at work: open their rows below",
            says="What each package did in the chosen time. 0 is installed and not used; a package "
            "that is not installed is absent, and its row has nothing to show.",
            kind=Kind.STAT,
            width=12,
            queries=tuple(Query(expr=grown(counter), legend=name) for name, counter in _PACKAGES),
            unit="locale",
            base="blue",
            decimals=0,
            empty="no package installed",
        ),
    ),
)

VERTICALS = Dashboard(
    uid="victor-verticals",
    title="Victor / Verticals",
    says="What Victor is used for, and what comes of it in each vertical.",
    refresh="1m",
    since="now-6h",
    variables=("job", "instance", "vertical"),
    rows=(_NOW, _USAGE, _CODING, _RAG, _DEVOPS, _DATA, _RESEARCH, _AGENTS),
)
