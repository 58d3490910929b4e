"""1,000 agents through two rows of Collectors into VictoriaMetrics, while some of these are killed.

Each agent is OpenTelemetry's SDK with our instruments. Twenty of them, `-k 20`, show in a minute
that the test itself works.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.stack.backends import anew, flush, sending_to, victoria_metrics
from tests.stack.collectors import arrived, own
from tests.stack.fleet import Fleet, fleet, totals
from tests.stack.gateways import NAMES, agents, gateway
from tests.stack.kafka import kafka
from tests.stack.processes import (
    COLLECTOR_CONFIG,
    Collector,
    Labels,
    collector,
    collector_ports,
    query,
    wait_until,
)
from tests.stack.short_runs import expected, play
from tools.paths import COLLECTOR

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]

PATIENCE = 600
AGENTS = pytest.mark.parametrize("number", [20, 1_000])
INSTANCE = 'instance=~"agent-.+"'
SHORT = 'gateway=~"agent-.+"'


def selected(name: str, labels: Labels, more: str) -> str:
    """All that was stored of what each series selected has."""
    pairs = {**dict(labels), "job": "victor"}
    if "le" in pairs:
        pairs["le"] = f"{float(pairs['le']):g}".replace("inf", "+Inf")
    matchers = [f'{key}="{value}"' for key, value in pairs.items()]
    matchers += [more, anew()]
    return f"{name}{{{','.join(matchers)}}}[1h]"


def number_of(url: str, promql: str) -> float:
    found = query(url, promql)
    return found[0][1] if found else 0


def wait_for_all(url: str, number: int, rounds: int) -> None:
    """Until each series of each agent has exactly what the agent has counted."""

    def exact() -> bool:
        flush(url)
        for (name, labels), value in totals(rounds).items():
            last = f"last_over_time({selected(name, labels, INSTANCE)})"
            assert number_of(url, f"count({last} == {value})") == number, (name, labels)
        return True

    wait_until(exact, PATIENCE, interval=1)


@contextmanager
def timed(what: str) -> Generator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s")


def push_while(playing: Fleet, happens: Callable[[], None]) -> None:
    """A round in the middle of which something happens."""
    playing.begin()
    happens()
    playing.end()


def kill(each: Collector) -> None:
    each.process.send_signal(signal.SIGKILL)
    each.process.wait()


@AGENTS
def test_every_counter_is_exact_although_a_gateway_was_killed(tmp_path: Path, number: int) -> None:
    with ExitStack() as lives:
        backend = lives.enter_context(victoria_metrics(tmp_path))
        first, second = (
            {
                **collector_ports(),
                **sending_to(f"{backend}/opentelemetry"),
                "VICTOR_COLLECTOR_QUEUE": str(tmp_path / name),
            }
            for name in NAMES[:2]
        )
        one = lives.enter_context(gateway(NAMES[0], environment=first))
        other = lives.enter_context(gateway(NAMES[1], environment=second))
        through = lives.enter_context(agents([one, other]))
        playing = lives.enter_context(fleet([each.otlp_http for each in through], number))
        with timed(f"{number} agents start, work and push"):
            playing.push()
        has = arrived(other)

        def dies() -> None:
            wait_until(lambda: arrived(other) > has, PATIENCE)
            kill(other)

        push_while(playing, dies)
        # What these push waits in the agents for the gateway that is away.
        playing.push()
        lives.enter_context(gateway(NAMES[1], environment=second))
        with timed("until all of it is in VictoriaMetrics"):
            wait_for_all(backend, number, rounds=3)
        for each in through:
            assert own(each, "otelcol_exporter_send_failed_metric_points") == {}


@AGENTS
def test_nothing_is_lost_in_kafka_when_a_broker_and_a_gateway_are_killed(
    tmp_path: Path, number: int
) -> None:
    with ExitStack() as lives:
        backend = lives.enter_context(victoria_metrics(tmp_path))
        cluster = lives.enter_context(kafka(tmp_path / "kafka"))
        reach = {"VICTOR_COLLECTOR_KAFKA_BROKERS": cluster.brokers}
        through = [
            lives.enter_context(
                collector(
                    COLLECTOR_CONFIG,
                    COLLECTOR / "kafka-agent.yaml",
                    environment={**reach, "VICTOR_COLLECTOR_GATEWAY_NAME": name},
                )
            )
            for name in ("agent-0", "agent-1")
        ]
        gateways = [
            lives.enter_context(
                collector(
                    COLLECTOR_CONFIG,
                    COLLECTOR / "kafka-gateway.yaml",
                    environment={**reach, **sending_to(f"{backend}/opentelemetry")},
                )
            )
            for _ in range(2)
        ]
        playing = lives.enter_context(fleet([each.otlp_http for each in through], number))
        with timed(f"{number} agents start, work and push"):
            playing.push()
        wait_for_all(backend, number, rounds=1)
        push_while(playing, lambda: print("killed", cluster.kill()))
        push_while(playing, lambda: kill(gateways[1]))
        for each in through:
            play(each.otlp_http, 100)
        with timed("until all of it is in VictoriaMetrics"):
            wait_for_all(backend, number, rounds=3)

        # Not only the last total of each series is there, but each.
        for name, labels in totals(1):
            pushed = f"distinct_over_time({selected(name, labels, INSTANCE)})"
            assert number_of(backend, f"count({pushed} == 3)") == number, (name, labels)

        def short_runs_are_exact() -> bool:
            flush(backend)
            for (name, labels), value in expected(100).items():
                last = f"last_over_time({selected(name, labels, SHORT)})"
                assert number_of(backend, f"sum({last})") == 2 * value, (name, labels)
            return True

        wait_until(short_runs_are_exact, PATIENCE, interval=1)
        stored = f'sum(count_over_time(victor_requests_total{{{INSTANCE},status="success"}}[1h]))'
        # Written twice is the same value at the same time.
        print("stored twice:", number_of(backend, stored) - 3 * number)
