"""Every panel can be read, asks for what is there, and is right for any number of processes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import promql_parser as promql
import pytest

from tests.kit.series import EXPORTED, OF_ALERTS, PROCESS, RECORDED, labels, of_name
from tools.grafana.promql import ABOUT
from tools.panels import (
    ALERT_PANELS,
    ANNOTATIONS,
    CHOICES,
    DOCUMENTS,
    EMPTY_ALLOWED,
    FIRING,
    PANELS,
    QUESTIONS,
    Annotation,
    Panel,
    Question,
    filled,
)
from tools.paths import ROOT
from tools.rules import ALERTS, RUNBOOK_BASE, parsed, selected
from victor_otel.model.metric import Kind

ASKED: Sequence[Question | Annotation] = [*QUESTIONS, *ANNOTATIONS]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

GUIDE: Mapping[str, Mapping[str, str]] = {
    "victor-overview": {
        "Request rate (requests/sec)": "Request rate",
        "Error rate (%)": "Error rate",
        "P50/P95/P99 latency": "Latency p50, p95, p99",
        "Active users": "Active users",
        "System health (up/down)": "System health",
        "Provider status": "Provider status",
        "Vertical usage distribution": "Vertical usage distribution",
        "total requests (predecessor)": "Requests",
        "memory (predecessor)": "Memory, share of the limit",
        "CPU (predecessor)": "CPU",
    },
    "victor-performance": {
        "Response time percentiles (p50, p95, p99)": "Response time percentiles",
        "Tool execution time by tool": "Tool execution time by tool (p95)",
        "Provider latency by provider": "Provider latency by provider (p95, p99)",
        "Memory usage over time": "Memory usage",
        "CPU usage over time": "CPU usage",
        "Request rate trends": "Request rate trends",
        "Cache hit rates": "Cache hit rates",
        "chat p95 (predecessor)": "Chat time percentiles",
        "initialization p95 (predecessor)": "Agent start percentiles",
        "tool p95 (predecessor)": "Tool p95",
    },
    "victor-verticals": {
        "Vertical usage (by request count)": "Vertical usage",
        "Tool usage by vertical": "Tool usage by vertical",
        "Success rates by vertical": "Success rates by vertical",
        "Coding: files analyzed, LOC reviewed": (
            "Coding: files analyzed, LOC reviewed, tests generated"
        ),
        "Coding: issues found": "Coding: issues found",
        "RAG: documents ingested": "RAG: documents ingested",
        "RAG: search accuracy": "RAG: search accuracy",
        "DevOps: deployments": "DevOps: deployments",
        "DevOps: containers managed": "DevOps: containers managed",
        "DataAnalysis: queries executed, visualizations created": (
            "DataAnalysis: queries executed, visualizations created"
        ),
        "Research: searches performed, citations generated": (
            "Research: searches performed, citations generated, sources analyzed"
        ),
    },
    "victor-errors": {
        "Error rate by endpoint": "Error rate by endpoint",
        "Error types distribution": "Error types distribution",
        "Error trends over time": "Error trends over time",
        "Tool failures by tool": "Tool failures by tool",
        "Provider failures by provider": "Provider failures by provider",
        "Security events": "Security events",
        "Error rate heatmap (endpoint x time)": "Error rate heatmap (endpoint x time)",
        "overall (predecessor)": "Error rate now",
        "authorization failures by reason (predecessor)": "Authorization failures by reason",
        "rate limits (predecessor)": "Provider rate limits and retries",
        "timeouts (predecessor)": "Timeouts",
        "workflow failures (predecessor)": "Workflow and memory failures",
    },
}
"""The panels of the guide, and of the dashboards that it was written for, by their titles here."""

REFRESH = {
    "victor-overview": "30s",
    "victor-performance": "15s",
    "victor-verticals": "1m",
    "victor-errors": "1m",
}
"""As the guide says."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one["uid"])
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda one: f"{one.uid}:{one.title}")
each_asked = pytest.mark.parametrize("asked", ASKED, ids=lambda one: f"{one.uid}:{one.expr[:40]}")


# What is shown


