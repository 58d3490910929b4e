"""Another instrumentation beneath us: a model call is one span and one count, whoever came first."""

from __future__ import annotations

import pytest

from tests.processes import AGENT, answer

PROGRAM = (
    AGENT
    + """
from openai import AsyncOpenAI
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.traced import Traced
from tests.victor.test_providers import own
from victor_otel.instrumentor import VictorInstrumentor

traced, reader = Traced(), InMemoryMetricReader()
meters = MeterProvider([reader])
both = {"ours": VictorInstrumentor(), "theirs": OpenAIInstrumentor()}
for who in sys.argv[1].split():
    both[who].instrument(tracer_provider=traced.provider, meter_provider=meters)

async def chat(self, messages, *, model, **options):
    from victor.providers.base import CompletionResponse
    client = AsyncOpenAI(base_url=self.url, api_key="none")
    said = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say hi."}]
    )
    return CompletionResponse(content=said.choices[0].message.content, role="assistant")

with ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    provider = own(chat=chat)
    provider.url = model.url
    asyncio.run(provider.chat([], model="m"))
names = ("victor.provider.requests", "gen_ai.client.operation.duration")
counted = {name: count for name, count in counts(reader).items() if name in names}
(span,) = traced.ended
told = dict(span.attributes)
print(json.dumps([traced.tree(), traced.problems(), counted, told["gen_ai.response.model"]]))
"""
)


@pytest.mark.parametrize("order", ["ours theirs", "theirs ours"])
def test_a_call_through_an_instrumented_client_is_one_span_and_one_count(order: str) -> None:
    tree, problems, counted, answered = answer(PROGRAM, order)
    assert (tree, problems) == (["chat m"], [])
    assert counted == {"victor.provider.requests": 1}
    assert answered == "m"
