"""Agents before gateways: each stream on one gateway, all gateways together exact."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Counter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.stack.backends import Key, note_taker, sending_to
from tests.stack.collectors import TLS, TOKEN, arrived, issue, own, points, post
from tests.stack.gateways import NAMES, address, agent, agents, gateway, times
from tests.stack.processes import (
    HOST,
    Collector,
    exposition,
    free_ports,
    prometheus,
    query,
    same,
    wait_until,
)
from tests.stack.short_runs import expected, play
from victor_otel.demo.view import differences

pytestmark = pytest.mark.stack


def play_through(each: Sequence[Collector], runs: int) -> None:
    """Plays so many short runs through every one of the agents, all at once."""
    with ThreadPoolExecutor() as threads:
        for playing in [threads.submit(play, one.otlp_http, runs) for one in each]:
            playing.result()


def short_side(of: Collector, name: str) -> dict[Key, float]:
    """What a gateway shows of short runs, less its name, which every series must have."""
    found: dict[Key, float] = {}
    for (metric, labels), value in exposition(of.short_metrics, without={"job"}).items():
        if metric != "target_info":
            pairs = dict(labels)
            assert pairs.pop("gateway") == name
            if "le" in pairs:
                pairs["le"] = str(float(pairs["le"]))
            found[metric, frozenset(pairs.items())] = value
    return found


def shown(gateways: Sequence[Collector]) -> list[dict[Key, float]]:
    return [short_side(each, name) for each, name in zip(gateways, NAMES, strict=False)]


def added(pages: Iterable[Mapping[Key, float]]) -> dict[Key, float]:
    total: defaultdict[Key, float] = defaultdict(float)
    for page in pages:
        for key, value in page.items():
            total[key] += value
    return total


def wait_for(pages: Sequence[Collector], counted: Mapping[Key, float]) -> None:
    """Until the gateways together show what was counted, to the last bucket."""

    def exact() -> bool:
        assert differences(added(shown(pages)), counted) == []
        return True

    wait_until(exact, 60)


class Replicas:
    """Long-lived processes, each of which pushes through all agents in turn."""

    def __init__(self, count: int) -> None:
        self.resources = [
            Resource({"service.name": "victor", "service.instance.id": f"replica-{number}"})
            for number in range(count)
        ]
        self.served = [0] * count

    def serve(self) -> None:
        """Some requests more for each of them."""
        for number in range(len(self.served)):
            self.served[number] += 1 + number

    def push(self, through: Sequence[Collector]) -> None:
        """Their totals, by each agent."""
        for number, resource in enumerate(self.resources):
            for each in through:
                self._push(each, resource, number)

    def _push(self, through: Collector, resource: Resource, number: int) -> None:
        exporter = OTLPMetricExporter(f"{through.otlp_http}/v1/metrics")
        provider = MeterProvider(
            [PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))],
            resource=resource,
            shutdown_on_exit=False,
        )
        meter = provider.get_meter("victor_otel")
        requests: Counter = meter.create_counter("victor.requests")
        requests.add(self.served[number])
        meter.create_observable_gauge("victor.replica", [lambda _: [Observation(number)]])
        assert provider.force_flush()
        provider.shutdown()

    def expected(self) -> dict[tuple[str, str], float]:
        """By metric and instance."""
        return {
            (metric, f"replica-{number}"): value
            for number, served in enumerate(self.served)
            for metric, value in (("victor_requests_total", served), ("victor_replica", number))
        }


def long_side(gateways: Sequence[Collector]) -> list[dict[tuple[str, str], float]]:
    """What the gateways show of long-lived processes, by metric and instance."""
    pages: list[dict[tuple[str, str], float]] = []
    for each, name in zip(gateways, NAMES, strict=False):
        page: dict[tuple[str, str], float] = {}
        for (metric, labels), value in exposition(each.long_metrics).items():
            if metric != "target_info":
                pairs = dict(labels)
                assert pairs == {"job": "victor", "instance": pairs["instance"], "gateway": name}
                page[metric, pairs["instance"]] = value
        pages.append(page)
    return pages


def on_one_each(pages: Sequence[Mapping[tuple[str, str], float]]) -> dict[tuple[str, str], float]:
    """All pages as one; a process must be on one of them, whole, and none may be empty."""
    whole: dict[tuple[str, str], float] = {}
    for page in pages:
        assert page
        assert not {instance for _, instance in whole} & {instance for _, instance in page}
        whole.update(page)
    return whole


def test_each_stream_is_on_one_gateway_and_together_they_are_exact() -> None:
    replicas = Replicas(40)
    with (
        gateway(NAMES[0]) as first,
        gateway(NAMES[1]) as second,
        agents([first, second]) as through,
    ):
        gateways = [first, second]
        replicas.serve()
        replicas.push(through)
        play_through(through, 100)
        replicas.serve()
        replicas.push(through)

        wait_for(gateways, times(2, expected(100)))
        pages = shown(gateways)
        assert all(pages)
        assert not pages[0].keys() & pages[1].keys()

        wait_until(lambda: on_one_each(long_side(gateways)) == replicas.expected())
        for each in through:
            assert own(each, "otelcol_exporter_send_failed_metric_points") == {}


def test_a_gateway_that_was_away_gets_what_was_meant_for_it() -> None:
    # Its address outlasts it.
    stays = {"VICTOR_COLLECTOR_GRPC_PORT": str(*free_ports(1))}
    with gateway(NAMES[0]) as first, ExitStack() as lives:
        second = lives.enter_context(gateway(NAMES[1], environment=stays))
        with agents([first, second]) as through:
            play_through(through, 20)
            wait_for([first, second], times(2, expected(20)))
            (_, had) = shown([first, second])
            second.process.send_signal(signal.SIGKILL)
            second.process.wait()
            play_through(through, 20)

            second = lives.enter_context(gateway(NAMES[1], environment=stays))
            # What it had is gone with it, as the reset of a counter.
            wanted = added([times(4, expected(20)), times(-1, had)])

            def exact() -> bool:
                assert differences(added(shown([first, second])), wanted) == []
                return True

            wait_until(exact, 120)


def test_what_finds_no_room_for_one_gateway_is_not_sent_to_another_twice() -> None:
    queue = "exporters::loadbalancing/short::protocol::otlp::sending_queue"
    # 100 runs push 1,200 points, of which the gateway that dies would get the larger half.
    room = [f"{queue}::sizer=items", f"{queue}::queue_size=400"]
    with gateway(NAMES[0]) as first, gateway(NAMES[1]) as second:
        with agent([first, second], room) as through:
            play(through.otlp_http, 20)
            wait_for([first, second], expected(20))
            lives, dies = sorted((first, second), key=arrived)
            name = NAMES[0] if lives is first else NAMES[1]
            streams = short_side(lives, name).keys()
            dies.process.send_signal(signal.SIGKILL)
            dies.process.wait()
            play(through.otlp_http, 100)
            all_runs = added([expected(20), expected(100)])
            its_own = {key: value for key, value in all_runs.items() if key in streams}

            def exact() -> bool:
                assert differences(short_side(lives, name), its_own) == []
                return True

            wait_until(exact)
            assert own(through, "otelcol_exporter_send_failed_metric_points")
        # The agent has ended, so nothing more is sent.
        assert exact()


def test_streams_that_move_to_a_new_gateway_stay_exact_and_nothing_looks_reset() -> None:
    replicas = Replicas(40)
    # Shipped are 30 s.
    expiry = ["exporters::prometheus/long::metric_expiration=10s"]
    with (
        gateway(NAMES[0], settings=expiry) as first,
        gateway(NAMES[1], settings=expiry) as second,
        gateway(NAMES[2], settings=expiry) as third,
        prometheus(collectors=[first, second, third]) as scraping,
    ):
        gateways = [first, second, third]
        with agents(gateways[:2]) as through:
            play_through(through, 20)
            wait_for(gateways, times(2, expected(20)))
            replicas.serve()

            def scraped() -> bool:
                replicas.push(through)
                return requests_shown(scraping.url, "replica.*") == sum(replicas.served)

            wait_until(scraped)

        with agents(gateways) as through:
            play_through(through, 20)
            wait_for(gateways, times(4, expected(20)))
            moved = shown(gateways)[2]
            assert moved
            assert not moved.keys() - added(shown(gateways[:2])).keys()

            replicas.serve()

            # Again and again, as processes do that live on.
            def settled() -> bool:
                replicas.push(through)
                assert same(on_one_each(long_side(gateways)), replicas.expected())
                return True

            wait_until(settled, 60)
            counted = times(4, expected(20))
            runs = sum(value for (name, _), value in counted.items() if name == REQUESTS)
            wait_until(lambda: requests_shown(scraping.url, "127.*") == runs)
        assert [v for _, v in query(scraping.url, f"resets({REQUESTS}[10m]) > 0")] == []


REQUESTS = "victor_requests_total"


def requests_shown(prometheus_url: str, instance: str) -> float:
    """The sum over all gateways; of short runs, the instance is the page that they are on.

    Long-lived series count as well that have expired since they were scraped.
    """
    shown = f'last_over_time({REQUESTS}{{instance=~"{instance}"}}[5m])'
    found = query(prometheus_url, f"sum({shown})")
    return found[0][1]


def test_a_backend_sees_the_gateway_on_the_totals_that_the_gateway_makes() -> None:
    with note_taker() as (url, noted), gateway(NAMES[0], environment=sending_to(url)) as behind:
        for lifetime in ("long", "short"):
            assert post(behind.otlp_http, points(lifetime=lifetime)) == 200
        wait_until(lambda: len(noted) == 2)
    seen = [dict(point.series[1]) for request in noted for point in request]
    assert {attributes.get("gateway") for attributes in seen} == {None, NAMES[0]}
    (short,) = (attributes for attributes in seen if "gateway" in attributes)
    assert short == {"service.name": "victor", "number": "0", "padding": "", "gateway": NAMES[0]}


def test_agents_reach_gateways_with_tls_and_token(tmp_path: Path) -> None:
    ours = issue(tmp_path / "ours")
    token, headers = tmp_path / "token", tmp_path / "headers"
    token.write_text("right\n")
    headers.write_text("Authorization: Bearer right\n")
    variables = {**ours.variables, "VICTOR_COLLECTOR_TOKEN_FILE": str(token)}
    with (
        gateway(NAMES[0], TLS, TOKEN, environment=variables) as behind,
        agent(
            [behind],
            VICTOR_COLLECTOR_GATEWAYS_TLS=f"{{ca_file: {ours.ca}}}",
            VICTOR_COLLECTOR_GATEWAYS_HEADERS="${file:" + str(headers) + "}",
        ) as through,
    ):
        play(through.otlp_http, 3)
        wait_for([behind], expected(3))
        assert "Bearer" not in through.log.read_text()


def test_an_agent_that_looks_gateways_up_sends_what_it_has_before_it_ends() -> None:
    with gateway(NAMES[0]) as behind:
        resolver = json.dumps({"dns": {"hostname": HOST, "port": address(behind).split(":")[1]}})
        with agent([], VICTOR_COLLECTOR_GATEWAYS=resolver) as through:
            play(through.otlp_http, 3)
        wait_for([behind], expected(3))
