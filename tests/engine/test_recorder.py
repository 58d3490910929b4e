"""Values become exact points of OpenTelemetry's instruments."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any, NamedTuple

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from tests.engine.metrics import STATUS, TOOL, USER, metric
from tests.engine.points import Store, labelled
from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.model.metric import MAX_LENGTH, Counter, Gauge, Kind, Label, Ratio
from victor_otel.model.operation import Context, Operation, OperationType
from victor_otel.model.rows import Feeds
from victor_otel.signals import pipeline
from victor_otel.signals.labelsets import Bounds
from victor_otel.signals.recording import Recording
from victor_otel.signals.windows import Window

CACHE = Label(name="cache", values=("tool", "tiered"), meaning="cache")
MODEL = Label(name="model", limit=100, meaning="model")


@pytest.fixture
def store() -> Store:
    return Store()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What windows go by."""
    clock = Clock()
    monkeypatch.setattr("victor_otel.signals.instruments.Window", lambda: Window(clock))
    return clock


# Counters and histograms


def test_counter_adds_up_by_label_set(store: Store) -> None:
    counter = metric(Kind.COUNTER, TOOL, STATUS)
    store.record(counter, tool="a", status="success")
    store.record(counter, 2, tool="a", status="success")
    store.record(counter, tool="b", status="failure")
    assert store.values(counter) == {
        labelled(tool="a", status="success"): 3,
        labelled(tool="b", status="failure"): 1,
    }


def test_counter_has_name_unit_and_description(store: Store) -> None:
    counter = Counter("test.counter", "Bytes of it", unit="By")
    store.record(counter, 7)
    found = store.collected()["test.counter"]
    assert (found.name, found.unit, found.description) == ("test.counter", "By", "Bytes of it")
    assert found.data.is_monotonic


def test_histogram_has_its_buckets(store: Store) -> None:
    histogram = metric(Kind.HISTOGRAM, STATUS, unit="s", buckets=(0.1, 1.0, 10.0))
    for value in (0.05, 0.1, 0.5, 100.0):
        store.record(histogram, value, status="success")
    (point,) = store.raw(histogram)
    assert point.attributes == {"status": "success"}
    assert point.explicit_bounds == (0.1, 1.0, 10.0)
    assert point.bucket_counts == (2, 1, 0, 1)
    assert (point.count, point.sum) == (4, 100.65)


def test_labels_that_a_metric_does_not_declare_are_left_out(store: Store) -> None:
    counter = metric(Kind.COUNTER, STATUS)
    store.record(counter, status="success", prompt="secret")
    assert store.values(counter) == {labelled(status="success"): 1}


def test_many_threads_lose_nothing(store: Store) -> None:
    counter = metric(Kind.COUNTER, USER, STATUS, siblings=(STATUS,))
    start = threading.Barrier(8)

    def add() -> None:
        start.wait()
        for number in range(200):
            store.record(counter, user=str(number % 5), status="success")

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = store.values(counter)
    assert sum(values.values()) == 1600
    assert len(values) == 10


# What exists before its first value


def test_siblings_are_created_at_zero(store: Store) -> None:
    counter = metric(Kind.COUNTER, TOOL, STATUS, siblings=(STATUS,))
    store.record(counter, tool="a", status="success")
    assert store.values(counter) == {
        labelled(tool="a", status="success"): 1,
        labelled(tool="a", status="failure"): 0,
    }


def test_siblings_multiply_out_no_other_label(store: Store) -> None:
    counter = metric(Kind.COUNTER, CACHE, STATUS, siblings=(STATUS,))
    store.record(counter, cache="tool", status="success")
    assert len(store.values(counter)) == 2


def test_siblings_of_a_replaced_value_are_created_at_zero(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)
    counter = metric(Kind.COUNTER, TOOL, STATUS, siblings=(STATUS,))
    store.record(counter, tool=None, status="odd")
    assert store.values(counter) == {
        labelled(tool="other", status="success"): 0,
        labelled(tool="other", status="failure"): 0,
        labelled(tool="other", status="other"): 1,
    }


def test_bound_counter_without_open_labels_starts_at_zero(store: Store) -> None:
    counter = metric(Kind.COUNTER, CACHE, STATUS)
    store.record.declare([counter], [counter])
    assert set(store.values(counter).values()) == {0}
    assert len(store.values(counter)) == 4


