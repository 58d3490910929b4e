"""One stack on which every scenario was played once, for all tests that only look at it.

They come last: the stack works all the time, and what others do is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.kit.processes import environment
from tests.stack import short_runs
from tests.stack.backends import sending_to, spans_to
from tests.stack.paging import shipped
from tests.stack.played import REPLICAS, Monitoring, Played
from tests.stack.processes import Prometheus, alertmanager, collector, free_ports, prometheus
from tests.stack.spans import made, push


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def looks(item: pytest.Item) -> bool:
        return "played" in getattr(item, "fixturenames", ())

    items.sort(key=looks)
    for item in filter(looks, items):
        # Whichever looks first waits until every scenario was played.
        item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Prometheus on the shipped files, with Alertmanager, after every scenario was played."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("alertmanager")
        started = [
            stack.enter_context(monitoring(folder / str(replicas), replicas))
            for replicas in REPLICAS
        ]
        command = [sys.executable, "-m", "tests.stack.scenarios"]
        command += [json.dumps([each.endpoints, each.gateway.otlp_http]) for each in started]
        session = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment(),
            )
        )
        for each in started:
            short_runs.play(each.gateway.otlp_http, 20)
        assert session.stdout is not None
        answer = json.loads(session.stdout.readline())
        yield Played(answer, {len(each.endpoints): each for each in started})
        session.communicate("", timeout=60)


@pytest.fixture(scope="session")
def monitored(played: Played) -> Prometheus:
    """That which has seen one replica."""
    return played.by_replicas[1].prometheus


@contextmanager
def monitoring(folder: Path, replicas: int) -> Generator[Monitoring]:
    """Run the stack. Its Collector has a backend: another one."""
    folder.mkdir()
    endpoints = [f"127.0.0.1:{port}" for port in free_ports(replicas)]
    with (
        collector() as backend,
        collector(
            environment=sending_to(backend.otlp_http, **spans_to(backend.otlp_http))
        ) as gateway,
        alertmanager(shipped(folder)) as alerting,
        prometheus(endpoints, [gateway], alertmanagers=[alerting.url]) as running,
    ):
        assert push(gateway.otlp_http, made(1)) == 200
        yield Monitoring(endpoints, gateway, running)
