"""`nox` runs the gate in two lanes; `nox -l` lists the sessions, each with its environment.

Where each proof runs: the newest Victor on Python 3.12 has all tests (`tests`, `alone`,
`beside`, `reliability`, `collector`, `stack`); each other pair of Python and Victor has the
contracts of the hooks, the spans and all scenarios (`pairs`), and the demo with nothing but what is
declared (`bare`). What an older Victor does beside that, every area, every door and both routes to
Prometheus, is in `nightly`, the long proofs in `live` and in `reliability -- --long`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["gate"]
nox.options.error_on_missing_interpreters = True

PYPROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
PAIRS = PYPROJECT["tool"]["victor-otel"]["pairs"]
VERTICALS = [f"victor-{name}" for name in PYPROJECT["tool"]["victor-otel"]["verticals"]]
# It declares gigabytes that our scenarios replace by a small embedder of their own.
WITHOUT_DEPENDENCIES = "victor-rag"
MAIN = PAIRS[-1]
PYTHON = MAIN["python"]
FAULTS = f"reliability({PYTHON}, {MAIN['victor']})"
# What computes, and what mostly waits: for processes, timeouts and intervals. All that binds
# ports which users know, 9090 and 9091 among them, is in one lane.
LANES = (
    ("lint", "types", "docs", "site", "bare", "beside", "tests", "pairs", FAULTS),
    ("alone", "build", "stack", "collector"),
)
# In this order: what is quick first. `startup` and `peers` want environments of their own.
BENCHMARKS = (
    *("steps", "calls", "routes", "spans"),
    *("recording_api", "session", "series", "growth"),
)


def on(pairs: list[dict[str, str]]) -> Callable[[Any], Any]:
    """A session for each of the pairs of Python and Victor."""
    named = [
        nox.param(pair["python"], pair, id=f"{pair['python']}, {pair['victor']}") for pair in pairs
    ]
    return nox.parametrize("python,pair", named)


def locked(pair: dict[str, str] = MAIN) -> str:
    """The file that says in which versions the gate installs for a pair (`nox -s lock`)."""
    return f"locks/python{pair['python']}-victor{pair['victor']}.txt"


def of(pair: dict[str, str]) -> list[str]:
    """Victor in the version of a pair, with its own code in Rust if the pair has it."""
    native = [f"victor-native=={pair['native']}"] if "native" in pair else []
    return [f"victor-ai=={pair['victor']}", *native]


def verticals_of(pair: dict[str, str]) -> list[str]:
    version = pair["verticals"]
    return [f"{name}=={version}" for name in VERTICALS if name != WITHOUT_DEPENDENCIES]


def install(session: nox.Session, *groups: str, pair: dict[str, str] = MAIN) -> None:
    """The package as it is here, with dependency groups and a version of Victor."""
    chosen = [f"--group={group}" for group in groups]
    add(session, "-e", ".[instruments]", *of(pair), *chosen, pair=pair)


def add(session: nox.Session, *what: str, pair: dict[str, str] = MAIN) -> None:
    """Installs in the versions of the lock."""
    session.run_install("uv", "pip", "install", "--quiet", f"-c={locked(pair)}", *what)


def install_all(session: nox.Session, pair: dict[str, str] = MAIN) -> None:
    """The same, with everything that tests need: the verticals and their scenarios."""
    install(session, "test", "verticals", pair=pair)
    add(session, *of(pair), *verticals_of(pair), pair=pair)
    add(session, "--no-deps", f"{WITHOUT_DEPENDENCIES}=={pair['verticals']}", pair=pair)


def install_stack(session: nox.Session, pair: dict[str, str] = MAIN) -> None:
    """The same, and the programs of the stack: the Collector, Prometheus and the others."""
    install_all(session, pair)
    session.run("python", "scripts/stack.py")


def pytest(session: nox.Session, *arguments: str) -> None:
    """Runs tests; in CI nothing may skip."""
    session.env.pop("PYTHONDONTWRITEBYTECODE", None)
    strict = ["-p", "tests.kit.no_skips"] if os.environ.get("CI") else []
    session.run("python", "-m", "pytest", "--durations=15", *strict, *arguments, *session.posargs)


PROCESSES = ("demo", "demo_terminal", "doors", "examples", "exit", "install", "stdout")
ALONE = ("tests/performance", *(f"tests/test_{name}.py" for name in PROCESSES))
BEHAVIOUR = ("tests/victor", "tests/scenarios")
RELIABILITY = "tests/reliability"
CONTRACTS = "tests/victor/test_contract.py"
OF_SPANS = tuple(f"tests/victor/test_{name}.py" for name in ("spans", "propagation", "content"))
ON_BOTH_ROUTES = "tests/stack/test_scenarios.py"
OF_THE_WHEEL = "tests/stack/test_export.py"
OF_THE_SITE = "tests/test_site.py"
OF_OTHERS = "tests/test_one_truth.py"
FREE_PORTS = ("backends", "collector", "gateways", "paging", "short_runs", "traces", "vendors")
OF_THE_COLLECTOR = tuple(f"tests/stack/test_{name}.py" for name in FREE_PORTS)


@nox.session(venv_backend="none")
def gate(session: nox.Session) -> None:
    """Everything that must pass, in two lanes at once; each prints in one piece."""
    command = [sys.executable, "-m", "nox", "--sessions"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as later:
        lanes = [
            subprocess.Popen([*command, *lane], stdout=out, stderr=out)
            for lane, out in zip(LANES, (None, later), strict=True)
        ]
        try:
            codes = [lane.wait() for lane in lanes]
        finally:
            for lane in lanes:
                lane.terminate()
        later.seek(0)
        session.log("The second lane, %s:", ", ".join(LANES[1]))
        sys.stderr.write(later.read())
    if any(codes):
        session.error("The gate has failed.")


@nox.session(python=PYTHON)
def dev(session: nox.Session) -> None:
    """An environment to work in, with what all but `beside` needs: `. .nox/dev/bin/activate`."""
    install_all(session)
    install(session, "lint", "site")


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Writes in which versions the gate installs; `-- --upgrade` takes the newest ones."""
    groups = [f"--group={name}" for name in PYPROJECT["dependency-groups"]]
    wanted = Path(session.create_tmp(), "wanted.txt")
    for pair in PAIRS:
        wanted.write_text("\n".join((*of(pair), *verticals_of(pair))), encoding="utf-8")
        session.run(
            *("uv", "pip", "compile", "--quiet", "--no-annotate"),
            *("--custom-compile-command=nox -s lock", f"--python-version={pair['python']}"),
            *("--extra=instruments", *groups, "pyproject.toml", str(wanted)),
            *(f"--output-file={locked(pair)}", *session.posargs),
        )


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Style, format, the directions of imports, what is not declared, and GitHub's workflows."""
    install(session, "lint")
    session.run("deptry", "src")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")
    session.run("zizmor", "--offline", "--quiet", ".github")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    """Strict types."""
    install(session, "lint", "test")
    session.run("pyright")


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """The tests on the newest Victor that is supported."""
    session.env["COVERAGE_FILE"] = str(Path(".nox", ".coverage").absolute())
    install_all(session)
    elsewhere = [f"--ignore={path}" for path in (*ALONE, RELIABILITY, OF_OTHERS, OF_THE_SITE)]
    pytest(session, "-m", "not stack and not live", "--cov", *elsewhere)