def test_counter_without_labels_starts_at_zero(store: Store) -> None:
    counter = metric(Kind.COUNTER)
    store.record.declare([counter], [counter])
    assert store.values(counter) == {labelled(): 0}


def test_counter_with_an_open_label_or_unbound_is_absent(store: Store) -> None:
    opened, unbound = metric(Kind.COUNTER, TOOL), Counter("u", "")
    store.record.declare([opened, unbound], [opened])
    assert store.collected() == {}


def test_histogram_is_absent_until_its_first_value(store: Store) -> None:
    histogram = metric(Kind.HISTOGRAM, STATUS, buckets=(1.0,))
    store.record.declare([histogram], [histogram])
    assert store.collected() == {}


def test_declaring_again_adds_nothing(store: Store, clock: Clock) -> None:
    counter, ratio = metric(Kind.COUNTER, STATUS), metric(Kind.RATIO)
    for _ in range(2):
        store.record.declare([counter, ratio], [counter])
        store.record(counter, status="success")
        store.record(ratio, 1)
    assert store.values(counter)[labelled(status="success")] == 2
    assert store.values(ratio) == {labelled(): 1}


# Gauges over a window


@pytest.mark.parametrize("kind", [Kind.RATIO, Kind.LATEST, Kind.GAUGE])
def test_gauge_is_absent_until_observed(store: Store, clock: Clock, kind: Kind) -> None:
    store.record.declare([metric(kind, STATUS)])
    assert store.collected() == {}


def test_ratio_is_the_share_of_successes_by_label_set(store: Store, clock: Clock) -> None:
    ratio = metric(Kind.RATIO, TOOL)
    store.record.declare([ratio])
    for success in (True, True, True, False):
        store.record(ratio, success, tool="a")
    store.record(ratio, 0, tool="b")
    assert store.values(ratio) == {labelled(tool="a"): 0.75, labelled(tool="b"): 0.0}


def test_ratio_of_several_events_at_once(store: Store, clock: Clock) -> None:
    ratio = metric(Kind.RATIO)
    store.record.declare([ratio])
    store.record(ratio, 1, 4)
    store.record(ratio, 4, 4)
    assert store.values(ratio) == {labelled(): 5 / 8}
    clock.now += 301
    store.record(ratio, 0, 1)
    assert store.values(ratio) == {labelled(): 0}


def test_gauge_that_was_set_stays_for_every_collection(store: Store) -> None:
    gauge = metric(Kind.GAUGE, STATUS)
    store.record(gauge, 3, status="success")
    store.record(gauge, 2.5, status="success")
    store.record(gauge, 7, status="failure")
    for _ in range(2):
        assert store.values(gauge) == {
            labelled(status="success"): 2.5,
            labelled(status="failure"): 7,
        }


def test_gauge_that_was_set_is_gone_with_the_instrumentation(store: Store) -> None:
    gauge = metric(Kind.GAUGE)
    store.record(gauge, 3)
    store.record.silence()
    assert store.values(gauge) == {}
    store.record(gauge, 4)
    assert store.values(gauge) == {labelled(): 4}


def test_ratio_forgets_what_is_older_than_the_window(store: Store, clock: Clock) -> None:
    ratio = metric(Kind.RATIO)
    store.record.declare([ratio])
    store.record(ratio, 0)
    clock.now += 200
    store.record(ratio, 1)
    assert store.values(ratio) == {labelled(): 0.5}
    clock.now += 99
    assert store.values(ratio) == {labelled(): 0.5}
    clock.now += 1
    assert store.values(ratio) == {labelled(): 1.0}
    clock.now += 200
    assert store.collected() == {}


def test_rate_is_zero_from_the_start(store: Store, clock: Clock) -> None:
    rate = metric(Kind.RATE)
    store.record.declare([rate])
    assert store.values(rate) == {labelled(): 0}


