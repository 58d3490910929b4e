"""Memory: operations on the memories of agents, and whether recalls helped.

An agent has one memory for its conversation; entities and their graph are other memories, and a
coordinator asks several at once. An operation counts once, at the outermost of these. Victor
swallows failures below it, so the ending of each memory that was asked is read as well. A
search that finds nothing is a success. What Victor cleans up by itself is not counted. Neither what
is read by its key, for which OpenTelemetry has no name, nor what Victor writes down of each message
of a conversation, behind the turn, has a span.

The outcome of a recall counts once for each type of memory among its results.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Ratio, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Observes, Target, Tells
from victor_otel.model.span import Attributes, Span
from victor_otel.victor import labels
from victor_otel.victor.classes import CONVERSATION_STORE, ENTITY_MEMORY, is_a
from victor_otel.victor.content import query
from victor_otel.victor.operations import MEMORY, MemoryUse
from victor_otel.victor.outcomes import error_type


class Ending(NamedTuple):
    """How asking one memory ended, and the type of its error."""

    status: str
    error: str = ""


ASKED = OperationType("memory_asked", Ending)
"""One of the memories that an operation asks."""

RECALL_ACCURACY = Ratio(
    "victor.memory.recall_accuracy",
    "Share of recalls that helped, among those with a recorded outcome, over the last 5 "
    "minutes of this process",
    labels=(labels.MEMORY_TYPE,),
    guide=True,
)
OPERATIONS = Counter(
    "victor.memory.operations",
    "Operations on memories of agents; an error in a memory makes an operation a failure, "
    "even if Victor does not raise it",
    labels=(labels.MEMORY_OPERATION, labels.STATUS),
    guide=True,
    of=MEMORY,
)


def expect_use(operation: str, name: str) -> Callable[[Operation], MemoryUse]:
    """`name` is what OpenTelemetry calls it."""
    use = MemoryUse(operation, name)
    return lambda _: use


def expect_span(use: Operation) -> Attributes:
    return {semconv.OPERATION_NAME: use.facts.operation_name}


def has_name(use: Operation) -> bool:
    return bool(use.facts.operation_name)


def read_use(
    fruitless: Callable[[Operation], str] = lambda _: "",
) -> Callable[[Operation], MemoryUse]:
    """`fruitless` says why nothing came of a call that raised nothing."""

    def read(use: Operation) -> MemoryUse:
        expected: MemoryUse = use.facts
        status, error = _ending(use, fruitless)
        failed = status in _FAILED and not use.failures
        return expected._replace(
            status=status,
            error_type=error if failed else "",
            found=len(cast("list[Any]", use.result)) if isinstance(use.result, list) else 0,
        )

    return read


_FAILED = frozenset({"failure", "timeout"})


def read_ending(asked: Operation) -> Ending:
    return Ending(asked.status, "" if asked.error is None else error_type(asked.error))


def _ending(use: Operation, fruitless: Callable[[Operation], str]) -> Ending:
    if use.status != "success":
        return read_ending(use)
    reason = fruitless(use)
    swallowed = (ending for ending in use.told("asked") if ending.status in _FAILED)
    return next(swallowed, Ending("failure", reason) if reason else Ending("success"))


def unasked(search: Operation) -> str:
    return "" if search.told("asked") else "no_provider"


def unprovided(use: Operation) -> str:
    return "no_provider" if _provider(use) is None else ""


def unstored(store: Operation) -> str:
    """Some of Victor's adapters store nothing and say that they did."""
    provider = _provider(store)
    if provider is None:
        return "no_provider"
    memory = getattr(provider, "_memory", getattr(provider, "_store", None))
    dropped = is_a(memory, ENTITY_MEMORY, CONVERSATION_STORE) and not store.told("asked")
    return "not_stored" if dropped or not store.result else ""


def _provider(use: Operation) -> Any:
    return use.instance.get_provider(use.argument("memory_type"))


