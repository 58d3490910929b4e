"""Memories that are filled, asked and emptied: an agent's own, entities, and all at once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.kit.agents import agent, model
from tests.kit.memory import Diary
from tests.scenarios.scenario import Count, Scenario
from victor_otel import record
from victor_otel.demo.script import Step
from victor_otel.victor.areas.memory import OPERATIONS, RECALL_ACCURACY

DONE, ACCURACY, ERRORS = (
    "victor_memory_operations_total",
    "victor_memory_recall_accuracy",
    "victor_errors_total",
)


def did(count: Count, operation: str, status: str = "success", times: int = 1) -> None:
    count.add(DONE, times, operation=operation, status=status)


def failed(count: Count, operation: str, error: str) -> None:
    did(count, operation, "failure")
    count.add(ERRORS, component="memory", error_type=error)


def entity(name: str) -> Any:
    from victor.storage.memory import Entity, EntityType

    return Entity.create(name, EntityType.CONCEPT)


async def entity_memory(path: str = "entities.db") -> Any:
    from victor.storage.memory import EntityMemory, EntityMemoryConfig

    memory = EntityMemory(config=EntityMemoryConfig(db_path=path))
    await memory.initialize()
    return memory


async def conversations(count: Count) -> None:
    """What an agent remembers by itself, and what its memory is asked for afterwards."""
    from victor.agent.conversation.store import ConversationStore
    from victor.agent.conversation.types import MessageRole

    with model(gardener=[Step("The fern stands in the hall. Task complete.")]) as served:
        async with agent(served, "gardener") as created:
            await created.run("Where does the fern stand?")
            own = created.get_orchestrator()
            await asyncio.sleep(0.3)  # Victor remembers in the background
            with contextlib.closing(sqlite3.connect(own.memory_manager.db_path)) as rows:
                told = rows.execute(
                    "SELECT count(*) FROM messages WHERE session_id = ?", (own._memory_session_id,)
                )
                (stored,) = told.fetchone()
    assert stored >= 2
    did(count, "store", times=stored)
    store = ConversationStore(Path("conversations.db"))
    session = store.create_session().session_id
    for text in ("Water the fern.", "Water the moss."):
        store.add_message(session, MessageRole.USER, text)
        did(count, "store")
    assert len(store.search_messages_fts(session, "fern")) == 1
    did(count, "search")
    assert len(store.get_recent_messages(session)) == 2
    assert store.get_session(session) is not None
    did(count, "get", times=2)
    store.clear_session(session)
    assert store.get_recent_messages(session) == []
    store.delete_session(session)
    assert store.get_session(session) is None
    did(count, "delete", times=2)
    did(count, "get", times=2)
    with contextlib.closing(sqlite3.connect(store.db_path)) as rows:
        rows.execute("DROP TABLE messages")
    with pytest.raises(sqlite3.OperationalError):
        store.clear_session(store.create_session().session_id)
    failed(count, "delete", "OperationalError")


async def entities(count: Count) -> None:
    """Entities and what is between them, in a memory and in a graph of their own."""
    from victor.storage.memory import EntityGraph, EntityRelation, RelationType

    fern, hall = entity("fern"), entity("hall")
    stands = EntityRelation(fern.id, hall.id, RelationType.RELATED_TO)
    memory = await entity_memory()
    for one in (fern, hall):
        await memory.store(one)
    await memory.store_relation(stands)
    did(count, "store", times=3)
    assert [one.name for one in await memory.search("fer")] == ["fern"]
    assert [one.name for one, _ in await memory.get_related(fern.id)] == ["hall"]
    did(count, "search", times=2)
    assert await memory.get(hall.id) is hall
    assert await memory.get("no such entity") is None
    did(count, "get", times=2)
    await memory.clear_session()
    did(count, "delete")
    memory.close()

    graph = EntityGraph(in_memory=True)
    await graph.initialize()
    await graph.add_entities_batch([fern, hall])
    await graph.add_relation(stands)
    did(count, "store", times=2)
    assert len(await graph.find_paths(fern.id, hall.id)) == 1
    did(count, "search")
    assert await graph.remove_entity(fern.id)
    did(count, "delete")
    assert await graph.get_entity(fern.id) is None
    did(count, "get")


async def coordinated(count: Count) -> None:
    """Several memories at once, one of which breaks; Victor raises for none of it."""
    from victor.storage.memory import EntityMemoryAdapter, MemoryType, UnifiedMemoryCoordinator

    coordinator = UnifiedMemoryCoordinator()
    assert await coordinator.search_all("fern") == []
    failed(count, "search", "no_provider")
    memory, diary = await entity_memory(), Diary()
    coordinator.register_provider(EntityMemoryAdapter(memory))
    coordinator.register_provider(diary)
    assert await coordinator.store(MemoryType.ENTITY, "fern", entity("fern"))
    assert await coordinator.store(MemoryType.EMBEDDING, "monday", "I watered the fern.")
    did(count, "store", times=2)
    assert not await coordinator.store(MemoryType.GRAPH, "fern", "hall")
    failed(count, "store", "no_provider")
    assert len(await coordinator.search_all("fern")) == 2
    assert len(await coordinator.search_type(MemoryType.EMBEDDING, "fern")) == 1
    did(count, "search", times=2)
    assert await coordinator.get(MemoryType.EMBEDDING, "monday")
    did(count, "get")
    diary.open = False
    assert len(await coordinator.search_all("fern")) == 1
    failed(count, "search", "PermissionError")
    assert not await coordinator.store(MemoryType.EMBEDDING, "tuesday", "I rested.")
    failed(count, "store", "not_stored")
    with pytest.raises(PermissionError):
        await coordinator.get(MemoryType.EMBEDDING, "monday")
    failed(count, "get", "PermissionError")
    memory.close()


async def recalls(count: Count) -> None:
    """Whether recalls helped, as Victor is told and as an application knows."""
    from victor.storage.memory import MemoryResult, MemoryType, UnifiedMemoryCoordinator

    def found(*types: MemoryType) -> list[MemoryResult]:
        return [MemoryResult(one, "fern", 0.1) for one in types]

    coordinator = UnifiedMemoryCoordinator()
    both = found(MemoryType.ENTITY, MemoryType.CONVERSATION, MemoryType.ENTITY)
    for results, helped in ((both, True), (found(MemoryType.ENTITY), False), ([], False)):
        await coordinator.record_outcome("fern", results, success=helped)
    count.ratio(ACCURACY, 1, 2, memory_type="entity")
    count.ratio(ACCURACY, 1, 1, memory_type="conversation")
    count.ratio(ACCURACY, 0, 1, memory_type="none")
    record.recall_accuracy(3, 4, memory_type="entity")
    count.ratio(ACCURACY, 3, 4, memory_type="entity")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=conversations, proves=(OPERATIONS,)),
    Scenario(run=entities, proves=(OPERATIONS,)),
    Scenario(run=coordinated, proves=(OPERATIONS,)),
    Scenario(run=recalls, proves=(RECALL_ACCURACY,)),
)