def everything(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rows and panels, also those of rows that are collapsed."""
    for place in document["panels"]:
        yield place
        yield from place.get("panels", ())


@each_document
def test_a_dashboard_is_what_others_rely_on(document: dict[str, Any]) -> None:
    assert document["title"].startswith("Victor / ")
    assert document["tags"] == ["victor"]
    assert document["refresh"] == REFRESH[document["uid"]]
    assert document["description"]
    assert document["links"][0]["tags"] == ["victor"]
    assert document["links"][0]["includeVars"]
    assert document["links"][0]["keepTime"]
    assert [one["name"] for one in document["annotations"]["list"]] == [
        "Alerts",
        "Starts",
        "New versions",
    ]


@pytest.mark.parametrize("uid", GUIDE)
def test_every_panel_of_the_guide_is_there(uid: str) -> None:
    titles = {panel.title for panel in PANELS if panel.uid == uid}
    assert set(GUIDE[uid].values()) <= titles


@each_panel
def test_a_panel_explains_itself(panel: Panel) -> None:
    field = panel.json["fieldConfig"]["defaults"]
    assert panel.title
    assert panel.json["description"].endswith(".")
    assert field["unit"]
    assert field["noValue"]
    assert panel.json["datasource"] == SOURCE
    assert panel.json["targets"]
    for target in panel.json["targets"]:
        assert target["datasource"] == SOURCE
        assert target["legendFormat"]


@each_panel
def test_thresholds_rise(panel: Panel) -> None:
    first, *rest = panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"]
    values = [step["value"] for step in rest]
    assert first["value"] is None
    assert values == sorted(set(values))


@each_document
def test_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in everything(document)]
    assert len(ids) == len(set(ids))


@each_document
def test_titles_are_unique(document: dict[str, Any]) -> None:
    titles = Counter(panel["title"] for panel in everything(document))
    assert [title for title, times in titles.items() if times > 1] == []


@each_document
def test_panels_do_not_overlap(document: dict[str, Any]) -> None:
    """Neither those that are seen at first nor, once their row is open, those of a row."""
    for group in (document["panels"], *(row.get("panels", ()) for row in document["panels"])):
        places = [panel["gridPos"] for panel in group]
        for place in places:
            assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
        for one, other in combinations(places, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above, f"{one} and {other}"


def test_links_lead_to_panels() -> None:
    known = {(panel.uid, panel.id) for panel in PANELS}
    for panel in PANELS:
        for link in panel.json.get("links", ()):
            found = re.match(r"/d/([\w-]+)\?viewPanel=panel-(\d+)&", link["url"])
            assert found is not None
            assert (found[1], int(found[2])) in known
            assert "${__all_variables}" in link["url"]


# What a person sees first


@each_document
def test_what_fires_comes_first_in_plain_words_and_leads_to_its_runbook(
    document: dict[str, Any],
) -> None:
    row, first, *_ = document["panels"]
    assert (row["type"], first["title"], first["type"]) == ("row", "What fires", "table")
    assert (first["gridPos"]["x"], first["gridPos"]["y"]) == (0, 1)
    (organized,) = (one["options"] for one in first["transformations"])
    headings = {"severity": "Severity", "alertname": "Alert", "job": "Service", "about": "About"}
    assert organized["renameByName"] == headings | {"Value": "Since"}
    assert list(organized["indexByName"]) == [*headings, "Value"]
    assert organized["excludeByName"] == {"Time": True}
    overrides = {
        one["matcher"]["options"]: one["properties"] for one in first["fieldConfig"]["overrides"]
    }
    ((leads,),) = (each["value"] for each in overrides["Alert"] if each["id"] == "links")
    assert leads["url"] == f"{RUNBOOK_BASE}/${{__value.raw}}.md"


@pytest.mark.parametrize("uid", sorted(set(GUIDE) - {"victor-overview"}))
def test_what_fires_is_that_of_its_dashboard(uid: str) -> None:
    (question,) = (one for one in QUESTIONS if (one.uid, one.title) == (uid, "What fires"))
    (asked,) = {
        matcher.value
        for selector in _selectors(question.expr)
        for matcher in selector.matchers.matchers
        if matcher.name == "alertname"
    }
    here = {alert for alert, (elsewhere, _) in ALERT_PANELS.items() if elsewhere == uid}
    assert set(asked.split("|")) == here


def test_what_an_alert_is_about_is_any_label_of_it() -> None:
    said = {name for alert in ALERTS for name in labels(promql.parse(alert.expr)) or ()}
    assert set(ABOUT) == said - PROCESS


@each_document
def test_an_alert_is_marked_where_it_began_not_for_as_long_as_it_fires(
    document: dict[str, Any],
) -> None:
    """Grafana makes a region of samples one step apart, but takes the value for the time here."""
    (alerts,) = (one for one in document["annotations"]["list"] if one["name"] == "Alerts")
    assert alerts["useValueForTime"] is True
    assert "1000 * (ALERTS_FOR_STATE and ignoring (alertstate) ALERTS{" in alerts["expr"]
    assert not any(
        one["useValueForTime"] for one in document["annotations"]["list"] if one is not alerts
    )


@each_panel
def test_what_shows_durations_over_time_leads_to_traces_once(panel: Panel) -> None:
    """Each of its queries would find the same."""
    of_durations = [
        "_seconds_bucket" in target["expr"] and not target["instant"]
        for target in panel.json["targets"]
    ]
    shown = [target.get("exemplar", False) for target in panel.json["targets"]]
    assert sum(shown) == any(of_durations)
    assert all(of for of, exemplar in zip(of_durations, shown, strict=True) if exemplar)


LATEST = [panel for panel in PANELS if panel.json["type"] in {"stat", "bargauge", "table"}]


@pytest.mark.parametrize("panel", LATEST, ids=lambda one: f"{one.uid}:{one.title}")
def test_no_data_is_neutral(panel: Panel) -> None:
    """Grafana gives what has no value the colour of the first step."""
    first, second, *_ = panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert first == {"value": None, "color": "text"}
    assert second["value"] == panel.json["fieldConfig"]["defaults"]["min"]
    assert second["color"] in {"green", "blue", "red"}


@each_panel
def test_counts_keep_their_digits(panel: Panel) -> None:
    """The unit short makes 2 K of 1,500."""
    assert panel.json["fieldConfig"]["defaults"]["unit"] != "short"


LINES = [panel for panel in PANELS if panel.json["type"] == "timeseries"]


@pytest.mark.parametrize("panel", LINES, ids=lambda one: f"{one.uid}:{one.title}")
def test_a_legend_says_the_last_value_and_the_highest(panel: Panel) -> None:
    legend = panel.json["options"]["legend"]
    assert (legend["displayMode"], legend["calcs"]) == ("table", ["lastNotNull", "max"])


@each_document
def test_a_start_is_marked_with_host_and_process_id(document: dict[str, Any]) -> None:
    (starts,) = (one for one in document["annotations"]["list"] if one["name"] == "Starts")
    assert starts["titleFormat"] == "{{process}} started"
    assert "process" in (labels(promql.parse(filled(starts["expr"]))) or ())


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.place)
def test_a_process_is_named_by_host_and_process_id(question: Question) -> None:
    assert "{{instance}}" not in question.legend
    if "{{process}}" in question.legend:
        assert "label_join((" in question.expr
        assert '"process", " ", "host_name", "process_pid")' in question.expr


def one(uid: str, title: str) -> tuple[Mapping[str, Any], Question]:
    (panel,) = (each for each in PANELS if (each.uid, each.title) == (uid, title))
    (question,) = (each for each in QUESTIONS if (each.uid, each.title) == (uid, title))
    return panel.json["fieldConfig"]["defaults"], question


def test_system_health_is_said_in_words() -> None:
    shown, question = one("victor-overview", "System health")
    (mapping,) = shown["mappings"]
    words = {value: (word["text"], word["color"]) for value, word in mapping["options"].items()}
    assert words == {"0": ("DOWN", "red"), "1": ("UP", "green")}
    # It is never another number.
    assert question.expr.startswith("group by (job) (")


def test_provider_status_is_the_share_of_calls_that_succeeded_red_where_an_alert_fires() -> None:
    shown, question = one("victor-overview", "Provider status")
    assert selected(filled(question.expr)) == {"victor_provider_requests_total"}
    assert "[5m]" in question.expr
    colors = {step["value"]: step["color"] for step in shown["thresholds"]["steps"]}
    assert colors == {None: "text", 0: "red", 0.9: "yellow", 0.95: "green"}
    (alert,) = (each for each in ALERTS if each.name == "HighProviderErrorRate")
    assert "> 0.1" in alert.expr


@pytest.mark.parametrize("uid", ["victor-overview", "victor-errors"])
def test_the_error_budget_waits_for_data(uid: str) -> None:
    """The rule does, as its promtool cases say."""
    shown, question = one(uid, "Error budget left")
    assert selected(question.expr.replace("$job", "")) == {
        "job:victor_slo_requests:error_budget_remaining"
    }
    assert shown["noValue"] == "not enough data yet"


def height(uid: str) -> int:
    (document,) = (each for each in DOCUMENTS if each["uid"] == uid)
    return max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in document["panels"])


def test_errors_is_read_on_two_screens() -> None:
    """A screen shows some 24 lines of the grid."""
    assert height("victor-errors") <= 42


def test_the_heat_map_shows_endpoints_that_failed() -> None:
    _, question = one("victor-errors", "Error rate heatmap (endpoint x time)")
    failed = [node for node in parsed(filled(question.expr)) if "@ end()" in str(node)]
    assert failed
    _, _, condition = question.expr.partition(" and on (endpoint) ")
    assert 'status=~"5.."' in condition
    assert condition.endswith("> 0")


def test_rows_of_packages_open_when_somebody_wants_them() -> None:
    """Grafana cannot collapse a row for want of data."""
    rows = {
        document["uid"]: {
            each["title"].partition(":")[0]: each["collapsed"]
            for each in document["panels"]
            if each["type"] == "row"
        }
        for document in DOCUMENTS
    }
    assert {title for title, collapsed in rows["victor-verticals"].items() if collapsed} == {
        "Coding",
        "RAG",
        "DevOps",
        "Data analysis",
        "Research",
        "Agents",
    }
    assert not any(rows["victor-overview"].values())


PICTURES = ROOT / "docs" / "pictures"


@each_document
def test_its_picture_is_on_its_page_and_loads_quickly(document: dict[str, Any]) -> None:
    name = f"dashboard-{document['uid'].removeprefix('victor-')}.png"
    assert f"](pictures/{name})" in (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    assert 0 < (PICTURES / name).stat().st_size < 400_000


# Alerts


def test_every_alert_leads_to_a_panel() -> None:
    """Those of the pipeline lead to what fires; Victor's own each to the panel that shows it."""
    known = {(panel.uid, panel.id) for panel in PANELS}
    assert {*ALERT_PANELS.values(), FIRING} <= known
    elsewhere = {alert.name for alert in ALERTS if alert.name not in ALERT_PANELS}
    pipeline = {alert.name for alert in ALERTS if alert.file in {"collector.yml", "monitoring.yml"}}
    assert elsewhere == pipeline
    assert set(ALERT_PANELS) <= {alert.name for alert in ALERTS}


@each_panel
def test_a_panel_names_its_alerts(panel: Panel) -> None:
    expected = [name for name, place in ALERT_PANELS.items() if place == (panel.uid, panel.id)]
    _, _, said = panel.json["description"].partition("\n\nAlerts: ")
    assert [name for name in said.rstrip(".").split(", ") if name] == expected


def test_no_alert_has_two_panels() -> None:
    said = [panel.json["description"].partition("\n\nAlerts: ")[2] for panel in PANELS]
    names = Counter(name for each in said if each for name in each.rstrip(".").split(", "))
    assert set(names.values()) == {1}


# Variables


@each_document
def test_every_variable_is_used_and_every_used_one_is_there(document: dict[str, Any]) -> None:
    declared = {one["name"] for one in document["templating"]["list"]}
    asked = [one.expr for one in ASKED if one.uid == document["uid"]]
    chosen = {name for expr in asked for name in re.findall(r"\$([a-z]\w*)", expr)}
    assert declared == chosen | {"datasource"}


def test_all_takes_in_what_has_no_such_label() -> None:
    assert {(choice.name, choice.all_value) for choice in CHOICES} == {
        ("job", ".*"),
        ("instance", ".*"),
        ("vertical", ".*"),
        ("provider", ".*"),
    }


def test_choices_are_offered_from_labels_that_are_there() -> None:
    for choice in CHOICES:
        (name,) = selected(filled(choice.selector))
        assert choice.label in of_name(name)


def test_only_our_variables_and_those_of_grafana_are_replaced() -> None:
    template = 'f(m{job=~"$job",provider=~"$provider"}[$__rate_interval], "$1") offset $__range'
    expected = 'f(m{job=~"shop",provider=~".*"}[1m], "$1") offset 1h'
    assert filled(template, job="shop") == expected


# What is asked


def _selectors(expr: str) -> Iterator[promql.VectorSelector]:
    for node in parsed(filled(expr)):
        if isinstance(node, promql.VectorSelector):
            yield node


def test_what_is_read_is_exported() -> None:
    known = {*EXPORTED, *RECORDED, *OF_ALERTS, "target_info"}
    for asked in ASKED:
        assert selected(filled(asked.expr)) <= known


@each_asked
def test_labels_are_those_of_the_series(asked: Question | Annotation) -> None:
    labels(promql.parse(filled(asked.expr)))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.place)