def observe_outcome(outcome: Operation, record: Record) -> None:
    """Victor keeps successes only, and those only if it is told to evolve: the call tells all."""
    if outcome.error is None:
        succeeded = bool(outcome.argument("success"))
        for memory_type in _types(outcome.argument("results")):
            record(RECALL_ACCURACY, succeeded, memory_type=memory_type)


def _types(results: object) -> set[str]:
    """The types of memory that a recall's results came from."""
    recalled = cast("Sequence[Any]", results) if isinstance(results, (list, tuple)) else ()
    names = {getattr(getattr(one, "source", None), "name", "other") for one in recalled}
    return {str(name).lower() for name in names} or {"none"}


_METHODS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "victor.storage.memory.entity_memory:EntityMemory": {
        "search": ("search", "get_by_type", "get_related"),
        "get": ("get",),
        "store": ("store", "store_relation"),
        "delete": ("clear_session",),
    },
    "victor.storage.memory.entity_graph:EntityGraph": {
        "search": ("get_neighbors", "find_paths", "get_subgraph"),
        "get": ("get_entity",),
        "store": ("add_entity", "add_relation", "add_entities_batch", "add_relations_batch"),
        "delete": ("remove_entity", "clear"),
    },
    "victor.agent.conversation.store:ConversationStore": {
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

_NAMES = {"search": "search_memory", "store": "upsert_memory", "delete": "delete_memory"}
"""What OpenTelemetry calls them: the memory decides whether what is stored is new to it."""
_MESSAGES = frozenset({"add_message", "add_message_async", "add_system_message"})

_QUERIES = frozenset(
    {
        *("search", "search_sessions", "search_messages_fts"),
        *("get_semantically_relevant_messages", "aget_semantically_relevant_messages"),
        *("get_dual_trace_relevant_messages", "aget_dual_trace_relevant_messages"),
        "get_relevant_summaries",
    }
)
"""What is given a text to search for."""

_COORDINATOR = "victor.storage.memory.unified:UnifiedMemoryCoordinator"
_EMBEDDINGS = "victor.agent.conversation_embedding_store:ConversationEmbeddingStore"

AREA = Area(
    name="memory",
    metrics=(RECALL_ACCURACY, OPERATIONS),
    rows=(
        *(
            Begins(
                MEMORY,
                Target(f"{_COORDINATOR}.{method}", arguments),
                at_start=expect_use(operation, _NAMES.get(operation, "")),
                read=read_use(fruitless),
            )
            for method, arguments, operation, fruitless in (
                ("search_all", ("query",), "search", unasked),
                ("search_type", ("query",), "search", unasked),
                ("get", ("memory_type",), "get", unprovided),
                ("store", ("memory_type",), "store", unstored),
            )
        ),
        *(
            row
            for memory, operations in _METHODS.items()
            for operation, methods in operations.items()
            for method in methods
            for target in (Target(f"{memory}.{method}", ("query",) if method in _QUERIES else ()),)
            for row in (
                Begins(
                    MEMORY,
                    target,
                    at_start=expect_use(
                        operation, "" if method in _MESSAGES else _NAMES.get(operation, "")
                    ),
                    read=read_use(),
                ),
                Begins(ASKED, target, read=read_ending),
            )
        ),
        Begins(ASKED, Target(f"{_COORDINATOR}._search_provider"), read=read_ending),
        Begins(ASKED, Target(f"{_EMBEDDINGS}.search_similar"), read=read_ending),
        Tells(MEMORY, "asked", ASKED),
        Observes(
            Target(f"{_COORDINATOR}.record_outcome", arguments=("results", "success")),
            observe_outcome,
            feeds=(RECALL_ACCURACY,),
        ),
    ),
    spans=(
        Span(
            MEMORY,
            named=(semconv.OPERATION_NAME,),
            when=has_name,
            expect=expect_span,
            facts={"found": semconv.MEMORY_RECORD_COUNT},
            content=query(semconv.MEMORY_QUERY),
        ),
    ),
)
