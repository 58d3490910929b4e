"""The one command that runs everything on this machine, as a person would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.processes import environment
from tests.stack.processes import ROOT, answer, query, wait_until

pytestmark = pytest.mark.stack

PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"


def test_one_command_runs_the_shipped_files_and_ctrl_c_ends_them() -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "demo_stack.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would whatever they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as stack:
        try:
            wait_until(lambda: stack.poll() is not None or demo_is_counted(), 120)
            assert stack.poll() is None, stack.communicate()
            wait_until(every_target_is_up)
            wait_until(every_rule_is_healthy, 60)
            # At least the Watchdog.
            wait_until(lambda: answer(f"{ALERTMANAGER}/api/v2/alerts"), 120)
        finally:
            os.killpg(stack.pid, signal.SIGINT)
            out, _ = stack.communicate(timeout=60)
    assert stack.returncode == 0
    assert PROMETHEUS in out
    with pytest.raises(ProcessLookupError):
        os.killpg(stack.pid, 0)


def demo_is_counted() -> bool:
    return bool(query(PROMETHEUS, 'sum(victor_total_requests{interface="sdk"}) > 0'))


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
