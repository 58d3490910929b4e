"""What VictoriaMetrics has of a fleet, and of short-lived runs that were added up before Kafka."""

from __future__ import annotations

from tests.stack.backends import anew, flush
from tests.stack.fleet import totals
from tests.stack.processes import Labels, query, wait_until
from tests.stack.short_runs import expected

PATIENCE = 45
_OF_THE_FLEET = 'instance=~"agent-.+"'
_OF_SHORT_RUNS = 'gateway=~"agent-.+"'


def wait_for_fleet(url: str, agents: int, rounds: int) -> None:
    """Until each series of each agent has exactly what the agent has counted."""

    def exact() -> bool:
        flush(url)
        for (name, labels), value in totals(rounds).items():
            last = f"last_over_time({_selected(name, labels, _OF_THE_FLEET)})"
            assert _number(url, f"count({last} == {value})") == agents, (name, labels)
        return True

    wait_until(exact, PATIENCE, interval=1)


def wait_for_short_runs(url: str, runs: int, times: int) -> None:
    """Until all agents together have exactly what so many runs, so many times, add up to."""

    def exact() -> bool:
        flush(url)
        for (name, labels), value in expected(runs).items():
            last = f"last_over_time({_selected(name, labels, _OF_SHORT_RUNS)})"
            assert _number(url, f"sum({last})") == times * value, (name, labels)
        return True

    wait_until(exact, PATIENCE, interval=1)


def assert_each_push_is_there(url: str, agents: int, rounds: int) -> None:
    """Not only the last total of each series is, and no series seems to begin anew."""
    for name, labels in totals(1):
        selected = _selected(name, labels, _OF_THE_FLEET)
        assert _number(url, f"count(distinct_over_time({selected}) == {rounds})") == agents
        assert _number(url, f"count(resets({selected}) == 0)") == agents


def points_of_fleet(url: str) -> float:
    """How many points of the fleet were stored; the same one twice is two."""
    flush(url)
    return _number(url, f"sum(count_over_time({{{_OF_THE_FLEET},{anew()}}}[1h]))")


def _selected(name: str, labels: Labels, more: str) -> str:
    """All that was stored of what each series selected has."""
    pairs = {**dict(labels), "job": "victor"}
    if "le" in pairs:
        pairs["le"] = f"{float(pairs['le']):g}".replace("inf", "+Inf")
    matchers = [f'{key}="{value}"' for key, value in pairs.items()]
    matchers += [more, anew()]
    return f"{name}{{{','.join(matchers)}}}[1h]"


def _number(url: str, promql: str) -> float:
    found = query(url, promql)
    return found[0][1] if found else 0
