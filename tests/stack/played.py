"""What was played, and on how many replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.stack.processes import Collector, Prometheus

REPLICAS = (1, 3)


@dataclass(frozen=True)
class Monitoring:
    """The stack: `endpoints` are scraped, `gateway` is pushed to."""

    endpoints: Sequence[str]
    gateway: Collector
    prometheus: Prometheus


@dataclass(frozen=True)
class Played:
    """Stacks that have seen every scenario, by how many replicas they have seen at work.

    `answer` is what the process that played says of it.
    """

    answer: Mapping[str, object]
    by_replicas: Mapping[int, Monitoring]
