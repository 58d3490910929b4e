"""What a model call costs with us, and with others that instrument the same kind of call.

    python -m benchmarks.peers [--rounds N] [--quick] [--environments FOLDER]

Ours is the `chat` of a provider of Victor's, theirs a chat completion of the `openai` client; both
are answered from memory. Each peer is measured in its own environment, which `nox -s benchmarks`
makes; without `--environments` only ours is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from benchmarks import calls
from benchmarks.counting import steps
from benchmarks.interleaved import measure
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import sandboxed
from tools.paths import ROOT

TIMES = 20

Cells = dict[str, str]


async def ours(asked: Asked) -> Cells:
    played = calls.states(calls.kinds()["model"])
    found = await measure(played, rounds=asked.rounds, times=asked.times(TIMES))
    on, off = await steps(played["on"]), await steps(played["off"])
    return {"metrics": str(found.beyond("on", "off")), "metrics_steps": f"{on - off:,.0f}"}


def theirs(python: Path, name: str, asked: Asked) -> Cells:
    done = subprocess.run(
        [python, "-m", "benchmarks.peer", name, str(asked.rounds), str(asked.times(TIMES))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def declared() -> list[dict[str, Any]]:
    """The peers, with the distributions that they are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["tool"]["victor-otel"]["peers"]


def main(asked: Asked, environments: Path | None, own: Cells) -> None:
    table = Table(
        "peers",
        "What a model call costs beyond the same call without instrumentation: median (quartiles) "
        f"of {asked.rounds} rounds, microseconds of CPU time, and steps of the interpreter.",
        ("Instrumentation", "metrics only", "steps", "metrics and spans", "steps"),
    )
    rows = {"victor-otel": own}
    for peer in declared() if environments else ():
        python = Path(environments, peer["name"], "bin", "python")
        rows[peer["requires"][0]] = theirs(python, peer["name"], asked)
    for name, cells in rows.items():
        columns = ("metrics", "metrics_steps", "on", "steps")
        table.add(name, *(cells.get(column, "-") for column in columns))
    table.keep(asked)


if __name__ == "__main__":
    options = parser(__doc__, rounds=41)
    options.add_argument("--environments", type=Path, help="where each peer's environment is")
    given = options.parse_args()
    logging.disable(logging.CRITICAL)
    with sandboxed():
        own = asyncio.run(ours(asked(given)))
    main(asked(given), given.environments, own)
