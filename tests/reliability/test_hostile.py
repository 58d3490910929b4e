"""Values that nobody would wish for, and secrets: Victor goes on, and nothing untrue gets out."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.providers import chunk, own, read, response
from tests.kit.tools import Bench, own_tool
from tests.reliability.trials import Trials
from victor_otel import custom, intake, record
from victor_otel.engine.plan import Plan
from victor_otel.guide import MetricsCollector, MetricsMiddleware
from victor_otel.model.metric import OTHER, Kind, Metric
from victor_otel.model.operation import UNSET
from victor_otel.runtime import RUNTIME
from victor_otel.signals import pipeline
from victor_otel.signals.settings import VARIABLES, Settings
from victor_otel.victor import catalog

pytestmark = pytest.mark.usefixtures("sandbox", "own_folder", "lenient")


class Mine(Exception):
    """What hostile objects raise: no error that Python raises by itself."""


def _raises(*_: Any, **__: Any) -> Any:
    raise Mine("do not look at me")


class Unreadable:
    """Raises whatever it is asked for, also for its class."""

    def __getattribute__(self, name: str) -> Any:
        raise Mine(name)

    __bool__ = __hash__ = __str__ = __repr__ = __len__ = __iter__ = _raises
    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = _raises  # pyright: ignore[reportAssignmentType]
    __int__ = __float__ = __index__ = __add__ = __radd__ = __contains__ = __getitem__ = _raises
    __format__ = _raises  # pyright: ignore[reportAssignmentType]


class Liar(str):
    """A string that is equal to every other, and has the hash of one that is known."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        raise Mine

    __str__ = _raises


class Costly(int):
    """A number that cannot be compared or added."""

    __lt__ = __gt__ = __le__ = __ge__ = __add__ = __radd__ = __float__ = _raises


class Pretender:
    """Says of itself that it is a string."""

    __class__ = str  # pyright: ignore[reportAssignmentType]


class Unreadables(Exception):
    """An error that cannot be read either."""

    def __getattribute__(self, name: str) -> Any:
        raise Mine(name)

    __str__ = __repr__ = _raises


STRANGE = (
    Unreadable(),
    Liar("a"),
    Costly(3),
    Pretender(),
    None,
    True,
    object(),
    b"bytes",
    10**400,
    -(10**400),
    2**63,
    math.nan,
    math.inf,
    -math.inf,
    -1,
    -0.5,
    1e308,
    {"a": {"b": [1, {}]}},
    [],
    "",
    "12",
    "\ud800",
    "nul\0nul",
    'quote"back\\slash\nline\r\u2028\u202e',
    "x" * 100_000,
    mock.Mock(),
    SimpleNamespace(value=Unreadable()),
)


class Box:
    """Holds a value away from whoever would look at it: hypothesis, pytest and asyncio do."""

    def __init__(self, value: Any) -> None:
        self.value = value


texts = st.text(st.characters(codec=None), max_size=200)
boxes = st.one_of(
    st.integers(0, len(STRANGE) - 1).map(lambda number: Box(STRANGE[number])),
    st.one_of(texts, st.integers(), st.floats(), st.lists(texts, max_size=2)).map(Box),
)


