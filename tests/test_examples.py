"""The examples are what they say: run as their READMEs tell, and made of public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.processes import free_port
from tests.kit.readme import EXAMPLES, blocks, follow
from victor_otel import record

FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
PROGRAMS = sorted(EXAMPLES.glob("*/*.py"))
PORTS = {
    "api_server": ("8000", "9091"),
    "custom_metrics": ("9091",),
    "guide_integration": ("9091",),
    "own_sdk": ("9464",),
    "recording_api": ("9091",),
    "zero_code": ("9091",),
}
"""Examples by the ports that their READMEs name; short_runs needs the Collector (tests/stack)."""

PUBLIC = {"victor_otel", "victor_otel.record", "victor_otel.custom", "victor_otel.guide"}


@pytest.mark.parametrize("example", PORTS)
def test_example_does_what_its_readme_says(example: str, tmp_path: Path) -> None:
    follow(example, tmp_path, {port: free_port() for port in PORTS[example]})


def test_every_example_is_in_the_table_and_tested() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{folder}]({folder})" in table for folder in FOLDERS)
    assert {*PORTS, "short_runs"} == set(FOLDERS)


@pytest.mark.parametrize("example", FOLDERS)
def test_every_readme_shows_numbers(example: str) -> None:
    readme = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
    assert any(block.is_scrape and block.shows for block in blocks(readme))


def imported(program: Path) -> Iterator[str]:
    """The modules that a program of an example imports; members where it names a package."""
    for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "victor_otel":
            yield from (f"victor_otel.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_examples_use_what_is_public(program: Path) -> None:
    ours = {name for name in imported(program) if name.startswith("victor_otel")}
    assert ours <= PUBLIC
    if program.parent.name == "zero_code":
        assert not any(
            name.startswith(("victor_otel", "opentelemetry", "prometheus"))
            for name in imported(program)
        )


def test_recording_example_uses_every_function() -> None:
    program = (EXAMPLES / "recording_api" / "report.py").read_text(encoding="utf-8")
    used = {
        node.attr
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id == "record"
    }
    assert used == set(record.__all__)
