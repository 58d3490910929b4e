"""Searches in the vector stores of Victor and of victor-coding."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.scenarios.embeddings import CURSED, embedded, ollama
from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor.shared import RETRIEVAL_DURATION

VICTOR, CODING = "victor.storage.vector_stores", "victor_coding.codebase.embeddings"


def store_at(path: str, url: str, package: str = VICTOR) -> Any:
    """A store in a folder, whose texts a service embeds."""
    config = importlib.import_module(f"{package}.base").EmbeddingConfig(
        vector_store="lancedb",
        persist_directory=path,
        embedding_model_type="ollama",
        embedding_model_name="nomic",
        embedding_api_key=url,
        extra_config={"dimension": 2},
    )
    return importlib.import_module(f"{package}.lancedb_provider").LanceDBProvider(config)


def of(package: str) -> Callable[[Count], Any]:
    async def searches(count: Count) -> None:
        """One document is stored and found, one search fails."""
        with ollama() as (url, _):
            store = store_at("index", url, package)
            await store.initialize()
            await store.index_documents([{"id": "a", "content": "fern", "metadata": {}}])
            assert len(await store.search_similar("moss", limit=3)) == 1
            with pytest.raises(RuntimeError):
                await store.search_similar(CURSED)
            await store.close()
        searched(count)
        searched(count, error="RuntimeError")
        embedded(count, "ollama", "nomic", 2)
        embedded(count, "ollama", "nomic", error="RuntimeError")

    searches.__name__ = package.partition(".")[0]
    return searches


def searched(count: Count, *, error: str = "") -> None:
    labels = {"gen_ai_operation_name": "retrieval", "error_type": error}
    count.add("gen_ai_retrieval_duration_seconds_count", **labels)


SCENARIOS: tuple[Scenario, ...] = tuple(
    Scenario(run=of(package), proves=(RETRIEVAL_DURATION,)) for package in (VICTOR, CODING)
)
