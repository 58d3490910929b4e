"""What it costs to hold and to show many series, against OpenTelemetry's SDK by itself.

    python -m benchmarks.series [--rounds N] [--quick]

A histogram of 2,000 label sets with 14 buckets, recorded through `victor_otel.custom` and by
hand: CPU time of one page by HTTP, and memory for each 1,000 label sets. Both have their endpoint
in this process: ours, and the one of prometheus_client on the SDK's own PrometheusMetricReader.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import tracemalloc
import urllib.request
from collections.abc import Callable
from contextlib import closing

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from prometheus_client import CollectorRegistry, start_http_server

from benchmarks.calls import switched_on
from benchmarks.interleaved import State, Work, measure, number
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.processes import free_port
from victor_otel import custom

# The SDK folds all beyond 2,000 label sets of an instrument into one, and we all beyond 1,800.
SHARDS, TEAMS, HISTOGRAMS = 25, 40, 2
BUCKETS = tuple(float(2**power) for power in range(14))

Record = Callable[..., None]


def fill(records: list[Record]) -> None:
    for record, shard, team in itertools.product(records, range(SHARDS), range(TEAMS)):
        record(3.0, shard=f"shard{shard}", team=f"team{team}")


def ours(number: int) -> Record:
    labels = ("shard", "team")
    return custom.histogram(f"bench.ours{number}", "Ours", labels=labels, buckets=BUCKETS).record


def by_hand(provider: MeterProvider, number: int) -> Record:
    made = provider.get_meter("by_hand").create_histogram(
        f"bench.theirs{number}", explicit_bucket_boundaries_advisory=BUCKETS
    )

    def record(value: float, **labels: str) -> None:
        made.record(value, labels)

    return record


def kibibytes(records: list[Record]) -> float:
    """Memory for 1,000 label sets."""
    gc.collect()
    tracemalloc.start()
    fill(records)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 1024 / (SHARDS * TEAMS * len(records) / 1_000)


def read(url: str) -> bytes:
    with closing(urllib.request.urlopen(url)) as page:  # noqa: S310
        return page.read()


def reading(url: str) -> Work:
    async def work(times: int) -> None:
        for _ in range(times):
            read(url)

    return work


async def main(asked: Asked) -> None:
    table = Table(
        "series",
        "Many series: one page, median (quartiles) of "
        f"{asked.rounds} rounds in milliseconds of CPU time, and memory in KiB.",
        ("What", "ours", "the SDK's", "ours / the SDK's"),
    )
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False)
    provider = MeterProvider(
        [reader], shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter()
    )
    server, _thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    port = free_port()
    os.environ |= {"VICTOR_PROMETHEUS_ENABLED": "true", "VICTOR_PROMETHEUS_PORT": str(port)}
    with switched_on(None), closing(server.socket):
        their_memory = kibibytes([by_hand(provider, one) for one in range(HISTOGRAMS)])
        our_memory = kibibytes([ours(one) for one in range(HISTOGRAMS)])
        pages = {
            "ours": f"http://127.0.0.1:{port}/metrics",
            "theirs": f"http://127.0.0.1:{server.server_port}/metrics",
        }
        states = {name: State(contextlib.nullcontext, reading(url)) for name, url in pages.items()}
        states["off"] = State(contextlib.nullcontext, _nothing)
        found = await measure(states, rounds=asked.rounds, times=1)
        lines = {name: read(url).count(b"\n") for name, url in pages.items()}
        server.shutdown()
    table.add(
        f"page of {SHARDS * TEAMS * HISTOGRAMS:,} label sets with {len(BUCKETS)} buckets",
        found.of("ours").scaled(1e-3),
        found.of("theirs").scaled(1e-3),
        found.ratio("ours", "theirs", "off"),
    )
    table.add("its lines", f"{lines['ours']:,}", f"{lines['theirs']:,}", "")
    table.add(
        "memory for 1,000 label sets",
        number(our_memory),
        number(their_memory),
        number(our_memory / their_memory),
    )
    table.keep(asked)


async def _nothing(_: int) -> None: ...


if __name__ == "__main__":
    given = asked(parser(__doc__, rounds=21).parse_args())
    logging.disable(logging.CRITICAL)
    asyncio.run(main(given))
