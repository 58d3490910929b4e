"""What Prometheus and Alertmanager themselves say of the shipped files."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.stack.processes import Prometheus, answer, program, wait_until
from tools.paths import DEPLOY
from tools.rules import RULES

pytestmark = pytest.mark.stack

PROMETHEUS = DEPLOY / "prometheus"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"


def output(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def promtool(*arguments: str | Path) -> str:
    return output(program("promtool"), *arguments)


def amtool(*arguments: str | Path) -> str:
    return output(program("amtool"), *arguments)


def test_promtool_finds_no_fault_with_the_configuration() -> None:
    config = PROMETHEUS / "prometheus.yml"
    promtool("check", "config", "--lint=all", "--lint-fatal", config)


def test_promtool_finds_no_fault_with_the_rules() -> None:
    rules = sorted((PROMETHEUS / "rules").glob("*.yml"))
    promtool("check", "rules", "--lint=all", "--lint-fatal", *rules)


@pytest.mark.parametrize(
    "path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem
)
def test_promtool_sees_the_rules_do_what_they_should(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def test_amtool_finds_no_fault_with_the_configuration() -> None:
    assert amtool("check-config", ALERTMANAGER).count("SUCCESS") == 2  # and with its templates


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("severity=critical", "pagerduty,slack"),
        ("severity=warning", "slack"),
        ("severity=info", "nobody"),
        ("severity=none alertname=Watchdog", "dead-mans-switch"),
        ("alertname=WithoutSeverity", "slack"),
    ],
)
def test_amtool_routes_each_severity(labels: str, receivers: str) -> None:
    test = ("config", "routes", "test", f"--config.file={ALERTMANAGER}")
    assert amtool(*test, *labels.split()).strip() == receivers


def test_every_rule_is_healthy_on_real_data(monitored: Prometheus) -> None:
    played = datetime.now(UTC)

    def evaluated() -> list[dict[str, Any]]:
        """All rules, once each was evaluated on all that was played."""
        groups = answer(f"{monitored.url}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert all(datetime.fromisoformat(rule["lastEvaluation"]) > played for rule in rules)
        return rules

    rules = wait_until(evaluated)
    assert sorted(rule["name"] for rule in rules) == sorted(rule.name for rule in RULES)
    sick = {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"}
    assert sick == {}
