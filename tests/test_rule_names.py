"""What rules and runbooks read is what is exported, down to labels and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import promql_parser as promql
import pytest

from tools.rules import ALERTS, RULES, RUNBOOKS, Alert, parsed, queries, selected, sources
from victor_otel.model.metric import Kind, Metric
from victor_otel.victor import catalog

PROCESS = frozenset({"job", "instance"})
"""What says on every route which process a series comes from."""
GATEWAY = frozenset({"gateway"})
"""What Victor's series carry besides where there are several gateways."""

OTHERS: Mapping[str, frozenset[str]] = {
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "topic"}),
} | {
    name: PROCESS.union(labels)
    for name, labels in {
        "target_info": ("host_name", "process_pid"),
        "up": (),
        "scrape_duration_seconds": (),
        "scrape_samples_scraped": (),
        "otelcol_deltatocumulative_datapoints": ("error",),
        "otelcol_deltatocumulative_streams_limit": (),
        "otelcol_deltatocumulative_streams_tracked": (),
        "otelcol_exporter_enqueue_failed_metric_points": ("exporter",),
        "otelcol_exporter_enqueue_failed_spans": ("exporter",),
        "otelcol_exporter_queue_capacity": ("exporter",),
        "otelcol_exporter_queue_size": ("exporter",),
        "otelcol_exporter_send_failed_metric_points": ("exporter",),
        "otelcol_exporter_send_failed_spans": ("exporter",),
        "otelcol_exporter_sent_metric_points": ("exporter",),
        "otelcol_exporter_sent_spans": ("exporter",),
        "otelcol_process_memory_rss": (),
        "otelcol_process_runtime_heap_alloc_bytes": (),
        "otelcol_processor_incoming_items": ("processor",),
        "otelcol_processor_outgoing_items": ("processor",),
        "otelcol_processor_tail_sampling_sampling_traces_on_memory": (),
        "otelcol_receiver_accepted_metric_points": ("receiver", "transport"),
        "otelcol_receiver_refused_metric_points": ("receiver", "transport"),
        "otelcol_receiver_refused_spans": ("receiver", "transport"),
        "prometheus_config_last_reload_success_timestamp_seconds": (),
        "prometheus_config_last_reload_successful": (),
        "prometheus_http_requests_total": ("handler", "code"),
        "prometheus_notifications_alertmanagers_discovered": (),
        "prometheus_notifications_dropped_total": ("alertmanager",),
        "prometheus_notifications_errors_total": ("alertmanager",),
        "prometheus_notifications_queue_length": ("alertmanager",),
        "prometheus_notifications_sent_total": ("alertmanager",),
        "prometheus_rule_evaluation_failures_total": ("rule_group",),
        "prometheus_rule_group_last_duration_seconds": ("rule_group",),
        "prometheus_rule_group_last_evaluation_timestamp_seconds": ("rule_group",),
        "prometheus_target_scrapes_sample_duplicate_timestamp_total": (),
        "prometheus_target_scrapes_sample_out_of_bounds_total": (),
        "prometheus_target_scrapes_sample_out_of_order_total": (),
        "prometheus_tsdb_head_series": (),
        "prometheus_tsdb_out_of_bound_samples_total": ("type",),
        "prometheus_tsdb_out_of_order_samples_total": ("type",),
        "alertmanager_config_hash": (),
        "alertmanager_config_last_reload_success_timestamp_seconds": (),
        "alertmanager_config_last_reload_successful": (),
        "alertmanager_notifications_failed_total": ("integration", "reason"),
        "alertmanager_notifications_total": ("integration",),
    }.items()
}
"""What Prometheus, Alertmanager and the Collector export of themselves, or of the resource of a
process, and is read here, with the labels that may be used; tests/stack/test_names.py sees them."""

OF_ALERTS: Mapping[str, frozenset[str]] = {
    "ALERTS": frozenset({"alertname", "alertstate"}),
    "ALERTS_FOR_STATE": frozenset({"alertname"}),
}
"""Prometheus's own series of alerts; each has the labels of its alert besides."""

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


def exported() -> Iterator[tuple[str, Metric]]:
    """Every series name of the catalogue."""
    for metric in catalog.METRICS:
        parts = ("_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",)
        for part in parts:
            yield metric.prometheus_name + part, metric


EXPORTED = dict(exported())
RECORDED = {rule.name: rule for rule in RULES if not isinstance(rule, Alert)}


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


def labels(expr: Any) -> frozenset[str] | None:
    """The labels that a result can have; None for a number. Fails on a label that is not there."""
    match expr:
        case promql.VectorSelector():
            found = _of_selector(expr)
        case promql.MatrixSelector():
            found = _of_selector(expr.vector_selector)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            found = labels(expr.expr)
        case promql.AggregateExpr():
            found = _of_aggregate(expr)
        case promql.BinaryExpr():
            found = _of_binary(expr)
        case promql.Call():
            found = _of_call(expr)
        case _:
            found = None
    return found


