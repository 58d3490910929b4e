"""Numbers of the application's own: recorded, refused, or silently nowhere."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import victor_otel
from tests.kit.agents import Recorded, recording
from victor_otel import custom, instrumentation, record
from victor_otel.engine import failsafe
from victor_otel.model.metric import Metric
from victor_otel.runtime import RUNTIME

CALLS: dict[str, Callable[[], None]] = {
    "search_accuracy": lambda: record.search_accuracy(relevant=3, retrieved=4),
    "recall_accuracy": lambda: record.recall_accuracy(1, 2, memory_type="entity"),
    "proficiency": lambda: record.proficiency("sql", 0.75),
    "security_tests": lambda: record.security_tests(passed=9, total=10),
    "visualization": lambda: record.visualization(2),
    "synthesis_time": lambda: record.synthesis_time(1.5),
    "feature": lambda: record.feature("nightly_report"),
}

SERIES: dict[str, dict[tuple[Any, ...], float]] = {
    "search_accuracy": {("victor.rag.search_accuracy",): 0.75},
    "recall_accuracy": {("victor.memory.recall_accuracy", ("memory_type", "entity")): 0.5},
    "proficiency": {("victor.proficiency_score", ("skill", "sql")): 0.75},
    "security_tests": {("victor.security.test_pass_rate",): 0.9},
    "visualization": {("victor.dataanalysis.visualizations",): 2},
    "synthesis_time": {("victor.research.synthesis.duration",): 1},
    "feature": {("victor.feature.usage", ("feature", "nightly_report")): 1},
}

IMPOSSIBLE: dict[str, Callable[[], None]] = {
    "more relevant than retrieved": lambda: record.search_accuracy(5, 4),
    "negative relevant": lambda: record.search_accuracy(-1, 4),
    "negative retrieved": lambda: record.search_accuracy(0, -4),
    "accuracy that is no number": lambda: record.search_accuracy(math.nan, 4),  # type: ignore[arg-type]
    "more accurate than recalled": lambda: record.recall_accuracy(3, 2, memory_type="entity"),
    "unknown type of memory": lambda: record.recall_accuracy(1, 2, memory_type="what I ate"),
    "score above 1": lambda: record.proficiency("sql", 1.01),
    "score below 0": lambda: record.proficiency("sql", -0.01),
    "score that is no number": lambda: record.proficiency("sql", "high"),  # type: ignore[arg-type]
    "skill without a name": lambda: record.proficiency("", 0.5),
    "skill with an endless name": lambda: record.proficiency("x" * 121, 0.5),
    "more passed than run": lambda: record.security_tests(11, 10),
    "fewer than no visualizations": lambda: record.visualization(-1),
    "negative time": lambda: record.synthesis_time(-0.1),
    "endless time": lambda: record.synthesis_time(math.inf),
    "feature that is no name": lambda: record.feature(None),  # type: ignore[arg-type]
}


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    with recording() as made:
        yield made


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user runs it: no switch of our own tests, and none of the environment's."""
    monkeypatch.setattr(failsafe, "STRICT", False)
    monkeypatch.setattr(RUNTIME, "health", type(RUNTIME.health)())
    monkeypatch.delenv("VICTOR_OTEL_STRICT", raising=False)


def names(expected: dict[tuple[Any, ...], float]) -> list[str]:
    return [key[0] for key in expected]


@pytest.mark.parametrize("name", CALLS)
def test_what_an_application_says_is_exported(name: str, recorded: Recorded) -> None:
    CALLS[name]()
    assert recorded.points(*names(SERIES[name])) == pytest.approx(SERIES[name])


