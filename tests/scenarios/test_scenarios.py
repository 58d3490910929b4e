"""Every scenario exports exactly what it counted itself, and each metric has a scenario."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path

import pytest
import pytest_asyncio
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry

from tests.kit.traced import Traced
from tests.scenarios import SCENARIOS, genai
from tests.scenarios.scenario import Scenario, Series, end_tasks, exported, names, of, played
from tools.paths import ROOT
from victor_otel.engine.plan import BoundObserver, Engine
from victor_otel.model.metric import Metric, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Observes
from victor_otel.runtime import RUNTIME
from victor_otel.victor import catalog, shared
from victor_otel.victor.areas import embeddings, mcp
from victor_otel.victor.areas import genai as genai_area
from victor_otel.victor.supported import RANGE, TESTED, release


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def _ended() -> AsyncIterator[None]:
    yield
    await end_tasks()


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture
def registry(
    request: pytest.FixtureRequest, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CollectorRegistry]:
    RUNTIME.deactivate()
    monkeypatch.setenv("VICTOR_OTEL_GENAI", "0.1,1.41")
    RUNTIME.health.restart()
    made = CollectorRegistry()
    reader = PrometheusMetricReader(registry=made, scope_info_enabled=False)
    provider = MeterProvider(
        [reader], shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter()
    )
    # Those of ourselves break readers and wear out labels.
    breaks_readers = request.getfixturevalue("scenario").module == "ourselves"
    on = RUNTIME.activate(provider, None if breaks_readers else traced.provider)
    on.open()
    unsaid = watched(on.engine)
    yield made
    RUNTIME.deactivate()
    RUNTIME.health.restart()
    assert unsaid == set()


def watched(engine: Engine) -> set[tuple[str, str]]:
    """The metrics that observers record though their rows do not say that they feed them."""
    unsaid: set[tuple[str, str]] = set()

    def watch(row: Observes, observe: BoundObserver) -> BoundObserver:
        def observed(operation: Operation, record: Record) -> None:
            def noted(metric: Metric, *values: float, **labels: object) -> None:
                if metric not in row.feeds:
                    unsaid.add((row.observe.__name__, metric.name))
                record(metric, *values, **labels)

            observe(operation, noted)

        return observed

    rows: defaultdict[OperationType[object], list[Observes]] = defaultdict(list)
    for _, kind, row in catalog.OBSERVED:
        rows[kind].append(row)
    for kind, each in rows.items():
        observers = engine.followers(kind).observers
        for at, (row, (name, bound)) in enumerate(zip(each, observers, strict=True)):
            observers[at] = name, watch(row, bound)
    return unsaid


@functools.cache
def _installed() -> set[str]:
    distributions = importlib.metadata.distributions()
    return {distribution.metadata["Name"].lower() for distribution in distributions}


def _needs(packages: tuple[str, ...]) -> pytest.MarkDecorator:
    missing = [package for package in packages if package not in _installed()]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(
    "scenario",
    [
        # Not in the test: the instrumentation is on by then, and rates begin with it.
        pytest.param(one, id=one.name, marks=_needs(one.needs))
        for one in SCENARIOS
        if one.applies()
    ],
)
async def test_what_is_exported_is_what_the_scenario_counted(
    scenario: Scenario,
    registry: CollectorRegistry,
    traced: Traced,
    tmp_path: Path,
) -> None:
    async with played(scenario, tmp_path) as count:
        expected = {**count.sums, **count.gauges}
        observed = of(exported(registry), scenario.proves, expected)
    assert observed == {
        key: pytest.approx(value, abs=count.tolerances.get(key)) for key, value in expected.items()
    }
    shown = {name for name, _ in observed}
    assert [m.name for m in scenario.proves if not shown.intersection(names(m))] == []
    metrics = exported(registry)
    for twin in genai.TWINS:
        if twin.is_proven(scenario):
            assert (twin.theirs, twin.seen(metrics)) == (twin.theirs, twin.expected(count.sums))
    if scenario.module != "ourselves":
        assert traced.problems() == []
        assert spans(traced) == counted(metrics)
        assert conventional_spans(traced) == conventional(metrics)


_COUNTED = {
    "chat": ("victor_provider_requests_total", ("model", "status")),
    "execute_tool": ("victor_tool_executions_total", ("tool", "status")),
    "invoke_agent": ("victor_chat_request_duration_seconds_count", ("status",)),
    "invoke_workflow": ("victor_workflow_executions_total", ("workflow", "status")),
}
"""Metrics that count what has a span, with the labels that the span knows as well."""


def counted(metrics: Series) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for (name, labels), value in metrics.items():
        for operation, (metric, read) in _COUNTED.items():
            if name == metric and value:
                known = dict(labels)
                found[operation, *(known[label] for label in read)] += int(value)
    return found


def spans(traced: Traced) -> Counter[tuple[str, ...]]:
    """The spans of what those metrics count, by the same facts."""
    found: Counter[tuple[str, ...]] = Counter()
    for span in traced.ours:
        known = {name: str(value) for name, value in (span.attributes or {}).items()}
        operation = span.name.partition(" ")[0]
        status = known["victor.operation.status"]
        named = {
            "chat": known.get("gen_ai.request.model"),
            "execute_tool": known.get("gen_ai.tool.name"),
            "invoke_workflow": known.get("gen_ai.agent.name"),
        }.get(operation)
        not_run = "victor.tool.rejection" in known or "victor.tool.cached" in known
        if operation in _COUNTED and not not_run and named != "team":
            found[(operation, *filter(None, (named, status)))] += 1
    return found


_DURATIONS = {
    "chat": (genai_area.INFERENCE_DURATION, genai_area.OPERATION_DURATION),
    "execute_tool": (genai_area.TOOL_DURATION,),
    "invoke_agent": (genai_area.AGENT_DURATION,),
    "invoke_workflow": (genai_area.AGENT_DURATION,),
    **dict.fromkeys(
        ("search_memory", "upsert_memory", "delete_memory"), (genai_area.OPERATION_DURATION,)
    ),
    "embeddings": (embeddings.DURATION,),
    "retrieval": (shared.RETRIEVAL_DURATION,),
    SpanKind.CLIENT: (mcp.CLIENT_DURATION,),
    SpanKind.SERVER: (mcp.SERVER_DURATION,),
}
"""The conventions' metrics of what has a span, by its operation; of MCP messages, by its kind."""


