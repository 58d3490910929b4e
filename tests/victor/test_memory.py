"""Operations on Victor's memories, and the outcomes of recalls."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, model, recording
from tests.kit.memory import Diary, Notes, coordinator, types
from tests.kit.tools import own_tool
from tests.kit.traced import Traced
from tests.scenarios.memory import entity, entity_memory
from victor_otel.demo.script import Step

DONE, ACCURACY = "victor.memory.operations", "victor.memory.recall_accuracy"
ERRORS = "victor.errors"

Points = dict[tuple[Any, ...], float]


pytestmark = pytest.mark.usefixtures("own_folder")


def did(operation: str, status: str = "success", value: float = 1) -> Points:
    return {(DONE, ("operation", operation), ("status", status)): value}


def error(kind: str, value: float = 1, component: str = "memory") -> Points:
    return {(ERRORS, ("component", component), ("error_type", kind)): value}


def failed(operation: str, kind: str) -> Points:
    return {**did(operation, "failure"), **error(kind)}


def seen(recorded: Recorded) -> Points:
    return recorded.points(DONE, ERRORS)


async def on_entities() -> tuple[Any, Any]:
    from victor.storage.memory import EntityMemoryAdapter

    memory = await entity_memory()
    return memory, EntityMemoryAdapter(memory)


def conversations(path: str = "conversations.db") -> tuple[Any, str]:
    from victor.agent.conversation.store import ConversationStore

    store = ConversationStore(Path(path))
    return store, store.create_session().session_id


def forget(path: str, table: str) -> None:
    """Breaks a memory from outside."""
    with sqlite3.connect(path) as rows:
        rows.execute(f"DROP TABLE {table}")
    rows.close()


# What is counted, and how often


def test_every_operation_begins_at_0(recorded: Recorded) -> None:
    conversations()
    labels = {key[1:] for key in recorded.points(DONE, zeros=True)}
    assert len(labels) == 16
    assert seen(recorded) == {}


async def test_an_operation_counts_once_through_all_levels(recorded: Recorded) -> None:
    memory, adapter = await on_entities()
    fern = entity("fern")
    everywhere = coordinator(adapter)
    assert await everywhere.store(types().ENTITY, fern.id, fern)  # the memory looks first
    assert len(await everywhere.search_type(types().ENTITY, "fern")) == 1
    assert await everywhere.get(types().ENTITY, fern.id)
    assert seen(recorded) == {**did("store"), **did("search"), **did("get")}
    memory.close()


async def test_what_is_not_there_is_no_failure(recorded: Recorded) -> None:
    from victor.storage.memory import EntityGraph

    memory, adapter = await on_entities()
    everywhere, graph = coordinator(adapter), EntityGraph()
    assert await everywhere.search_all("fern") == []
    assert await everywhere.get(types().ENTITY, "fern") is None
    assert not await graph.remove_entity("fern")
    store, _ = conversations()
    store.delete_session("no-such-session")
    assert seen(recorded) == {**did("search"), **did("get"), **did("delete", value=2)}
    memory.close()


async def test_operations_side_by_side_are_operations_of_their_own(recorded: Recorded) -> None:
    everywhere = coordinator(Notes(), Diary())
    await asyncio.gather(*(everywhere.search_all("fern") for _ in range(20)))
    assert seen(recorded) == did("search", value=20)


async def test_a_team_member_remembers_and_recalls(recorded: Recorded) -> None:
    from victor.agent.subagents.base import SubAgentRole
    from victor.teams.types import TeamMember

    member: Any = TeamMember("m", SubAgentRole.RESEARCHER, "Ann", "Gardens", memory=True)
    memory, adapter = await on_entities()
    member.attach_memory_coordinator(coordinator(adapter))
    assert await member.remember("fern", {"name": "fern"})
    assert len(await member.recall("fern")) == 1
    member.attach_memory_coordinator(coordinator())
    assert not await member.remember("fern", {"name": "fern"})
    assert await member.recall("fern") == []
    assert seen(recorded) == {
        **did("store"),
        **did("search"),
        **did("store", "failure"),
        **did("search", "failure"),
        **error("no_provider", 2),
    }
    memory.close()


async def test_looking_after_a_store_is_no_operation(recorded: Recorded) -> None:
    store, _ = conversations()
    store.cleanup_stale_sessions()
    store.list_sessions()
    store.get_database_stats()
    assert seen(recorded) == {}


async def test_conversations_are_searched_in_every_way(recorded: Recorded) -> None:
    from victor.agent.conversation.types import MessageRole

    store, session = conversations()
    await store.add_message_async(session, MessageRole.USER, "Water the fern.")
    store.add_system_message(session, "You are a gardener.")
    await store.aget_semantically_relevant_messages(session, "fern")
    await store.aget_dual_trace_relevant_messages(session, "fern")
    await asyncio.to_thread(store.get_semantically_relevant_messages, session, "fern")
    store.get_historical_tool_results(session)
    store.search_sessions("fern")
    assert seen(recorded) == {**did("store", value=2), **did("search", value=5)}


# Failures


async def test_what_an_adapter_swallows_is_a_failure(recorded: Recorded) -> None:
    """Victor's adapters answer a broken database with nothing found."""
    memory, adapter = await on_entities()
    forget("entities.db", "entities")
    assert await coordinator(adapter).search_all("fern") == []
    assert seen(recorded) == failed("search", "OperationalError")
    memory.close()


