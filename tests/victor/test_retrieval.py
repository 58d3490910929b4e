"""Searches in vector stores."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry import trace

from tests.kit.agents import recording
from tests.kit.traced import Traced
from tests.scenarios.embeddings import ollama
from tests.scenarios.retrieval import CODING, store_at
from victor_otel.signals.settings import CAPTURE

SECRET = "my secret"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def test_a_search_is_a_span_above_the_embedding_of_its_query() -> None:
    traced = Traced()
    with recording(traced=traced), ollama() as (url, _):
        store = store_at("index", url)
        await store.initialize()
        await store.index_documents([{"id": "a", "content": "fern", "metadata": {}}])
        await store.search_similar(SECRET, 3)
        await store.close()
    assert traced.problems() == []
    assert traced.tree() == ["embeddings nomic", ("retrieval", ["embeddings nomic"])]
    (span,) = traced.named("retrieval")
    assert span.kind is trace.SpanKind.INTERNAL
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.agent.name": "victor",
        "gen_ai.retrieval.top_k": 3,
        "victor.operation.status": "success",
    }


async def test_a_store_that_asks_another_one_is_one_search() -> None:
    from victor_coding.codebase.embeddings.lancedb_provider import LanceDBProvider

    class Bridge(LanceDBProvider):
        async def search_similar(
            self, query: str, limit: int = 10, filter_metadata: Any = None
        ) -> Any:
            return await self.inner.search_similar(query, limit, filter_metadata)

    traced = Traced()
    with recording(traced=traced), ollama() as (url, _):
        bridge = Bridge(store_at("outer", url, CODING).config)
        bridge.inner = store_at("inner", url)
        assert await bridge.search_similar(SECRET) == []
    assert traced.tree() == ["retrieval"]


async def test_what_is_searched_for_is_content(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, told in (("SPAN_ONLY", SECRET), ("NO_CONTENT", None)):
        monkeypatch.setenv(CAPTURE.name, mode)
        traced = Traced()
        with recording(traced=traced), ollama() as (url, _):
            await store_at("index", url).search_similar(SECRET)
        (span,) = traced.named("retrieval")
        text = (span.attributes or {}).get("gen_ai.retrieval.query.text")
        assert (None if text is None else json.loads(str(text))) == told
