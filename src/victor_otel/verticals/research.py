"""Research: what was searched, read, cited and put together.

A search whose endpoints all failed is a success without results for Victor, and an error
here; `empty` means that one answered. A synthesis is the answer that Victor asks for again,
without tools, when a research agent's model gave none after its tools. Code that imported
`web_search` or `web_fetch` by name before the instrumentation keeps the plain function.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from http import HTTPStatus

from victor_otel import labels
from victor_otel.spec import UNSET, Area, Call, Hook, Kind, Metric, Record, Scope, mapping

SEARCHES = Metric(
    name="victor.research.searches",
    kind=Kind.COUNTER,
    meaning="Web searches that were made; answers from Victor's cache are none",
    labels=(labels.SEARCH_STATUS,),
    guide=True,
)
CITATIONS = Metric(
    name="victor.research.citations_generated",
    kind=Kind.COUNTER,
    meaning="References formatted as citations or bibliography entries",
    guide=True,
)
SOURCES = Metric(
    name="victor.research.sources_analyzed",
    kind=Kind.COUNTER,
    meaning="Pages fetched from the web, and data sources tracked in a research conversation; "
    "one that was both counts once",
    guide=True,
)
SYNTHESIS_DURATION = Metric(
    name="victor.research.synthesis.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Writing an answer from what tools had found, when the model did not do so by itself "
    "(vertical research), or as the application says",
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    guide=True,
)

MAX_SOURCES = 10_000
"""Sources remembered, to know again what was both fetched and tracked."""

SEARCH = Scope(name="search", outermost=True)
CITING = Scope(name="citing", outermost=True)


class Sources:
    """By which way a source was counted first. Keeps hashes only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ways: OrderedDict[int, str] = OrderedDict()

    def observe_fetch(self, call: Call, record: Record) -> None:
        page = mapping(call.result)
        if page.get("success") and not page.get("cached"):
            self._count(call.argument("url", 0), "fetched", record)

    def observe_tracking(self, call: Call, record: Record) -> None:
        if call.status == "success":
            self._count(call.argument("source", 0), "tracked", record)

    def _count(self, source: object, way: str, record: Record) -> None:
        key = hash(str(source))
        with self._lock:
            first = self._ways.setdefault(key, way)
            self._ways.move_to_end(key)
            if len(self._ways) > MAX_SOURCES:
                self._ways.popitem(last=False)
        if way == first:
            record(SOURCES)


def has_query(call: Call) -> bool:
    return bool(call.argument("query", 0))


def answered(call: Call) -> bool:
    """Whether a search endpoint gave an answer: `_request_text` returns `(status, text)`."""
    return call.result is not UNSET and call.result[0] == HTTPStatus.OK


def observe_search(_: Sources, call: Call, record: Record) -> None:
    if not mapping(call.result).get("cached"):
        record(SEARCHES, status=_search_status(call))


def _search_status(call: Call) -> str:
    """Victor calls a search that reached nobody a success without results."""
    found = mapping(call.result)
    if call.status == "cancelled":
        return "cancelled"
    if not found.get("success"):
        return "error"
    if found.get("result_count") or found.get("original_results"):
        return "results"
    return "empty" if any(part.digest for part in call.parts.get("request", ())) else "error"


def observe_formatter(_: Sources, call: Call, record: Record) -> None:
    """Victor makes a citation "None" of references that are not there."""
    citations = mapping(getattr(call.result, "output", None)).get("citations", ())
    _record_citations(sum(citation != "None" for citation in citations), record)


def observe_bibliography(_: Sources, call: Call, record: Record) -> None:
    _record_citations(mapping(call.result).get("count", 0), record)


def is_bibliography(call: Call) -> bool:
    """Workflows take `format_bibliography` from a table, where no wrapper reaches it."""
    transform = getattr(call.argument("node", 0), "transform", None)
    name = getattr(transform, "__module__", None), getattr(transform, "__name__", None)
    return name == ("victor_research.escape_hatches", "format_bibliography")


def observe_node(_: Sources, call: Call, record: Record) -> None:
    """The entries are in the state of the workflow, older ones too when the node failed."""
    state = mapping(call.result)
    node = mapping(state.get("_node_results")).get(call.argument("node", 0).id)
    if getattr(node, "success", False):
        _record_citations(state.get("count", 0), record)


def _record_citations(count: int, record: Record) -> None:
    if count:
        record(CITATIONS, count)


def observe_synthesis(_: Sources, call: Call, record: Record) -> None:
    """Victor asks the model again, without tools, for the answer that it did not give."""
    text = getattr(call.result, "content", None) or _GIVEN_UP
    if call.context.vertical == "research" and not text.startswith(_GIVEN_UP):
        messages = call.instance._chat_context.messages
        if any(message.role == "tool" for message in messages):
            record(SYNTHESIS_DURATION, call.elapsed)


_GIVEN_UP = "I was unable to generate a complete response."


_WEB = "victor.tools.web_search_tool"

AREA = Area(
    name="research",
    metrics=(SEARCHES, CITATIONS, SOURCES, SYNTHESIS_DURATION),
    hooks=(
        # Code calls the tool's function, agents call the same one inside the tool. A search
        # with a summary may fall back to a plain one.
        *(
            Hook(
                target=f"{_WEB}:web_search{route}",
                scope=SEARCH,
                when=has_query,
                observe=observe_search,
                feeds=(SEARCHES,),
            )
            for route in ("", ".Tool._fn")
        ),
        Hook(target=f"{_WEB}:_request_text", part="request", of=SEARCH, digest=answered),
        *(
            Hook(target=f"{_WEB}:web_fetch{route}", observe=Sources.observe_fetch, feeds=(SOURCES,))
            for route in ("", ".Tool._fn")
        ),
        Hook(
            target="victor_research.conversation_enhanced:"
            "EnhancedResearchConversationManager.track_data_source",
            observe=Sources.observe_tracking,
            feeds=(SOURCES,),
        ),
        Hook(
            target="victor_research.handlers:CitationFormatterHandler.__call__",
            observe=observe_formatter,
            feeds=(CITATIONS,),
        ),
        Hook(
            target="victor_research.escape_hatches:format_bibliography",
            scope=CITING,
            observe=observe_bibliography,
            feeds=(CITATIONS,),
        ),
        Hook(
            target="victor.workflows.executors.transform:TransformNodeExecutor.execute",
            scope=CITING,
            when=is_bibliography,
            observe=observe_node,
            feeds=(CITATIONS,),
        ),
        Hook(
            target="victor.agent.services.turn_execution_runtime:"
            "TurnExecutor._ensure_complete_response",
            observe=observe_synthesis,
            feeds=(SYNTHESIS_DURATION,),
        ),
    ),
    state=Sources,
)
