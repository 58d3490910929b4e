"""One stack for the tests of a module that only look at it.

Not for the whole session: it works all the time, and others are measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.processes import environment
from tests.stack import short_runs
from tests.stack.backends import sending_to
from tests.stack.paging import shipped
from tests.stack.processes import (
    Prometheus,
    alertmanager,
    collector,
    free_ports,
    prometheus,
)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus on the shipped files, with Alertmanager, after every scenario was played."""
    with monitoring(tmp_path_factory.mktemp("alertmanager")) as prometheus_there:
        yield prometheus_there


@contextmanager
def monitoring(folder: Path, replicas: int = 1) -> Generator[Prometheus]:
    """The whole stack after `replicas` processes have played every scenario, side by side.

    They are scraped, and push through a Collector besides, as some short-lived runs do. The
    Collector has a backend: another one.
    """
    ports = free_ports(replicas)
    with (
        collector() as backend,
        collector(environment=sending_to(backend.otlp_http)) as gateway,
        alertmanager(shipped(folder)) as alerting,
        prometheus(
            [f"127.0.0.1:{port}" for port in ports], [gateway], alertmanagers=[alerting.url]
        ) as running,
        ExitStack() as sessions,
    ):
        started = [
            sessions.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.stack.scenarios", str(port), gateway.otlp_http],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env=environment(),
                )
            )
            for port in ports
        ]
        short_runs.play(gateway.otlp_http, 20)
        for session in started:
            assert session.stdout is not None
            assert json.loads(session.stdout.readline())["problems"] == {}
        yield running
        for session in started:
            session.communicate("", timeout=60)