async def test_a_swallowed_failure_of_a_conversation_is_one(recorded: Recorded) -> None:
    from victor.storage.memory import ToolResultsMemoryAdapter

    store, session = conversations()
    forget("conversations.db", "messages")
    assert await coordinator(ToolResultsMemoryAdapter(store, session)).search_all("fern") == []
    assert seen(recorded) == failed("search", "OperationalError")


async def test_embeddings_that_a_conversation_does_without_are_a_failure(
    recorded: Recorded,
) -> None:
    from victor.agent.conversation.types import MessageRole
    from victor.agent.conversation_embedding_store import ConversationEmbeddingStore

    store, session = conversations()
    store.add_message(session, MessageRole.USER, "Water the fern.")
    store.set_embedding_store(object.__new__(ConversationEmbeddingStore))  # never opened
    assert not (await store.aget_dual_trace_relevant_messages(session, "fern"))["semantic"]
    assert seen(recorded) == {**did("store"), **failed("search", "AttributeError")}


async def test_a_search_fails_with_one_of_the_memories_it_asked(recorded: Recorded) -> None:
    diary, broken = Diary(), Notes(raises=ConnectionError())
    await diary.store("monday", "I watered the fern.")
    assert len(await coordinator(diary, broken).search_all("fern")) == 1
    assert seen(recorded) == failed("search", "ConnectionError")


async def test_a_memory_that_took_too_long_is_a_timeout(recorded: Recorded) -> None:
    await coordinator(Notes(raises=TimeoutError())).search_all("fern")
    assert seen(recorded) == {**did("search", "timeout"), **error("TimeoutError")}


async def test_without_a_memory_to_ask_every_operation_fails(recorded: Recorded) -> None:
    nobody = coordinator(Notes(available=False))
    await nobody.search_all("fern")
    await nobody.search_type(types().ENTITY, "fern")
    assert await nobody.get(types().ENTITY, "fern") is None
    assert not await nobody.store(types().ENTITY, "fern", entity("fern"))
    assert seen(recorded) == {
        **did("search", "failure", 2),
        **did("get", "failure"),
        **did("store", "failure"),
        **error("no_provider", 4),
    }


