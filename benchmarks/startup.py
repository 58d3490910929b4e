"""What a start of Victor pays for us: nothing is configured, and nobody asks for metrics.

    python -m benchmarks.startup --with PYTHON --without PYTHON [--rounds N] [--quick]

The same commands in two environments with the same packages, by turns; from one of them
victor-otel itself was removed. `nox -s benchmarks` makes them; by itself this compares the present
environment with the same one. CPU time and memory are those of the whole process.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from benchmarks.interleaved import Spread, number
from benchmarks.report import Asked, Table, asked, parser

FIRST_AGENT = """
import asyncio, time
from victor.framework import Agent
from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

async def main():
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint="http://127.0.0.1:9/v1")
    began = time.perf_counter()
    agent = await Agent.create(session_config=SessionConfig(provider_override=override))
    print("seconds:", time.perf_counter() - began)
    await agent.close()

asyncio.run(main())
"""
PROMETHEUS = {"VICTOR_PROMETHEUS_ENABLED": "true", "VICTOR_PROMETHEUS_PORT": "0"}

Command = Sequence[str | Path]


class Start(NamedTuple):
    """What is started with the Python of an environment."""

    command: Callable[[Path], Command]
    variables: Mapping[str, str] = {}
    counted: bool = True
    """Whether its instructions are counted as well, which takes minutes."""


STARTS = {
    "victor --version": Start(lambda python: (python, python.with_name("victor"), "--version")),
    "import victor": Start(lambda python: (python, "-c", "import victor"), counted=False),
    "first agent, Prometheus on": Start(
        lambda python: (python, "-c", FIRST_AGENT), PROMETHEUS, counted=False
    ),
}


class Taken(NamedTuple):
    """Of one process: milliseconds of CPU time and of the work itself, and MiB."""

    cpu: float
    wall: float
    memory: float


def run(command: Command, variables: Mapping[str, str]) -> Taken:
    """One process, in a home of its own."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile("w+") as out:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "OPENAI_API_KEY": "none"}
        began = perf_counter()
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {said}")
    timed = re.search(r"^seconds: (\S+)$", said, re.MULTILINE)
    seconds = float(timed[1]) if timed else wall
    return Taken(1e3 * (used.ru_utime + used.ru_stime), 1e3 * seconds, used.ru_maxrss / 1024)


def instructions(command: Command, variables: Mapping[str, str]) -> float:
    """Those that the processor runs for it, as valgrind counts them."""
    with tempfile.NamedTemporaryFile("r") as log:
        counting = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
        kept = {**variables, "PYTHONHASHSEED": "0"}
        run(("valgrind", *counting, f"--log-file={log.name}", *command), kept)
        (found,) = re.findall(r"I +refs: +([\d,]+)", log.read())
    return float(found.replace(",", ""))


def beyond(without: Sequence[float], with_us: Sequence[float]) -> tuple[str, str]:
    """What it takes without us, and what we add; also in per cent."""
    base = statistics.median(without)
    added = Spread.of([ours - bare for ours, bare in zip(with_us, without, strict=True)])
    return number(base), f"{added}, {100 * added.middle / base:+.1f} %"


def main(asked: Asked, pythons: Sequence[Path]) -> None:
    table = Table(
        "startup",
        "What a start of Victor pays for an installed victor-otel: medians (quartiles) of "
        f"{asked.rounds} pairs of processes.",
        (
            "Command",
            *("CPU without us, ms", "with us"),
            *("wall without us, ms", "with us"),
            *("memory without us, MiB", "with us"),
            "instructions with us",
        ),
    )
    for title in ["import victor"] if asked.quick else STARTS:
        start = STARTS[title]
        found: tuple[list[Taken], list[Taken]] = ([], [])
        for played in range(-1, asked.rounds):
            pairs = list(zip(pythons, found, strict=True))
            for python, taken in pairs if played % 2 else reversed(pairs):
                one = run(start.command(python), start.variables)
                if played >= 0:  # what is compiled or cached once is so now
                    taken.append(one)
        cells = [
            beyond(*([getattr(one, field) for one in taken] for taken in found))
            for field in Taken._fields
        ]
        exact = "-"
        if start.counted and shutil.which("valgrind") and not asked.quick:
            bare, ours = (instructions(start.command(one), start.variables) for one in pythons)
            exact = f"{100 * (ours - bare) / bare:+.2f} %"
        table.add(title, *(part for cell in cells for part in cell), exact)
    table.keep(asked)


if __name__ == "__main__":
    options = parser(__doc__, rounds=11)
    options.add_argument("--with", type=Path, default=sys.executable, dest="ours")
    options.add_argument("--without", type=Path, default=sys.executable)
    given = options.parse_args()
    main(asked(given), (Path(given.without), Path(given.ours)))
