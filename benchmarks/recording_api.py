"""What a call of the recording API costs, against the SDK's instrument called by hand.

    python -m benchmarks.recording_api [--rounds N] [--quick]

CPU time of calls of `victor_otel.record` and `victor_otel.custom`, switched on and off, and of the
same instrument by hand, by turns in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from benchmarks.calls import provider, switched_on
from benchmarks.interleaved import State, Work, measure
from benchmarks.report import Asked, Table, asked, parser
from victor_otel import custom, record

CALLS = 2_000

METER = provider().get_meter("by_hand")
COUNTER, HISTOGRAM = METER.create_counter("c"), METER.create_histogram("h")
OWN = custom.counter("bench.counter", "A counter with one label", labels=("team",))

BY_HAND: dict[str, Callable[[], None]] = {
    "counter": lambda: COUNTER.add(1, {"team": "core"}),
    "histogram": lambda: HISTOGRAM.record(1.5, {"team": "core"}),
}
OURS: dict[str, tuple[str, Callable[[], None]]] = {
    "record.feature": ("counter", lambda: record.feature("report")),
    "record.visualization": ("counter", record.visualization),
    "record.search_accuracy": ("counter", lambda: record.search_accuracy(3, 4)),
    "record.proficiency": ("counter", lambda: record.proficiency("sql", 0.5)),
    "custom counter": ("counter", lambda: OWN.add(team="core")),
    "record.synthesis_time": ("histogram", lambda: record.synthesis_time(1.5)),
}


def repeated(call: Callable[[], None]) -> Work:
    async def work(times: int) -> None:
        for _ in range(times):
            call()

    return work


async def main(asked: Asked) -> None:
    table = Table(
        "recording_api",
        "What a call of the recording API costs in CPU time: median (quartiles) of "
        f"{asked.rounds} rounds, microseconds.",
        ("Call", "ours", "by hand, SDK", "ours / by hand", "switched off"),
    )
    meters = provider()
    for name, (kind, call) in OURS.items():
        states = {
            "nothing": State(contextlib.nullcontext, repeated(lambda: None)),
            "hand": State(contextlib.nullcontext, repeated(BY_HAND[kind])),
            "off": State(contextlib.nullcontext, repeated(call)),
            "on": State(lambda: switched_on(meters), repeated(call)),
        }
        found = await measure(states, rounds=asked.rounds, times=asked.times(CALLS))
        table.add(
            name,
            found.beyond("on", "nothing"),
            found.beyond("hand", "nothing"),
            found.ratio("on", "hand", "nothing"),
            found.beyond("off", "nothing"),
        )
    table.keep(asked)


if __name__ == "__main__":
    given = asked(parser(__doc__, rounds=21).parse_args())
    logging.disable(logging.CRITICAL)
    asyncio.run(main(given))