def test_a_legend_speaks_of_labels_that_are_there(question: Question) -> None:
    said = set(re.findall(r"{{(\w+)}}", question.legend))
    assert said <= (labels(promql.parse(filled(question.expr))) or frozenset())


def test_what_is_asked_of_a_closed_label_is_one_of_its_values() -> None:
    for asked in ASKED:
        for selector in _selectors(asked.expr):
            metric = EXPORTED.get(selector.name or "")
            closed = (
                {label.prometheus_name: label.values for label in metric.labels} if metric else {}
            )
            for matcher in selector.matchers.matchers:
                if closed.get(matcher.name):
                    assert set(matcher.value.split("|")) <= set(closed[matcher.name])


def test_choices_apply_to_all_that_can_tell() -> None:
    """To a recorded number as far as its labels go; what is usual knows no process."""
    for asked in ASKED:
        (variables,) = (
            {one["name"] for one in document["templating"]["list"]}
            for document in DOCUMENTS
            if document["uid"] == asked.uid
        )
        chosen = {name: f"chosen-{name}" for name in ("job", "instance", "vertical", "provider")}
        for node in parsed(filled(asked.expr, **chosen)):
            if not isinstance(node, promql.VectorSelector) or node.name in OF_ALERTS:
                continue
            name = node.name or ""
            if not name.startswith("victor:"):
                found = {(one.name, one.value) for one in node.matchers.matchers}
                for label in of_name(name) & variables & set(chosen):
                    assert (label, chosen[label]) in found, f"{name} is of any {label}"


