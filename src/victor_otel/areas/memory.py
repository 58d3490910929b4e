"""Memory: what is asked of Victor's memories, and whether a recall helped.

An agent keeps its conversation in a memory of its own; entities and their graph are others,
and a coordinator asks several at once. An operation counts once, as seen from the outermost
of them. Below it failures are swallowed, so each memory that was asked tells how it went.
To find nothing is a success. What Victor cleans up by itself is no operation.

The outcome of a recall counts once for each type of memory among its results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from victor_otel import labels
from victor_otel.classes import CONVERSATION_STORE, ENTITY_MEMORY, MEMORY_COORDINATOR, is_a
from victor_otel.shared import ERRORS, error_type, record_error
from victor_otel.spec import (
    Area,
    Call,
    Hook,
    Kind,
    Metric,
    Observer,
    Record,
    Scope,
)

RECALL_ACCURACY = Metric(
    name="victor.memory.recall_accuracy",
    kind=Kind.RATIO,
    meaning="Share of recalls that helped, of those whose outcome was recorded, over the last "
    "5 minutes of this process",
    labels=(labels.MEMORY_TYPE,),
    guide=True,
)
OPERATIONS = Metric(
    name="victor.memory.operations",
    kind=Kind.COUNTER,
    meaning="Operations on a memory; one that a memory failed at is a failure although Victor "
    "does not raise it",
    labels=(labels.MEMORY_OPERATION, labels.STATUS),
    guide=True,
)

MEMORY = Scope(name="memory", outermost=True)

_COORDINATOR = "victor.storage.memory.unified:UnifiedMemoryCoordinator"
_ENTITIES = "victor.storage.memory.entity_memory:EntityMemory"
_GRAPH = "victor.storage.memory.entity_graph:EntityGraph"
_CONVERSATIONS = "victor.agent.conversation.store:ConversationStore"
_EMBEDDINGS = "victor.agent.conversation_embedding_store:ConversationEmbeddingStore.search_similar"

_METHODS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    _COORDINATOR: {
        "search": ("search_all", "search_type"),
        "get": ("get",),
        "store": ("store",),
    },
    _ENTITIES: {
        "search": ("search", "get_by_type", "get_related"),
        "get": ("get",),
        "store": ("store", "store_relation"),
        "delete": ("clear_session",),
    },
    _GRAPH: {
        "search": ("get_neighbors", "find_paths", "get_subgraph"),
        "get": ("get_entity",),
        "store": ("add_entity", "add_relation", "add_entities_batch", "add_relations_batch"),
        "delete": ("remove_entity", "clear"),
    },
    _CONVERSATIONS: {
        "search": (
            "search_sessions",
            "search_messages_fts",
            "get_semantically_relevant_messages",
            "aget_semantically_relevant_messages",
            "get_dual_trace_relevant_messages",
            "aget_dual_trace_relevant_messages",
            "get_relevant_summaries",
            "get_historical_tool_results",
        ),
        "get": ("get_session", "load_session", "get_recent_messages", "get_context_messages"),
        "store": ("add_message", "add_message_async", "add_system_message", "save_session"),
        "delete": ("delete_session", "clear_session"),
    },
}


def ending(call: Call) -> tuple[str, str]:
    """How asking one memory ended, and of which type its error is."""
    return call.status, "" if call.error is None else error_type(call.error)


def observe(operation: str) -> Observer:
    def observe_operation(call: Call, record: Record) -> None:
        status, kind = _ending(call, operation)
        record(OPERATIONS, operation=operation, status=status)
        if status in {"failure", "timeout"} and not call.failures:
            record_error(record, "memory", kind)

    return observe_operation


def _ending(call: Call, operation: str) -> tuple[str, str]:
    if call.status != "success":
        return ending(call)
    asked = (part.digest for name in ("operation", "lane") for part in call.parts.get(name, ()))
    swallowed = (end for end in asked if end is not None and end[0] in {"failure", "timeout"})
    fruitless = _fruitless(call, operation)
    return next(swallowed, ("failure", fruitless) if fruitless else ("success", ""))


def _fruitless(call: Call, operation: str) -> str:
    """Why nothing came of what a coordinator was asked, for it raises nothing."""
    if not is_a(call.instance, MEMORY_COORDINATOR):
        return ""
    if operation == "search":
        return "" if call.parts.get("lane") else "no_provider"
    provider = call.instance.get_provider(call.argument("memory_type", 0))
    if provider is None:
        return "no_provider"
    if operation == "store" and (not call.result or _dropped(call, provider)):
        return "not_stored"
    return ""


def _dropped(call: Call, provider: Any) -> bool:
    """Some of Victor's adapters store nothing and say that they did."""
    memory = getattr(provider, "_memory", getattr(provider, "_store", None))
    own = is_a(memory, ENTITY_MEMORY, CONVERSATION_STORE)
    return own and len(call.parts["operation"]) == 1  # the coordinator's own


def observe_outcome(call: Call, record: Record) -> None:
    """Victor keeps successes only, and those only if it is told to evolve: the call tells all."""
    if call.error is None:
        succeeded = bool(call.argument("success", 2))
        for memory_type in _types(call.argument("results", 1)):
            record(RECALL_ACCURACY, succeeded, memory_type=memory_type)


def _types(results: object) -> set[str]:
    """The types of memory that a recall's results came from."""
    recalled = cast("Sequence[Any]", results) if isinstance(results, (list, tuple)) else ()
    names = {getattr(getattr(one, "source", None), "name", "other") for one in recalled}
    return {str(name).lower() for name in names} or {"none"}


AREA = Area(
    name="memory",
    metrics=(RECALL_ACCURACY, OPERATIONS),
    hooks=(
        *(
            Hook(
                target=f"{memory}.{method}",
                scope=MEMORY,
                part="operation",
                of=MEMORY,
                digest=ending,
                observe=observe(operation),
                feeds=(OPERATIONS, ERRORS),
            )
            for memory, operations in _METHODS.items()
            for operation, methods in operations.items()
            for method in methods
        ),
        *(
            Hook(target=target, part="lane", of=MEMORY, digest=ending)
            for target in (f"{_COORDINATOR}._search_provider", _EMBEDDINGS)
        ),
        Hook(
            target=f"{_COORDINATOR}.record_outcome",
            observe=observe_outcome,
            feeds=(RECALL_ACCURACY,),
        ),
    ),
)