@cache
def of_name(name: str) -> frozenset[str]:
    """The labels of the series of a name, recorded ones included."""
    if name in RECORDED:
        return labels(promql.parse(RECORDED[name].expr)) or frozenset()
    if name in EXPORTED:
        le = {"le"} if name.endswith("_bucket") else set[str]()
        return PROCESS | GATEWAY | le | {label.prometheus_name for label in EXPORTED[name].labels}
    if name in OF_ALERTS:
        return OF_ALERTS[name].union(*map(_of_alert, ALERTS))
    return OTHERS[name]


def _of_alert(alert: Alert) -> frozenset[str]:
    return frozenset(alert.labels) | (labels(promql.parse(alert.expr)) or frozenset())


def _names(selector: promql.VectorSelector) -> list[str]:
    """The names that a selector means, also by a pattern of them."""
    if selector.name:
        return [selector.name]
    known = (*EXPORTED, *RECORDED, *OTHERS)
    asked = _on(selector, "__name__")
    return [name for name in known if all(_matches(matcher, name) for matcher in asked)]


def _on(selector: promql.VectorSelector, label: str) -> list[promql.Matcher]:
    return [matcher for matcher in selector.matchers.matchers if matcher.name == label]


def _matches(matcher: promql.Matcher, value: str) -> bool:
    same = bool(re.fullmatch(_pattern(matcher), value))
    return same == (matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re))


def _pattern(matcher: promql.Matcher) -> str:
    if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe):
        return matcher.value
    return re.escape(matcher.value)


def _of_selector(selector: promql.VectorSelector) -> frozenset[str]:
    assert not selector.matchers.or_matchers
    names = _names(selector)
    assert names, f"{selector} selects nothing that is known"
    found = frozenset[str]().union(*map(of_name, names))
    for matcher in selector.matchers.matchers:
        assert matcher.name in {*found, "__name__"}, f"{selector} has no label {matcher.name}"
    return found


def _kept(modifier: Any, keeps: bool, of: frozenset[str]) -> frozenset[str]:
    """What is left of labels under by and on, or without and ignoring."""
    named = frozenset(modifier.labels)
    assert named <= of, f"no label {sorted(named - of)} in {modifier}"
    return named if keeps else of - named


def _of_aggregate(expr: promql.AggregateExpr) -> frozenset[str]:
    found = labels(expr.expr) or frozenset()
    operation = str(expr.op)
    if operation in {"topk", "bottomk", "limitk", "limit_ratio"}:
        return found
    if expr.modifier is None:
        return frozenset()
    return _kept(expr.modifier, expr.modifier.type == promql.AggModifierType.By, found)


def _of_binary(expr: promql.BinaryExpr) -> frozenset[str] | None:
    left, right = labels(expr.lhs), labels(expr.rhs)
    if left is None or right is None:
        return right if left is None else left
    operation = str(expr.op)
    if operation == "or":
        return left | right
    modifier: promql.BinModifier | None = expr.modifier
    if modifier is None or modifier.matching is None:
        assert left == right, f"{sorted(left ^ right)} differ, so nothing matches in {expr}"
        return left
    if modifier.matching.type == promql.LabelModifierType.Include:
        matched = _kept(modifier.matching, True, left)
        assert matched == _kept(modifier.matching, True, right), f"nothing matches in {expr}"
    else:
        # One side alone may have what is ignored.
        ignored = frozenset(modifier.matching.labels)
        assert ignored <= left | right, f"no label {sorted(ignored - left - right)} in {expr}"
        matched = left - ignored
        assert matched == right - ignored, f"nothing matches in {expr}"
    if operation in {"and", "unless"}:
        return left
    if modifier.card == promql.VectorMatchCardinality.ManyToOne:
        return left | frozenset(modifier.group_labels or ())
    return matched


def _of_call(expr: promql.Call) -> frozenset[str] | None:
    arguments = [labels(argument) for argument in expr.args]
    vectors = [found for found in arguments if found is not None]
    match expr.func.name:
        case "scalar" | "time":
            return None
        case "vector":
            return frozenset()
        case "absent" | "absent_over_time":
            selector = expr.args[0]
            inner = getattr(selector, "vector_selector", selector)
            equal = promql.MatchOp.Equal
            return frozenset(m.name for m in inner.matchers.matchers if m.op == equal)
        case "histogram_quantile":
            assert "le" in vectors[0], f"no le in {expr}"
            return vectors[0] - {"le"}
        case "label_replace" | "label_join":
            return vectors[0] | {expr.args[1].val}
        case _:
            return vectors[0] if vectors else None


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
            for wanted in _pattern(matcher).split("|"):
                assert any(re.fullmatch(wanted, value) for value in label.values), str(selector)


@each_query
def test_a_bound_is_a_bucket_in_both_spellings(query: Query) -> None:
    """`le` is 10.0 in a scraped process and 10 through OTLP."""
    for selector in _selectors(query.expr):
        for matcher in _on(selector, "le"):
            bounds = {bound for metric in _behind(selector) for bound in metric.buckets}
            scraped = {bound for bound in bounds if _matches(matcher, str(bound))}
            pushed = {bound for bound in bounds if _matches(matcher, f"{bound:g}")}
            assert scraped == pushed, str(selector)
            assert scraped or matcher.value == "+Inf", str(selector)
