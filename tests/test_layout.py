"""Who imports whom among what is not shipped: tests and scripts stand on tools, and tools on none.

Programs inside of strings import as well, so it is text that is read here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.paths import ROOT

_IMPORTED = re.compile(
    r"^\W*(?:from|import) ((?:benchmarks|scripts|tests|tools)(?:\.\w+)*)", re.MULTILINE
)


def imported(folder: str) -> set[tuple[str, str]]:
    """The modules of ours that the files of a folder name, each with its file."""
    return {
        (str(path.relative_to(ROOT)), module)
        for path in sorted(Path(ROOT, folder).rglob("*.py"))
        for module in _IMPORTED.findall(path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize(
    ("folder", "may"),
    [
        ("tools", {"tools"}),
        ("scripts", set[str]()),
        ("tests", {"tools", "tests", "benchmarks"}),
        ("benchmarks", {"tools", "tests", "benchmarks"}),
        ("examples", set[str]()),
        ("src", set[str]()),
    ],
)
def test_each_folder_imports_what_it_stands_on_alone(folder: str, may: set[str]) -> None:
    assert {one for one in imported(folder) if one[1].partition(".")[0] not in may} == set()


def test_no_test_module_is_imported() -> None:
    found = {one for folder in ("tests", "benchmarks", "tools") for one in imported(folder)}
    assert {one for one in found if ".test_" in one[1] or one[1].endswith(".conftest")} == set()


def test_what_tests_share_stands_on_no_tests() -> None:
    assert {
        one for one in imported("tests/kit") if not one[1].startswith(("tests.kit", "tools"))
    } == set()
