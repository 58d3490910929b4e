"""RAG: real files into real stores, and found there again."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.scenarios.scenario import Count, Scenario
from victor_otel import record
from victor_otel.victor.shared import RETRIEVAL_DURATION
from victor_otel.victor.verticals.rag import (
    DOCUMENTS_INGESTED,
    INDEX_SIZE,
    RETRIEVAL_LATENCY,
    SEARCH_ACCURACY,
)

DIMENSION = 64
CURSED = "unspeakable"
"""A word that the embedding service has no answer to."""


class Words:
    """Embeddings without a model: texts that share words are near each other."""

    async def embed(self, text: str) -> list[float]:
        words = re.findall(r"\w+", text.lower())
        if CURSED in words:
            raise ConnectionError("the embedding service is gone")
        counts = Counter(zlib.crc32(word.encode()) % DIMENSION for word in words)
        length = sum(count**2 for count in counts.values()) ** 0.5 or 1.0
        return [counts[place] / length for place in range(DIMENSION)]


def store_at(path: str | Path, service: Any = None) -> Any:
    from victor_rag.document_store import DocumentStore, DocumentStoreConfig

    config = DocumentStoreConfig(path=Path(path), embedding_dim=DIMENSION)
    return DocumentStore(config, service or Words())


def on(tool: Any, store: Any) -> Any:
    """A tool of victor-rag's, which keeps the store that it made first."""
    tool._store = store
    return tool


def document(name: str, content: str, doc_type: str = "text") -> Any:
    from victor_rag.document_store import Document

    return Document(id=name, content=content, source=name, doc_type=doc_type)


def passage(subject: str, *, sentences: int = 12) -> str:
    """Long enough for one chunk or more: victor-rag keeps none under 200 characters."""
    return f"The {subject} needs {subject} oil and a new {subject} filter. " * sentences


def stored(path: str) -> Counter[str]:
    """The documents of which chunks are in a store, by type, as the database itself has them."""
    import json

    import lancedb

    rows = lancedb.connect(path).open_table("documents").to_arrow().to_pylist()
    kinds = {row["doc_id"]: json.loads(row["metadata"])["doc_type"] for row in rows}
    return Counter(kinds.values())


def bytes_in(*folders: str) -> int:
    return sum(
        file.stat().st_size
        for folder in folders
        for file in Path(folder).rglob("*")
        if file.is_file()
    )


def write_library() -> None:
    library = Path("library")
    library.mkdir()
    (library / "engine.md").write_text(f"# Engine\n\n{passage('engine')}")
    (library / "brakes.md").write_text(f"# Brakes\n\n{passage('brakes', sentences=90)}")
    (library / "pump.py").write_text("def pump(water):\n" + "    water += 1  # up\n" * 20)
    (library / "small.py").write_text("def small():\n    return 1\n\n\n" * 20)
    (library / "manual.txt").write_text(passage("gearbox"))
    (library / "stub.txt").write_text("Too short to keep.")
    (library / "blank.txt").write_text("\n")
    (library / "logo.png").write_bytes(b"\x89PNG")
    (library / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    (library / "curse.txt").write_text(passage(CURSED))


def relevant(results: Iterable[Any], subject: str) -> int:
    return sum(subject in result.content for result in results)


async def knowledge_base(count: Count) -> None:
    """A library is ingested, searched, deleted from and opened again, beside a second store."""
    write_library()
    await ingest(count)
    await search(count)
    count.set("victor_rag_index_size_bytes", bytes_in("index", "second"))


async def ingest(count: Count) -> None:
    from victor_rag.tools import RAGDeleteTool, RAGIngestTool

    store = store_at("index")
    tool = on(RAGIngestTool(), store)
    taken = await tool.execute(path="library")
    assert taken.success
    assert "curse.txt" in taken.output.partition("Errors (1):")[2]
    assert {"stub.txt (0 chunks)", "small.py (0 chunks)"} <= set(
        re.findall(r"- (.*)", taken.output)
    )
    assert (await tool.execute(path="library/manual.txt")).success
    assert (await tool.execute(path="library/stub.txt")).success
    assert (await tool.execute(content=passage("wheel"), doc_type="html")).success
    assert not (await tool.execute(path="library/none.txt")).success
    assert not (await tool.execute(content=passage(CURSED))).success
    assert await store.add_document(document("scan", passage("axle"), "pdf"))
    assert await store.add_document(document("cake", passage("oven"), "recipe"))

    kept = stored("index")
    assert kept == {"markdown": 2, "code": 1, "text": 2, "html": 1, "pdf": 1, "recipe": 1}
    for kind, number in kept.items():
        label = "other" if kind == "recipe" else kind
        count.add("victor_rag_documents_ingested_total", number, doc_type=label)
    assert (await on(RAGDeleteTool(), store).execute(doc_id="cake")).success
    assert "recipe" not in stored("index")


async def search(count: Count) -> None:
    """Under other spellings of the same path it is the same index."""
    from victor_rag.tools import RAGSearchTool

    Path("shortcut").symlink_to("index")
    store, alias, second = store_at("library/../index"), store_at("shortcut"), store_at("second")
    tool = on(RAGSearchTool(), store)
    assert "engine.md" in (await tool.execute(query="engine oil", k=1)).output
    assert not (await tool.execute(query=CURSED)).success
    found = await alias.search("brakes filter", k=6)
    plain = await alias.search("gearbox", k=3, use_hybrid=False)
    assert await second.search("engine") == []
    assert len(found) == 6
    assert len(plain) == 3
    count.add("victor_rag_retrieval_latency_seconds_count", 4)
    for times, error in ((4, ""), (1, "ConnectionError")):
        labels = {"gen_ai_operation_name": "retrieval", "error_type": error}
        count.add("gen_ai_retrieval_duration_seconds_count", times, **labels)
    asked = [(await one.get_stats())["total_searches"] for one in (store, alias, second)]
    assert sum(asked) == 5  # the failed one as well

    for results, subject in ((found, "brakes"), (plain, "gearbox")):
        right = relevant(results, subject)
        assert 0 < right < len(results)
        record.search_accuracy(right, len(results))
        count.ratio("victor_rag_search_accuracy", right, len(results))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        run=knowledge_base,
        proves=(
            DOCUMENTS_INGESTED,
            SEARCH_ACCURACY,
            RETRIEVAL_LATENCY,
            RETRIEVAL_DURATION,
            INDEX_SIZE,
        ),
        needs=("victor-rag", "lancedb"),
    ),
)
