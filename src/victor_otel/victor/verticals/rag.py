"""RAG: the documents in the stores of victor-rag, and the searches in them.

Every tool, panel and demo of victor-rag uses the store, so documents and searches are counted
there. A document counts each time it is ingested, with the type that it was given. Victor reports
success also for a text that is too short for a chunk; such a text does not count. Only searches
that succeeded have Victor's latency; OpenTelemetry's duration has the error of the others. A
comparison of several entities makes one search for each.

The size of the index is that of the folders of all stores that this process opened, measured once
a minute. It includes old versions that LanceDB keeps, so it also grows when documents are deleted.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Gauge, Histogram, Ratio, Reading, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Feeds, Observes, Target
from victor_otel.model.span import Attributes, Span
from victor_otel.victor import labels
from victor_otel.victor.content import query
from victor_otel.victor.remembered import Remembered
from victor_otel.victor.shared import RETRIEVAL_DURATION, RETRIEVED


class Search(NamedTuple):
    """A search in a store."""

    status: str

    @property
    def succeeded(self) -> bool:
        """One that failed has no latency, because it retrieved nothing."""
        return self.status == "success"


SEARCH = OperationType("rag_search", Search)

DOCUMENTS_INGESTED = Counter(
    "victor.rag.documents_ingested",
    "Documents of which at least one chunk was stored",
    labels=(labels.DOC_TYPE,),
    guide=True,
)
SEARCH_ACCURACY = Ratio(
    "victor.rag.search_accuracy",
    "Share of the retrieved passages that the application reported as relevant, over the "
    "last 5 minutes of this process",
    guide=True,
)
RETRIEVAL_LATENCY = Histogram(
    "victor.rag.retrieval.latency",
    "Duration of a search that succeeded, including the embedding of its query",
    unit="s",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    guide=True,
    of=SEARCH,
    when="succeeded",
    value="elapsed",
)
INDEX_SIZE = Gauge(
    "victor.rag.index_size",
    "Size on disk of the stores that this process opened; each folder counts once",
    unit="By",
    guide=True,
)

MEASURE_EVERY = 60.0
ENTRIES_AT_ONCE = 10_000
"""Files and folders that one collection looks at; the next one goes on where it ended."""
MAX_FOLDERS = 1000
"""Folders remembered at once; beyond it the one not opened for longest is left out."""


class Stores:
    """Where the stores that this process has opened lie, and what they take there.

    Victor's tools open a store for a single call: its folder counts on without it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()
        self._folders = Remembered[Path](MAX_FOLDERS)
        self._measuring = threading.Lock()
        self._under_way: tuple[Iterator[int], int] | None = None
        """The rest of a walk, and the bytes found so far."""
        self._measured = -MEASURE_EVERY
        self._size: int | None = None

    def observe_opening(self, opening: Operation, _record: Record) -> None:
        """Every use of a store begins here; a relative path holds since the first."""
        store, path = opening.instance, opening.instance.config.path
        if opening.status != "success":
            return
        with self._lock:
            if self._opened.get(store) == path:
                return
            self._opened[store] = path
            self._folders.add(path.resolve())

    def observe_document(self, ingestion: Operation, record: Record) -> None:
        if ingestion.status == "success" and ingestion.result:
            record(DOCUMENTS_INGESTED, doc_type=ingestion.argument("doc").doc_type)

    def read_size(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        folders = list(self._folders)
        with self._measuring:
            if folders and monotonic() - self._measured >= MEASURE_EVERY:
                self._measure(folders)
            size = self._size
        if size is not None:
            yield size, {}

    def _measure(self, folders: list[Path]) -> None:
        """Takes one step of the walk; the size is known when it is over."""
        sizes, before = self._under_way or (_sizes(folders), 0)
        self._under_way = None
        step = list(islice(sizes, ENTRIES_AT_ONCE))
        total = before + sum(step)
        if len(step) == ENTRIES_AT_ONCE:
            self._under_way = sizes, total
        else:
            self._size, self._measured = total, monotonic()


def _sizes(folders: list[Path]) -> Iterator[int]:
    """The size of every file in the folders, however deep; 0 for what is no file."""
    known = set(folders)
    left = [str(folder) for folder in folders if known.isdisjoint(folder.parents)]
    while left:
        try:
            scan = os.scandir(left.pop())
        except FileNotFoundError:  # gone by now, and so is its size
            continue
        with scan as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                    yield 0
                else:
                    yield _size(entry)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def read_search(search: Operation) -> Search:
    return Search(search.status)


def expect_search(search: Operation) -> Attributes:
    return {
        semconv.DATA_SOURCE: search.instance.config.table_name,
        semconv.RETRIEVAL_TOP_K: search.argument("k"),
    }


_STORE = "victor_rag.document_store:DocumentStore"

AREA = Area(
    name="rag",
    metrics=(DOCUMENTS_INGESTED, SEARCH_ACCURACY, RETRIEVAL_LATENCY, INDEX_SIZE),
    rows=(
        Observes(Target(f"{_STORE}.initialize"), Stores.observe_opening),
        Observes(
            Target(f"{_STORE}.add_document", arguments=("doc",)),
            Stores.observe_document,
            feeds=(DOCUMENTS_INGESTED,),
        ),
        Begins(SEARCH, Target(f"{_STORE}.search", arguments=("k", "query")), read=read_search),
        Feeds(SEARCH, RETRIEVAL_DURATION, value="elapsed", labels=RETRIEVED),
    ),
    spans=(
        Span(SEARCH, "retrieval", expect=expect_search, content=query(semconv.RETRIEVAL_QUERY)),
    ),
    readings=(Reading(metric=INDEX_SIZE, read=Stores.read_size),),
    state=Stores,
)
