"""What a call of the recording API costs, against the SDK's instrument called by hand.

    python benchmarks/recording_api.py

Prints the median ratio of interleaved rounds in this process, and the spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from victor_otel import custom, instrumentation, record

ROUNDS, CALLS = 41, 2_000

provider = MeterProvider([InMemoryMetricReader()], exemplar_filter=AlwaysOffExemplarFilter())
meter = provider.get_meter("by_hand")
counter, histogram = meter.create_counter("c"), meter.create_histogram("h")
own = custom.counter("bench.counter", "A counter with one label", labels=("team",))

BY_HAND: dict[str, Callable[[], None]] = {
    "counter": lambda: counter.add(1, {"team": "core"}),
    "histogram": lambda: histogram.record(1.5, {"team": "core"}),
}
OURS: dict[str, tuple[str, Callable[[], None]]] = {
    "record.feature": ("counter", lambda: record.feature("report")),
    "record.visualization": ("counter", record.visualization),
    "record.search_accuracy": ("counter", lambda: record.search_accuracy(3, 4)),
    "record.proficiency": ("counter", lambda: record.proficiency("sql", 0.5)),
    "custom counter": ("counter", lambda: own.add(team="core")),
    "record.synthesis_time": ("histogram", lambda: record.synthesis_time(1.5)),
}


def seconds(call: Callable[[], None]) -> float:
    started = perf_counter()
    for _ in range(CALLS):
        call()
    return (perf_counter() - started) / CALLS


def compare(state: str) -> None:
    for name, (against, ours) in OURS.items():
        ratios = [seconds(ours) / seconds(BY_HAND[against]) for _ in range(ROUNDS)]
        low, *_, high = statistics.quantiles(ratios, n=10)
        middle = statistics.median(ratios)
        print(f"{state:4} {name:24} {middle:.2f} x an SDK {against} ({low:.2f} to {high:.2f})")


def main() -> None:
    compare("off")
    instrumentation.activate(provider).open()
    compare("on")


if __name__ == "__main__":
    main()
