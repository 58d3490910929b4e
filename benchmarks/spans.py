"""What the span of a call costs, beside all metrics.

    python -m benchmarks.spans [--rounds N] [--quick]

Without a TracerProvider, with one that samples nothing, and with one that samples everything and
hands batches to an exporter that drops them. CPU time of the whole process, in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from benchmarks.calls import TIMES, TITLES, kinds, provider, repeated
from benchmarks.interleaved import State, measure
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import sandboxed
from victor_otel.runtime import RUNTIME

CALLS = ("tool", "pipeline", "model")


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def tracing(*, sampled: bool) -> TracerProvider:
    made = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


@contextlib.contextmanager
def switched_on(meters: MeterProvider, tracers: TracerProvider | None) -> Iterator[None]:
    RUNTIME.activate(meters, tracers).open()
    try:
        yield
    finally:
        RUNTIME.deactivate()


async def main(asked: Asked) -> None:
    table = Table(
        "spans",
        "What a call costs in CPU time beyond what Victor takes, all metrics included: median "
        f"(quartiles) of {asked.rounds} rounds, microseconds.",
        ("Call", "no spans", "a span that is not sampled", "a sampled span"),
    )
    meters = provider()
    unsampled, sampled = tracing(sampled=False), tracing(sampled=True)
    for name in CALLS:
        work = repeated(kinds()[name])
        states = {
            "off": State(contextlib.nullcontext, work),
            "none": State(lambda: switched_on(meters, None), work),
            "unsampled": State(lambda: switched_on(meters, unsampled), work),
            "sampled": State(lambda: switched_on(meters, sampled), work),
        }
        times = asked.times(TIMES.get(name, 100))
        found = await measure(states, rounds=asked.rounds, times=times)
        costs = (found.beyond(state, "off") for state in ("none", "unsampled", "sampled"))
        table.add(TITLES[name], *costs)
    table.keep(asked)


if __name__ == "__main__":
    given = asked(parser(__doc__, rounds=31).parse_args())
    logging.disable(logging.CRITICAL)
    with sandboxed():
        asyncio.run(main(given))