async def test_what_an_adapter_drops_was_not_stored(recorded: Recorded) -> None:
    """Victor says that it was."""
    from victor.storage.memory import ConversationMemoryAdapter, ToolResultsMemoryAdapter

    memory, adapter = await on_entities()
    store, session = conversations()
    everywhere = coordinator(
        adapter, ConversationMemoryAdapter(store), ToolResultsMemoryAdapter(store, session)
    )
    assert await everywhere.store(types().ENTITY, "fern", "a text is no entity")
    assert await everywhere.store(types().CONVERSATION, "user", "in no session")
    assert await everywhere.store(types().CODE, "ls", "a tool's result")
    assert seen(recorded) == {**did("store", "failure", 3), **error("not_stored", 3)}
    memory.close()


async def test_of_an_applications_own_memory_victors_word_is_taken(recorded: Recorded) -> None:
    diary = Diary()
    assert await coordinator(diary).store(diary.memory_type, "monday", "I watered the fern.")
    diary.open = False
    assert not await coordinator(diary).store(diary.memory_type, "tuesday", "I rested.")
    assert seen(recorded) == {**did("store"), **failed("store", "not_stored")}


async def test_what_a_memory_raises_is_raised(recorded: Recorded) -> None:
    store, session = conversations()
    with pytest.raises(RuntimeError, match="async context"):
        store.get_semantically_relevant_messages(session, "fern")
    assert seen(recorded) == failed("search", "RuntimeError")


