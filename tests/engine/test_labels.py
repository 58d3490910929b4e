"""Whatever Victor or an application puts into a label, the bounds hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.points import Store
from victor_otel.engine import failsafe
from victor_otel.model.metric import MAX_LENGTH, OTHER, Kind, Label, Metric
from victor_otel.signals.labelsets import MAX_LABEL_SETS
from victor_otel.victor import catalog

LABELLED = [metric for metric in catalog.METRICS if metric.labels]

HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="\n\r\t\0\"\\{}=,/;'\u202e\ud800é", min_size=1),
    st.sampled_from(
        ["", " ", "x" * 10_000, "../../etc/passwd", "a\nvictor_fake_total 1", "\ud800"]
    ),
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(),
    st.lists(st.text(), max_size=2),
    st.builds(object),
)


def points(store: Store, metric: Metric) -> list[dict[str, Any]]:
    return [dict(point.attributes) for point in store.raw(metric)]


def check(metric: Metric, attributes: dict[str, Any]) -> None:
    shown = [label for label in metric.labels if not label.optional or label.name in attributes]
    assert list(attributes) == [label.name for label in shown]
    for label in shown:
        value = attributes[label.name]
        assert isinstance(value, str)
        assert 0 < len(value) <= MAX_LENGTH
        value.encode()
        assert not label.closed or value in {*label.values, OTHER}


def others(metric: Metric) -> dict[str, str]:
    return {label.name: OTHER for label in metric.labels}


@pytest.fixture(autouse=True)
def _as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)


@pytest.mark.parametrize("metric", LABELLED, ids=lambda metric: metric.name)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_hostile_values_come_out_bounded(metric: Metric, data: st.DataObject) -> None:
    store = Store()
    store.record.declare([metric])
    for _ in range(4):
        store.record(metric, 1, **{label.name: data.draw(HOSTILE) for label in metric.labels})
    found = points(store, metric)
    assert found
    for attributes in found:
        check(metric, attributes)


@pytest.mark.parametrize(
    ("metric", "label"),
    [pytest.param(m, label, id=f"{m.name}-{label.name}") for m in LABELLED for label in m.labels],
)
def test_ten_thousand_values_of_one_label_stay_within_its_bound(
    metric: Metric, label: Label
) -> None:
    store = Store()
    store.record.declare([metric])
    rest = others(metric)
    for number in range(10_000):
        store.record(metric, 1, **{**rest, label.name: f"value-{number}"})
    found = points(store, metric)
    assert len({attributes[label.name] for attributes in found}) <= (
        len({*label.values, OTHER}) if label.closed else label.limit + 1
    )
    assert len(found) <= MAX_LABEL_SETS + 200
    for attributes in found:
        check(metric, attributes)
    if metric.kind is Kind.COUNTER:
        assert sum(point.value for point in store.raw(metric)) == 10_000
    assert bool(store.health.capped) is not label.closed
    assert bool(store.health.undeclared) is (label.closed and not label.others)
