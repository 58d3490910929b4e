"""Documents in victor-rag's stores, searches in them, and what they take on disk."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, recording
from tests.kit.traced import Traced
from tests.scenarios.rag import CURSED, Words, bytes_in, document, on, passage, store_at
from victor_otel.engine import failsafe
from victor_otel.victor.verticals import rag

INGESTED, LATENCY = "victor.rag.documents_ingested", "victor.rag.retrieval.latency"
ACCURACY, SIZE = "victor.rag.search_accuracy", "victor.rag.index_size"

Points = dict[tuple[Any, ...], float]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that measuring goes by; sizes are kept for a minute of it."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(rag, "monotonic", lambda: time.now)
    return time


def seen(recorded: Recorded) -> Points:
    return recorded.points(INGESTED, LATENCY, ACCURACY)


def ingested(number: float = 1, doc_type: str = "text") -> Points:
    return {(INGESTED, ("doc_type", doc_type)): number}


def searched(number: float = 1) -> Points:
    return {(LATENCY,): number}


def size(recorded: Recorded) -> float | None:
    return recorded.points(SIZE, zeros=True).get((SIZE,))


class Slow(Words):
    async def embed(self, text: str) -> list[float]:
        await asyncio.sleep(0.1)
        return await super().embed(text)


async def cancel(work: Any) -> None:
    running = asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# Documents.


async def test_a_document_counts_when_chunks_of_it_were_stored() -> None:
    store = store_at("index")
    with recording() as recorded:
        assert len(await store.add_document(document("a", passage("engine")))) == 1
        assert len(await store.add_document(document("b", passage("brakes", sentences=90)))) > 1
        assert await store.add_document(document("c", "short")) == []
        assert await store.add_document(doc=document("d", "")) == []
        assert seen(recorded) == ingested(2)


async def test_every_type_exists_from_the_start_and_a_strange_one_is_other() -> None:
    store = store_at("index")
    with recording() as recorded:
        types = {dict(key[1:])["doc_type"] for key in recorded.points(INGESTED, zeros=True)}
        assert types == set(rag.labels.DOC_TYPE.values)
        await store.add_document(document("a", passage("engine"), "my private type"))
        assert seen(recorded) == ingested(doc_type="other")


async def test_a_document_that_was_not_stored_does_not_count() -> None:
    with recording() as recorded:
        with pytest.raises(ConnectionError, match="the embedding service is gone"):
            await store_at("index").add_document(document("a", passage(CURSED)))
        with pytest.raises(TimeoutError):
            late = store_at("index", Slow()).add_document(document("a", passage("engine")))
            await asyncio.wait_for(late, 0.05)
        await cancel(store_at("index", Slow()).add_document(document("a", passage("engine"))))
        assert seen(recorded) == {}


async def test_chunks_without_a_document_are_none_and_a_deletion_takes_nothing_back() -> None:
    store = store_at("index")
    with recording() as recorded:
        chunks = await store.add_document(document("a", passage("engine")))
        assert await store.add_chunks(chunks) == 1
        await store.delete_document("a")
        assert seen(recorded) == ingested()


async def test_a_store_that_builds_on_victors_counts_once() -> None:
    from victor_rag.document_store import DocumentStore, DocumentStoreConfig

    class Noted(DocumentStore):
        async def add_document(self, doc: Any) -> Any:
            return await super().add_document(doc)

        async def search(self, query: str, *args: Any, **kwargs: Any) -> Any:
            return await super().search(query, *args, **kwargs)

    store = Noted(DocumentStoreConfig(path=Path("index"), embedding_dim=64), Words())
    with recording() as recorded:
        await store.add_document(document("a", passage("engine")))
        await store.search("engine")
        assert seen(recorded) == ingested() | searched()


async def test_without_a_database_documents_and_searches_count_and_nothing_is_on_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from victor_rag import document_store

    monkeypatch.setattr(document_store, "LANCEDB_AVAILABLE", False)
    store = store_at("index")
    with recording() as recorded:
        await store.add_document(document("a", passage("engine")))
        assert len(await store.search("engine")) == 1
        assert seen(recorded) == ingested() | searched()
        assert size(recorded) == 0


@contextlib.asynccontextmanager
async def served(html: str) -> AsyncIterator[str]:
    """The address of a page on this machine."""

    async def answer(_reader: Any, writer: asyncio.StreamWriter) -> None:
        body = html.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/page"


async def test_every_way_that_the_tool_ingests_counts_each_document_once() -> None:
    from victor_rag.tools import RAGIngestTool

    Path("docs/deep").mkdir(parents=True)
    Path("docs/engine.md").write_text(passage("engine"))
    Path("docs/deep/brakes.md").write_text(passage("brakes"))
    tool = on(RAGIngestTool(), store_at("index"))
    with recording() as recorded:
        assert (await tool.execute(path="docs/engine.md")).success
        assert seen(recorded) == ingested(1, "markdown")
        assert (await tool.execute(path="docs", recursive=True, pattern="*.md")).success
        assert (await tool.execute(content=passage("wheel"))).success
        async with served(f"<html><body><p>{passage('axle')}</p></body></html>") as url:
            assert (await tool.execute(url=url)).success
        assert seen(recorded) == ingested(3, "markdown") | ingested(1) | ingested(1, "html")


# Searches.


async def test_latency_is_one_per_search_with_the_embedding_of_the_query() -> None:
    store = store_at("index", Slow())
    with recording() as recorded:
        for number in (1, 2):
            await store.search("engine")
            assert seen(recorded) == searched(number)
        assert latency_sum(recorded) == pytest.approx(0.2, abs=0.15)
        assert latency_sum(recorded) >= 0.2


def latency_sum(recorded: Recorded) -> float:
    data: Any = recorded.reader.get_metrics_data()
    return sum(
        point.sum
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == LATENCY
        for point in metric.data.data_points
    )


async def test_a_search_that_did_not_answer_has_no_latency() -> None:
    store = store_at("index")
    with recording() as recorded:
        with pytest.raises(ConnectionError):
            await store.search(CURSED)
        with pytest.raises(ValueError):
            await store.search("engine", k=0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store_at("index", Slow()).search("engine"), 0.05)
        await cancel(store_at("index", Slow()).search("engine"))
        assert seen(recorded) == {}
        assert await store.search("engine") == []
        assert seen(recorded) == searched()


async def test_searches_at_once_are_counted_each() -> None:
    store = store_at("index", Slow())
    await store.initialize()
    with recording() as recorded:
        await asyncio.gather(*(store.search("engine") for _ in range(5)))
        assert seen(recorded) == searched(5)


async def test_a_comparison_searches_for_each_of_its_entities() -> None:
    """Of the two that Victor asks for, one fails behind its back."""
    from victor_rag.tools import RAGQueryTool

    store = store_at("index")
    with recording() as recorded:
        await store.add_document(document("a", passage("engine")))
        found = await RAGQueryTool()._multi_entity_search(
            store, "Which is bigger?", ["engine", "gearbox", CURSED], k=6
        )
        assert len(found) == 1
        assert seen(recorded) == ingested() | searched(2)


async def test_the_search_tool_counts_once_also_when_it_finds_nothing() -> None:
    from victor_rag.tools import RAGSearchTool

    tool = on(RAGSearchTool(), store_at("index"))
    with recording() as recorded:
        assert (await tool.execute(query="engine")).success
        assert not (await tool.execute(query=CURSED)).success
        assert seen(recorded) == searched()


async def test_what_a_conversation_notes_was_counted_where_it_happened() -> None:
    from victor_rag.conversation_enhanced import EnhancedRAGConversationManager

    with recording() as recorded:
        manager = EnhancedRAGConversationManager()
        manager.track_document("engine.md")
        manager.track_query("engine", results_count=3)
        manager.track_index_update("add", 3)
        assert seen(recorded) == {}
        assert size(recorded) is None


async def test_accuracy_is_the_share_of_all_that_was_retrieved() -> None:
    from victor_otel import record

    with recording() as recorded:
        assert recorded.points(ACCURACY, zeros=True) == {}
        record.search_accuracy(0, 2)
        assert recorded.points(ACCURACY, zeros=True) == {(ACCURACY,): 0}
        record.search_accuracy(relevant=6, retrieved=6)
        assert recorded.points(ACCURACY) == {(ACCURACY,): 0.75}


# The size.


async def test_size_is_what_the_stores_folders_hold_each_once() -> None:
    with recording() as recorded:
        assert size(recorded) is None
        store = store_at("index")
        assert size(recorded) is None
        await store.add_document(document("a", passage("engine")))
        Path("link").symlink_to("index")
        for path in ("./nowhere/../index", Path("index").resolve(), "link", "second"):
            await store_at(path).initialize()
        await store_at("index/inside").initialize()
        assert size(recorded) == bytes_in("index", "second") > 0


async def test_size_is_measured_once_a_minute(clock: SimpleNamespace) -> None:
    store = store_at("index")
    with recording() as recorded:
        await store.initialize()
        before = size(recorded)
        await store.add_document(document("a", passage("engine")))
        clock.now += 59
        assert size(recorded) == before
        clock.now += 1
        assert before != size(recorded) == bytes_in("index")


async def test_a_folder_counts_on_when_its_store_is_gone_until_it_is_gone_itself(
    clock: SimpleNamespace,
) -> None:
    with recording() as recorded:
        await store_at("index").add_document(document("a", passage("engine")))
        gc.collect()
        assert size(recorded) == bytes_in("index") > 0
        shutil.rmtree("index")
        clock.now += 60
        assert size(recorded) == 0


async def test_victors_unified_tool_opens_a_store_for_each_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from victor.tools.unified.rag_tool import rag_tool
    from victor_rag.tools import RAGIngestTool, RAGSearchTool

    for tool in (RAGIngestTool, RAGSearchTool):
        monkeypatch.setattr(tool, "_get_document_store", lambda _self: store_at("index"))
    Path("engine.md").write_text(passage("engine"))
    with recording() as recorded:
        assert "Chunks: 1" in await rag_tool(cmd="ingest --path engine.md")
        assert "engine" in await rag_tool(cmd='search "engine oil"')
        assert seen(recorded) == ingested(1, "markdown") | searched()
        assert size(recorded) == bytes_in("index") > 0


async def test_a_relative_path_holds_where_the_store_was_opened() -> None:
    here = Path.cwd()
    store = store_at("index")
    with recording() as recorded:
        await store.initialize()
        (here / "elsewhere" / "index").mkdir(parents=True)
        (here / "elsewhere" / "index" / "file").write_bytes(b"not ours" * 1000)
        os.chdir("elsewhere")
        await store.add_document(document("a", passage("engine")))
        assert size(recorded) == bytes_in(str(here / "index"))


async def test_a_store_that_moves_is_in_both_places() -> None:
    store = store_at("index")
    with recording() as recorded:
        await store.initialize()
        await store.close()
        store.config.path = Path("second")
        await store.initialize()
        assert size(recorded) == bytes_in("index", "second")


async def test_a_store_that_was_open_before_is_seen_with_its_next_use() -> None:
    store = store_at("index")
    await store.initialize()
    for _ in range(2):
        with recording() as recorded:
            assert size(recorded) is None
            await store.list_documents()
            assert size(recorded) == bytes_in("index") > 0


async def test_a_store_that_cannot_be_opened_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from victor_rag import document_store

    def refuse(_uri: str) -> Any:
        raise PermissionError

    monkeypatch.setattr(document_store.lancedb, "connect", refuse)
    with recording() as recorded:
        with pytest.raises(PermissionError):
            await store_at("index").initialize()
        assert size(recorded) is None


async def test_a_large_store_is_walked_in_steps_and_links_are_not_followed(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rag, "ENTRIES_AT_ONCE", 10)
    with recording() as recorded:
        await store_at("index").initialize()
        before = bytes_in("index")
        for number in range(23):
            Path(f"index/{number}").write_bytes(b"x" * 100)
        Path("index/round").symlink_to(".")
        entries = sum(1 for _ in Path("index").rglob("*"))
        expected = before + 2300 + Path("index/round").lstat().st_size
        for _ in range(entries // 10):
            assert size(recorded) is None
        assert size(recorded) == expected
        clock.now += 60
        assert size(recorded) == expected  # the old one, while the new walk is under way


async def test_a_file_that_vanishes_meanwhile_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with recording() as recorded:
        await store_at("index").initialize()
        expected = bytes_in("index")
        scan = os.scandir

        @contextlib.contextmanager
        def hasty(path: str) -> Any:
            Path(path, "gone").write_bytes(b"x" * 1000)
            with scan(path) as entries:
                found = list(entries)
            Path(path, "gone").unlink()
            yield iter(found)

        monkeypatch.setattr(rag.os, "scandir", hasty)
        assert size(recorded) == expected


async def test_a_size_that_cannot_be_read_is_absent_not_too_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)
    monkeypatch.setattr(rag, "ENTRIES_AT_ONCE", 1)
    scan = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("documents.lance"):
            raise PermissionError
        return scan(path)

    with recording() as recorded:
        await store_at("index").initialize()
        with monkeypatch.context() as patched:
            patched.setattr(rag.os, "scandir", refuse)
            assert [size(recorded) for _ in range(9)] == [None] * 9
        found = [size(recorded) for _ in range(9)]
        assert found[-1] == bytes_in("index") > 0
        assert set(found) == {None, found[-1]}


async def test_only_so_many_folders_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rag, "MAX_FOLDERS", 2)
    with recording() as recorded:
        for path in ("first", "second", "first", "third"):
            await store_at(path).initialize()
        Path("second/more").write_bytes(b"too much")
        assert size(recorded) == bytes_in("first", "third")


async def test_a_search_is_a_span_below_the_tool_that_makes_it() -> None:
    from victor_rag.tools import RAGSearchTool

    traced = Traced()
    with recording(traced=traced):
        store = store_at("index")
        await store.add_document(document("oil", passage("engine")))
        assert (await on(RAGSearchTool(), store).execute(query="engine", k=1)).success
        with pytest.raises(ConnectionError):
            await store.search(CURSED)
    assert traced.tree() == [("execute_tool rag_search", ["retrieval"]), "retrieval"]
    assert traced.problems() == []
    found, failed = (dict(span.attributes or {}) for span in traced.named("retrieval"))
    assert found == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.agent.name": "victor",
        "gen_ai.data_source.id": "documents",
        "gen_ai.retrieval.top_k": 1,
        "victor.operation.status": "success",
    }
    assert (failed["victor.operation.status"], failed["error.type"]) == (
        "failure",
        "ConnectionError",
    )