def test_rate_divides_by_the_time_since_activation_then_by_the_window(
    store: Store, clock: Clock
) -> None:
    rate = metric(Kind.RATE)
    store.record.declare([rate])
    for _ in range(30):
        store.record(rate)
    assert store.values(rate) == {labelled(): 30}
    clock.now += 60
    assert store.values(rate) == {labelled(): 0.5}
    clock.now += 239
    assert store.values(rate) == {labelled(): 30 / 299}
    clock.now += 1
    assert store.values(rate) == {labelled(): 0}
    store.record(rate)
    assert store.values(rate) == {labelled(): 1 / 300}


def test_latest_is_the_last_value_while_it_is_recent(store: Store, clock: Clock) -> None:
    latest = metric(Kind.LATEST, TOOL)
    store.record.declare([latest])
    store.record(latest, 1, tool="a")
    store.record(latest, 0, tool="a")
    assert store.values(latest) == {labelled(tool="a"): 0}
    clock.now += 300
    assert store.collected() == {}


@given(
    st.lists(st.tuples(st.integers(0, 120), st.sampled_from((0, 1))), max_size=60),
    st.integers(0, 400),
)
def test_window_is_what_counting_over_says(events: list[tuple[int, int]], later: int) -> None:
    clock = Clock()
    window, seen = Window(clock), []
    for pause, value in events:
        clock.now += pause
        window.add(value)
        seen.append((clock.now, value))
    clock.now += later
    recent = [value for at, value in seen if at > clock.now - 300]
    assert window.ratio() == (sum(recent) / len(recent) if recent else None)
    assert window.last() == (recent[-1] if recent else None)
    assert window.rate() == len(recent) / min(300.0, max(1.0, clock.now - 1000.0))


# Readings


def test_reading_is_asked_at_each_collection(store: Store) -> None:
    gauge, values = metric(Kind.GAUGE, STATUS), iter(((1.0,), (2.0, 3.0)))
    store.record.observe(
        gauge,
        lambda: list(zip(next(values), ({"status": s} for s in STATUS.values), strict=False)),
    )
    assert store.values(gauge) == {labelled(status="success"): 1}
    assert store.values(gauge) == {labelled(status="success"): 2, labelled(status="failure"): 3}


@pytest.mark.parametrize("kind", [Kind.COUNTER, Kind.UPDOWN, Kind.GAUGE])
def test_later_reading_replaces_the_earlier_one(store: Store, kind: Kind) -> None:
    observed = metric(kind)
    store.record.observe(observed, lambda: [(1, {})])
    store.record.observe(observed, lambda: [(2, {})])
    assert store.values(observed) == {labelled(): 2}


def test_reading_that_raises_leaves_the_others(store: Store, lenient: None) -> None:
    broken, whole = Gauge("broken", ""), metric(Kind.GAUGE)
    store.record.observe(broken, lambda: [(1 / 0, {})])
    store.record.observe(whole, lambda: [(1, {})])
    assert {name: len(one.data.data_points) for name, one in store.collected().items()} == {
        "test.gauge": 1
    }
    assert store.health.errors == {"broken": 1}


def test_collection_does_what_was_deferred_first(store: Store) -> None:
    counter, gauge = metric(Kind.COUNTER), metric(Kind.GAUGE)
    store.record.declare([counter])
    store.record.observe(gauge, lambda: [(1, {})])
    failsafe.defer(store.record, counter, 5)
    store.collected()
    assert store.values(counter) == {labelled(): 5}


def test_silenced_recorder_ends_readings_and_keeps_totals(store: Store, clock: Clock) -> None:
    counter, gauge, ratio = metric(), metric(Kind.GAUGE), metric(Kind.RATIO)
    store.record.declare([ratio])
    store.record.observe(gauge, lambda: [(1, {})])
    store.record(counter)
    store.record(ratio, 1)
    store.record.silence()
    assert set(store.collected()) == {counter.name}
    store.record.observe(gauge, lambda: [(2, {})])
    assert store.values(gauge) == {labelled(): 2}


def test_restarted_recorder_has_no_totals_no_windows_and_no_readings(
    store: Store, clock: Clock
) -> None:
    counter, ratio = metric(), metric(Kind.RATIO)
    store.record.declare([ratio])
    store.record(counter)
    store.record(ratio, 0)
    store.record.restart()
    store.record.declare([ratio])
    assert store.collected() == {}
    store.record(ratio, 1)
    assert store.values(ratio) == {labelled(): 1}


