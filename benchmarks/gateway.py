"""What a fleet of agents costs the Collectors that it pushes to.

    python -m benchmarks.gateway [--rounds N] [--quick]

Agents as `nox -s live` has them: OpenTelemetry's SDK with our instruments, in other processes. They
push as fast as they can, through one agent Collector to one gateway, and from there to
VictoriaMetrics. CPU time is that of the process, so what a core could serve is computed from it: on
one machine the agents need more than what they push to.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Asked, Table, asked, parser
from tests.stack import fleet
from tests.stack.backends import sending_to, victoria_metrics
from tests.stack.collectors import arrived, own
from tests.stack.gateways import NAMES, agent, gateway
from tests.stack.processes import Collector, wait_until

AGENTS = (10, 100, 1_000)
PUSHES = 1_000
INTERVAL = 15
"""Seconds between two pushes of an agent, as the Collector's README has it."""
POINTS, SERIES = fleet.size()
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> float:
    """Seconds that a process has computed."""
    # After the name, which may have blanks in it.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak(pid: int) -> float:
    """MiB that a process has had in memory at most."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (kibibytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kibibytes) / 1024


@dataclass(frozen=True)
class Cost:
    """What so many pushes have cost each of the programs, in the order of their flow."""

    pushes: int
    seconds: float
    cpu: Sequence[float]
    peak: Sequence[float]

    def each(self, program: int) -> float:
        """Microseconds of CPU time for one push."""
        return self.cpu[program] / self.pushes * 1e6


def delivered(through: Collector, behind: Collector, points: int) -> bool:
    """Whether all points have left both Collectors."""
    sent = sum(own(behind, "otelcol_exporter_sent_metric_points").values())
    queued = own(behind, "otelcol_exporter_queue_size")
    # Its page is an exporter too, which is sent the same.
    return arrived(through) == arrived(behind) == points <= sent and not any(queued.values())


def measure(agents: int, rounds: int) -> Cost:
    """One round more comes first, which starts what need not be started again."""
    with (
        tempfile.TemporaryDirectory(prefix="scale-") as folder,
        victoria_metrics(Path(folder)) as backend,
        gateway(NAMES[0], environment=sending_to(f"{backend}/opentelemetry")) as behind,
        agent([behind]) as through,
        fleet.fleet([through.otlp_http], agents) as pushing,
    ):
        pids = (through.process.pid, behind.process.pid)
        pushing.push()
        each = agents * POINTS
        wait_until(lambda: delivered(through, behind, each), 120)
        before, began = [cpu(pid) for pid in pids], time.monotonic()
        for _ in range(rounds):
            pushing.push()
        wait_until(lambda: delivered(through, behind, each * (rounds + 1)), 600)
        return Cost(
            pushes=agents * rounds,
            seconds=time.monotonic() - began,
            cpu=[cpu(pid) - then for pid, then in zip(pids, before, strict=True)],
            peak=[peak(pid) for pid in pids],
        )


def main(asked: Asked) -> None:
    table = Table(
        "gateway",
        f"One agent Collector and one gateway. An agent pushes {POINTS} points, which are "
        f"{SERIES} series.",
        (
            *("Agents", "series", "pushes/s here", "points/s here"),
            *("agent, CPU a push, µs", "agent, MiB", "gateway, CPU a push, µs", "gateway, MiB"),
            f"agents a core of a gateway serves, each pushing every {INTERVAL} s",
        ),
    )
    for agents in AGENTS[:2] if asked.quick else AGENTS:
        found = measure(agents, asked.rounds if asked.quick else max(3, PUSHES // agents))
        rate = found.pushes / found.seconds
        table.add(
            f"{agents:,}",
            f"{agents * SERIES:,}",
            f"{rate:,.0f}",
            f"{rate * POINTS:,.0f}",
            *(f"{found.each(0):,.0f}", f"{found.peak[0]:,.0f}"),
            *(f"{found.each(1):,.0f}", f"{found.peak[1]:,.0f}"),
            f"{INTERVAL / found.each(1) * 1e6:,.0f}",
        )
    table.keep(asked)


if __name__ == "__main__":
    main(asked(parser(__doc__, rounds=1).parse_args()))
