"""What of the alerts can be chosen, and what is exported then."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from typer.testing import CliRunner

from tests.kit.kubernetes import groups
from tools import alerts as generator
from tools.paths import ROOT
from tools.rules import ALERTS, RUNBOOK_BASE, parsed
from victor_otel.alerting import render
from victor_otel.alerting.parameters import (
    DEFAULTS,
    ORDERED,
    PARAMETERS,
    PLACEHOLDER,
    ParameterError,
    chosen,
)
from victor_otel.cli import app
from victor_otel.export import RECORD, ExportError, export
from victor_otel.victor import catalog

SOURCES = "".join(text for _, text in render.sources())
LINKS = generator.places()["alerts"]


def rules(*assignments: str) -> dict[str, Any]:
    """The alerts by name, as they are with these values."""
    texts = render.rules(chosen(assignments), LINKS, RUNBOOK_BASE).values()
    groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    return {
        rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]
    }


# The parameters


def test_every_parameter_is_used_and_every_placeholder_is_a_parameter() -> None:
    used = {name for name, _ in PLACEHOLDER.findall(SOURCES)}
    assert used == PARAMETERS.keys() - {"job"}


def test_an_alert_reads_no_parameter_of_another() -> None:
    for alert, names in render.alerts().items():
        assert {name.partition(".")[0] for name in names} <= {alert}


def test_defaults_are_values() -> None:
    assert {name: each.read(each.default) for name, each in PARAMETERS.items()} == DEFAULTS
    assert chosen(f"{name}={value}" for name, value in DEFAULTS.items()) == {}


def test_each_alert_that_waits_says_how_long_by_a_parameter() -> None:
    waiting = {f"{alert.name}.for" for alert in ALERTS if alert.duration}
    assert {name for name in PARAMETERS if name.endswith(".for")} == waiting


NO_PARAMETERS = {
    "MemoryExhaustionPredicted": {1},  # the whole limit
    "OtelCollectorQueueFilling": {1},  # the whole queue
    "VictorDown": {1},  # a process is an API server
    "ProviderDown": {1},  # a call succeeded
    "ShortRunDataFiltered": {1},  # any
    "SeveralVersionsRunning": {1},  # more than one
    "TelemetryHooksMissing": {1},  # is missing
    "CPUHeadroomLow": {1},  # a process is an API server
    "RequestErrorBudgetBurnFast": {14.4, 6},  # 2% of 30 days in an hour, 5% in six
    "RequestErrorBudgetBurnSlow": {3, 1},  # 10% of 30 days in a day and in three
}
"""Numbers that alerts compare with and that are what they are, and what they mean. 0 is none."""


def compared(expr: str) -> set[float]:
    """The numbers in comparisons of an expression."""
    found: set[float] = set()
    for node in parsed(expr):
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) in {
            *("<", "<=", ">", ">=", "==", "!=")
        }:
            for side in (node.lhs, node.rhs):
                if isinstance(side, promql_parser.NumberLiteral):
                    found.add(side.val)
    return found - {0}


def test_every_number_that_an_alert_compares_with_is_a_parameter_or_has_a_reason() -> None:
    others = {name: _other(name) for name in PARAMETERS if not name.endswith((".for", "job"))}
    after = rules(*(f"{name}={value}" for name, value in others.items()))
    kept = {
        alert.name: same
        for alert in ALERTS
        if (same := compared(alert.expr) & compared(after[alert.name]["expr"]))
    }
    assert kept == NO_PARAMETERS


def _other(name: str) -> str:
    """A value that is not the default, nor that of another parameter."""
    one = PARAMETERS[name]
    if one.among:
        return next(value for value in one.among if value != one.default)
    if one.whole:
        return str(int(one.default) + 7)
    return str(Decimal(one.default) * Decimal("0.97"))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("HighErrorRate", "--set wants NAME=VALUE, not 'HighErrorRate'"),
        ("HighErorRate.threshold=0.1", "no parameter .* did you mean HighErrorRate.threshold"),
        ("budget=1", "there is no parameter 'budget': docs/alerts.md lists all"),
        ("HighErrorRate.threshold=5%", r"a number from 0.0001 to 0.9999 \(ratio\), not '5%'"),
        ("HighErrorRate.threshold=5", r"a number from 0.0001 to 0.9999 \(ratio\), not '5'"),
        ("HighErrorRate.threshold=nan", "a number from 0.0001"),
        ("HighErrorRate.minimum=2.5", r"a whole number from 1 to \d+ \(count\), not '2.5'"),
        ("HighErrorRate.for=120", r"a duration from 0m to 7d \(duration\), not '120'"),
        ("HighErrorRate.threshold=2m", "a number from 0.0001"),
        ("slo.seconds=11", r"one of 1, 2.5, 5, 10, 15, 30, 45, 60, 120 \(seconds\), not '11'"),
        ('job=a"b', "names of services"),
        ("job=a(b", "names of services"),
        ("ElevatedMemoryUsage.threshold=0.95", "HighMemoryUsage.threshold=0.9.*: change"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_what_can(assignment: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        chosen([assignment])


def test_two_values_may_contradict_each_other_only_on_the_way() -> None:
    both = ["ElevatedMemoryUsage.threshold=0.95", "HighMemoryUsage.threshold=0.97"]
    assert chosen(both) == {
        "ElevatedMemoryUsage.threshold": "0.95",
        "HighMemoryUsage.threshold": "0.97",
    }


def test_what_is_ordered_are_parameters_of_one_unit_in_this_order() -> None:
    for low, high in ORDERED.items():
        assert PARAMETERS[low].unit == PARAMETERS[high].unit
        assert Decimal(DEFAULTS[low]) <= Decimal(DEFAULTS[high])


def test_an_objective_of_time_is_a_bound_of_the_histogram() -> None:
    name = "victor_chat_request_duration_seconds"
    (metric,) = (one for one in catalog.METRICS if one.prometheus_name == name)
    assert {float(value) for value in PARAMETERS["slo.seconds"].among} <= set(metric.buckets)


# The rules


def test_the_committed_files_are_those_of_the_defaults() -> None:
    stale = {path for path, text in generator.files().items() if path.read_text("utf-8") != text}
    assert stale == set()


def test_a_value_is_in_the_expression_and_in_the_text() -> None:
    before, after = rules(), rules("HighErrorRate.threshold=0.125", "HighErrorRate.for=7m")
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {"HighErrorRate"}
    alert = after["HighErrorRate"]
    assert alert["for"] == "7m"
    assert alert["expr"] == before["HighErrorRate"]["expr"].replace("> 0.05", "> 0.125")
    assert "(threshold 12.5%)" in alert["annotations"]["description"]


@pytest.mark.parametrize(
    ("assignment", "alert", "text"),
    [
        ("VictorDown.for=1h", "VictorDown", "has not answered for over 1 h"),
        ("LowMemoryRecallAccuracy.for=90m", "LowMemoryRecallAccuracy", "50% for 90 minutes."),
        ("MemoryLeakSuspected.threshold=1.6", "MemoryLeakSuspected", "more than 60% and 256 MiB"),
        ("TokenUsageSurge.floor=2500000", "TokenUsageSurge", "and 2,500,000 tokens"),
    ],
)
def test_a_text_says_a_value_as_people_do(assignment: str, alert: str, text: str) -> None:
    assert text in " ".join(rules(assignment)[alert]["annotations"].values())


def test_the_objective_is_a_share_for_prometheus() -> None:
    after = rules("slo.availability=99.95", "slo.latency=90", "slo.seconds=2.5")
    assert after["victor:slo_requests:objective"]["expr"] == "vector(0.9995)"
    assert after["victor:slo_chat_latency:objective"]["expr"] == "vector(0.9)"
    slow = after["job:victor_chat_request_duration_seconds:slow_5m"]["expr"]
    assert 'le=~"2.5(\\\\.0)?"' in slow


def test_a_choice_of_services_is_in_each_selector_of_a_metric() -> None:
    names = {
        f"{metric.prometheus_name}{suffix}"
        for metric in catalog.METRICS
        for suffix in ("", "_bucket", "_count", "_sum")
    }
    selected = set[str]()
    for rule in rules("job=victor-(prod|test)").values():
        for node in parsed(rule["expr"]):
            if isinstance(node, promql_parser.VectorSelector) and node.name in names:
                selected.add(node.name)
                matchers = [(one.name, one.value) for one in node.matchers.matchers]
                assert matchers.count(("job", "victor-(prod|test)")) == 1, rule["expr"]
    assert len(selected) > 30


# The export

OTHERS = (
    *("HighErrorRate.threshold=0.1", "DegradedResponseTime.threshold=12.5"),
    *("slo.availability=99.9", "job=victor-prod"),
)


def text(folder: Path, name: str) -> str:
    return (folder / "deploy" / name).read_text("utf-8")


def test_an_export_says_what_made_it(tmp_path: Path) -> None:
    export(tmp_path, assignments=OTHERS)
    version = json.loads((tmp_path / RECORD).read_text("utf-8"))["version"]
    for name, _ in render.sources():
        assert text(tmp_path, f"prometheus/rules/{name}").startswith(
            f"# Generated by victor-otel {version} with other values than its defaults:\n"
            "#   DegradedResponseTime.threshold=12.5\n"
            "#   HighErrorRate.threshold=0.1\n"
            "#   job=victor-prod\n"
            "#   slo.availability=99.9\n"
        )


def test_values_are_remembered_and_can_be_taken_back(tmp_path: Path) -> None:
    export(tmp_path, assignments=OTHERS)
    assert export(tmp_path).written == []
    outcome = export(tmp_path, assignments=[f"{name}={DEFAULTS[name]}" for name in DEFAULTS])
    rule = "deploy/prometheus/rules/requests.yml"
    assert rule in outcome.written
    assert (tmp_path / rule).read_bytes() == (ROOT / rule).read_bytes()
    assert "deploy/prometheus/tests/requests.yml" in outcome.written


def test_other_values_do_not_replace_what_somebody_edited(tmp_path: Path) -> None:
    export(tmp_path)
    rule = tmp_path / "deploy/prometheus/rules/requests.yml"
    rule.write_text("mine\n")
    with pytest.raises(ExportError, match=r"changed .*: deploy/prometheus/rules/requests\.yml\."):
        export(tmp_path, assignments=OTHERS)
    assert rule.read_text() == "mine\n"
    assert json.loads((tmp_path / RECORD).read_text("utf-8"))["parameters"] == {}


def test_the_objects_of_the_operator_have_the_same_rules(tmp_path: Path) -> None:
    export(tmp_path, assignments=OTHERS)
    objects = yaml.safe_load_all(text(tmp_path, "kubernetes/operator/rules.yaml"))
    found = {each["metadata"]["name"]: groups(each["spec"]) for each in objects}
    assert found == {
        f"victor-{name.removesuffix('.yml')}": groups(
            yaml.safe_load(text(tmp_path, f"prometheus/rules/{name}"))
        )
        for name, _ in render.sources()
    }


def test_dashboards_draw_and_say_the_values(tmp_path: Path) -> None:
    export(tmp_path, assignments=OTHERS)
    overview = json.loads(text(tmp_path, "grafana/dashboards/overview.json"))
    panels = {panel["title"]: panel for row in _rows(overview) for panel in row}
    assert "(0.1% of requests)" in panels["Error budget left"]["description"]
    latency = panels["Latency p50, p95, p99"]
    assert "p95 should stay below 12.5 s, p99 below 30 s." in latency["description"]
    steps = latency["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 12.5, 30]
    errors = panels["Error rate"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in errors][-2:] == [0.001, 0.05]


def _rows(document: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [document["panels"], *(panel.get("panels", []) for panel in document["panels"])]


def test_a_runbook_says_which_of_its_numbers_are_not_those_of_the_rules(tmp_path: Path) -> None:
    export(tmp_path, assignments=OTHERS)
    other = text(tmp_path, "runbooks/HighErrorRate.md")
    assert other.startswith("# HighErrorRate\n\n> This page is written for the defaults.")
    assert "> - `HighErrorRate.threshold` is 0.1, not 0.05\n" in other
    assert "`slo.availability` is 99.9, not 99\n" in text(
        tmp_path, "runbooks/RequestErrorBudgetBurnFast.md"
    )
    same = "deploy/runbooks/SlowChat.md"
    assert (tmp_path / same).read_bytes() == (ROOT / same).read_bytes()


def test_cases_of_the_defaults_are_not_exported_with_other_rules(tmp_path: Path) -> None:
    export(tmp_path, assignments=OTHERS)
    assert not (tmp_path / "deploy/prometheus/tests").exists()


def test_the_command_takes_several_values_and_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    run = CliRunner()
    given = [f"--set={each}" for each in OTHERS]
    assert run.invoke(app, ["export", str(tmp_path / "stack"), *given]).exit_code == 0
    done = run.invoke(app, ["export", str(tmp_path / "other"), "--set", "slo.availabilty=99.9"])
    assert done.exit_code == 2
    assert re.fullmatch(
        r"victor-otel export: there is no parameter 'slo.availabilty': did you mean slo.*\n",
        done.stderr,
    )
    assert not (tmp_path / "other").exists()