@nox.session(python=PYTHON)
def alone(session: nox.Session) -> None:
    """Processes that have Victor without verticals, as most users do; so it starts faster."""
    install(session, "test")
    pytest(session, "-m", "not stack and not live", *ALONE)


@nox.session(python=PYTHON)
def beside(session: nox.Session) -> None:
    """Others that instrument what is below us: a call to a model is one of ours."""
    install(session, "test", "beside")
    pytest(session, OF_OTHERS)


@nox.session
@on(PAIRS[:-1])
def pairs(session: nox.Session, pair: dict[str, str]) -> None:
    """The hooks' contracts, spans and all scenarios on the other pairs of Python and Victor."""
    install_all(session, pair)
    if "native" in pair:
        session.run("python", "-c", "import victor_native")
    pytest(session, CONTRACTS, *OF_SPANS, "tests/scenarios")


@nox.session
@on(PAIRS)
def bare(session: nox.Session, pair: dict[str, str]) -> None:
    """The demo equals its count where only the package is, and what it declares."""
    install(session, pair=pair)
    session.run("victor-otel", "demo", "--once", "--port=0")
    session.run("victor-otel", "doctor")


@nox.session
@on(PAIRS[:-1])
def nightly(session: nox.Session, pair: dict[str, str]) -> None:
    """All that Victor does, through every door and both routes, on the other pairs."""
    install_stack(session, pair)
    pytest(session, *BEHAVIOUR, "tests/test_doors.py", ON_BOTH_ROUTES)