@pytest.mark.parametrize("kind", [Kind.RATIO, Kind.RATE, Kind.LATEST, Kind.GAUGE, Kind.UPDOWN])
def test_short_process_has_no_gauges(clock: Clock, kind: Kind) -> None:
    store, gauge, counter = Store(gauges=False), metric(kind), metric()
    store.record.declare([gauge, counter], [counter])
    store.record.observe(gauge, lambda: [(1, {})])
    store.record(gauge, 1)
    store.record(counter)
    assert set(store.collected()) == {counter.name}


# Bounds of labels


@pytest.mark.parametrize("value", ["odd", "", None, 3, True, ["success"], b"success", "Success"])
def test_value_outside_of_a_closed_set_is_other_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)
    counter = metric(Kind.COUNTER, STATUS)
    for _ in range(2):
        store.record(counter, status=value)
    assert store.values(counter) == {labelled(status="other"): 2}
    assert store.health.undeclared == {"test_counter_total": 2}
    assert store.health.capped == {}


def test_a_label_whose_name_is_misspelt_is_other_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)
    counter = metric(Kind.COUNTER, TOOL, STATUS)
    for _ in range(2):
        store.record(counter, tol="read", status="success")
    assert store.values(counter) == {labelled(tool="other", status="success"): 2}
    assert (store.health.undeclared, store.health.capped) == ({"test_counter_total": 2}, {})
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the label 'tool' of test_counter_total has a value" in line
    assert "read" not in line


def test_undeclared_values_fail_our_own_tests(store: Store) -> None:
    with pytest.raises(ValueError, match="'status' is not declared"):
        store.record(metric(Kind.COUNTER, STATUS), status="odd")


def test_what_may_be_anything_is_other_and_is_not_counted(store: Store) -> None:
    verb = Label(name="method", values=("GET", "other"), others=True, meaning="method")
    counter = metric(Kind.COUNTER, verb)
    store.record(counter, method="BREW")
    assert store.values(counter) == {labelled(method="other"): 1}
    assert (store.health.undeclared, store.health.capped) == ({}, {})


@pytest.mark.parametrize(
    "value", [None, "", 3, True, b"bytes", ["list"], "x" * (MAX_LENGTH + 1)], ids=repr
)
def test_value_that_is_no_name_is_other_and_capped(store: Store, value: object) -> None:
    counter = metric(Kind.COUNTER, TOOL)
    store.record(counter, tool=value)
    assert store.values(counter) == {labelled(tool="other"): 1}
    assert store.health.capped == {"test_counter_total": 1}


@pytest.mark.parametrize("value", ["x" * MAX_LENGTH, "größe", "工具", "a b", "🔧", 'quo"te'])
def test_value_that_is_a_name_is_kept(store: Store, value: str) -> None:
    counter = metric(Kind.COUNTER, TOOL)
    store.record(counter, tool=value)
    assert store.values(counter) == {labelled(tool=value): 1}
    assert store.health.capped == {}


@pytest.mark.parametrize("value", ["\ud800", "tool\udfff", "\udcff\udcfe"], ids=ascii)
def test_value_that_no_exporter_could_encode_is_replaced(store: Store, value: str) -> None:
    """JSON may hold half a surrogate pair; one such label stops every later scrape."""
    counter = metric(Kind.COUNTER, TOOL)
    store.record(counter, tool=value)
    (point,) = store.raw(counter)
    point.attributes["tool"].encode()


@given(st.one_of(st.none(), st.integers(), st.text(st.characters(exclude_categories=()))))
def test_any_label_can_be_scraped(value: object) -> None:
    applied, _ = Bounds().apply(TOOL, value)
    registry = CollectorRegistry()
    prometheus_client.Gauge("g", "g", ["tool"], registry=registry).labels(applied).set(1)
    assert generate_latest(registry).decode()
    assert 0 < len(applied) <= MAX_LENGTH


class Mode(str, enum.Enum):  # noqa: UP042
    """As Victor's own enumerations are; an exporter writes `Mode.SUCCESS` for it."""

    SUCCESS = "success"


@pytest.mark.parametrize("label", [STATUS, TOOL], ids=["closed", "open"])
def test_member_of_a_string_enumeration_is_recorded_as_its_value(
    store: Store, label: Label
) -> None:
    counter = metric(Kind.COUNTER, label)
    store.record(counter, **{label.name: Mode.SUCCESS})
    (point,) = store.raw(counter)
    assert str(point.attributes[label.name]) == "success"


