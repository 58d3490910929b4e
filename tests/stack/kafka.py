"""Three brokers of Kafka as processes on free loopback ports, each a controller too (KRaft)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stack.processes import HOST, free_ports, program, stop, wait_until

BROKERS = 3
PARTITIONS = 12
TOPICS = ("victor-metrics", "victor-spans")
# Otherwise each takes a quarter of the machine's memory, and compiles for long what runs briefly.
_ENVIRONMENT = {"KAFKA_OPTS": "-Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"}


@dataclass(frozen=True)
class Cluster:
    """Running brokers by their addresses; `brokers` is what the Collector's setting takes."""

    processes: Mapping[str, subprocess.Popen[bytes]]

    @property
    def brokers(self) -> str:
        return f"[{', '.join(self.processes)}]"

    def kill(self) -> str:
        """Kills the first broker; its address."""
        address, process = next(iter(self.processes.items()))
        process.kill()
        process.wait()
        return address


@contextmanager
def kafka(
    folder: Path, client: str = "PLAINTEXT", settings: Mapping[str, str] | None = None
) -> Generator[Cluster]:
    """Run the brokers with the topics in which every point has two replicas before it counts.

    Clients come by the protocol `client`, for which `settings` are.
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
    addresses = [f"{HOST}:{port}" for port in outside]
    identity = _run("kafka.tools.StorageTool", "random-uuid").strip().splitlines()[-1]
    with ExitStack() as lives:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        logs: list[Path] = []
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
            _run("kafka.tools.StorageTool", "format", f"-t{identity}", f"-c{properties}")
            logs.append(home / "log.txt")
            with logs[-1].open("wb") as output:
                process = subprocess.Popen(
                    [program("kafka"), "kafka.Kafka", str(properties)],
                    env={**os.environ, **_ENVIRONMENT},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            lives.callback(stop, process)
            processes[addresses[number]] = process
        wait_until(lambda: all("Kafka Server started" in log.read_text() for log in logs), 120)
        for topic in TOPICS:
            _run(
                "org.apache.kafka.tools.TopicCommand",
                f"--bootstrap-server={HOST}:{inside[0]}",
                *("--create", f"--topic={topic}", f"--partitions={PARTITIONS}"),
                *("--replication-factor=3", "--config=min.insync.replicas=2"),
            )
        yield Cluster(processes)


def _run(*command: str) -> str:
    """What a program of Kafka's prints."""
    return subprocess.run(
        [program("kafka"), *command],
        env={**os.environ, **_ENVIRONMENT},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