@nox.session(python=PYTHON)
def stack(session: nox.Session) -> None:
    """The three routes, with the real Collector and Prometheus."""
    install_stack(session)
    elsewhere = [f"--ignore={path}" for path in (OF_THE_WHEEL, *OF_THE_COLLECTOR, RELIABILITY)]
    pytest(session, "-m", "stack and not live", *elsewhere)


@nox.session(python=PYTHON)
def collector(session: nox.Session) -> None:
    """The Collector, what is behind it and who is paged, on free ports: beside whatever runs."""
    install_stack(session)
    pytest(session, "-m", "stack and not live", *OF_THE_COLLECTOR)


@nox.session
@on(PAIRS)
def reliability(session: nox.Session, pair: dict[str, str]) -> None:
    """Faults and hostile surroundings; `-- --long` tries more often, for docs/reliability.md."""
    install_stack(session, pair)
    rows = Path(".nox", "reliability", f"{pair['python']}-{pair['victor']}.jsonl").absolute()
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.unlink(missing_ok=True)
    patience = ["--timeout=3600"] if "--long" in session.posargs else []
    pytest(session, RELIABILITY, f"--rows={rows}", *patience)


@nox.session(python=PYTHON)
def live(session: nox.Session) -> None:
    """The long proofs, which print what they measured; not in the gate."""
    install_stack(session)
    session.run("python", "scripts/stack.py", "kafka")
    pytest(session, "-m", "live", "--capture=no")


@nox.session(python=sorted({pair["python"] for pair in PAIRS}))
def newest(session: nox.Session) -> None:
    """What moved with the newest Victor and all that we stand on; not in the gate."""
    upgrade = ("uv", "pip", "install", "--quiet", "--upgrade")
    session.run_install(*upgrade, "-e", ".[instruments]", "--group=test", "--group=verticals")
    # Again without our own bounds: what is beyond them should be seen as well.
    declared = map(Requirement, PYPROJECT["project"]["dependencies"])
    verticals = (name for name in VERTICALS if name != WITHOUT_DEPENDENCIES)
    session.run_install(*upgrade, "victor-ai", *verticals, *(one.name for one in declared))
    session.run_install(*upgrade, "--no-deps", WITHOUT_DEPENDENCIES)
    session.run("python", "-m", "tools.radar")


