"""Every query of every dashboard is answered by a Prometheus that has seen real work.

By one replica and by three, with all variables at All and with each of them at one value. What
is not filled then stands with its reason in tools/panels.py.
"""

from __future__ import annotations

import re
import socket
import subprocess
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from tests.stack.played import REPLICAS, Played
from tests.stack.processes import answer, program, prometheus, query, wait_until
from tools.grafana.promql import named, of
from tools.panels import ANNOTATIONS, CHOICES, EMPTY_ALLOWED, FOLDER, QUESTIONS, filled

pytestmark = pytest.mark.stack


@dataclass(frozen=True)
class Seen:
    """A Prometheus, and how many replicas it has seen at work."""

    url: str
    replicas: int

    def answers(self, promql: str) -> bool:
        """Whether it shows anything now, or did at any moment since the stack started."""
        try:
            return bool(
                query(self.url, promql) or query(self.url, f"last_over_time(({promql})[20m:10s])")
            )
        except (OSError, ValueError) as error:
            error.add_note(promql)
            raise

    def offers(self, variable: str) -> list[set[str]]:
        """What Grafana offers for a variable, in each dashboard that has it."""
        found: list[set[str]] = []
        for choice in CHOICES:
            if choice.name == variable:
                asked = urlencode({"match[]": filled(choice.selector)})
                found.append(
                    set(answer(f"{self.url}/api/v1/label/{choice.label}/values?{asked}")["data"])
                )
        assert found
        return found


@pytest.fixture(params=REPLICAS, ids=lambda replicas: f"replicas={replicas}")
def seen(played: Played, request: pytest.FixtureRequest) -> Seen:
    return Seen(played.by_replicas[request.param].prometheus.url, request.param)


def empty(seen: Seen, **chosen: str) -> set[tuple[str, str, str]]:
    """The questions without an answer, by dashboard, panel and legend."""
    return {
        (one.uid, one.title, one.legend)
        for one in QUESTIONS
        if not seen.answers(filled(one.expr, **chosen))
    }


def test_every_query_is_answered_with_everything_chosen(seen: Seen) -> None:
    assert empty(seen) <= EMPTY_ALLOWED.keys()


@pytest.mark.parametrize(
    ("variable", "value"), [("job", "victor"), ("vertical", "none"), ("provider", "openai")]
)
def test_every_query_is_answered_for_one_choice(seen: Seen, variable: str, value: str) -> None:
    assert all(value in offered for offered in seen.offers(variable))
    assert empty(seen, **{variable: value}) <= EMPTY_ALLOWED.keys()


def test_every_query_is_answered_for_one_process(seen: Seen) -> None:
    there = query(seen.url, 'victor_otel_build_info{job="victor"}')
    processes = {labels["instance"] for labels, _ in there}
    assert len(processes) == seen.replicas
    assert all(processes <= offered for offered in seen.offers("instance"))
    assert empty(seen, instance=processes.pop()) <= EMPTY_ALLOWED.keys()


def test_without_victor_nothing_is_claimed() -> None:
    with prometheus() as alone:
        seen = Seen(alone.url, 0)
        wait_until(lambda: query(alone.url, 'ALERTS{alertname="Watchdog"}'))
        answered = {(one.uid, one.title) for one in QUESTIONS} - {
            place[:2] for place in empty(seen)
        }
        assert answered == {("victor-overview", "Firing alerts")}
        (count,) = {filled(one.expr) for one in QUESTIONS if one.title == "Firing alerts"}
        assert [value for _, value in query(alone.url, count)] == [0]


def test_a_process_is_named_by_host_and_id_and_what_has_none_by_its_instance(seen: Seen) -> None:
    def right() -> bool:
        processes = query(seen.url, filled(named(of("victor_otel_build_info"))))
        assert len(processes) == 2 * seen.replicas  # scraped and pushed
        names = {labels["process"] for labels, _ in processes}
        assert all(re.fullmatch(rf"{socket.gethostname()} \d+", name) for name in names)
        runs = query(seen.url, filled(named(of("victor_requests_total", 'interface="cli"'))))
        assert any(labels["process"] == labels["instance"] for labels, _ in runs)
        return True

    # A page may come late while others work.
    wait_until(right, 60)


def test_annotations_are_answered(seen: Seen) -> None:
    assert {one.name for one in ANNOTATIONS if not seen.answers(filled(one.expr))} <= set()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_grafana_s_format_is_loaded_without_a_warning(path: object) -> None:
    command = [program("grafatui"), f"--grafana-json={path}", "--validate", "--strict"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
