"""The one command that runs everything on this machine starts and ends as a person expects."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from tests.stack.demo import ALERTMANAGER, PROMETHEUS, Demo, demo, demo_is_counted, hurried
from tests.stack.processes import answer, wait_until

pytestmark = pytest.mark.stack


def test_one_command_runs_the_shipped_files_and_ctrl_c_ends_them(tmp_path: Path) -> None:
    with demo(tmp_path / "output.txt") as running:
        wait_until(lambda: running.process.poll() is not None or demo_is_counted(), 120)
        assert running.process.poll() is None, running.said
        wait_until(every_target_is_up)
        wait_until(every_rule_is_healthy, 60)
        # At least the Watchdog.
        wait_until(lambda: answer(f"{ALERTMANAGER}/api/v2/alerts"), 120)
        parts = psutil.Process(running.process.pid).children(recursive=True)
        assert running.interrupt() == 0
    assert [part for part in parts if part.is_running()] == []
    assert f"  {PROMETHEUS}/alerts" in running.said
    logs = logs_of(running)
    assert {log.stem for log in logs.iterdir()} == {
        "alertmanager",
        "collector",
        "demo",
        "prometheus",
    }
    assert "Server is ready" in (logs / "prometheus.log").read_text(encoding="utf-8")


def test_a_part_that_does_not_start_ends_it_and_is_quoted(tmp_path: Path) -> None:
    root = hurried(tmp_path / "clone")
    (root / "collector" / "config.yaml").write_text("receivers: {nonsense: {}}", encoding="utf-8")
    with demo(tmp_path / "output.txt", root) as running:
        assert running.process.wait(60) == 1
    assert "collector ended by itself; its last lines:" in running.said
    assert "nonsense" in running.said
    assert "nonsense" in (logs_of(running) / "collector.log").read_text(encoding="utf-8")


def logs_of(ended: Demo) -> Path:
    """Where its last line says that the logs are."""
    last = re.fullmatch(r"The logs stay in (.+) until the next start.", ended.said.splitlines()[-1])
    assert last, ended.said
    return Path(last[1])


def every_target_is_up() -> bool:
    targets = answer(f"{PROMETHEUS}/api/v1/targets?state=active")["data"]["activeTargets"]
    health = {target["labels"]["instance"]: target["health"] for target in targets}
    unseen = health.pop("127.0.0.1:9091")  # for a Victor of yours, which the demo is not
    assert unseen == "down"
    assert set(health.values()) == {"up"}
    return True


def every_rule_is_healthy() -> bool:
    groups = answer(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert not [rule for rule in rules if "lastError" in rule]
    return True