def ran(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns, or the exception that it raises."""

    async def run() -> Box:
        try:
            return Box(await coroutine)
        except BaseException as error:
            return Box(error)

    return asyncio.run(run()).value


TRIES = {
    "deadline": None,
    "suppress_health_check": (
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ),
    "database": None,
}


class Exported:
    """What we recorded, as each route shows it; each look holds it against what is valid."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._memory = InMemoryMetricReader()
        scraped = PrometheusMetricReader(registry=self.registry, scope_info_enabled=False)
        self.provider = MeterProvider(
            [self._memory, scraped],
            shutdown_on_exit=False,
            exemplar_filter=AlwaysOffExemplarFilter(),
        )

    def check(self) -> None:
        """Raises if anything that is exported is invalid or untrue on its face."""
        text = generate_latest(self.registry).decode()
        families = [*text_string_to_metric_families(text)]
        told = exposition.generate_latest(self.registry).decode()
        assert len([*parser.text_string_to_metric_families(told)]) == len(families)
        for family in families:
            for sample in family.samples:
                _valid(sample.name, sample.labels, sample.value)
        data = self._memory.get_metrics_data()
        if data is not None:
            encoded = encode_metrics(data).SerializeToString()
            assert ExportMetricsServiceRequest.FromString(encoded).resource_metrics

    def sum(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def errors(self) -> float:
        return sum(RUNTIME.health.errors.values())


def _declared() -> Mapping[str, Metric]:
    metrics = (*catalog.METRICS, *intake.DECLARED.values())
    return {metric.prometheus_name: metric for metric in metrics}


def _valid(name: str, labels: Mapping[str, str], value: float) -> None:
    base = re.sub("_(bucket|sum|count)$", "", name)
    metric = _declared().get(name) or _declared().get(base)
    if metric is None:  # what the exporter says of the process and its target
        return
    assert not math.isnan(value), name
    if metric.kind in {Kind.COUNTER, Kind.HISTOGRAM}:
        assert value >= 0, name
        assert math.isfinite(value), name
    for label in metric.labels:
        given = labels.get(label.prometheus_name, "")
        if label.optional and not given:
            continue
        assert given, (name, label.name)
        assert len(given) <= 120
        if label.closed:
            assert given in {*label.values, OTHER}, (name, given)
    optional = {label.prometheus_name for label in metric.labels if label.optional}
    every = {label.prometheus_name for label in metric.labels}
    assert every - optional <= set(labels) - {"le"} <= every


@contextlib.contextmanager
def exporting() -> Iterator[Exported]:
    RUNTIME.deactivate()
    RUNTIME.health.restart()
    exported = Exported()
    RUNTIME.activate(exported.provider).open()
    try:
        yield exported
    finally:
        RUNTIME.deactivate()
        RUNTIME.health.restart()


@pytest.fixture
def exported() -> Iterator[Exported]:
    with exporting() as held:
        yield held


# Our own functions


GIVEN: Mapping[str, Callable[..., None]] = {
    "feature": lambda a, b: record.feature(a),
    "proficiency": record.proficiency,
    "recall": lambda a, b: record.recall_accuracy(a, b, memory_type=a),
    "search": record.search_accuracy,
    "security": record.security_tests,
    "synthesis": lambda a, b: record.synthesis_time(a),
    "visualization": lambda a, b: record.visualization(a),
}


def test_what_an_application_gives_us(exported: Exported, trials: Trials) -> None:
    times = trials.times(300, 20_000)
    counter = custom.counter("acme.hostile.calls", "calls", labels=["who"])
    closed = custom.counter("acme.hostile.kinds", "kinds", labels={"kind": ("a", "b")})
    histogram = custom.histogram("acme.hostile.time", "time", unit="s", buckets=(1.0,))
    gauge = custom.gauge("acme.hostile.level", "level", labels=["who"])
    true = 0

    @given(boxes, boxes, st.sampled_from(sorted(GIVEN)))
    @tries(max_examples=times, **TRIES)
    def give(first: Box, second: Box, function: str) -> None:
        nonlocal true
        one, other = first.value, second.value
        GIVEN[function](one, other)
        counter.add(one, who=other)
        closed.add(1, kind=one)
        histogram.record(one)
        gauge.set(one, who=other)
        counter.add(who="me")
        true += 1

    give()
    exported.check()
    assert exported.sum("acme_hostile_calls_total", who="me") == true
    assert exported.errors() > 0
    trials.row("hostile values given to victor_otel.record and custom", times=times)


# Providers


def test_what_providers_answer(exported: Exported, trials: Trials) -> None:
    times = trials.times(200, 5_000)
    calls = 0
    usages = st.one_of(
        boxes,
        st.dictionaries(
            st.sampled_from(["prompt_tokens", "input_tokens", "output_tokens", "cached_tokens"]),
            boxes,
        ).map(lambda usage: Box({name: box.value for name, box in usage.items()})),
    )

    @given(boxes, boxes, usages, boxes)
    @tries(max_examples=times, **TRIES)
    def call(whole: Box, name: Box, usage: Box, metadata: Box) -> None:
        nonlocal calls
        partial = SimpleNamespace(
            content=whole.value,
            tool_calls=name.value,
            usage=usage.value,
            metadata=metadata.value,
            is_final=name.value,
        )
        for answer in (whole.value, partial):
            assert ran(_asked(answer, name.value)) is True
            calls += 1

    asyncio.run(_plain())
    call()
    exported.check()
    for _ in range(2):
        asyncio.run(_plain())
    good = {"provider": "plain", "model": "m", "status": "success"}
    assert exported.sum("victor_provider_requests_total", **good) == 3
    assert exported.sum("victor_provider_tokens_total", provider="plain", type="input") == 33
    assert exported.errors() > 0
    trials.row("hostile answers of providers, whole and streamed", times=calls)


async def _asked(answer: Any, name: Any) -> bool:
    async def chat(_: Any, messages: Any, **__: Any) -> Any:
        return answer

    async def stream(_: Any, messages: Any, **__: Any) -> AsyncIterator[Any]:
        yield answer
        yield chunk(is_final=True)

    provider = own(chat=chat, stream=stream)
    whole = await provider.chat([], model=name)
    streamed = (await read(provider.stream([], model=name)))[0]
    return whole is answer and streamed is answer


async def _plain() -> None:
    async def chat(_: Any, messages: Any, **__: Any) -> Any:
        return response(usage={"prompt_tokens": 11, "completion_tokens": 7})

    await own(name="plain", chat=chat).chat([], model="m")


@pytest.mark.parametrize("kind", ["unreadable", "of the unreadable"])
@pytest.mark.parametrize("way", ["chat", "stream", "tool"])
def test_an_error_of_victors_that_cannot_be_read(exported: Exported, way: str, kind: str) -> None:
    error = Unreadables() if kind == "unreadable" else RuntimeError(Unreadable())

    async def chat(_: Any, messages: Any, **__: Any) -> Any:
        await asyncio.sleep(0)
        raise error

    async def stream(_: Any, messages: Any, **__: Any) -> AsyncIterator[Any]:
        yield chunk()
        raise error

    provider = own(chat=chat, stream=stream)
    calls: Mapping[str, Callable[[], Any]] = {
        "chat": lambda: provider.chat([], model="m"),
        "stream": lambda: read(provider.stream([], model="m")),
        "tool": lambda: own_tool(chat).execute({}, messages=()),
    }
    raised = Box(ran(calls[way]()))
    assert (raised.value is error) is True
    exported.check()
    counted = "victor_tool_executions_total" if way == "tool" else "victor_provider_requests_total"
    assert exported.sum(counted, status="failure") + exported.errors() >= 1


# Tools


def test_what_tools_answer(exported: Exported, trials: Trials) -> None:
    from victor.tools.base import ToolResult

    times = trials.times(60, 2_000)
    calls = 0

    @given(boxes, texts)
    @tries(max_examples=times, **TRIES)
    def call(box: Box, name: str) -> None:
        nonlocal calls
        told = ToolResult(success=True, output="x", metadata={"exception": name})
        told.success = told.output = box.value
        for answer in (box.value, told):

            async def execute(_tool: Any, _context: Any, answer: Any = answer, **_: Any) -> Any:
                return answer

            tool = own_tool(_raises, name=name, execute=execute)
            assert (ran(tool.execute({})) is answer) is True
            calls += 1

    bench = Bench(own_tool(lambda _, number: str(number)))
    for hostile in (call, lambda: None):
        assert asyncio.run(bench.registry.execute("own_tool", {}, number=1)).output == "1"
        hostile()
        exported.check()
    good = {"tool": "own_tool", "status": "success"}
    assert exported.sum("victor_tool_executions_total", **good) == 2
    trials.row("hostile results of tools", times=calls)


# Every hook, called with anything


def test_every_observer_on_calls_of_anything(exported: Exported, trials: Trials) -> None:
    """As if Victor's functions had been given, and had answered, whatever there is."""
    times = trials.times(40, 2_000)
    on = RUNTIME.instrumentation
    assert on is not None
    plans = [
        Plan(target, rows, on.engine)
        for target, rows in catalog.targets("0.17.0").items()
        if not any(catalog.target_of(row).asgi for row in rows)
    ]

    @given(
        st.lists(boxes, max_size=4),
        st.dictionaries(st.sampled_from(["model", "tool_name", "workflow", "query"]), boxes),
        boxes,
        st.sampled_from([None, Mine, Unreadables, asyncio.CancelledError]),
    )
    @tries(max_examples=times, **TRIES)
    def call(args: list[Box], kwargs: dict[str, Box], box: Box, raised: Any) -> None:
        given_args = tuple(one.value for one in args)
        given_kwargs = {name: one.value for name, one in kwargs.items()}
        result = box.value
        for plan in plans:
            for instance in (Unreadable(), SimpleNamespace(name=result), None):
                opened = plan.enter(instance, given_args, given_kwargs)
                if raised is None:
                    plan.exit(opened, result, None)
                else:
                    plan.exit(opened, UNSET, raised())

    call()
    exported.check()
    assert exported.errors() > 0
    assert exported.sum("victor_requests_in_flight") == 0
    trials.row("every hook of Victor called with anything", times=times * len(plans))


# The event bus


def test_events_of_any_payload(exported: Exported, trials: Trials) -> None:
    """The handlers and the middleware of Victor's monitoring guide, as its bus and chain call them."""
    from victor.core.events import MessagingEvent

    times, heard = trials.times(100, 5_000), 0
    collector = MetricsCollector()
    middleware = MetricsMiddleware(collector)

    async def hear(event: Any, tool: Any, success: Any) -> None:
        await collector.handle_tool_event(event)
        await collector.handle_agent_event(event)
        await collector.handle_error_event(event)
        await middleware.before_tool_call(tool, {})
        await middleware.after_tool_call(tool, {}, None, success)

    @given(texts, boxes, boxes, boxes)
    @tries(max_examples=times, **TRIES)
    def give(topic: str, data: Box, tool: Box, success: Box) -> None:
        nonlocal heard
        event = MessagingEvent(topic=f"tool.{topic}", data={})
        object.__setattr__(event, "data", data.value)
        for told in (event, data.value):
            assert ran(hear(told, tool.value, success.value)) is None
            heard += 1

    give()
    exported.check()
    for family in ("tool", "agent", "error"):
        assert exported.sum("victor_bus_events_total", family=family) == heard
    trials.row("events and tools of hostile names and payloads, as the guide has them", times=heard)


# Settings


def test_settings_of_any_text(trials: Trials) -> None:
    times = trials.times(300, 20_000)
    known = {variable.name for variable in VARIABLES}
    lists = st.lists(st.sampled_from(["prometheus", "otlp", "console", "none", "x"])).map(",".join)

    @given(st.dictionaries(st.sampled_from(sorted(known)), st.one_of(texts, lists)))
    @tries(max_examples=times, **TRIES)
    def read_them(environ: Mapping[str, str]) -> None:
        understood = Settings.from_environment(environ)
        assert 0 <= understood.prometheus_port <= 65535
        assert 0 <= understood.exit_timeout <= 3600
        assert understood.otlp_protocol in {"grpc", "http/protobuf"}
        assert understood.lifetime in {"long", "short", "auto"}
        for problem in understood.problems:
            assert problem.name in known
            assert f"{problem}".endswith(f" is ignored; set it to {problem.instead}")

    read_them()
    trials.row("settings of any text", times=times)


def test_an_environment_that_is_no_text_is_exported_as_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from opentelemetry.sdk.metrics import MeterProvider as Provider

    monkeypatch.setenv("OTEL_SERVICE_NAME", "caf\udce9")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "caf\udce9=\udcff,service.instance.id=\udcfe")
    reader = InMemoryMetricReader()
    Provider([reader], resource=pipeline._resource("long", "")).get_meter("m").create_counter(
        "c"
    ).add(1)
    data = reader.get_metrics_data()
    assert data is not None
    (resource,) = encode_metrics(data).resource_metrics
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "caf?"
    assert names["caf?"] == "?"
