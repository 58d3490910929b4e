"""A disk that is full where the Collector's queue is: what Prometheus sees, and what comes later."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.reliability.lifecycles import WORK, pushed, pushing
from tests.stack.backends import note_taker, sending_to
from tests.stack.collectors import by_exporter, own, points, post
from tests.stack.processes import (
    HOST,
    Collector,
    collector,
    collector_ports,
    exposition,
    free_ports,
    wait_until,
)
from tests.stack.routes import total

pytestmark = pytest.mark.stack

ROOM = 1 << 20
"""Bytes that any file may have on the full disk: the limit of the process stands for it."""
PROGRAM = (
    WORK
    + """
for line in sys.stdin:
    work(int(line))
    print(flush=True)
"""
)


@contextmanager
def victor(url: str) -> Iterator[Callable[[int], None]]:
    """A process that makes so many calls when it is told to, and pushes five times a second."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=pushing(url, OTEL_METRIC_EXPORT_INTERVAL="200"),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told, done = process.stdin, process.stdout

    def make(calls: int) -> None:
        print(calls, file=told, flush=True)
        assert done.readline()

    with process:
        yield make
        told.close()


def shown(gateway: Collector) -> float:
    return total(exposition(gateway.long_metrics), "victor_provider_requests_total")


def fill(gateway: Collector) -> None:
    """Pushes until the queue has no room for more."""
    for number in itertools.count():
        assert post(gateway.otlp_http, points(200, padding=1000)) == 200
        if number % 4 == 3:
            failed = by_exporter(own(gateway, "otelcol_exporter_enqueue_failed_metric_points"))
            if failed.get("otlp_http"):
                return


@pytest.mark.parametrize("killed", [False, True], ids=["room again", "killed meanwhile"])
def test_a_full_disk_costs_neither_the_page_nor_any_later_total(
    killed: bool, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    environment = {
        **collector_ports(),
        **sending_to(f"http://{HOST}:{port}"),
        "VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue"),
    }
    with ExitStack() as stack:
        gateway = stack.enter_context(collector(environment=environment))
        make = stack.enter_context(victor(gateway.otlp_http))
        make(5)
        wait_until(lambda: shown(gateway) == 5)
        pid, limit = gateway.process.pid, resource.RLIMIT_FSIZE
        _, most = resource.prlimit(pid, limit)
        resource.prlimit(pid, limit, (ROOM, most))
        fill(gateway)
        make(5)
        wait_until(lambda: shown(gateway) == 10)
        if killed:
            gateway.process.kill()
            gateway.process.wait()
            stack.enter_context(collector(environment=environment))
        else:
            resource.prlimit(pid, limit, (most, most))
        _, requests = stack.enter_context(note_taker(port))
        make(5)
        wait_until(lambda: list(pushed(requests, "victor.provider.requests").values()) == [15], 60)
