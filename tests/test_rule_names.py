"""What rules and runbooks read is what is exported, down to labels and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import promql_parser as promql
import pytest

from tests.kit.series import EXPORTED, OTHERS, RECORDED, labels, matches, on, pattern
from tools.rules import ALERTS, RULES, RUNBOOKS, Alert, parsed, queries, selected, sources
from victor_otel.model.metric import Metric
from victor_otel.victor import catalog

UNREAD: Mapping[str, Sequence[str]] = {
    "computed by each process for itself; rules divide sums of counters": (
        "victor_error_rate",
        "victor_provider_success_rate",
        "victor_request_rate",
        "victor_tool_success_rate",
    ),
    "says who uses Victor and for what: no value of it is wrong": (
        "victor_active_users",
        "victor_requests_per_user",
        "victor_session_duration_seconds",
        "victor_user_sessions_total",
        "victor_vertical_usage_total",
    ),
    "an amount of work done: none is too much or too little": (
        "victor_bus_events_total",
        "victor_coding_files_analyzed_total",
        "victor_coding_loc_reviewed_total",
        "victor_coding_tests_generated_total",
        "victor_dataanalysis_data_size_bytes",
        "victor_dataanalysis_visualizations_total",
        "victor_devops_containers_managed",
        "victor_devops_deployments_total",
        "victor_rag_documents_ingested_total",
        "victor_research_citations_generated_total",
        "victor_research_sources_analyzed_total",
    ),
    "the quality of what users work on: it is they who act": (
        "victor_coding_issues_found_total",
        "victor_coding_refactoring_success_rate",
        "victor_devops_ci_pipelines_executed_total",
        "victor_rag_search_accuracy",
    ),
    "what Victor can do and has learned: it changes over weeks, or with a release": (
        "victor_proficiency_score",
        "victor_self_improvement_loops_total",
        "victor_skill_discovery_total",
    ),
    "an attempt of the model, which reads what went wrong and tries again": (
        "victor_dataanalysis_queries_total",
        "victor_research_searches_total",
    ),
    "counts failures by cause; alerts are on the ratios of the work that failed": (
        "victor_errors_total",
    ),
    "an export of spans that fails counts as a dropped export as well, which an alert reads": (
        "victor_otel_spans_dropped_total",
    ),
    "the same calls by OpenTelemetry's names; rules read them by Victor's": tuple(
        metric.prometheus_name for metric in catalog.CONVENTIONAL
    ),
}
"""The metrics that no rule reads, by the reason."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """An expression and where it stands."""

    place: str
    expr: str


QUERIES = [
    *(Query(place=f"{rule.file}:{rule.name}", expr=rule.expr) for rule in RULES),
    *(
        Query(place=f"{path.name}:{number}", expr=text)
        for path in sorted(RUNBOOKS.glob("*.md"))
        for number, text in enumerate(queries(path.read_text(encoding="utf-8")), 1)
    ),
]
READ = {name for query in QUERIES for name in selected(query.expr)}
READ_BY_RULES = {name for rule in RULES for name in selected(rule.expr)}

each_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)


# Names


def test_all_that_is_read_is_exported() -> None:
    assert READ - set(EXPORTED) - set(RECORDED) - set(OTHERS) == set()


def test_what_is_exported_is_read_by_a_rule_or_the_reason_is_given() -> None:
    read = {EXPORTED[name] for name in READ_BY_RULES & set(EXPORTED)}
    explained = [name for names in UNREAD.values() for name in names]
    unread = {metric.prometheus_name for metric in catalog.METRICS if metric not in read}
    assert sorted(explained) == sorted(unread)


def test_of_others_no_more_is_listed_than_is_read() -> None:
    assert set(OTHERS) <= READ


# Labels


@each_query
def test_labels_are_those_of_the_series(query: Query) -> None:
    labels(promql.parse(query.expr))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_speaks_of_labels_that_it_has(alert: Alert) -> None:
    said = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))
    assert said <= (labels(promql.parse(alert.expr)) or frozenset()) | set(alert.labels)


# Values of labels


def _selectors(expr: str) -> Iterator[promql.VectorSelector]:
    for node in parsed(expr):
        if isinstance(node, promql.VectorSelector):
            yield node


def _behind(selector: promql.VectorSelector) -> list[Metric]:
    """The metrics of the catalogue that a selected series is made of."""
    name = selector.name or ""
    names = {name}.union(*map(selected, sources(RECORDED[name]))) if name in RECORDED else {name}
    return [EXPORTED[one] for one in names if one in EXPORTED]


@each_query
def test_what_is_asked_of_a_closed_label_is_one_of_its_values(query: Query) -> None:
    for selector in _selectors(query.expr):
        known = {
            label.prometheus_name: label for metric in _behind(selector) for label in metric.labels
        }
        for matcher in selector.matchers.matchers:
            label = known.get(matcher.name)
            if label is None or not label.closed:
                continue
            for wanted in pattern(matcher).split("|"):
                assert any(re.fullmatch(wanted, value) for value in label.values), str(selector)


@each_query
def test_a_bound_is_a_bucket_in_both_spellings(query: Query) -> None:
    """`le` is 10.0 in a scraped process and 10 through OTLP."""
    for selector in _selectors(query.expr):
        for matcher in on(selector, "le"):
            bounds = {bound for metric in _behind(selector) for bound in metric.buckets}
            scraped = {bound for bound in bounds if matches(matcher, str(bound))}
            pushed = {bound for bound in bounds if matches(matcher, f"{bound:g}")}
            assert scraped == pushed, str(selector)
            assert scraped or matcher.value == "+Inf", str(selector)
