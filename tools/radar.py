"""What moved between what the tests run on and what is installed here, in about ten lines.

    python -m tools.radar            # exit 1 if something moved that numbers hang on

`nox -s newest` runs it where Victor and all that we stand on is the newest there is. What the tests
and the demo say meanwhile goes to stderr.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from packaging.requirements import Requirement

from tools.paths import ROOT
from victor_otel.doctor import OK, examine
from victor_otel.victor.supported import installed

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERTICALS: list[str] = PYPROJECT["tool"]["victor-otel"]["verticals"]
LIBRARIES = ("opentelemetry-", "wrapt", "prometheus-client")
PROOFS = {
    "contracts": "tests/victor/test_contract.py",
    "enumerations": "tests/victor/test_enumerations.py",
    "scenarios": "tests/scenarios",
}
"""What is asked of the tests, by what the answer is called."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One answer; `moved` if numbers are wrong or absent because of it."""

    subject: str
    said: str
    moved: bool = False

    def __str__(self) -> str:
        return f"{'MOVED' if self.moved else 'ok':6}{self.subject:14}{self.said}"


def versions(report: Mapping[str, Any]) -> Iterator[Line]:
    """What is installed, against what the tests run on or the package declares.

    A new version alone moves nothing: the lines below it say whether it did.
    """
    said = [one["detail"] for one in report["findings"] if one["check"] == "versions"]
    yield Line(subject="victor", said="; ".join(said))
    tested = {pair["verticals"] for pair in PYPROJECT["tool"]["victor-otel"]["pairs"]}
    found = {name: _version(f"victor-{name}") for name in VERTICALS}
    news = {name: version for name, version in found.items() if version not in tested}
    yield Line(
        subject="verticals",
        said=", ".join(f"{name} {version}" for name, version in found.items())
        + (f"; not tested: {', '.join(news)}" if news else "; tested"),
    )
    requirements = [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]
    ours = [one for one in requirements if one.name.startswith(LIBRARIES)]
    beyond = [
        one for one in ours if not one.specifier.contains(_version(one.name), prereleases=True)
    ]
    yield Line(
        subject="libraries",
        said=", ".join(f"{one.name} {_version(one.name)}" for one in ours)
        + (f"; beyond what is declared: {', '.join(map(str, beyond))}" if beyond else "; declared"),
    )


def _version(package: str) -> str:
    return installed(package) or "none"


def findings(report: Mapping[str, Any]) -> Iterator[Line]:
    """What `doctor` says of hooks, and of the classes and enumerations that are known by name."""
    for one in report["findings"]:
        if one["check"] in {"hooks", "extras", "classes"}:
            yield Line(subject=one["check"], said=one["detail"], moved=one["status"] != OK)


def proof(subject: str, tests: str) -> Line:
    """What tests say, by their count."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-q", tests, f"--junitxml={written}"]
        code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode
        # Nobody but pytest has written it.
        cases = list(ET.parse(written).iter("testcase")) if written.exists() else []  # noqa: S314
    if not cases:
        return Line(subject=subject, said=f"did not run: pytest exits {code}", moved=True)
    failed = [case for case in cases if {"failure", "error"} & {part.tag for part in case}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    said = f"{len(cases) - len(failed) - skipped} passed, {len(failed)} failed, {skipped} skipped"
    named = [case.get("name", "") for case in failed[:_SHOWN]]
    more = [f"and {len(failed) - _SHOWN} more"] if len(failed) > _SHOWN else []
    return Line(
        subject=subject,
        said=": ".join([said, *filter(None, [", ".join(named + more)])]),
        moved=code != 0,
    )


_SHOWN = 5
"""Names of failed tests in a line; stderr has them all."""


def demo() -> Line:
    """Whether the demo's numbers are those that it counts itself."""
    command = [sys.executable, "-m", "victor_otel.demo", "--once", "--port=0"]
    code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode
    said = "equals its own count" if code == 0 else f"exits {code}"
    return Line(subject="demo", said=said, moved=code != 0)


def lines() -> Iterator[Line]:
    """All answers, the quick ones first."""
    report = examine(thorough=True).as_dict()
    yield from versions(report)
    yield from findings(report)
    for subject, tests in PROOFS.items():
        yield proof(subject, tests)
    yield demo()


def main() -> int:
    """Prints the answers in one piece."""
    answers = list(lines())
    moved = [line.subject for line in answers if line.moved]
    print(f"victor-otel on Python {platform.python_version()}")
    for line in answers:
        print(line)
    print(f"Moved: {', '.join(dict.fromkeys(moved))}." if moved else "Nothing moved.")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
