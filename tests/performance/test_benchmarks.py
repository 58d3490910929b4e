"""Each benchmark runs and prints its rows; in their quick form, so the numbers mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.processes import environment
from tools.paths import ROOT

BENCHMARKS = sorted(
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if "parser(__doc__" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_keeps_the_rows_that_it_prints(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", f"--save={tmp_path}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    tables = [json.loads(kept.read_text("utf-8")) for kept in tmp_path.glob("*.json")]
    assert tables
    for table in tables:
        assert table["compares"] in done.stdout
        assert table["rows"]
        for row in table["rows"]:
            assert len(row) == len(table["head"])
            assert row[0] in done.stdout