def test_every_function_of_the_api_is_proven() -> None:
    assert {*CALLS, "synthesis"} == set(record.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_without_an_instrumentation_nothing_happens(name: str) -> None:
    CALLS[name]()
    with recording() as made:
        assert made.points(*names(SERIES[name])) == {}
        RUNTIME.deactivate()
        CALLS[name]()
        assert made.points(*names(SERIES[name])) == {}


def test_accuracy_is_of_all_passages_and_none_of_a_search_without_results(
    recorded: Recorded,
) -> None:
    record.search_accuracy(0, 0)
    assert recorded.points("victor.rag.search_accuracy") == {}
    record.search_accuracy(1, 4)
    record.search_accuracy(5, 6)
    assert recorded.points("victor.rag.search_accuracy") == {("victor.rag.search_accuracy",): 0.6}


def test_rate_of_security_tests_is_that_of_the_last_run(recorded: Recorded) -> None:
    record.security_tests(1, 2)
    record.security_tests(4, 5)
    record.security_tests(0, 0)
    name = "victor.security.test_pass_rate"
    assert recorded.points(name) == {(name,): 0.8}
    assert recorded.points(name) == {(name,): 0.8}


def test_synthesis_is_measured_unless_it_fails(recorded: Recorded) -> None:
    with record.synthesis():
        pass
    with pytest.raises(KeyError), record.synthesis():
        raise KeyError
    assert recorded.points("victor.research.synthesis.duration") == {
        ("victor.research.synthesis.duration",): 1
    }


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_true_raises_where_strict(
    name: str, recorded: Recorded, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_STRICT", "true")
    with pytest.raises(ValueError, match=r"^record\.\w+: ") as caught:
        IMPOSSIBLE[name]()
    assert "what I ate" not in str(caught.value)
    assert "x" * 121 not in str(caught.value)


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_true_is_counted_logged_once_and_dropped(
    name: str, recorded: Recorded, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    before = recorded.points()
    with caplog.at_level(logging.WARNING, logger="victor_otel"):
        IMPOSSIBLE[name]()
        IMPOSSIBLE[name]()
    assert list(RUNTIME.health.errors.values()) == [2]
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    assert "VICTOR_OTEL_STRICT" in caplog.text
    assert "what I ate" not in caplog.text
    after = recorded.points()
    assert {key[0] for key in after} - {key[0] for key in before} <= {"victor.otel.errors"}


def test_error_of_the_recorder_does_not_reach_the_application(
    recorded: Recorded, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(instrumentation.Instrumentation, "record", broken)
    record.feature("x")


# Metrics of one's own


def declared(metric: Any) -> Metric:
    return metric.metric


def test_own_counter_is_exported_with_its_siblings(recorded: Recorded) -> None:
    reviews = custom.counter(
        "acme.reviews", "Reviews", labels={"outcome": ("accepted", "declined"), "team": ()}
    )
    reviews.add(outcome="accepted", team="core")
    reviews.add(2, outcome="accepted", team="core")
    key = "acme.reviews"
    assert recorded.points(key, zeros=True) == {
        (key, ("outcome", "accepted"), ("team", "core")): 3,
        (key, ("outcome", "declined"), ("team", "core")): 0,
    }
    assert reviews.prometheus_name == "acme_reviews_total"


def test_own_histogram_and_gauge_are_exported(recorded: Recorded) -> None:
    wait = custom.histogram("acme.wait", "Waiting", unit="s", buckets=(0.1, 1, 10))
    queue = custom.gauge("acme.queue", "Waiting now", labels=("team",))
    wait.record(0.5)
    queue.set(7, team="core")
    queue.set(-2, team="core")
    assert recorded.points("acme.wait", "acme.queue") == {
        ("acme.wait",): 1,
        ("acme.queue", ("team", "core")): -2,
    }
    assert (wait.prometheus_name, queue.prometheus_name) == ("acme_wait_seconds", "acme_queue")


def test_own_labels_are_bounded(recorded: Recorded) -> None:
    many = custom.counter("acme.many", "Many", labels=("who",))
    for number in range(150):
        many.add(who=f"w{number}")
    points = recorded.points("acme.many")
    assert len(points) == 101
    assert points["acme.many", ("who", "other")] == 50


def test_same_declaration_is_one_metric_and_another_is_refused() -> None:
    first = custom.counter("acme.twice", "Twice", labels=("a",))
    assert custom.counter("acme.twice", "Twice", labels=("a",)).metric is first.metric
    for again in (
        lambda: custom.counter("acme.twice", "Twice", labels=("b",)),
        lambda: custom.counter("acme_twice", "Twice", labels=("a",)),
        lambda: custom.counter("acme.twice", "Otherwise", labels=("a",)),
    ):
        with pytest.raises(ValueError, match="declared already"):
            again()


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda: custom.counter("Acme.x", "m"), "no name here"),
        (lambda: custom.counter("acme x", "m"), "no name here"),
        (lambda: custom.counter("", "m"), "no name here"),
        (lambda: custom.counter("a" * 201, "m"), "no name here"),
        (lambda: custom.counter("acme.reviews_total", "m"), "leave out total"),
        (lambda: custom.histogram("acme.wait.seconds", "m", buckets=(1,)), "leave out seconds"),
        (lambda: custom.gauge("victor.mine", "m"), "Victor's own"),
        (lambda: custom.gauge("victor_mine", "m"), "Victor's own"),
        (lambda: custom.gauge("acme.x", "m", unit="ms"), "unit must be one of"),
        (lambda: custom.gauge("acme.x", "m", labels=("le",)), "Prometheus's own"),
        (lambda: custom.gauge("acme.x", "m", labels=("a-b",)), "no label name"),
        (lambda: custom.gauge("acme.x", "m", labels=("__name__",)), "no label name"),
        (lambda: custom.gauge("acme.x", "m", labels="team"), "list of different names"),
        (lambda: custom.gauge("acme.x", "m", labels=("a", "a")), "list of different names"),
        (lambda: custom.gauge("acme.x", "m", labels={"a": "ok"}), "must be a list"),
        (lambda: custom.gauge("acme.x", "m", labels={"a": ("b", "b")}), "different names"),
        (lambda: custom.histogram("acme.h", "m", buckets=()), "finite and rise"),
        (lambda: custom.histogram("acme.h", "m", buckets=(2, 1)), "finite and rise"),
        (lambda: custom.histogram("acme.h", "m", buckets=(1, 1)), "finite and rise"),
        (lambda: custom.histogram("acme.h", "m", buckets=(1, math.inf)), "finite and rise"),
    ],
)
def test_declaration_that_no_route_would_export_is_refused(
    declare: Callable[[], Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        declare()


@pytest.mark.parametrize(
    "give",
    [
        lambda counter: counter.add(-1, colour="red"),
        lambda counter: counter.add(1, colour="mauve"),
        lambda counter: counter.add(1),
        lambda counter: counter.add(1, colour="red", size="big"),
        lambda counter: counter.add("1", colour="red"),
    ],
)
def test_wrong_value_of_ones_own_metric_is_refused(
    give: Callable[[Any], None], recorded: Recorded, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = custom.counter("acme.coloured", "Coloured", labels={"colour": ("red", "blue")})
    give(counter)
    assert recorded.points("acme.coloured") == {}
    monkeypatch.setenv("VICTOR_OTEL_STRICT", "1")
    with pytest.raises(ValueError, match=r"^custom\.acme\.coloured: "):
        give(counter)


def test_public_names_are_modules_of_the_package() -> None:
    from victor_otel import custom as one
    from victor_otel import record as two

    assert (one.__name__, two.__name__) == ("victor_otel.custom", "victor_otel.record")
    assert victor_otel.__doc__ is not None
    assert "victor_otel.record" in victor_otel.__doc__
