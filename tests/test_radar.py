"""The radar says what moved and nothing else, and is asked every day."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import radar
from tools.paths import ROOT
from tools.radar import Line
from victor_otel import doctor
from victor_otel.doctor import Finding, Report

PYTHONS = {pair["python"] for pair in radar.PYPROJECT["tool"]["victor-otel"]["pairs"]}


def report(*findings: tuple[str, str, str]) -> dict[str, Any]:
    said = [Finding(check=check, status=status, detail=it) for check, status, it in findings]
    return Report(findings=said).as_dict()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions of packages; what is not named here is as it is."""
    versions: dict[str, str] = {}
    real = radar._version
    monkeypatch.setattr(radar, "_version", lambda name: versions.get(name) or real(name))
    return versions


# What is installed


def test_a_newer_victor_alone_moves_nothing() -> None:
    said = "victor-ai 0.99.0 is newer than the last tested release"
    victor, *_ = radar.versions(report(("versions", doctor.WARNING, said)))
    assert victor == Line(subject="victor", said=said)


def test_a_vertical_that_was_not_tested_is_named(installed: dict[str, str]) -> None:
    installed |= {f"victor-{name}": "0.7.2" for name in radar.VERTICALS}
    _, verticals, _ = radar.versions(report())
    assert verticals.said.endswith("rag 0.7.2, research 0.7.2; tested")
    installed["victor-rag"] = "9.1.0"
    _, verticals, _ = radar.versions(report())
    assert verticals.said.endswith("rag 9.1.0, research 0.7.2; not tested: rag")


def test_a_library_beyond_what_is_declared_is_named(installed: dict[str, str]) -> None:
    _, _, libraries = radar.versions(report())
    assert libraries.said.endswith("; declared")
    installed["wrapt"] = "3.0.1"
    _, _, libraries = radar.versions(report())
    assert "wrapt 3.0.1" in libraries.said
    assert re.fullmatch(r".*; beyond what is declared: wrapt[<>=,\d]+", libraries.said)


# What doctor says


def test_only_what_doctor_says_of_victors_names_counts() -> None:
    said = report(
        ("hooks", doctor.PROBLEM, "1 missing: a:b"),
        ("extras", doctor.OK, "2 waiting"),
        ("classes", doctor.WARNING, "c:D has new members: e"),
        ("exporters", doctor.WARNING, "nothing is exported"),
    )
    assert list(radar.findings(said)) == [
        Line(subject="hooks", said="1 missing: a:b", moved=True),
        Line(subject="extras", said="2 waiting"),
        Line(subject="classes", said="c:D has new members: e", moved=True),
    ]


# What tests say


@pytest.fixture
def proven(tmp_path: Path) -> Callable[[str], Line]:
    def prove(source: str) -> Line:
        path = tmp_path / "test_it.py"
        path.write_text(source, encoding="utf-8")
        return radar.proof("tests", str(path))

    return prove


def test_tests_are_counted_and_the_failed_ones_named(proven: Callable[[str], Line]) -> None:
    line = proven(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_left_out(): pytest.skip('not here')\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "def test_bad(n): assert n > 9\n"
    )
    assert line.said.startswith("1 passed, 6 failed, 1 skipped: test_bad[")
    assert line.said.endswith(", and 1 more")
    assert line.moved


def test_good_tests_move_nothing(proven: Callable[[str], Line]) -> None:
    line = proven("def test_good(): pass")
    assert line == Line(subject="tests", said="1 passed, 0 failed, 0 skipped")


def test_a_test_that_cannot_be_imported_is_failed(proven: Callable[[str], Line]) -> None:
    line = proven("import no_such_module_of_victors")
    assert (line.moved, "0 passed, 1 failed" in line.said) == (True, True)


def test_no_tests_at_all_are_no_proof() -> None:
    line = radar.proof("tests", "no/such/folder")
    assert line == Line(subject="tests", said="did not run: pytest exits 4", moved=True)


def test_a_pytest_that_crashes_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = subprocess.CompletedProcess[str]([], -11)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: crashed)
    line = radar.proof("tests", "tests")
    assert line == Line(subject="tests", said="did not run: pytest exits -11", moved=True)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (0, Line(subject="demo", said="equals its own count")),
        (1, Line(subject="demo", said="exits 1", moved=True)),
    ],
)
def test_the_demo_moved_unless_it_equals_its_count(
    monkeypatch: pytest.MonkeyPatch, code: int, line: Line
) -> None:
    done = subprocess.CompletedProcess[str]([], code)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert radar.demo() == line


# The end


@pytest.mark.parametrize(
    ("moved", "code", "last"), [(False, 0, "Nothing moved."), (True, 1, "Moved: classes.")]
)
def test_it_ends_with_what_moved(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moved: bool,
    code: int,
    last: str,
) -> None:
    def lines() -> Iterator[Line]:
        yield Line(subject="hooks", said="all bound")
        yield Line(subject="classes", said="as they were", moved=moved)

    monkeypatch.setattr(radar, "lines", lines)
    assert radar.main() == code
    head, *said = capsys.readouterr().out.splitlines()
    assert head.startswith("victor-otel on Python 3.")
    assert said == [
        "ok    hooks         all bound",
        f"{'MOVED' if moved else 'ok   '} classes       as they were",
        last,
    ]


def test_what_it_asks_is_there() -> None:
    assert all((ROOT / tests).exists() for tests in radar.PROOFS.values())


# Every day


def test_the_workflow_asks_it_on_each_python_and_may_change_nothing() -> None:
    text = (ROOT / ".github" / "workflows" / "newest.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # YAML reads `on` as a truth
    (job,) = workflow["jobs"].values()
    assert (workflow["permissions"], job["permissions"]) == ({}, {"contents": "read"})
    assert set(job["strategy"]["matrix"]["python"]) == PYTHONS
    *_, run = [step["run"] for step in job["steps"] if "run" in step]
    (session,) = re.findall(r'--session "(\w+)-\$PYTHON"', run)
    noxfile = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    assert session in {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef)}