OWN = {Kind.RATIO, Kind.RATE}
RATIO = re.compile(r"[_:]ratio|:p\d\d_|remaining|_rate$|accuracy$|score$")


def test_no_ratio_or_quantile_is_added_up_or_averaged() -> None:
    """What each process computes for itself has no sum; nor has a recorded ratio or quantile."""
    for asked in ASKED:
        for node in parsed(filled(asked.expr)):
            if isinstance(node, promql.AggregateExpr) and str(node.op) in {"sum", "avg"}:
                for name in selected(str(node.expr)):
                    metric = EXPORTED.get(name)
                    assert metric is None or metric.kind not in OWN, f"{node}"
                    assert not RATIO.search(name), f"{node}"


def test_quantiles_are_of_all_processes_together() -> None:
    for asked in ASKED:
        for node in parsed(filled(asked.expr)):
            if isinstance(node, promql.Call) and node.func.name == "histogram_quantile":
                buckets = node.args[1]
                assert isinstance(buckets, promql.AggregateExpr)
                assert "instance" not in (labels(buckets) or ())


def test_nothing_is_divided_by_zero() -> None:
    """0/0 is NaN, which a panel shows as a number."""
    for asked in ASKED:
        for node in parsed(filled(asked.expr)):
            if isinstance(node, promql.BinaryExpr) and str(node.op) == "/":
                below = node.rhs
                while isinstance(below, promql.ParenExpr):
                    below = below.expr
                constant = isinstance(below, promql.NumberLiteral) or (
                    selected(str(below)) == {"victor:slo_requests:error_budget"}
                )
                assert constant or (isinstance(below, promql.BinaryExpr) and str(below.op) == ">")


def test_what_may_be_empty_is_a_query() -> None:
    assert set(EMPTY_ALLOWED) <= {(one.uid, one.title, one.legend) for one in QUESTIONS}
