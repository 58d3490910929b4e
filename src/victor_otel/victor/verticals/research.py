"""Research: web searches, sources, citations and the synthesis of answers.

If all endpoints of a search fail, Victor reports a success without results; here the search is an
error, and `empty` means that an endpoint answered. A synthesis is the answer that Victor asks for
again, without tools, when the model of a research agent gave no answer after its tools. Code that
imported `web_search` or `web_fetch` by name before the instrumentation keeps the plain function,
and its calls are not counted.
"""

from http import HTTPStatus
from typing import Any, NamedTuple

from victor_otel.model.metric import Counter, Histogram, Record
from victor_otel.model.operation import UNSET, Operation, OperationType
from victor_otel.model.rows import Area, Begins, Observes, Target, Tells
from victor_otel.victor import labels
from victor_otel.victor.remembered import Remembered
from victor_otel.victor.values import mapping


class Search(NamedTuple):
    """A search in the web."""

    status: str
    """Empty for one that Victor's cache answered."""


class Citing(NamedTuple):
    """The formatting of references."""

    citations: int


SEARCH = OperationType("search", Search, outermost=True)
CITING = OperationType("citing", Citing, outermost=True)

SEARCHES = Counter(
    "victor.research.searches",
    "Web searches that were made; answers from Victor's cache do not count",
    labels=(labels.SEARCH_STATUS,),
    guide=True,
    of=SEARCH,
    when="status",
)
CITATIONS = Counter(
    "victor.research.citations_generated",
    "References formatted as citations or bibliography entries",
    guide=True,
    of=CITING,
    value="citations",
)
SOURCES = Counter(
    "victor.research.sources_analyzed",
    "Pages fetched from the web, and data sources tracked in a research conversation; a "
    "source that is both counts once",
    guide=True,
)
SYNTHESIS_DURATION = Histogram(
    "victor.research.synthesis.duration",
    "Duration of writing an answer from the results of tools: in the vertical research, "
    "when the model did not answer by itself, or as the application reports it",
    unit="s",
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    guide=True,
)

MAX_SOURCES = 10_000
"""Sources remembered, to know again what was both fetched and tracked."""


class Sources:
    """By which way a source was counted first. Keeps hashes only."""

    def __init__(self) -> None:
        self._ways = Remembered[int](MAX_SOURCES)

    def observe_fetch(self, fetch: Operation, record: Record) -> None:
        page = mapping(fetch.result)
        if page.get("success") and not page.get("cached"):
            self._count(fetch.argument("url"), "fetched", record)

    def observe_tracking(self, tracking: Operation, record: Record) -> None:
        if tracking.status == "success":
            self._count(tracking.argument("source"), "tracked", record)

    def _count(self, source: object, way: str, record: Record) -> None:
        if self._ways.add(hash(str(source)), way) in (None, way):
            record(SOURCES)


def has_query(search: Operation) -> bool:
    return bool(search.argument("query"))


def answered(response: Any) -> bool:
    """Whether a search endpoint gave an answer: `_request_text` returns `(status, text)`."""
    return response is not UNSET and response[0] == HTTPStatus.OK


def read_search(search: Operation) -> Search:
    cached = mapping(search.result).get("cached")
    return Search("" if cached else _search_status(search))


def _search_status(search: Operation) -> str:
    """Victor reports a search that reached no endpoint as a success without results."""
    found = mapping(search.result)
    if search.status == "cancelled":
        return "cancelled"
    if not found.get("success"):
        return "error"
    if found.get("result_count") or found.get("original_results"):
        return "results"
    return "empty" if True in search.told("request") else "error"


def read_formatter(citing: Operation) -> Citing:
    """Victor makes a citation "None" of references that are not there."""
    citations = mapping(getattr(citing.result, "output", None)).get("citations", ())
    return Citing(sum(citation != "None" for citation in citations))


def read_bibliography(citing: Operation) -> Citing:
    return Citing(mapping(citing.result).get("count", 0))


def is_bibliography(citing: Operation) -> bool:
    """Workflows take `format_bibliography` from a table, where no wrapper reaches it."""
    transform = getattr(citing.argument("node"), "transform", None)
    name = getattr(transform, "__module__", None), getattr(transform, "__name__", None)
    return name == ("victor_research.escape_hatches", "format_bibliography")


def read_node(citing: Operation) -> Citing:
    """The entries are in the state of the workflow, older ones too when the node failed."""
    state = mapping(citing.result)
    node = mapping(state.get("_node_results")).get(citing.argument("node").id)
    return Citing(state.get("count", 0) if getattr(node, "success", False) else 0)


def observe_synthesis(_: Sources, synthesis: Operation, record: Record) -> None:
    """Victor asks the model again, without tools, for the answer that it did not give."""
    text = getattr(synthesis.result, "content", None) or _GIVEN_UP
    if synthesis.context.vertical == "research" and not text.startswith(_GIVEN_UP):
        messages = synthesis.instance._chat_context.messages
        if any(message.role == "tool" for message in messages):
            record(SYNTHESIS_DURATION, synthesis.elapsed)


_GIVEN_UP = "I was unable to generate a complete response."

_WEB = "victor.tools.web_search_tool"
_CONVERSATION = "victor_research.conversation_enhanced:EnhancedResearchConversationManager"
_FORMATTER = "victor_research.handlers:CitationFormatterHandler.__call__"
_BIBLIOGRAPHY = "victor_research.escape_hatches:format_bibliography"
_NODE = "victor.workflows.executors.transform:TransformNodeExecutor.execute"
_ANSWER = "victor.agent.services.turn_execution_runtime:TurnExecutor._ensure_complete_response"

AREA = Area(
    name="research",
    metrics=(SEARCHES, CITATIONS, SOURCES, SYNTHESIS_DURATION),
    rows=(
        # Code calls the tool's function, agents call the same one inside the tool. A search
        # with a summary may fall back to a plain one.
        *(
            row
            for route in ("", ".Tool._fn")
            for row in (
                Begins(
                    SEARCH,
                    Target(f"{_WEB}:web_search{route}", arguments=("query",)),
                    when=has_query,
                    read=read_search,
                ),
                Observes(
                    Target(f"{_WEB}:web_fetch{route}", arguments=("url",)),
                    Sources.observe_fetch,
                    feeds=(SOURCES,),
                ),
            )
        ),
        Tells(SEARCH, "request", Target(f"{_WEB}:_request_text"), read=answered),
        Observes(
            Target(f"{_CONVERSATION}.track_data_source", arguments=("source",)),
            Sources.observe_tracking,
            feeds=(SOURCES,),
        ),
        Begins(CITING, Target(_FORMATTER), read=read_formatter),
        Begins(CITING, Target(_BIBLIOGRAPHY), read=read_bibliography),
        Begins(CITING, Target(_NODE, arguments=("node",)), when=is_bibliography, read=read_node),
        Observes(Target(_ANSWER), observe_synthesis, feeds=(SYNTHESIS_DURATION,)),
    ),
    state=Sources,
)
