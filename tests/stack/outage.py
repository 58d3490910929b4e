"""A backend that goes away under load, a Collector that is killed meanwhile, and what arrived.

Nothing here asserts: `play` returns what happened, and the tests say what must have.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.stack.backends import prometheus_backend, sending_to
from tests.stack.load import AT_ONCE, SHORT, SHORT_COUNT, Load, Sample, loading, push, push_total
from tests.stack.processes import (
    HOST,
    Collector,
    asked,
    collector,
    collector_ports,
    exposition,
    free_ports,
    prometheus,
    query,
    wait_until,
)
from tests.stack.routes import total
from victor_otel.victor.shared import REQUESTS

SCRAPE = 1.0
# interval/short holds totals for so long, and a busy machine is late by so much.
HELD, SLACK = 0.2, 0.5
WINDOW = "30m"


@dataclass
class Queue:
    """The most that waited for the backend."""

    requests: float = 0
    size: int = 0


@contextmanager
def watching(telemetry: str, folder: Path) -> Iterator[Queue]:
    """Look at the queue twice a second; a Collector that is away is looked at later."""
    queue, ended = Queue(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            with suppress(OSError):
                queue.requests = max(queue.requests, waiting(telemetry))
                queue.size = max(queue.size, sum(file.stat().st_size for file in folder.iterdir()))

    with ThreadPoolExecutor(1) as threads:
        watched = threads.submit(watch)
        try:
            yield queue
        finally:
            ended.set()
    watched.result()


def waiting(telemetry: str) -> float:
    """The requests that the Collector has for its backend, the one being sent included."""
    return total(exposition(telemetry), "otelcol_exporter_queue_size", exporter="otlp_http")


def samples(url: str, series: str) -> list[Sample]:
    """Every stored sample of the one series that `series` selects."""
    (found,) = asked(url, f"{series}[{WINDOW}]")["result"]
    return [Sample(when, float(value)) for when, value in found["values"]]


def lives(found: Sequence[Sample]) -> list[float]:
    """The last total before each restart of a counter, and at the end."""
    ends = [before.value for before, after in pairwise(found) if after.value < before.value]
    return [*ends, found[-1].value]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was sent, what arrived, and when things happened."""

    load: Load
    queue: Queue
    down: float
    killed: float
    up: float
    caught_up: float
    stopped: float
    restarted: float
    ended: float
    received: Mapping[str, Sequence[Sample]]
    """By series, on the backend."""
    scraped: Sequence[Sample]
    increases: Mapping[str, float]
    """What increase() shows from the beginning of the outage to the end: backend, scraped."""

    def table(self) -> str:
        """What happened, as a Markdown table."""
        first, *others = lives(self.received[SHORT])
        answered = self.load.acknowledged()
        before = self.load.acknowledged(before=self.killed)
        risked = before - self.load.acknowledged(before=self.killed - HELD - SLACK)
        points = [
            (sample, replica.series)
            for replica in self.load.replicas
            for sample, _ in replica.exporter.acknowledged
        ]
        missing = sum(sample not in self.received[series] for sample, series in points)
        rows = {
            "backend away": f"{self.up - self.down:.0f} s",
            "Collector killed": f"{self.killed - self.down:.0f} s after it went",
            "short-lived runs, 16 at once": f"{len(self.load.pushes):,}",
            "acknowledged": f"{answered:,}",
            "lost by the kill, of those acknowledged in the 0.7 s before it": (
                f"{max(0, before - first):,.0f} of {risked}"
            ),
            "lost by a normal stop": f"{max(0, answered - before - sum(others)):,.0f}",
            "lost by both for a Prometheus that scrapes each second": (
                f"{max(0, answered - sum(lives(self.scraped))):,.0f}"
            ),
            "counted by two long-lived processes": f"{sum(self.load.totals.values()):,}",
            "of that on the backend": (
                f"{sum(self.received[each.series][-1].value for each in self.load.replicas):,.0f}"
            ),
            "their acknowledged points, and missing ones": f"{len(points):,}, {missing:,}",
            "most that waited on disk": (
                f"{self.queue.requests:,.0f} requests in {self.queue.size / 2**20:.1f} MiB"
            ),
            "all delivered": f"{self.caught_up - self.up:.1f} s after it was back",
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join(["| | |", "|---|---|", *lines])


def shown_by(gateway: Collector) -> float:
    """The total of short-lived runs that the Collector itself shows."""
    return total(exposition(gateway.short_metrics), REQUESTS.prometheus_name)


def _more_pushes(load: Load, count: int) -> None:
    least = load.acknowledged() + count
    wait_until(lambda: load.acknowledged() >= least, interval=0.002)


def play(seconds: float, folder: Path) -> Outcome:
    """A backend down for `seconds`, the Collector killed in the middle; later a normal stop."""
    (port,) = free_ports(1)
    environment = {
        **collector_ports(),
        **sending_to(f"http://{HOST}:{port}/api/v1/otlp"),
        "VICTOR_COLLECTOR_QUEUE": str(folder / "queue"),
    }
    with ExitStack() as stack:
        backend = ExitStack()
        stack.push(backend)
        url = backend.enter_context(prometheus_backend(folder, port))
        with collector(environment=environment) as gateway:
            scraping = stack.enter_context(prometheus(collectors=[gateway]))
            queue = stack.enter_context(watching(gateway.telemetry, folder / "queue"))
            load = stack.enter_context(loading(gateway.otlp_http))
            # Short-lived runs and the first replica; the second pushes after 15 s.
            for each in (url, scraping.url):
                wait_until(lambda each=each: len(query(each, REQUESTS.prometheus_name)) >= 2)
            backend.close()
            down = time.time()
            time.sleep(seconds / 2)
            # While the Collector still holds what it has just acknowledged.
            _more_pushes(load, 1)
            killed = time.time()
            gateway.process.kill()
            gateway.process.wait()
        with collector(environment=environment) as gateway:
            time.sleep(max(0, down + seconds - time.time()))
            backend.enter_context(prometheus_backend(folder, port))
            up = time.time()
            wait_until(lambda: not waiting(gateway.telemetry), 120)
            caught_up = time.time()
            _more_pushes(load, 2 * AT_ONCE)
            _more_pushes(load, 1)
            stopped = time.time()
        if gateway.process.returncode:
            raise RuntimeError(f"a normal stop ended with {gateway.process.returncode}")
        with collector(environment=environment) as gateway:
            restarted = time.time()
            _more_pushes(load, 2 * AT_ONCE)
            load.finish()
            # Where these arrive, all is that was acknowledged before.
            push(load.url, "last", "failure")
            push_total(load.url, "last", time.time_ns())
            for each in (url, scraping.url):
                for last in ('job="victor",status="failure"', 'instance="last"'):
                    found = f"{REQUESTS.prometheus_name}{{{last}}}"
                    wait_until(lambda each=each, found=found: query(each, found))
            ended = time.time()
            series = [SHORT, SHORT_COUNT, *(each.series for each in load.replicas)]
            since = math.ceil(ended - down)
            return Outcome(
                load=load,
                queue=queue,
                down=down,
                killed=killed,
                up=up,
                caught_up=caught_up,
                stopped=stopped,
                restarted=restarted,
                ended=ended,
                received={each: samples(url, each) for each in series},
                scraped=samples(scraping.url, SHORT),
                increases={
                    name: query(each, f"increase({SHORT}[{since}s])")[0][1]
                    for name, each in (("backend", url), ("scraped", scraping.url))
                },
            )


def check(outcome: Outcome) -> None:
    """What the configuration promises about an outage."""
    load = outcome.load
    # Cumulative: what a process counted is there in the end, and the outage has no hole, because
    # the queue on disk filled it.
    for replica in load.replicas:
        received = outcome.received[replica.series]
        assert received[-1].value == load.totals[replica.instance]
        missing = {
            sample
            for sample, when in replica.exporter.acknowledged
            if not outcome.killed - HELD - SLACK <= when <= outcome.killed
        } - set(received)
        assert missing == set()
    (each_second,) = (one for one in load.replicas if one.seconds == 1)
    during = [
        one for one in outcome.received[each_second.series] if outcome.down < one.time < outcome.up
    ]
    assert during

    # Deltas: a kill costs what was acknowledged just before, a normal stop nothing.
    certain = load.acknowledged(before=outcome.killed - HELD - SLACK)
    begun = sum(one.started < outcome.killed for one in load.pushes)
    rest = load.acknowledged(since=outcome.killed)
    unsure = sum(one.started < outcome.killed < one.ended for one in load.pushes)
    unsure += sum(one.started >= outcome.killed and not one.acknowledged for one in load.pushes)
    for counted_twice in (SHORT, SHORT_COUNT):
        first, *others = lives(outcome.received[counted_twice])
        assert len(others) == 2, "a total begins anew with each Collector"
        assert certain <= first <= begun
        assert rest <= sum(others) <= rest + unsure

    # Who scrapes loses at each restart what came after the last scrape.
    late = SCRAPE + HELD + SLACK
    assert least(outcome, late) <= sum(lives(outcome.scraped)) <= len(load.pushes) + unsure

    # increase() sees no more than that missing, in a window with both restarts.
    begin = outcome.down + SCRAPE
    assert outcome.increases["backend"] >= least(outcome, HELD + SLACK, since=begin)
    assert outcome.increases["scraped"] >= least(outcome, late, since=begin)


def least(outcome: Outcome, late: float, since: float = 0) -> int:
    """The runs acknowledged, but for those less than `late` before the kill or the stop."""
    return (
        outcome.load.acknowledged(since=since, before=outcome.killed - late)
        + outcome.load.acknowledged(since=outcome.killed, before=outcome.stopped - late)
        + outcome.load.acknowledged(since=outcome.restarted)
    )