@nox.session(python=PYTHON)
def benchmarks(session: nox.Session) -> None:
    """What everything costs, into docs/performance.md; `-- --quick` only sees that it runs."""
    install(session, "test")
    made = Path(".nox", "benchmarks").absolute()
    ours = environment(session, made / "with", ".[instruments]", f"victor-ai=={MAIN['victor']}")
    bare = environment(session, made / "without", ".[instruments]", f"victor-ai=={MAIN['victor']}")
    session.run("uv", "pip", "uninstall", "--quiet", f"--python={bare}", "victor-otel")
    project = PYPROJECT["tool"]["victor-otel"]
    for peer in project["peers"]:
        environment(session, made / peer["name"], *peer["requires"], *project["peers-client"])

    tables = made / "tables"
    shutil.rmtree(tables, ignore_errors=True)
    options = (f"--save={tables}", *session.posargs)
    for name in BENCHMARKS:
        session.run("python", "-m", f"benchmarks.{name}", *options)
    pythons = (f"--with={ours}", f"--without={bare}")
    session.run("python", "-m", "benchmarks.startup", *pythons, *options)
    session.run("python", "-m", "benchmarks.peers", f"--environments={made}", *options)
    if "--quick" not in session.posargs:
        session.run("python", "-m", "tools.performance", "performance")


@nox.session(python=PYTHON)
def scale(session: nox.Session) -> None:
    """What a fleet needs, into docs/scale.md; `-- --quick` only sees that it runs."""
    install(session, "test")
    tables = Path(".nox", "scale", "tables").absolute()
    shutil.rmtree(tables, ignore_errors=True)
    for name in ("gateway", "storage"):
        session.run("python", "-m", f"benchmarks.{name}", f"--save={tables}", *session.posargs)
    if "--quick" not in session.posargs:
        session.run("python", "-m", "tools.performance", "scale")


def environment(session: nox.Session, path: Path, *requirements: str) -> Path:
    """The Python of an environment with these packages alone, compiled."""
    session.run("uv", "venv", "--quiet", "--clear", f"--python={PYTHON}", str(path))
    python = path / "bin" / "python"
    install = ("uv", "pip", "install", "--quiet", "--compile-bytecode", f"--python={python}")
    session.run(*install, *requirements)
    return python


@nox.session(python=PYTHON)
def demo(session: nox.Session) -> None:
    """The whole pipeline as processes on this machine, until Ctrl-C."""
    install(session, "test")
    # It ends what it has started, and says where its logs are.
    session.run("python", "scripts/demo_stack.py", interrupt_timeout=60)


@nox.session(python=PYTHON)
def docs(session: nox.Session) -> None:
    """What is generated is as the code says; `nox -s docs -- --write` makes it so."""
    install(session, "test")
    # Runbooks name panels as the dashboards' files do, and documentation is about the rules.
    for name in ("dashboards", "alerts", "docs", "kubernetes"):
        session.run("python", "-m", f"tools.{name}", *(session.posargs or ["--check"]))


@nox.session(python=PYTHON)
def site(session: nox.Session) -> None:
    """The documentation as a site, in .nox/pages/site: built without a warning, and looked at."""
    install(session, "site", "test")
    pytest(session, OF_THE_SITE)


@nox.session(python=PYTHON)
def build(session: nox.Session) -> None:
    """The wheel installs and works on its own, by each door, and what it exports starts."""
    add(session, "--group=build")
    session.run("python", "-m", "build", "--installer=uv", "--outdir=dist", silent=True)
    wheel = max(Path("dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    session.run("twine", "check", "--strict", str(wheel))
    doors(session, f"{wheel.absolute()}[instruments]")
    add(session, f"{wheel}[instruments]", "--group=test")
    session.run("victor-otel", "doctor")
    session.run("python", "scripts/stack.py", *("collector", "prometheus", "alertmanager"))
    pytest(session, OF_THE_WHEEL)


def doors(session: nox.Session, wheel: str) -> None:
    """The demo by uvx and pipx, with nothing installed before."""
    play = (wheel, "victor-otel", "demo", "--once", "--port=0")
    for python, pair in {pair["python"]: pair for pair in PAIRS[1:]}.items():
        versions = f"--constraint={Path(locked(pair)).absolute()}"
        session.run("uvx", f"--python={python}", versions, "--from", *play, external=True)
        found = session.run("uv", "python", "find", "--system", python, silent=True, external=True)
        where = (f"--python={found.strip()}", f"--pip-args={versions}")
        session.run("pipx", "run", "--no-cache", *where, "--spec", *play)
