"""Others beneath and beside us: a model call is one of ours, whoever came first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.processes import AGENT, answer

BENEATH = (
    AGENT
    + """
from importlib import import_module
from openai import AsyncOpenAI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.kit.traced import Traced
from tests.kit.providers import own
from victor_otel.instrumentor import VictorInstrumentor

traced, reader, theirs = Traced(), InMemoryMetricReader(), InMemoryMetricReader()
meters = MeterProvider([reader])
for path in sys.argv[1:]:
    if path == "logfire":  # it has a set-up of its own, and no instrumentor
        import logfire
        processor = traced.provider._active_span_processor
        logfire.configure(
            send_to_logfire=False,
            console=False,
            additional_span_processors=[processor],
            metrics=logfire.MetricsOptions(additional_readers=[theirs]),
        )
        logfire.instrument_openai()
        continue
    module, name = path.split(":")
    instrumentor = getattr(import_module(module), name)()
    instrumentor.instrument(tracer_provider=traced.provider, meter_provider=meters)

async def chat(self, messages, *, model, **options):
    from victor.providers.base import CompletionResponse
    client = AsyncOpenAI(base_url=self.url, api_key="none")
    said = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hi."}]
    )
    usage = {"prompt_tokens": said.usage.prompt_tokens, "completion_tokens": 1}
    content = said.choices[0].message.content
    return CompletionResponse(content=content, role="assistant", usage=usage)

with ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    provider = own(chat=chat)
    provider.url = model.url
    asyncio.run(provider.chat([], model="m"))
names = ("victor.provider.requests", "gen_ai.client.operation.duration")
counted = {
    name: count
    for each in (reader, theirs)
    for name, count in counts(each).items()
    if name in names
}
told = {span.name: {name: str(value) for name, value in span.attributes.items()} for span in traced.ended}
print(json.dumps([traced.tree(), traced.problems(), counted, told]))
"""
)
OURS = "victor_otel.instrumentor:VictorInstrumentor"
GENAI = "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor"
OPENINFERENCE = "openinference.instrumentation.openai:OpenAIInstrumentor"
LOGFIRE = "logfire"
# The client has a copy of httpx of its own.
HTTP = "opentelemetry.instrumentation.httpx:HTTPX2ClientInstrumentor"


def either_first(theirs: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "order", [(OURS, theirs), (theirs, OURS)], ids=["ours first", "theirs first"]
    )


def called(*instrumentors: str) -> tuple[list[Any], dict[str, dict[str, str]]]:
    """The tree of a model call, and what its spans tell; it is one call of ours."""
    tree, problems, counted, told = answer(BENEATH, *instrumentors)
    assert problems == []
    assert counted == {"victor.provider.requests": 1}
    return tree, told


@either_first(GENAI)
def test_a_call_through_an_instrumented_client_is_one_span_and_one_count(
    order: tuple[str, ...],
) -> None:
    tree, told = called(*order)
    assert tree == ["chat m"]
    assert told["chat m"]["gen_ai.response.model"] == "m"


@either_first(HTTP)
def test_the_http_request_of_a_call_is_below_it(order: tuple[str, ...]) -> None:
    tree, told = called(*order)
    assert tree == [["chat m", ["POST"]]]
    assert not [name for name in told["POST"] if name.startswith("gen_ai.")]


def test_the_http_request_stays_where_the_span_between_is_left_out() -> None:
    tree, _ = called(GENAI, HTTP, OURS)
    assert tree == [["chat m", ["POST"]]]


@either_first(OPENINFERENCE)
def test_one_that_does_not_know_of_us_has_a_span_below_ours_with_the_same_tokens(
    order: tuple[str, ...],
) -> None:
    tree, told = called(*order)
    assert tree == [["chat m", ["ChatCompletion"]]]
    ours, theirs = told["chat m"], told["ChatCompletion"]
    assert ours["gen_ai.usage.input_tokens"] == theirs["llm.token_count.prompt"]
    assert not [name for name in theirs if name.startswith("gen_ai.")]
    assert "Say hi." in str(theirs)  # it records contents, unless it is told not to
    assert "Say hi." not in str(ours)


@either_first(LOGFIRE)
def test_logfire_has_a_span_below_ours_that_tells_the_same_tokens_by_the_same_names(
    order: tuple[str, ...],
) -> None:
    tree, told = called(*order)
    name, tokens = "Chat Completion with {request_data[model]!r}", "gen_ai.usage.input_tokens"
    assert tree == [["chat m", [name]]]
    assert told["chat m"][tokens] == told[name][tokens] == "5"


BESIDE = (
    AGENT
    + """
from opentelemetry import trace
from tests.kit.traced import Traced
from tests.kit.tools import own_tool
from victor_otel.instrumentor import VictorInstrumentor

traced = Traced()

def ours_first(is_first):
    if (sys.argv[1] == "ours first") == is_first:
        VictorInstrumentor().instrument()

async def work(url):
    SET_UP
    trace.get_tracer_provider().add_span_processor(traced)
    ours_first(False)
    await use(url)
    await own_tool(lambda _, number: number).execute({}, number=1)
    AFTERWARDS

ours_first(True)
with sandbox(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    asyncio.run(work(model.url))
theirs = [s for s in traced.ended if s.instrumentation_scope.name != "victor_otel"]
shown = [[s.name, s.parent is None, s.status.status_code.name, dict(s.attributes)] for s in theirs]
ours = [s.name for s in traced.ours]
print(json.dumps([ours, traced.problems(), shown]))
"""
)

TURN = ["invoke_agent victor", "chat m", "execute_tool own_tool"]
first = pytest.mark.parametrize("first", ["ours first", "theirs first"])


@first
def test_victors_own_set_up_gives_us_its_providers_and_makes_no_spans(first: str) -> None:
    set_up = """
    from victor.observability.telemetry import setup_opentelemetry
    setup_opentelemetry()
    """
    program = BESIDE.replace("SET_UP", set_up.strip()).replace("AFTERWARDS", "")
    assert answer(program, first) == [TURN, [], []]


@first
def test_victors_own_exporter_makes_a_span_of_each_event_beside_ours(first: str) -> None:
    set_up = """
    from victor.core.events import get_observability_bus
    from victor.observability import OpenTelemetryExporter
    exporter, bus = OpenTelemetryExporter(endpoint="http://127.0.0.1:9"), get_observability_bus()
    exported, exporting = asyncio.Event(), exporter.export
    def export(event):
        try:
            exporting(event)
        finally:  # it raises as soon as it asks for a session, and Victor hides that
            exported.set()
    exporter.export = export
    bus.add_exporter(exporter)
    await bus.connect()
    """
    afterwards = """
    await bus.emit("tool.start", {"tool_name": "own_tool", "arguments": "a secret"})
    await asyncio.wait_for(exported.wait(), 30)
    """
    program = BESIDE.replace("SET_UP", set_up.strip()).replace("AFTERWARDS", afterwards.strip())
    ours, problems, theirs = answer(program, first)
    assert (ours, problems) == (TURN, [])
    assert theirs == [
        [
            "tool_start",
            True,
            "ERROR",
            {
                "victor.tool_name": "own_tool",
                "victor.arguments": "a secret",
                "victor.topic": "tool.start",
            },
        ]
    ]
