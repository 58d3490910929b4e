"""How many steps of the interpreter one call takes, which is the same in each run.

    python -m benchmarks.steps [--quick]

Counted by Python itself (`sys.monitoring`), in half a minute and without other programs: a step is
one instruction of bytecode, whatever it takes. Each count is beyond what Victor takes alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.calls import TITLES, kinds, share, states
from benchmarks.counting import steps
from benchmarks.interleaved import number
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import sandboxed

STATES = ("off", "sdk", "on", "nobody")

Counts = Mapping[str, Mapping[str, float]]
"""Steps of a call beyond those without us, by what is called and by state."""


async def _counted() -> Counts:
    found: dict[str, dict[str, float]] = {}
    for name in TITLES:
        # The pipeline's own steps depend on the calls that it has seen: all begin anew.
        taken = {state: await steps(states(kinds()[name])[state]) for state in STATES}
        found[name] = {state: count - taken["off"] for state, count in taken.items()}
    return found


def counted() -> Counts:
    """Counts in a process of its own, where nothing else watches the interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.steps", "--inside"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(asked: Asked) -> None:
    table = Table(
        "steps",
        "How many steps of the interpreter a call takes beyond what Victor takes.",
        ("Call", "with us", "by hand, SDK", "us / by hand, SDK", "nobody listens"),
    )
    for name, taken in counted().items():
        ours, by_hand, nobody = (share(name) * taken[state] for state in ("on", "sdk", "nobody"))
        table.add(TITLES[name], *map(number, (ours, by_hand, ours / by_hand, nobody)))
    table.keep(asked)


if __name__ == "__main__":
    if sys.argv[1:] == ["--inside"]:
        logging.disable(logging.CRITICAL)
        with sandboxed():
            print(json.dumps(asyncio.run(_counted())))
    else:
        main(asked(parser(__doc__, rounds=1).parse_args()))
