"""Calls to the models that embed texts: Victor's own, and services."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan

from tests.kit.agents import Recorded, recording
from tests.kit.traced import Traced
from tests.scenarios.embeddings import CURSED, Letters, ollama, on_ollama, service

DURATION = "gen_ai.client.embeddings.duration"
HERE, CLIENT = trace.SpanKind.INTERNAL, trace.SpanKind.CLIENT
SECRET = "my secret"


def calls(recorded: Recorded) -> dict[tuple[str, ...], float]:
    """The calls by provider, model and error."""
    names = ("gen_ai.provider.name", "gen_ai.request.model", "error.type")
    return {
        tuple(dict(key[1:]).get(name, "") for name in names): count
        for key, count in recorded.points(DURATION).items()
    }


def shown(traced: Traced) -> list[tuple[Any, ...]]:
    assert traced.problems() == []
    return [(span.name, span.kind, status(span)) for span in traced.ours]


def status(span: ReadableSpan) -> object:
    return (span.attributes or {})["victor.operation.status"]


async def test_a_text_that_is_known_is_no_call() -> None:
    recorded, traced, letters = Recorded(), Traced(), Letters()
    with recording(recorded, traced):
        served = service(letters)
        for _ in range(3):
            await served.embed_text(SECRET)
        await served.embed_text(SECRET, use_cache=False)
        await served.embed_batch([SECRET, "fern"])
        await served.embed_batch([])
    assert letters.calls == 3
    assert calls(recorded) == {("sentence-transformers", "letters", ""): 3}
    assert shown(traced) == [("embeddings letters", HERE, "success")] * 3
    assert dict(traced.ours[0].attributes or {}) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.agent.name": "victor",
        "gen_ai.provider.name": "sentence-transformers",
        "gen_ai.request.model": "letters",
        "victor.operation.status": "success",
    }


async def test_zeros_are_a_failure_that_victor_hides() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        broken, down = service(Letters()), service()
        assert not (await broken.embed_text(CURSED)).any()
        assert not (await broken.embed_batch(["fern", CURSED])).any()
        down._ensure_model_loaded = lambda: None  # it could not be fetched
        assert not (await asyncio.to_thread(down.embed_text_sync, "fern")).any()
    assert calls(recorded) == {
        ("sentence-transformers", "letters", "_OTHER"): 2,
        ("sentence-transformers", "letters", "model_unavailable"): 1,
    }
    assert shown(traced) == [("embeddings letters", HERE, "failure")] * 3


async def test_a_batch_is_one_call_to_a_service() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced), ollama() as (url, sent):
        model = on_ollama(url)
        await model.embed_batch(["fern", "moss", "rose"])
        with pytest.raises(RuntimeError):
            await model.embed_text(CURSED)
        await model.close()
    assert len(sent) == 5  # the first one tries the model
    assert calls(recorded) == {("ollama", "nomic", ""): 1, ("ollama", "nomic", "RuntimeError"): 1}
    assert shown(traced) == [
        ("embeddings nomic", CLIENT, "success"),
        ("embeddings nomic", CLIENT, "failure"),
    ]


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_a_call_through_an_instrumented_client_is_one_span(first: str) -> None:
    from victor.storage.vector_stores.models import EmbeddingModelConfig, create_embedding_model

    recorded, traced, theirs = Recorded(), Traced(), OpenAIInstrumentor()
    providers = {"tracer_provider": traced.provider, "meter_provider": recorded.provider}
    config = EmbeddingModelConfig(model_type="openai", model_name="m", api_key="none")
    if first == "theirs":
        theirs.instrument(**providers)
    with recording(recorded, traced), ollama() as (url, _):
        if first == "ours":
            theirs.instrument(**providers)
        model = create_embedding_model(config)
        model.client = AsyncOpenAI(base_url=url, api_key="none")
        model._initialized = True
        try:
            assert await model.embed_text("fern") == [1.0, 2.0]
        finally:
            theirs.uninstrument()
            await model.client.close()
    assert traced.tree() == ["embeddings m"]
    assert (traced.ours[0].attributes or {})["gen_ai.response.model"] == "m"
    assert calls(recorded) == {("openai", "m", ""): 1}
    assert recorded.points("gen_ai.client.operation.duration") == {}
