"""What a whole agent session costs, with and without us.

    python -m benchmarks.session [--rounds N] [--quick]

A real agent is created, takes six turns with a tool call each, and is closed; its model is
scripted and in a process of its own. CPU time and wall time of sessions that follow each other, by
turns with and without us.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from time import perf_counter, process_time
from typing import Any, NamedTuple

from benchmarks.calls import provider, switched_on
from benchmarks.elsewhere import TURNS, elsewhere, model
from benchmarks.interleaved import Spread
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import sandboxed
from tests.kit.tools import double, own_tool


class Taken(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Taken:
        return cls(process_time(), perf_counter())

    def since(self, before: Taken) -> Taken:
        return Taken(self.cpu - before.cpu, self.wall - before.wall)


@asynccontextmanager
async def agent(url: str) -> AsyncIterator[Any]:
    from victor.core.container import reset_container
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    reset_container()
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint=url)
    created = await Agent.create(session_config=SessionConfig(provider_override=override))
    created.get_orchestrator().console.quiet = True
    created.get_orchestrator().tools.register(own_tool(double))
    try:
        yield created
    finally:
        await created.close()


async def session(url: str) -> dict[str, Taken]:
    """What the parts of one session took; of its turns the mean."""
    began = Taken.now()
    async with agent(url) as created:
        ready = Taken.now()
        for _ in range(TURNS):
            await created.run("Use your tool and tell me what it says.")
        played = Taken.now()
    turns = played.since(ready)
    return {
        "creation of the agent": ready.since(began),
        "chat turn with a tool call": Taken(turns.cpu / TURNS, turns.wall / TURNS),
        "whole session": Taken.now().since(began),
    }


def compared(off: Sequence[float], on: Sequence[float]) -> tuple[str, ...]:
    """Milliseconds without us, those beyond with us, and these in per cent."""
    without = Spread.of([1e3 * each for each in off])
    beyond = Spread.of([1e3 * (ours - bare) for ours, bare in zip(on, off, strict=True)])
    return str(without), str(beyond), f"{100 * beyond.middle / without.middle:+.1f} %"


async def main(asked: Asked, url: str) -> None:
    table = Table(
        "session",
        f"An agent's session of {TURNS} turns and {TURNS} tool calls, with all metrics into an "
        f"in-memory reader: median (quartiles) of {asked.rounds} pairs, milliseconds.",
        ("Part", "CPU without us", "with us", "in %", "wall without us", "with us", "in %"),
    )
    ours = provider()
    states = {"off": nullcontext, "on": lambda: switched_on(ours)}
    found: dict[str, list[dict[str, Taken]]] = {state: [] for state in states}
    for played in range(-1, asked.rounds):
        order = list(states) if played % 2 else list(reversed(states))
        for state in order:
            with states[state]():
                gc.collect()
                taken = await asyncio.create_task(session(url))
            if played >= 0:  # what is made once is made in the first
                found[state].append(taken)
    for part in found["off"][0]:
        off, on = ([taken[part] for taken in found[state]] for state in states)
        cells = [
            compared([getattr(one, clock) for one in off], [getattr(one, clock) for one in on])
            for clock in Taken._fields
        ]
        table.add(part, *cells[0], *cells[1])
    table.keep(asked)


if __name__ == "__main__":
    given = asked(parser(__doc__, rounds=25).parse_args())
    logging.disable(logging.CRITICAL)
    with elsewhere(model) as url, sandboxed():
        asyncio.run(main(given, url))
