"""`nox` runs everything; `nox -l` lists the sessions. Each has an environment of its own."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = [
    *("lint", "types", "docs"),
    *("tests", "alone", "oldest", "between", "build", "stack"),
]
nox.options.error_on_missing_interpreters = True

PYPROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
VICTOR = PYPROJECT["project"]["optional-dependencies"]["instruments"][0]
OLDEST, BETWEEN, _ = PYPROJECT["tool"]["victor-otel"]["versions"]
# It declares gigabytes that our scenarios replace by a small embedder of their own.
RAG = "victor-rag==0.7.2"


def install(session: nox.Session, *groups: str, victor: str = VICTOR) -> None:
    """The package as it is here, with dependency groups and a version of Victor."""
    chosen = [f"--group={group}" for group in groups]
    session.run_install("uv", "pip", "install", "--quiet", "-e", ".", *chosen, victor)


def install_all(session: nox.Session, victor: str = VICTOR) -> None:
    """The same, with everything that tests need: the verticals and their scenarios."""
    install(session, "test", "verticals", victor=victor)
    session.run_install("uv", "pip", "install", "--quiet", "--no-deps", RAG)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Runs tests; in CI nothing may skip."""
    session.env.pop("PYTHONDONTWRITEBYTECODE", None)
    strict = ["-p", "tests.no_skips"] if os.environ.get("CI") else []
    session.run("python", "-m", "pytest", *strict, *arguments, *session.posargs)


PROCESSES = ("demo", "doors", "examples", "exit", "stdout")
ALONE = tuple(f"tests/test_{name}.py" for name in PROCESSES)
BEHAVIOUR = ("tests/victor", "tests/scenarios")
ON_BOTH_ROUTES = "tests/stack/test_scenarios.py"
OF_THE_WHEEL = "tests/stack/test_export.py"


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format and the directions of imports."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    install(session, "lint", "test")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on the newest Victor that is supported."""
    session.env["COVERAGE_FILE"] = str(Path(".nox", ".coverage").absolute())
    install_all(session)
    elsewhere = [f"--ignore={path}" for path in ALONE]
    pytest(session, "-m", "not stack and not live", "--cov", *elsewhere)


@nox.session
def alone(session: nox.Session) -> None:
    """Processes that have Victor without verticals, as most users do; so it starts faster."""
    install(session, "test")
    pytest(session, "-m", "not stack and not live", *ALONE)


@nox.session
def oldest(session: nox.Session) -> None:
    """The tests on the oldest Victor that is supported."""
    install_all(session, f"victor-ai=={OLDEST}")
    session.run("python", "scripts/stack.py")
    pytest(session, *BEHAVIOUR, "tests/test_doors.py", ON_BOTH_ROUTES)


@nox.session
def between(session: nox.Session) -> None:
    """What Victor does, on a version between the two."""
    install_all(session, f"victor-ai=={BETWEEN}")
    session.run("python", "scripts/stack.py")
    pytest(session, *BEHAVIOUR, ON_BOTH_ROUTES)


@nox.session
def stack(session: nox.Session) -> None:
    """The three routes, with the real Collector and Prometheus."""
    install_all(session)
    session.run("python", "scripts/stack.py")
    pytest(session, "-m", "stack and not live", f"--ignore={OF_THE_WHEEL}")


@nox.session
def live(session: nox.Session) -> None:
    """The long proofs, which print what they measured; not in the gate."""
    install_all(session)
    session.run("python", "scripts/stack.py")
    pytest(session, "-m", "live", "--capture=no")


@nox.session
def demo(session: nox.Session) -> None:
    """The whole pipeline as processes on this machine, until Ctrl-C."""
    install(session, "test")
    session.run("python", "scripts/demo_stack.py")


@nox.session
def docs(session: nox.Session) -> None:
    """What is generated is as the code says; `nox -s docs -- --write` makes it so."""
    install(session, "test")
    for script in ("docs", "dashboards", "kubernetes"):
        session.run("python", f"scripts/{script}.py", *(session.posargs or ["--check"]))


@nox.session
def build(session: nox.Session) -> None:
    """The wheel installs and works on its own, and what it exports starts."""
    session.install("build", "twine")
    session.run("python", "-m", "build", "--installer=uv", "--outdir=dist", silent=True)
    wheel = max(Path("dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    session.run("twine", "check", "--strict", str(wheel))
    session.run_install("uv", "pip", "install", "--quiet", f"{wheel}[instruments]", "--group=test")
    session.run("victor-otel", "doctor")
    session.run("python", "scripts/stack.py", *("collector", "prometheus", "alertmanager"))
    pytest(session, OF_THE_WHEEL)