def test_values_above_the_limit_of_a_label_are_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    counter = metric(Kind.COUNTER, TOOL)
    for tool in ("a", "b", "c", "d", "e", "a"):
        store.record(counter, tool=tool)
    expected = {"a": 2, "b": 1, "c": 1, "other": 2}
    assert store.values(counter) == {labelled(tool=name): n for name, n in expected.items()}
    assert store.health.capped == {"test_counter_total": 2}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "test_counter_total" in caplog.text


def test_limit_of_a_label_is_one_for_all_metrics(store: Store) -> None:
    counter, histogram = metric(Kind.COUNTER, TOOL), metric(Kind.HISTOGRAM, TOOL, buckets=(1.0,))
    for tool in "abc":
        store.record(counter, tool=tool)
    for tool in "cd":
        store.record(histogram, 1, tool=tool)
    assert [point.attributes["tool"] for point in store.raw(histogram)] == ["c", "other"]


def test_labels_of_one_name_have_bounds_of_their_own(store: Store) -> None:
    counter = metric(Kind.COUNTER, TOOL)
    other = Counter("test.other", "m", labels=(Label(name="tool", meaning="t"),))
    for number in range(50):
        store.record(other, tool=f"t{number}")
    for tool in ("a", "b", "c"):
        store.record(counter, tool=tool)
    assert set(store.values(counter)) == {labelled(tool=tool) for tool in "abc"}


def test_value_that_cannot_be_hashed_is_no_name(store: Store) -> None:
    counter = metric(Kind.COUNTER, TOOL)
    store.record(counter, tool=["a"])
    assert store.values(counter) == {labelled(tool="other"): 1}


def test_same_values_under_swapped_labels_are_different_sets(store: Store) -> None:
    counter = metric(Kind.COUNTER, USER, MODEL)
    store.record(counter, user="a", model="b")
    store.record(counter, model="a", user="b")
    assert set(store.values(counter)) == {
        labelled(user="a", model="b"),
        labelled(user="b", model="a"),
    }


def test_other_itself_is_never_capped(store: Store) -> None:
    counter = metric(Kind.COUNTER, TOOL)
    for tool in ("a", "b", "c", "other"):
        store.record(counter, tool=tool)
    assert store.values(counter)[labelled(tool="other")] == 1
    assert store.health.capped == {}


def test_ten_thousand_label_sets_stay_under_the_sdks_limit(store: Store) -> None:
    counter = metric(Kind.COUNTER, USER, MODEL, STATUS, siblings=(STATUS,))
    for number in range(10_000):
        store.record(counter, user=f"u{number % 200}", model=f"m{number % 97}", status="success")
    values = store.values(counter)
    assert 1800 <= len(values) < 2000
    assert sum(values.values()) == 10_000
    assert values[labelled(user="other", model="other", status="success")] > 0
    assert not any("otel.metric.overflow" in dict(labels) for labels in values)
    assert store.health.capped["test_counter_total"] > 0


def test_known_label_sets_go_on_beyond_the_limit(store: Store) -> None:
    counter = metric(Kind.COUNTER, USER, MODEL)
    for _ in range(2):
        for number in range(4000):
            store.record(counter, user=f"u{number % 200}", model=f"m{number // 200}")
    assert store.values(counter)[labelled(user="u0", model="m0")] == 2


def test_ten_thousand_values_of_a_window_stay_bounded(store: Store, clock: Clock) -> None:
    ratio = metric(Kind.RATIO, USER, MODEL)
    store.record.declare([ratio])
    for number in range(10_000):
        store.record(ratio, 1, user=f"u{number % 200}", model=f"m{number % 97}")
    assert len(store.values(ratio)) <= 1801


def test_reading_is_bounded_as_well(store: Store) -> None:
    gauge = metric(Kind.GAUGE, TOOL)
    store.record.observe(gauge, lambda: [(1, {"tool": name}) for name in "abc"])
    assert len(store.values(gauge)) == 3
    store.record.observe(gauge, lambda: [(1, {"tool": name}) for name in "abcd"])
    assert labelled(tool="other") in store.values(gauge)


