"""RAG: the documents in victor-rag's stores, and the searches in them.

Every tool, panel and demo of victor-rag ends at the store, so that is where they count. A
document counts each time it is ingested, under the type that it was given; Victor reports
success also for a text too short for a chunk. A search that failed has no latency: how fast
it failed is none. A comparison of several entities is a search for each.

The index is what lies in the folders of all stores that this process opened, measured once
a minute; old versions that LanceDB keeps are in it, so it grows with deletions too.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

from victor_otel import labels
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Reading, Record

DOCUMENTS_INGESTED = Metric(
    name="victor.rag.documents_ingested",
    kind=Kind.COUNTER,
    meaning="Documents of which chunks were stored; one too short for a chunk is none",
    labels=(labels.DOC_TYPE,),
    guide=True,
)
SEARCH_ACCURACY = Metric(
    name="victor.rag.search_accuracy",
    kind=Kind.RATIO,
    meaning="Share of the retrieved passages that the application called relevant, over the last "
    "5 minutes of this process",
    guide=True,
)
RETRIEVAL_LATENCY = Metric(
    name="victor.rag.retrieval.latency",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Time of a search that answered, the embedding of its query included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    guide=True,
)
INDEX_SIZE = Metric(
    name="victor.rag.index_size",
    kind=Kind.GAUGE,
    unit="By",
    meaning="Bytes on disk of the stores that this process opened, each folder once",
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
        self._folders: dict[Path, None] = {}
        self._measuring = threading.Lock()
        self._under_way: tuple[Iterator[int], int] | None = None
        """The rest of a walk, and the bytes found so far."""
        self._measured = -MEASURE_EVERY
        self._size: int | None = None

    def observe_opening(self, call: Call, _record: Record) -> None:
        """Every use of a store begins here; a relative path holds since the first."""
        store, path = call.instance, call.instance.config.path
        if call.status != "success":
            return
        with self._lock:
            if self._opened.get(store) == path:
                return
            self._opened[store] = path
            folder = path.resolve()
            self._folders.pop(folder, None)
            self._folders[folder] = None
            if len(self._folders) > MAX_FOLDERS:
                del self._folders[next(iter(self._folders))]

    def observe_document(self, call: Call, record: Record) -> None:
        if call.status == "success" and call.result:
            record(DOCUMENTS_INGESTED, doc_type=call.argument("doc", 0).doc_type)

    def observe_search(self, call: Call, record: Record) -> None:
        """A search that failed has retrieved nothing; how fast it failed is no latency."""
        if call.status == "success":
            record(RETRIEVAL_LATENCY, call.elapsed)

    def read_size(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        with self._lock:
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


_STORE = "victor_rag.document_store:DocumentStore"

AREA = Area(
    name="rag",
    metrics=(DOCUMENTS_INGESTED, SEARCH_ACCURACY, RETRIEVAL_LATENCY, INDEX_SIZE),
    hooks=(
        Hook(target=f"{_STORE}.initialize", observe=Stores.observe_opening),
        Hook(
            target=f"{_STORE}.add_document",
            observe=Stores.observe_document,
            feeds=(DOCUMENTS_INGESTED,),
        ),
        Hook(target=f"{_STORE}.search", observe=Stores.observe_search, feeds=(RETRIEVAL_LATENCY,)),
    ),
    readings=(Reading(metric=INDEX_SIZE, read=Stores.read_size),),
    state=Stores,
)
