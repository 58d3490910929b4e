"""The shipped rules, their promtool cases and their runbooks, as data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from tools import markdown
from tools.paths import DEPLOY, ROOT

PROMETHEUS = DEPLOY / "prometheus"
RUNBOOKS = DEPLOY / "runbooks"
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNBOOK_BASE: str = _PROJECT["urls"]["Runbooks"]

SEVERITIES = ("critical", "warning", "info", "none")
"""From what wakes a person to what nobody is told of; none is for the Watchdog alone."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A recording rule or an alert: `name` is what `expr` becomes."""

    name: str
    expr: str
    file: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Alert(Rule):
    duration: str | None
    """How long it must hold (`for`)."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def severity(self) -> str:
        return self.labels["severity"]

    @property
    def runbook(self) -> Path:
        return RUNBOOKS / f"{self.name}.md"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a promtool test expects of an alert at one moment; `story` is the test it stands in."""

    alert: str
    story: tuple[str, int]
    seconds: float
    expected: list[dict[str, Any]]


def _seconds(duration: str) -> float:
    """Such as 1h30m; 0 as well, which the parser of PromQL refuses."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    return sum(
        int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", duration)
    )


def _load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)


def _rules() -> Iterator[Rule]:
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in _load(path)["groups"]:
            for rule in group["rules"]:
                place = {"expr": rule["expr"], "file": path.name, "group": group["name"]}
                if "record" in rule:
                    yield Rule(name=rule["record"], **place)
                    continue
                yield Alert(
                    name=rule["alert"],
                    duration=rule.get("for"),
                    labels=rule.get("labels", {}),
                    annotations=rule.get("annotations", {}),
                    **place,
                )


def _cases() -> Iterator[Case]:
    for path in sorted((PROMETHEUS / "tests").glob("*.yml")):
        for number, test in enumerate(_load(path)["tests"]):
            for case in test.get("alert_rule_test") or ():
                yield Case(
                    alert=case["alertname"],
                    story=(path.name, number),
                    seconds=_seconds(case["eval_time"]),
                    expected=case.get("exp_alerts") or [],
                )


RULES = list(_rules())
ALERTS = [rule for rule in RULES if isinstance(rule, Alert)]
CASES = list(_cases())


@cache
def parsed(expr: str) -> list[promql_parser.Expr]:
    """Every node of an expression, from the outside in."""
    nodes: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(expr), nodes.append)
    return nodes


@cache
def selected(expr: str) -> set[str]:
    """The names that an expression selects."""
    found: set[str] = set()
    for node in parsed(expr):
        if isinstance(node, promql_parser.VectorSelector):
            named = [m.value for m in node.matchers.matchers if m.name == "__name__"]
            found.update([node.name] if node.name else named)
    return found


def sources(rule: Rule) -> list[str]:
    """The expressions behind a rule: its own and those of what it reads that is recorded."""
    found = {rule.name: rule.expr}
    waiting = [rule.expr]
    while waiting:
        names = selected(waiting.pop())
        for one in RULES:
            if one.name in names and one.name not in found and not isinstance(one, Alert):
                found[one.name] = one.expr
                waiting.append(one.expr)
    return list(found.values())


def queries(runbook: str) -> list[str]:
    """What stands in the promql blocks of a runbook."""
    return [block.text.strip() for block in markdown.blocks(runbook, "promql")]
