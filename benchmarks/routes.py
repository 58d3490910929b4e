"""What a call costs by the route that its metrics take, set up by the environment as users do.

    python -m benchmarks.routes [--rounds N] [--quick]

In-process Prometheus, OTLP to a sink in a process of its own, both, and nothing configured; each
route in a process of its own, there with and without us by turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.calls import TIMES, TITLES, kinds, repeated, share, switched_on
from benchmarks.elsewhere import elsewhere, sink
from benchmarks.interleaved import State, measure
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import sandboxed

CALLS = ("tool", "pipeline", "model", "stream")


def routes(otlp: str) -> dict[str, dict[str, str]]:
    """The variables of each."""
    scraped = {"VICTOR_PROMETHEUS_ENABLED": "true", "VICTOR_PROMETHEUS_PORT": "0"}
    pushed = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp, "OTEL_METRIC_EXPORT_INTERVAL": "15000"}
    return {
        "in-process Prometheus": scraped,
        "OTLP, every 15 s": pushed,
        "both": {**scraped, **pushed},
        "nothing configured": {},
    }


def measured(variables: Mapping[str, str], asked: Asked) -> dict[str, str]:
    """By what is called, in a process that has these variables."""
    kept = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.routes", f"--inside={asked.rounds}"]
        + ["--quick"] * asked.quick,
        env={**kept, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


async def _measured(asked: Asked) -> dict[str, str]:
    found: dict[str, str] = {}
    made = kinds()
    for name in CALLS:
        work = repeated(made[name])
        states = {
            "off": State(contextlib.nullcontext, work),
            "on": State(lambda: switched_on(None), work),
        }
        times = asked.times(TIMES.get(name, 100))
        rounds = await measure(states, rounds=asked.rounds, times=times)
        found[name] = str(rounds.beyond("on", "off").scaled(share(name)))
    return found


def main(asked: Asked) -> None:
    table = Table(
        "routes",
        "What a call costs by the route of its metrics, in CPU time beyond what Victor takes: "
        f"median (quartiles) of {asked.rounds} rounds, microseconds.",
        ("Route", *(TITLES[name] for name in CALLS)),
    )
    with elsewhere(sink) as otlp:
        by_route = routes(otlp)
        for route in ["both"] if asked.quick else by_route:
            table.add(route, *measured(by_route[route], asked).values())
    table.keep(asked)


if __name__ == "__main__":
    options = parser(__doc__, rounds=21)
    options.add_argument("--inside", type=int, help="rounds, inside of one route")
    given = options.parse_args()
    if given.inside:
        given.rounds = given.inside
        logging.disable(logging.CRITICAL)
        with sandboxed():
            print(json.dumps(asyncio.run(_measured(asked(given)))))
    else:
        main(asked(given))
