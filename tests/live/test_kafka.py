"""What collector/kafka.md says is safe, with three brokers of Kafka and a few agents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.kit import otlp
from tests.kit.processes import free_ports
from tests.stack.backends import sending_to, spans_to, victoria_metrics
from tests.stack.collectors import arrived, issue, labels, own, points, post
from tests.stack.fleet import Fleet, fleet
from tests.stack.kafka import PARTITIONS, TOPICS, Cluster, kafka
from tests.stack.processes import HOST, Collector, collector_ports, kill, wait_until
from tests.stack.short_runs import play
from tests.stack.spans import ERROR, contents, made, push
from tests.stack.stored import (
    assert_each_push_is_there,
    points_of_fleet,
    wait_for_fleet,
    wait_for_short_runs,
)
from tools.paths import COLLECTOR

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

NAMES = ("agent-0", "agent-1")
PROCESSES = 10
RUNS = 20
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def lives() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def cluster(lives: ExitStack, tmp_path: Path) -> Cluster:
    return lives.enter_context(kafka(tmp_path / "kafka"))


@pytest.fixture
def agents(lives: ExitStack, cluster: Cluster) -> Sequence[Collector]:
    return [lives.enter_context(cluster.agent(name)) for name in NAMES]


@pytest.fixture
def playing(lives: ExitStack, agents: Sequence[Collector]) -> Fleet:
    urls = [each.otlp_http for each in agents]
    return lives.enter_context(fleet(urls, PROCESSES, each=PROCESSES // len(urls)))


@pytest.fixture
def url(lives: ExitStack, tmp_path: Path) -> str:
    """VictoriaMetrics."""
    return lives.enter_context(victoria_metrics(tmp_path))


def play_through(agents: Iterable[Collector]) -> None:
    for each in agents:
        play(each.otlp_http, RUNS)


def wait_for_all(url: str, *, rounds: int, times: int) -> None:
    """Until every counter of the fleet and of the short-lived runs is exact, each push included."""
    wait_for_fleet(url, PROCESSES, rounds)
    wait_for_short_runs(url, RUNS, times)
    assert_each_push_is_there(url, PROCESSES, rounds)


def queued(agent: Collector) -> float:
    """How many requests are in the queue folder."""
    return sum(own(agent, "otelcol_exporter_queue_size").values())


def lost(each: Collector) -> float:
    """How many points the Collector has given up."""
    names = ("enqueue_failed", "send_failed")
    counts = [own(each, f"otelcol_exporter_{name}_metric_points") for name in names]
    return sum(value for found in counts for value in found.values())


def sizes(backend: otlp.Backend) -> list[int]:
    """How many points it was sent at once."""
    return [len(each.sum.data_points) for _, metrics in backend.metrics() for each in metrics]


def test_what_is_read_twice_is_stored_twice_and_changes_no_total(
    url: str,
    lives: ExitStack,
    cluster: Cluster,
    agents: Sequence[Collector],
    playing: Fleet,
) -> None:
    backend = sending_to(f"{url}/opentelemetry")
    # The backend takes all, and that this was read is noted nowhere.
    forgetful = ["receivers::kafka::autocommit::interval=1h"]
    first = lives.enter_context(cluster.gateway(forgetful, **backend))
    for _ in range(3):
        playing.push()
    play_through(agents)
    wait_for_fleet(url, PROCESSES, rounds=3)
    wait_for_short_runs(url, RUNS, times=2)
    once, has_read = points_of_fleet(url), arrived(first)
    kill(first.process)

    second = lives.enter_context(cluster.gateway(**backend))
    wait_until(lambda: arrived(second) == has_read, 60)
    assert points_of_fleet(url) == 2 * once
    print(f"stored twice: {once:.0f}")
    wait_for_all(url, rounds=3, times=2)
    # Nothing is added up behind Kafka, where it might be twice.
    assert own(second, "otelcol_deltatocumulative_datapoints") == {}

    playing.push()
    play_through(agents)
    wait_for_all(url, rounds=4, times=4)


def test_agents_keep_what_they_are_pushed_while_two_brokers_are_away(
    url: str,
    lives: ExitStack,
    cluster: Cluster,
    agents: Sequence[Collector],
    playing: Fleet,
) -> None:
    gateway = lives.enter_context(cluster.gateway(**sending_to(f"{url}/opentelemetry")))
    playing.push()
    wait_for_fleet(url, PROCESSES, rounds=1)
    away = cluster.brokers[:2]
    for each in away:
        each.kill()
    playing.push()
    playing.push()
    play_through(agents)
    wait_until(lambda: all(queued(each) for each in agents))

    for each in away:
        each.start()
    wait_for_all(url, rounds=3, times=2)
    assert [lost(each) for each in (*agents, gateway)] == [0, 0, 0]


def test_what_an_agent_has_queued_outlasts_it(
    tmp_path: Path, url: str, lives: ExitStack, cluster: Cluster
) -> None:
    lives.enter_context(cluster.gateway(**sending_to(f"{url}/opentelemetry")))
    stays = {**collector_ports(), "VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue")}
    agent = lives.enter_context(cluster.agent(**stays))
    playing = lives.enter_context(fleet([agent.otlp_http], PROCESSES))
    playing.push()
    wait_for_fleet(url, PROCESSES, rounds=1)
    away = cluster.brokers[:2]
    for each in away:
        each.kill()
    playing.push()
    playing.push()
    batched = "otelcol_processor_batch_batch_send_size_sum"
    wait_until(lambda: own(agent, batched) == {labels(processor="batch"): arrived(agent)})
    kill(agent.process)

    again = lives.enter_context(cluster.agent(**stays))
    for each in away:
        each.start()
    wait_for_fleet(url, PROCESSES, rounds=3)
    assert_each_push_is_there(url, PROCESSES, rounds=3)
    assert (arrived(again), lost(again)) == (0, 0)


def test_kafka_keeps_all_while_the_backend_is_away_and_gateways_die(
    tmp_path: Path,
    lives: ExitStack,
    cluster: Cluster,
    agents: Sequence[Collector],
    playing: Fleet,
) -> None:
    (port,) = free_ports(1)
    backend = sending_to(f"http://{HOST}:{port}/opentelemetry")
    first = lives.enter_context(cluster.gateway(**backend))
    with victoria_metrics(tmp_path, port) as url:
        playing.push()
        wait_for_fleet(url, PROCESSES, rounds=1)
    playing.push()
    playing.push()
    play_through(agents)
    wait_until(lambda: "connection refused" in first.log.read_text())
    wait_until(lambda: [queued(each) for each in agents] == [0, 0])
    # So the only one who has it is Kafka.
    kill(first.process)

    second = lives.enter_context(cluster.gateway(**backend))
    with victoria_metrics(tmp_path, port) as url:
        wait_for_all(url, rounds=3, times=2)
        assert lost(second) == 0


def test_what_the_backend_refuses_for_good_is_counted_and_the_partition_goes_on(
    lives: ExitStack, cluster: Cluster, agents: Sequence[Collector]
) -> None:
    answers = iter([400, 401, 500, 503])
    backend = lives.enter_context(otlp.http(lambda _: next(answers, 200)))
    gateway = lives.enter_context(cluster.gateway(**sending_to(f"http://{HOST}:{backend.port}")))
    # Of one process, so in one partition.
    for count in (1, 2, 3, 4):
        assert post(agents[0].otlp_http, points(count)) == 200
    # The last one is asked to come again.
    wait_until(lambda: sizes(backend) == [1, 2, 3, 4, 4], 60)
    assert lost(gateway) == 1 + 2 + 3


def test_a_trace_is_decided_by_one_gateway_through_whichever_agents_it_comes(
    lives: ExitStack, cluster: Cluster, agents: Sequence[Collector]
) -> None:
    backend = lives.enter_context(otlp.http())
    only_errors = {"VICTOR_COLLECTOR_TRACES_PERCENT": "0"}
    sending = {
        **sending_to(NOBODY),
        **spans_to(f"http://{HOST}:{backend.port}", **only_errors),
    }
    gateways = [lives.enter_context(cluster.gateway(**sending)) for _ in range(2)]

    def reads_half(each: Collector) -> bool:
        counts = [
            own(each, f"otelcol_kafka_receiver_partition_{what}") for what in ("start", "close")
        ]
        begun, ended = (sum(found.values()) for found in counts)
        return begun - ended == PARTITIONS * len(TOPICS) / len(gateways)

    wait_until(lambda: all(map(reads_half, gateways)), 60)

    traces = range(1, 21)
    for trace in traces:
        secret = {"authorization": "Bearer of bad news"}
        assert push(agents[0].otlp_http, made(trace, f"chat {trace}", **secret)) == 200
        assert push(agents[1].otlp_http, made(100 + trace, f"fine {trace}")) == 200
    wait_until(lambda: sum(accepted(each) for each in gateways) == 40)
    assert backend.traces == []
    for trace in traces:
        error = made(trace, f"turn {trace}", root=True, status=Status(code=ERROR))
        assert push(agents[1].otlp_http, error) == 200
    whole = sorted(f"{what} {trace}" for what in ("chat", "turn") for trace in traces)
    wait_until(lambda: sorted(s.name for s in backend.spans().get("victor", ())) == whole, 60)
    assert all(accepted(each) for each in gateways)

    in_kafka = cluster.read("victor-spans", 60)
    assert all(f"chat {trace}" in in_kafka for trace in traces)
    assert "bad news" not in in_kafka


def accepted(gateway: Collector) -> float:
    return sum(own(gateway, "otelcol_receiver_accepted_spans").values())


def test_spans_with_contents_get_through_however_large_they_are_together(
    lives: ExitStack, cluster: Cluster, agents: Sequence[Collector]
) -> None:
    backend = lives.enter_context(otlp.http())
    sending = {**sending_to(NOBODY), **spans_to(f"http://{HOST}:{backend.port}")}
    lives.enter_context(cluster.gateway(**sending))
    # Of one trace; and one alone is larger than what Kafka takes by default.
    spans = [made(1, f"chat {number}", contents=contents(1_000_000)) for number in range(6)]
    spans.append(made(1, "turn", root=True, contents=contents(2_500_000)))
    assert push(agents[0].otlp_http, *spans) == 200
    names = sorted(span.name for span in spans)
    wait_until(lambda: sorted(s.name for s in backend.spans().get("victor", ())) == names, 60)


# --- TLS and a password ------------------------------------------------------------------------

PASSWORD = "right"


@dataclass(frozen=True)
class Secured:
    """A cluster that wants TLS and a password."""

    cluster: Cluster
    authority: Path

    def variables(
        self, secret: Path, password: str = PASSWORD, *, trusting: bool = True
    ) -> dict[str, str]:
        """As collector/kafka.md has them."""
        secret.write_text(password)
        page = (COLLECTOR / "kafka.md").read_text()
        page = page.replace("/etc/victor/ca.crt", str(self.authority))
        page = page.replace("/run/secrets/kafka", str(secret))
        shown = dict(
            re.findall(r"^export (VICTOR_COLLECTOR_KAFKA_\w+)='(.*)'$", page, re.MULTILINE)
        )
        names = ("VICTOR_COLLECTOR_KAFKA_TLS", "VICTOR_COLLECTOR_KAFKA_AUTH")
        found = {name: shown[name] for name in names}
        return found if trusting else {**found, names[0]: "{}"}


@pytest.fixture
def secured(lives: ExitStack, tmp_path: Path) -> Secured:
    certificates = issue(tmp_path / "certificates")
    # Kafka reads no other form of keys.
    key = load_pem_private_key(certificates.key.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    store = tmp_path / "store.pem"
    store.write_bytes(key + certificates.cert.read_bytes())
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.outside.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    user = f"SCRAM-SHA-512=[name=victor,password={PASSWORD}]"
    cluster = lives.enter_context(kafka(tmp_path / "kafka", "SASL_SSL", settings, [user]))
    return Secured(cluster, certificates.ca)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"password": "wrong"}, "SASL_AUTHENTICATION_FAILED"),
        ({"password": f"{PASSWORD}\n"}, "SASL_AUTHENTICATION_FAILED"),
        ({"trusting": False}, "certificate signed by unknown authority"),
    ],
)
def test_with_tls_and_a_password_only_who_has_both_gets_through(
    secured: Secured, lives: ExitStack, tmp_path: Path, changed: Mapping[str, Any], why: str
) -> None:
    wrong = secured.variables(tmp_path / "wrong", **changed)
    right = secured.variables(tmp_path / "right")
    nothing, backend = (lives.enter_context(otlp.http()) for _ in range(2))
    outsider = lives.enter_context(
        secured.cluster.gateway(**wrong, **sending_to(f"http://{HOST}:{nothing.port}"))
    )
    lives.enter_context(
        secured.cluster.gateway(**right, **sending_to(f"http://{HOST}:{backend.port}"))
    )
    queue = {"VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue")}
    with secured.cluster.agent(**wrong, **queue) as agent:
        assert post(agent.otlp_http, points(3)) == 200
        wait_until(lambda: all(why in each.log.read_text() for each in (agent, outsider)))
        wait_until(lambda: "Will retry the request" in agent.log.read_text())
        assert sizes(backend) == []

    # What waited gets there as soon as the agent does.
    lives.enter_context(secured.cluster.agent(**right, **queue))
    wait_until(lambda: sizes(backend) == [3], 60)
    assert sizes(nothing) == []