# Providers


def test_one_provider_has_one_recorder(store: Store) -> None:
    first = pipeline.connect(Health(), store.provider)
    second = pipeline.connect(Health(), store.provider)
    assert second.recorder is first.recorder
    assert pipeline.connect(Health(), Store().provider).recorder is not first.recorder
    assert (first.owner, second.owner) == ("application", "application")


@pytest.mark.parametrize("shape", [{"eq": True}, {"slots": True}], ids=["unhashable", "slots"])
def test_a_provider_of_any_shape_is_recorded_into(store: Store, shape: dict[str, bool]) -> None:
    """An application's may be a dataclass around another one, as logfire's is."""

    @dataclasses.dataclass(**shape)  # type: ignore[call-overload]
    class Provider:
        wrapped: Any

        def get_meter(self, *arguments: Any, **options: Any) -> Any:
            return self.wrapped.get_meter(*arguments, **options)

    provider: Any = Provider(store.provider)
    with pytest.raises(TypeError):
        hash(provider) if "eq" in shape else weakref.ref(provider)
    counter = metric()
    for _ in range(3):
        pipeline.connect(Health(), provider).recorder(counter)
    assert store.values(counter) == {labelled(): 3}


def test_second_instrumentation_continues_the_totals(store: Store) -> None:
    counter = metric()
    for _ in range(2):
        connected = pipeline.connect(Health(), store.provider)
        connected.recorder(counter)
        connected.recorder.silence()
    assert store.values(counter) == {labelled(): 2}


PLACEHOLDER = """
    from opentelemetry import metrics
    from tests.engine.points import BY_KIND, Store, labelled
    from tests.engine.metrics import STATUS, TOOL, metric
    from victor_otel.signals import pipeline
    from victor_otel.engine.health import Health
    from victor_otel.model.metric import Kind

    connected = pipeline.connect(Health())
    record = connected.recorder
    counter = metric(Kind.COUNTER, TOOL, STATUS, siblings=(STATUS,))
    ratio, gauge = metric(Kind.RATIO), metric(Kind.GAUGE)
    histogram = metric(Kind.HISTOGRAM, buckets=(1.0,))
    record.declare([counter, ratio, histogram])
    record.observe(gauge, lambda: [(7, {})])

    def work() -> None:
        record(counter, tool="a", status="success")
        record(ratio, 0)
        record(histogram, 0.5)

    work()
"""


def python(source: str, **environ: str) -> str:
    """Runs `source` in a process of its own: there is one global provider for each."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path)), **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_recorded_until_an_application_sets_a_provider() -> None:
    answer = python(
        PLACEHOLDER
        + """
    assert connected.owner == "nobody"
    store = Store()
    metrics.set_meter_provider(store.provider)
    print(sorted(store.collected()))
    work()
    print(sorted(store.collected()))
    print(sorted(store.values(counter).values()), store.values(ratio), store.raw(histogram)[0].sum)
    """
    )
    assert answer.splitlines() == [
        "['test.gauge']",
        "['test.counter', 'test.gauge', 'test.histogram', 'test.ratio']",
        "[0, 1] {frozenset(): 0.0} 0.5",
    ]


def test_without_a_provider_nothing_is_kept() -> None:
    answer = python(
        PLACEHOLDER
        + """
    for _ in range(1000):
        work()
    import threading
    kept = [each for one in record._instruments.values() for each in one._sets.all()]
    print(kept, threading.active_count())
    """
    )
    assert answer == "[] 1\n"


def test_a_share_of_what_is_neither_true_nor_false_is_not_recorded(store: Store) -> None:
    """As a refactoring that was broken off, which has neither succeeded nor failed."""

    class Attempt(NamedTuple):
        succeeded: bool | None

    attempt = OperationType("attempt", Attempt)
    rate = Ratio("test.rate", "m", of=attempt, value="succeeded")
    record = Recording(attempt, [Feeds(attempt, rate, value="succeeded")], store.record)
    store.record.declare([rate])
    for succeeded in (True, None, False, None, None):
        operation = Operation(attempt, None, 1, None, 0.0)
        operation.context, operation.facts = Context(), Attempt(succeeded)
        record(operation)
    assert store.values(rate) == {labelled(): 0.5}
