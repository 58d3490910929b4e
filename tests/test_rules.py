"""Every alert has what a person needs at three in the morning, and was seen to be right."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import promql_parser
import pytest
import yaml

from tools import markdown
from tools.panels import ALERT_PANELS, FIRING, PANELS
from tools.paths import DEPLOY
from tools.rules import (
    ALERTS,
    CASES,
    PROMETHEUS,
    RULES,
    RUNBOOK_BASE,
    RUNBOOKS,
    SEVERITIES,
    Alert,
    Case,
    Rule,
    parsed,
    queries,
    selected,
    sources,
)
from victor_otel.model.metric import Kind
from victor_otel.victor import catalog
from victor_otel.victor.supported import TESTED, is_supported, is_untested, release

_ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
INHIBITION = yaml.safe_load(_ALERTMANAGER.read_text(encoding="utf-8"))["inhibit_rules"][0]
BY_NAME = {alert.name: alert for alert in ALERTS}

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


# What an alert says

PANEL = ("__dashboardUid__", "__panelId__")
"""By these annotations Grafana links an alert to a panel."""


@each_alert
def test_an_alert_says_whom_it_concerns_and_what_it_means(alert: Alert) -> None:
    assert re.fullmatch(r"([A-Z]+[a-z0-9]+)+", alert.name)
    assert alert.group.startswith("victor-")
    assert set(alert.labels) == {"severity", "topic"}
    assert alert.severity in SEVERITIES
    assert (alert.severity == "none") == (alert.name == "Watchdog")
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", alert.labels["topic"])
    assert set(alert.annotations) == {"summary", "description", "runbook_url", *PANEL}
    assert alert.annotations["runbook_url"] == f"{RUNBOOK_BASE}/{alert.name}.md"
    dashboard, panel = ALERT_PANELS.get(alert.name, FIRING)
    assert [alert.annotations[name] for name in PANEL] == [dashboard, str(panel)]
    summary, description = alert.annotations["summary"], alert.annotations["description"]
    assert summary
    assert "\n" not in summary
    assert not summary.endswith(".")
    assert description.endswith(".")


PLACEHOLDERS = {
    "tool": {"other", "unknown"},
    "provider": {"other", "unknown"},
    "workflow": {"other", "unnamed"},
    "endpoint": {"other", "unmatched"},
    "vertical": {"other", "none"},
    "memory_type": {"other", "none"},
    "operation": {"other"},
    "component": {"other"},
    "cache": {"other"},
    "scanner": {"other"},
    "source": {"other"},
    "interface": {"other"},
}
"""Values of labels that are no names."""


def _selected_values(alert: Alert, label: str) -> set[str]:
    """The only values that a label of an alert can have, where its expression names them."""
    matchers = [
        matcher
        for node in parsed(alert.expr)
        if isinstance(node, promql_parser.VectorSelector)
        for matcher in node.matchers.matchers
        if matcher.name == label
        and matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.Re)
    ]
    return {value for matcher in matchers for value in matcher.value.split("|")}


@each_alert
def test_an_alert_shows_no_placeholder_as_a_name(alert: Alert) -> None:
    for text in alert.annotations.values():
        for label in set(re.findall(r"{{ \$labels\.(\w+) }}", text)) & set(PLACEHOLDERS):
            if _selected_values(alert, label):
                continue
            condition = re.search(rf"(?:eq|ne) \$labels\.{label}((?: \"\w+\")+)", text)
            assert condition is not None, f"{label} is shown whatever its value"
            assert set(re.findall(r"\w+", condition[1])) == PLACEHOLDERS[label]


@each_alert
def test_an_alert_counts_what_its_expression_reads(alert: Alert) -> None:
    """So the numbers that a text adds are of the same calls in the same window."""
    text = " ".join(alert.annotations.values())
    read = set[str]().union(*map(selected, sources(alert)))
    for query, filled in re.findall(r"printf `([^`]*)`((?: \$labels\.\w+)*) \| query", text):
        (selector,) = parsed(query.replace("%q", '""'))
        assert isinstance(selector, promql_parser.VectorSelector)
        assert selector.name in read
        asked = [matcher.name for matcher in selector.matchers.matchers]
        assert filled.split() == [f"$labels.{label}" for label in asked]
        counted = re.search(r":(?:total|failures|errors)_(\d+)m$", selector.name)
        assert counted is not None, f"{selector.name} is no count"
        assert f"in {counted[1]} min)" in text


def test_no_name_is_given_twice() -> None:
    assert [name for name, count in Counter(rule.name for rule in RULES).items() if count > 1] == []


# Runbooks

HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Escalation"]
FIRST_LINES = ["What is wrong", "Check", "Do"]
"""What a person reads who was woken a minute ago."""


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(BY_NAME)


@each_alert
def test_a_runbook_begins_with_what_is_wrong_and_what_to_do(alert: Alert) -> None:
    intro = alert.runbook.read_text(encoding="utf-8").partition("\n## ")[0]
    assert re.findall(r"^- \*\*(.+)\*\*: \S", intro, re.MULTILINE) == FIRST_LINES


@each_alert
def test_a_runbook_links_the_panel_that_its_alert_links(alert: Alert) -> None:
    """So the link leads somewhere: the alert's panel is one that there is."""
    text = alert.runbook.read_text(encoding="utf-8")
    uid, panel = (alert.annotations[name] for name in PANEL)
    assert (uid, panel) in {(one.uid, str(one.id)) for one in PANELS}
    assert re.findall(r"/d/[\w-]+\?viewPanel=[\w-]+", text) == [f"/d/{uid}?viewPanel=panel-{panel}"]
    assert f"](../../docs/dashboards.md#{uid.removeprefix('victor-')})" in text


