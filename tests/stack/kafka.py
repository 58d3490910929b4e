"""Three brokers of Kafka as processes on free loopback ports, each a controller too (KRaft)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.processes import (
    COLLECTOR_CONFIG,
    HOST,
    Collector,
    collector,
    free_ports,
    kill,
    program,
    wait_until,
)
from tools.paths import COLLECTOR

BROKERS = 3
PARTITIONS = 12
TOPICS = ("victor-metrics", "victor-spans")
TOPIC = ("--config=min.insync.replicas=2", "--config=max.message.bytes=4000000")
# Otherwise each takes a quarter of the machine's memory, and compiles for long what runs briefly.
_ENVIRONMENT = {"KAFKA_OPTS": "-Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"}


class Broker:
    """A broker that comes back with what it has on disk."""

    def __init__(self, address: str, properties: Path) -> None:
        self.address = address
        self._properties = properties
        self._log = properties.with_name("log.txt")
        self.start()

    def start(self) -> None:
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [program("kafka"), "kafka.Kafka", str(self._properties)],
                env={**os.environ, **_ENVIRONMENT},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def has_started(self) -> bool:
        return "Kafka Server started" in self._log.read_text()

    def kill(self) -> None:
        kill(self.process)


@dataclass(frozen=True)
class Cluster:
    """Running brokers, and Collectors before and behind them."""

    brokers: Sequence[Broker]
    inside: str
    """Where Kafka's own programs come, by no other protocol than PLAINTEXT."""

    def read(self, topic: str, count: int) -> str:
        """The first records of a topic."""
        return self.run(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *(f"--topic={topic}", "--from-beginning", f"--max-messages={count}"),
        )

    def run(self, *command: str) -> str:
        return _run(*command, f"--bootstrap-server={self.inside}")

    def agent(self, name: str = "agent-0", **variables: str) -> AbstractContextManager[Collector]:
        """A Collector that writes into Kafka."""
        return self._collector("kafka-agent", VICTOR_COLLECTOR_GATEWAY_NAME=name, **variables)

    def gateway(
        self, settings: Iterable[str] = (), **variables: str
    ) -> AbstractContextManager[Collector]:
        """A Collector that reads from Kafka."""
        return self._collector("kafka-gateway", settings, **variables)

    def _collector(
        self, name: str, settings: Iterable[str] = (), **variables: str
    ) -> AbstractContextManager[Collector]:
        addresses = ", ".join(each.address for each in self.brokers)
        return collector(
            COLLECTOR_CONFIG,
            COLLECTOR / f"{name}.yaml",
            environment={"VICTOR_COLLECTOR_KAFKA_BROKERS": f"[{addresses}]", **variables},
            settings=settings,
        )


@contextmanager
def kafka(
    folder: Path,
    client: str = "PLAINTEXT",
    settings: Mapping[str, str] | None = None,
    users: Iterable[str] = (),
) -> Generator[Cluster]:
    """Run the brokers with the topics in which every point has two replicas before it counts.

    Clients come by the protocol `client`, for which `settings` are, as `users` of SCRAM.
    """
    ports = free_ports(3 * BROKERS)
    inside, control, outside = (ports[n * BROKERS : (n + 1) * BROKERS] for n in range(3))
    shared = {
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(
            f"{number}@{HOST}:{port}" for number, port in enumerate(control, 1)
        ),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INSIDE",
        "listener.security.protocol.map": (
            f"CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:{client}"
        ),
        "offsets.topic.num.partitions": "4",
        "auto.create.topics.enable": "false",
        **(settings or {}),
    }
    identity = _run("kafka.tools.StorageTool", "random-uuid").strip().splitlines()[-1]
    known = [f"--add-scram={user}" for user in users]
    brokers: list[Broker] = []
    with ExitStack() as lives:
        for number in range(BROKERS):
            home = folder / f"broker-{number + 1}"
            home.mkdir(parents=True)
            listeners = {
                "INSIDE": inside[number],
                "CONTROLLER": control[number],
                "OUTSIDE": outside[number],
            }
            own = {
                "node.id": str(number + 1),
                "log.dirs": str(home / "data"),
                "listeners": ",".join(f"{n}://{HOST}:{port}" for n, port in listeners.items()),
            }
            properties = home / "server.properties"
            lines = (f"{key}={value}\n" for key, value in {**shared, **own}.items())
            properties.write_text("".join(lines), encoding="utf-8")
            _run("kafka.tools.StorageTool", "format", f"-t{identity}", f"-c{properties}", *known)
            brokers.append(Broker(f"{HOST}:{outside[number]}", properties))
            # An orderly end would take long: each hands over to those that are still there.
            lives.callback(brokers[-1].kill)
        wait_until(lambda: all(each.has_started() for each in brokers), 120)
        cluster = Cluster(brokers, f"{HOST}:{inside[0]}")
        for topic in TOPICS:
            cluster.run(
                "org.apache.kafka.tools.TopicCommand",
                *("--create", f"--topic={topic}", f"--partitions={PARTITIONS}"),
                *("--replication-factor=3", *TOPIC),
            )
        yield cluster


def _run(*command: str) -> str:
    """What a program of Kafka's prints."""
    return subprocess.run(
        [program("kafka"), *command],
        env={**os.environ, **_ENVIRONMENT},
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
    ).stdout
