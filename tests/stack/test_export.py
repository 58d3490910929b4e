"""What the installed package exports starts as its README says.

The `build` session of nox runs this on the wheel.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.readme import Block, Terminal, blocks
from tests.stack.processes import answer, program, query, wait_until
from victor_otel.export import export

pytestmark = pytest.mark.stack

PROMETHEUS = "http://127.0.0.1:9090"


def named(folder: Path) -> str:
    """A PATH that has the programs under the names that users know them by."""
    names = {"otelcol-contrib": "collector", "prometheus": "prometheus"}
    for name, known in {**names, "alertmanager": "alertmanager"}.items():
        (folder / name).symlink_to(program(known))
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_the_exported_folder_starts_as_its_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, folder = tmp_path / "programs", tmp_path / "stack"
    programs.mkdir()
    monkeypatch.setenv("PATH", named(programs))
    export(folder)
    readme = (folder / "deploy" / "README.md").read_text(encoding="utf-8")
    processes, demo = blocks(readme)

    with Terminal(folder / "deploy") as terminal:
        terminal.do(processes)
        wait_until(lambda: answer("http://127.0.0.1:13133")["status"] == "Server available")
        wait_until(lambda: query(PROMETHEUS, "vector(1)"))
        terminal.do(Block(f"{{ {demo.commands} }} > demo.txt\n"))
        counted = 'sum(victor_tool_executions_total{job="victor"}) > 0'
        wait_until(lambda: query(PROMETHEUS, counted), 90)

        groups = answer(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) > 100
        assert {rule["lastError"] for rule in rules if rule["health"] == "err"} == set()
        watched = answer(f"{PROMETHEUS}/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
        assert [one["url"] for one in watched] == ["http://127.0.0.1:9093/api/v2/alerts"]
        terminal.do(Block("kill %1 %2 %3\n"))
