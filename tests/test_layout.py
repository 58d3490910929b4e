"""Who imports whom among what is not shipped: tests and scripts stand on tools, and tools on none.

Programs inside of strings import as well, so it is text that is read here.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import alerts, dashboards, docs, kubernetes
from tools.paths import ROOT, tracked

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


def test_each_pair_of_the_gate_has_a_lock_with_all_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pairs = project["tool"]["victor-otel"]["pairs"]
    names = {f"python{pair['python']}-victor{pair['victor']}.txt" for pair in pairs}
    locks = list(Path(ROOT, "locks").iterdir())
    assert {lock.name for lock in locks} == names
    groups = project["dependency-groups"].values()
    declared = {
        Requirement(one) for group in (project["project"]["dependencies"], *groups) for one in group
    }
    for lock in locks:
        lines = lock.read_text(encoding="utf-8").splitlines()
        found = [Requirement(line) for line in lines if not line.startswith("#")]
        assert [one for one in found if one.url or len(one.specifier) != 1] == []
        versions = {one.name: str(one.specifier).removeprefix("==") for one in found}
        wrong = {
            str(one)
            for one in declared
            if not one.specifier.contains(versions.get(one.name, "0"), prereleases=True)
        }
        assert (lock.name, wrong) == (lock.name, set())


def test_files_that_are_generated_as_a_whole_are_marked_so_and_no_others() -> None:
    written = {**alerts.files(), **docs.files(), **dashboards.files(), **kubernetes.files()}
    # Where a part of a page is generated, a marker ends it.
    whole = {path for path, text in written.items() if "\n<!-- /" not in text}
    marked = subprocess.run(
        ["git", "check-attr", "--stdin", "-z", "linguist-generated"],
        cwd=ROOT,
        input="\0".join(tracked()).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    fields = marked.stdout.decode().split("\0")
    found = {
        ROOT / path for path, said in zip(fields[::3], fields[2::3], strict=False) if said == "set"
    }
    assert found == whole
