"""The series that rules and dashboards may name, and their labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import promql_parser as promql

from tools.rules import ALERTS, RULES, Alert
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


def exported() -> Iterator[tuple[str, Metric]]:
    """Every series name of the catalogue."""
    for metric in catalog.METRICS:
        parts = ("_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",)
        for part in parts:
            yield metric.prometheus_name + part, metric


EXPORTED = dict(exported())

RECORDED = {rule.name: rule for rule in RULES if not isinstance(rule, Alert)}


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
    asked = on(selector, "__name__")
    return [name for name in known if all(matches(matcher, name) for matcher in asked)]


def on(selector: promql.VectorSelector, label: str) -> list[promql.Matcher]:
    return [matcher for matcher in selector.matchers.matchers if matcher.name == label]


def matches(matcher: promql.Matcher, value: str) -> bool:
    same = bool(re.fullmatch(pattern(matcher), value))
    return same == (matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re))


def pattern(matcher: promql.Matcher) -> str:
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
