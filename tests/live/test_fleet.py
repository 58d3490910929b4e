"""1,000 agents through two rows of Collectors into VictoriaMetrics, while some of these are killed.

Each agent is OpenTelemetry's SDK with our instruments. Twenty of them, `-k 20`, show in a minute
that the test itself works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.stack.backends import sending_to, victoria_metrics
from tests.stack.collectors import arrived, own
from tests.stack.fleet import Fleet, fleet, size
from tests.stack.gateways import NAMES, agents, gateway
from tests.stack.kafka import kafka
from tests.stack.processes import collector_ports, kill, wait_until
from tests.stack.short_runs import play
from tests.stack.stored import (
    PATIENCE,
    assert_each_push_is_there,
    points_of_fleet,
    wait_for_fleet,
    wait_for_short_runs,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]

AGENTS = pytest.mark.parametrize("number", [20, 1_000])


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
            kill(other.process)

        push_while(playing, dies)
        # What these push waits in the agents for the gateway that is away.
        playing.push()
        lives.enter_context(gateway(NAMES[1], environment=second))
        with timed("until all of it is in VictoriaMetrics"):
            wait_for_fleet(backend, number, rounds=3)
        for each in through:
            assert own(each, "otelcol_exporter_send_failed_metric_points") == {}


@AGENTS
def test_nothing_is_lost_in_kafka_when_a_broker_and_a_gateway_are_killed(
    tmp_path: Path, number: int
) -> None:
    with ExitStack() as lives:
        backend = lives.enter_context(victoria_metrics(tmp_path))
        cluster = lives.enter_context(kafka(tmp_path / "kafka"))
        through = [lives.enter_context(cluster.agent(name)) for name in ("agent-0", "agent-1")]
        sending = sending_to(f"{backend}/opentelemetry")
        gateways = [lives.enter_context(cluster.gateway(**sending)) for _ in range(2)]
        playing = lives.enter_context(fleet([each.otlp_http for each in through], number))
        with timed(f"{number} agents start, work and push"):
            playing.push()
        wait_for_fleet(backend, number, rounds=1)
        push_while(playing, cluster.brokers[0].kill)
        push_while(playing, lambda: kill(gateways[1].process))
        for each in through:
            play(each.otlp_http, 100)
        with timed("until all of it is in VictoriaMetrics"):
            wait_for_fleet(backend, number, rounds=3)
        assert_each_push_is_there(backend, number, rounds=3)
        wait_for_short_runs(backend, 100, times=2)
        # Written twice is the same value at the same time.
        print("stored twice:", points_of_fleet(backend) - 3 * number * size()[1])