async def test_a_message_that_was_not_kept_is_a_failure_and_the_turn_is_none(
    recorded: Recorded,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError

    with model(m=[Step("The fern stands in the hall. Task complete.")]) as served:
        async with agent(served, "m") as created:
            created.get_orchestrator().memory_manager._with_locked_write_retry = broken
            assert (await created.run("Where does the fern stand?")).success
            await asyncio.sleep(0.3)  # Victor remembers in the background
    (times,) = recorded.points(DONE).values()
    assert times >= 2
    assert seen(recorded) == {
        **did("store", "failure", times),
        **error("ConnectionError", times),
    }


async def test_a_cancelled_search_is_no_failure(recorded: Recorded) -> None:
    slow = Notes()

    async def dawdle(query: Any) -> list[Any]:
        slow.asked.set()
        await asyncio.sleep(30)
        return []

    slow.search = dawdle
    running = asyncio.create_task(coordinator(slow).search_all("fern"))
    await slow.asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen(recorded) == did("search", "cancelled")


async def test_a_failure_that_was_counted_inside_is_not_counted_again(recorded: Recorded) -> None:
    from victor.tools.registry import ToolRegistry

    def stumble(_tool: Any, number: int) -> str:
        raise ConnectionError(number)

    registry = ToolRegistry()
    registry.register(own_tool(stumble))
    asking = Notes()

    async def search(query: Any) -> list[Any]:
        result = await registry.execute("own_tool", {}, number=1)
        raise LookupError(result)

    asking.search = search
    await coordinator(asking).search_all("fern")
    assert recorded.points(DONE) == did("search", "failure")
    assert [dict(key[1:])["component"] for key in recorded.points(ERRORS)] == ["tool"]


# Outcomes of recalls


def recalled(*names: str) -> list[Any]:
    from victor.storage.memory import MemoryResult

    return [MemoryResult(types()[name], "secret-name", 0.9) for name in names]


def accuracy(recorded: Recorded) -> dict[str, float]:
    points = recorded.points(ACCURACY, zeros=True)
    return {dict(key[1:])["memory_type"]: value for key, value in points.items()}


async def test_a_recall_is_accurate_if_its_outcome_says_so(recorded: Recorded) -> None:
    asked = coordinator()
    assert accuracy(recorded) == {}
    for helped in (True, False, True, True):
        # Victor keeps nothing of it, for it is not told to evolve.
        assert not await asked.record_outcome("fern", recalled("GRAPH"), helped)
    assert accuracy(recorded) == {"graph": 0.75}


async def test_each_type_that_took_part_counts_once_whatever_its_relevance(
    recorded: Recorded,
) -> None:
    asked = coordinator()
    results = tuple(recalled("ENTITY", "ENTITY", "RL_EXPERIENCE", "CODE"))
    await asked.record_outcome(query="fern", success=True, results=results)
    await asked.record_outcome("fern", recalled("ENTITY"), success=False)
    assert accuracy(recorded) == {"entity": 0.5, "rl_experience": 1, "code": 1}


async def test_nothing_recalled_and_unknown_types_have_names_of_their_own(
    recorded: Recorded,
) -> None:
    asked = coordinator()
    await asked.record_outcome("fern", [], success=False)
    strange = [SimpleNamespace(source=SimpleNamespace(name="SECRET-NAME"), id="1")]
    await asked.record_outcome("fern", strange, success=True)
    await asked.record_outcome("fern", [object()], success=False)
    assert accuracy(recorded) == {"none": 0, "other": 0.5}


async def test_an_outcome_that_victor_cannot_take_says_nothing(recorded: Recorded) -> None:
    asked = coordinator()
    asked._enable_memory_evolution = True
    with pytest.raises(AttributeError):
        await asked.record_outcome("fern", [object()], success=True)
    assert await asked.record_outcome("fern", recalled("ENTITY"), success=True)
    assert accuracy(recorded) == {"entity": 1}


async def test_no_query_key_or_content_is_a_label(recorded: Recorded) -> None:
    diary = Diary()
    asked = coordinator(diary)
    await asked.store(diary.memory_type, "secret-name", "secret-name")
    await asked.search_all("secret-name")
    await asked.record_outcome("secret-name", recalled("ENTITY"), success=True)
    with pytest.raises(LookupError):
        await coordinator(Notes(raises=LookupError("secret-name")))._search_provider(
            Notes(raises=LookupError("secret-name")), SimpleNamespace(query="secret-name")
        )
    assert "secret-name" not in str(recorded.points())


# Spans


SECRET = "my secret"


async def test_what_opentelemetry_has_a_name_for_has_a_span_once_through_all_levels() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        memory, adapter = await on_entities()
        secret = entity(SECRET)
        everywhere = coordinator(adapter)
        assert await everywhere.store(types().ENTITY, secret.id, secret)
        assert len(await everywhere.search_all(SECRET)) == 1
        assert await memory.search("no such thing") == []
        assert await everywhere.get(types().ENTITY, secret.id)
        await memory.clear_session()
        memory.close()
    assert traced.tree() == ["upsert_memory", "search_memory", "search_memory", "delete_memory"]
    assert traced.problems() == []
    every = {"gen_ai.agent.name": "victor", "victor.operation.status": "success"}
    stored, found, *_ = (dict(span.attributes or {}) for span in traced.ours)
    assert stored == {"gen_ai.operation.name": "upsert_memory", **every}
    assert found == {
        "gen_ai.operation.name": "search_memory",
        "gen_ai.memory.record.count": 1,
        **every,
    }
    duration = "gen_ai.client.operation.duration"
    assert recorded.points(duration) == {
        (duration, ("gen_ai.operation.name", name)): count
        for name, count in (("upsert_memory", 1), ("search_memory", 2), ("delete_memory", 1))
    }


async def test_a_memory_that_fails_is_an_error_of_the_span() -> None:
    traced = Traced()
    with recording(traced=traced):
        await coordinator(Notes(raises=ConnectionError(SECRET))).search_all("fern")
        await coordinator().store(types().ENTITY, "fern", entity("fern"))
    told = [(span.name, (span.attributes or {})["error.type"]) for span in traced.ours]
    assert told == [("search_memory", "ConnectionError"), ("upsert_memory", "no_provider")]
    assert all(SECRET not in span.to_json() for span in traced.ours)


async def test_what_victor_writes_down_of_a_conversation_is_no_span() -> None:
    from victor.agent.conversation.types import MessageRole

    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        store, session = conversations()
        store.add_message(session, MessageRole.USER, SECRET)
        store.get_recent_messages(session)
        assert len(store.search_messages_fts(session, "secret")) == 1
        store.delete_session(session)
    assert traced.tree() == ["search_memory", "delete_memory"]
    assert seen(recorded) == {**did("store"), **did("get"), **did("search"), **did("delete")}