def conventional(metrics: Series) -> Counter[tuple[str, ...]]:
    """What the conventions' durations count, by their labels."""
    named = {f"{metric.prometheus_name}_count": metric for metric in chain(*_DURATIONS.values())}
    found: Counter[tuple[str, ...]] = Counter()
    for (name, pairs), value in metrics.items():
        if name in named:
            labels = dict(pairs)
            read = [labels.get(label.prometheus_name, "") for label in named[name].labels]
            found[(named[name].name, *read)] += int(value)
    return +found


def conventional_spans(traced: Traced) -> Counter[tuple[str, ...]]:
    """The spans of the same, by the attributes of the same names."""
    found: Counter[tuple[str, ...]] = Counter()
    for span in traced.ours:
        known = {name: str(value) for name, value in (span.attributes or {}).items()}
        is_message = "mcp.method.name" in known
        operation = span.kind if is_message else known.get("gen_ai.operation.name", "")
        not_run = "victor.tool.rejection" in known or "victor.tool.cached" in known
        for metric in () if not_run else _DURATIONS.get(operation, ()):
            found[(metric.name, *(known.get(label.name, "") for label in metric.labels))] += 1
    return found


def test_every_metric_has_a_scenario() -> None:
    proven = {metric for scenario in SCENARIOS for metric in genai.proven(scenario)}
    assert [metric.name for metric in catalog.METRICS if metric not in proven] == []


def test_the_versions_that_are_supported_are_those_of_the_gate() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    victor, *_ = project["project"]["optional-dependencies"]["instruments"]
    assert victor == f"victor-ai{RANGE}"
    pairs = project["tool"]["victor-otel"]["pairs"]
    assert tuple(sorted({pair["victor"] for pair in pairs}, key=release)) == TESTED
    develop = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Develop")[2]
    named = {pair[kind] for pair in pairs for kind in ("python", "victor")}
    assert named == set(re.findall(r"\b(?:3\.1\d|0\.\d+\.\d+)\b", develop))


def test_scenarios_have_names_of_their_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