@each_alert
def test_a_runbook_says_to_whom_and_when_to_escalate(alert: Alert) -> None:
    text = alert.runbook.read_text(encoding="utf-8").partition("\n## Escalation\n")[2]
    said = " ".join(text.split())
    assert re.search(r"Escalate to \S.+ if ", said)
    assert re.search(r"(minutes|hours?|day|week|month)\b|at once", said)
    # Whoever is told of a hint is told by day.
    assert (alert.severity == "info") <= said.startswith("Do not escalate at night.")


@each_alert
def test_a_runbook_has_its_headings_and_queries_to_run(alert: Alert) -> None:
    text = alert.runbook.read_text(encoding="utf-8")
    assert text.startswith(f"# {alert.name}\n")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts[2::2])
    diagnosis = parts[2::2][HEADINGS.index("Diagnosis")]
    assert queries(diagnosis)
    # All can be checked: none is indented out of sight, left open or in another language.
    assert text.count("```promql") == len(queries(text))
    for query in queries(text):
        promql_parser.parse(query)


def test_the_line_in_the_readme_gives_all_alerts_runbooks_of_ones_own(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    readme = (PROMETHEUS / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Your own runbooks")[2]
    command = markdown.blocks(section, "sh")[0]
    subprocess.run(["sh", "-ec", command.text], cwd=tmp_path, check=True)
    for folder, links in (("rules", len(ALERTS)), ("tests", 1)):
        text = "".join(
            path.read_text(encoding="utf-8") for path in (tmp_path / folder).glob("*.yml")
        )
        assert RUNBOOK_BASE not in text
        assert text.count("https://wiki.example.org/victor/") >= links


# promtool


def cases(alert: Alert) -> dict[tuple[str, int], list[Case]]:
    """What promtool checks of an alert, by test and in order; not at 0, before any data."""
    stories: dict[tuple[str, int], list[Case]] = defaultdict(list)
    for case in sorted(CASES, key=lambda case: case.seconds):
        if case.alert == alert.name and case.seconds:
            stories[case.story].append(case)
    return stories


@each_alert
def test_an_alert_was_seen_silent_firing_and_resolved(alert: Alert) -> None:
    stories = [
        [{tuple(sorted(one["exp_labels"].items())) for one in case.expected} for case in story]
        for story in cases(alert).values()
    ]
    assert any(any(story) for story in stories), "never fires"
    if alert.name == "Watchdog":
        return  # it always does
    assert any(not all(story) for story in stories), "never silent"
    assert any(before - after for story in stories for before, after in pairwise(story)), (
        "never resolved"
    )


def test_promtool_checks_no_alert_that_is_not_there() -> None:
    assert {case.alert for case in CASES} - set(BY_NAME) == set()


EQUAL = frozenset(INHIBITION["equal"])


def dimensions(alert: Alert) -> set[frozenset[str]]:
    """Which of the labels that inhibition compares it has, as promtool saw it."""
    return {
        frozenset(one["exp_labels"]) & EQUAL
        for case in CASES
        if case.alert == alert.name
        for one in case.expected
    }


def test_a_warning_has_the_labels_by_which_its_critical_silences_it() -> None:
    for warning in ALERTS:
        criticals = [
            one
            for one in ALERTS
            if one.severity == "critical" and one.labels["topic"] == warning.labels["topic"]
        ]
        if warning.severity == "warning" and criticals:
            there = set[frozenset[str]]().union(*map(dimensions, criticals))
            assert dimensions(warning) <= there, warning.name


# Expressions (tests/test_rule_names.py says what they may read)

PER_PROCESS = {m.prometheus_name for m in catalog.METRICS if m.kind in {Kind.RATIO, Kind.RATE}}
_MIXING = {"sum", "avg", "quantile", "stddev", "stdvar"}


@each_rule
def test_no_rule_adds_up_or_averages_what_each_process_computed_for_itself(rule: Rule) -> None:
    for node in parsed(rule.expr):
        if isinstance(node, promql_parser.AggregateExpr) and str(node.op) in _MIXING:
            read = [node.expr.prettify()]
            for one in RULES:
                if one.name in selected(read[0]):
                    read += sources(one)
            assert PER_PROCESS & set[str]().union(*map(selected, read)) == set()


# Versions

VERSIONS = [
    "none",
    *(f"0.{minor}.{patch}" for minor in range(40) for patch in range(30)),
    *(f"{major}.{minor}.0" for major in (1, 2, 17) for minor in range(20)),
    *("0.9", "0.10", "0.17", "0.18", "1.0", "0.17.0.1", "0.170.0", "0.90.5", "10.9.5"),
    *(
        f"{base}{more}"
        for base in ("0.9.4", "0.9.5", "0.17.0", "0.17.1")
        for more in ("rc1", ".dev3")
    ),
    *(
        f"{base}{more}"
        for base in ("0.12.0", "0.17.0", "0.17.1")
        for more in (".post1", "+local.1")
    ),
]


def test_a_version_fires_where_doctor_calls_it_untested() -> None:
    (selector,) = (
        node
        for node in parsed(BY_NAME["UntestedVictorVersion"].expr)
        if isinstance(node, promql_parser.VectorSelector)
    )
    (matcher,) = selector.matchers.matchers
    assert (matcher.name, matcher.op) == ("victor_version", promql_parser.MatchOp.NotRe)
    silent = {one for one in VERSIONS if re.fullmatch(matcher.value, one)}
    tested = {one for one in VERSIONS if release(TESTED[0]) <= release(one) <= release(TESTED[-1])}
    assert silent == tested | {"none"}
    assert silent == {one for one in VERSIONS if not _is_warned_of(one)}


def _is_warned_of(version: str) -> bool:
    """By `doctor`; without Victor there is no version."""
    return version != "none" and (not is_supported(version) or is_untested(version))


def test_the_versions_that_the_alert_names_are_the_tested_ones() -> None:
    alert = BY_NAME["UntestedVictorVersion"]
    said = alert.annotations["description"] + alert.runbook.read_text(encoding="utf-8")
    assert set(re.findall(r"\b\d+\.\d+\.\d+\b", said)) == {TESTED[0], TESTED[-1]}


# Victor's guide (docs/alerts.md says what has no alert, and why)


@pytest.mark.parametrize(
    ("name", "severity", "duration", "threshold"),
    [
        ("HighErrorRate", "critical", "2m", 0.05),
        ("SlowResponseTime", "critical", "5m", 30),
        ("HighMemoryUsage", "critical", "5m", 0.9),
        ("HighProviderErrorRate", "critical", "3m", 0.1),
        ("SecurityTestFailure", "critical", "1m", 0.9),
        ("DegradedResponseTime", "warning", "5m", 10),
        ("ElevatedMemoryUsage", "warning", "10m", 0.75),
        ("HighToolFailureRate", "warning", "5m", 0.05),
        ("LowVerticalSuccessRate", "warning", "10m", 0.9),
    ],
)
def test_the_nine_alerts_of_the_guide_are_here(
    name: str, severity: str, duration: str, threshold: float
) -> None:
    alert = BY_NAME[name]
    assert (alert.severity, alert.duration) == (severity, duration)
    assert threshold in numbers(alert)


@pytest.mark.parametrize(
    ("metric", "limits", "name"),
    [
        ("victor_initialization_duration_seconds_bucket", (0.95, 5), "SlowInitialization"),
        ("victor_initialization_duration_seconds_bucket", (0.99, 10), "SlowInitializationTail"),
        ("victor_request_duration_seconds_bucket", (0.95, 10), "DegradedResponseTime"),
        ("victor_request_duration_seconds_bucket", (0.99, 30), "SlowResponseTimeTail"),
        ("victor_chat_request_duration_seconds_bucket", (0.95, 15), "SlowChat"),
        ("victor_chat_request_duration_seconds_bucket", (0.99, 45), "SlowChatTail"),
        ("victor_tool_execution_duration_seconds_bucket", (0.95, 5), "SlowToolExecution"),
        ("victor_tool_execution_duration_seconds_bucket", (0.99, 15), "SlowToolExecutionTail"),
        ("victor_provider_latency_seconds_bucket", (0.95, 10), "SlowProvider"),
        ("victor_provider_latency_seconds_bucket", (0.99, 30), "SlowProviderTail"),
        ("victor_memory_usage_bytes", (0.75,), "ElevatedMemoryUsage"),
        ("victor_cpu_usage_percent", (80,), "HighCPUUsage"),
        ("victor_requests_total", (0.05,), "HighRequestFailureRate"),
        ("victor_requests_total", (), "TrafficDrop"),
        ("victor_security_authorization_success_rate", (0.95,), "LowAuthorizationSuccessRate"),
        ("victor_security_failed_authorizations_total", (), "FailedAuthorizationSpike"),
        ("victor_security_test_pass_rate", (0.9,), "SecurityTestFailure"),
        ("victor_security_vulnerabilities_found_total", (), "VulnerabilitiesFound"),
        ("victor_security_scan_duration_seconds_bucket", (0.95, 60), "SlowSecurityScan"),
    ],
)
def test_each_threshold_in_the_tables_of_the_guide_has_an_alert(
    metric: str, limits: tuple[float, ...], name: str
) -> None:
    alert = BY_NAME[name]
    assert metric in set[str]().union(*map(selected, sources(alert)))
    assert set(limits) <= numbers(alert)


@pytest.mark.parametrize(
    "name",
    [
        "VictorDown",  # was ServiceDown
        "HighCPUUsage",
        "HighCacheMissRate",
        "ProviderRateLimit",
        "ProviderTimeout",
        "HighRAGRetrievalLatency",
        "DevOpsDeploymentFailure",
        "LowPlanningSuccessRate",
        "LowMemoryRecallAccuracy",
    ],
)
def test_the_further_alerts_of_its_first_version_are_here(name: str) -> None:
    assert name in BY_NAME


def numbers(alert: Alert) -> set[float]:
    """The numbers in the expressions behind an alert."""
    nodes = [node for expr in sources(alert) for node in parsed(expr)]
    return {node.val for node in nodes if isinstance(node, promql_parser.NumberLiteral)}
