"""1,000 short runs and 20 real commands beside five replicas, of which first some die, then all.

Every interval and expiry is the shipped one: 15 s to push, scrape and evaluate, 30 s until what
is dead is gone.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests.kit.processes import environment
from tests.stack.processes import (
    Collector,
    Prometheus,
    collector,
    exposition,
    free_ports,
    prometheus,
    query,
    wait_until,
)
from tests.stack.replica import Replica, replica
from tests.stack.routes import ANSWER, total
from tests.stack.short_runs import (
    NO_MODEL,
    added_up,
    alive,
    missed,
    play,
    pushing,
    served,
    short_side,
)
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]

RUNS = 1000
COMMANDS = 20
INTERVAL = 15
EXPIRY = 30
# VictorReplicaGone looks 10 minutes back and wants to be right for 3: who dies has to have lived
# longer than that.
LIVED = 4 * 60
DYING = ("three", "four")
REPLICA_GONE = ("VictorReplicaGone", "warning", "")
ABSENT = ("VictorAbsent", "critical", "")


@dataclass
class Fleet:
    """Replicas by their instance, four that push and one that is scraped, and what they served."""

    gateway: Collector
    scraping: Prometheus
    direct: str
    replicas: dict[str, Replica]
    asked: dict[str, int] = field(default_factory=dict[str, int])

    def ask(self, instances: Collection[str]) -> None:
        for number, name in enumerate(instances, 1):
            assert [self.replicas[name].modes() for _ in range(number)] == [200] * number
            self.asked[name] = self.asked.get(name, 0) + number
        wait_until(lambda: served(self.scraping.url) == self.asked, 120)

    def die(self, instances: Collection[str]) -> float:
        """Kills; after the stated time the gauges of the others are all there is."""
        killed = time.monotonic()
        for name in instances:
            self.replicas.pop(name).process.kill()
        # The last push of the dead, and the last look before it expires.
        stated = EXPIRY + INTERVAL
        left = set(self.replicas)
        wait_until(lambda: alive(self.scraping.url) == left, stated + 2, interval=0.5)
        return killed

    def firing(self) -> set[tuple[str, str, str]]:
        """The alerts about absence that fire: name, severity and instance."""
        alerts = query(self.scraping.url, 'ALERTS{alertstate="firing",topic="availability"}')
        return {
            (labels["alertname"], labels["severity"], labels.get("instance", ""))
            for labels, _ in alerts
        }


@contextmanager
def fleet() -> Generator[Fleet]:
    (port,) = free_ports(1)
    direct = f"127.0.0.1:{port}"
    endpoint = {"VICTOR_PROMETHEUS_ENABLED": "true", "VICTOR_PROMETHEUS_PORT": str(port)}
    with ExitStack() as stack:
        gateway = stack.enter_context(collector())
        replicas = {direct: stack.enter_context(replica(NO_MODEL, **endpoint))}
        for name in ("one", "two", *DYING):
            variables = pushing(name, gateway, INTERVAL)
            replicas[name] = stack.enter_context(replica(NO_MODEL, **variables))
        # All are there before Prometheus first looks: it never saw fewer.
        scraping = stack.enter_context(prometheus([direct], [gateway], interval=f"{INTERVAL}s"))
        yield Fleet(gateway, scraping, direct, replicas)


def run_commands(gateway: Collector) -> None:
    """Twenty times `victor run`, two at once, as a service of their own."""
    variables = environment(
        OTEL_SERVICE_NAME="commands",
        OTEL_EXPORTER_OTLP_ENDPOINT=gateway.otlp_http,
        VICTOR_OTEL_LIFETIME="auto",
        VICTOR_OTEL_EXIT_TIMEOUT="30",
    )
    with ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model:
        command = [sys.executable, "-m", "tests.kit.victor_cli", model.url, "run", "What is 6 x 7?"]

        def run(_: int) -> None:
            subprocess.run(command, env=variables, check=True, capture_output=True)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(run, range(COMMANDS)))


def commands_added_up(prometheus_url: str, gateway: Collector) -> bool:
    found = short_side(prometheus_url, gateway, "commands")
    assert total(found, "victor_requests_total") == COMMANDS
    assert total(found, "victor_requests_total", interface="cli", status="success") == COMMANDS
    assert total(found, "victor_user_sessions_total", interface="cli") == COMMANDS
    assert total(found, "victor_session_duration_seconds_count") == COMMANDS
    return True


def runs_arrive(gateway: Collector) -> bool:
    return any(("job", "victor") in labels for _, labels in exposition(gateway.short_metrics))


def test_all_is_counted_and_who_dies_is_missed() -> None:
    def note(what: str, since: float) -> None:
        print(f"| {what} | {time.monotonic() - since:.0f} s |")

    with fleet() as watched, ThreadPoolExecutor() as threads:
        url, gateway = watched.scraping.url, watched.gateway
        watched.ask(watched.replicas)
        wait_until(lambda: alive(url) == set(watched.replicas), 60)
        began = time.monotonic()

        run_commands(gateway)
        note(f"{COMMANDS} commands", began)
        wait_until(lambda: commands_added_up(url, gateway), 60)
        wait_until(lambda: time.monotonic() > began + LIVED, LIVED, interval=1)
        assert watched.firing() == set()

        started = time.monotonic()
        playing = threads.submit(play, gateway.otlp_http, RUNS)
        wait_until(lambda: runs_arrive(gateway))
        assert not playing.done()
        killed = watched.die(DYING)
        note("gauges of the dead gone", killed)
        playing.result()
        note(f"{RUNS} runs", started)
        wait_until(lambda: added_up(url, gateway, RUNS), 60)
        print(f"| series of {RUNS} runs | {len(short_side(url, gateway))} |")
        watched.ask(watched.replicas)

        wait_until(lambda: watched.firing() == {REPLICA_GONE}, 15 * 60, interval=1)
        note("VictorReplicaGone fires", killed)
        page = urlsplit(gateway.long_metrics).netloc
        for name in watched.replicas:
            target = name if name == watched.direct else page
            assert missed(url, name, target, began) == 0

        killed = watched.die(list(watched.replicas))
        down = ("VictorDown", "critical", watched.direct)
        for alert in (down, ABSENT):
            wait_until(lambda alert=alert: alert in watched.firing(), 5 * 60, interval=1)
            note(f"{alert[0]} fires", killed)
        # What is gone has been counted.
        assert served(url) == watched.asked
        assert added_up(url, gateway, RUNS)
        assert commands_added_up(url, gateway)
