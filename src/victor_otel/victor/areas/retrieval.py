"""Retrieval: searches in vector stores, for documents that are like a text.

Tools that search code by its meaning use these stores, Victor's own and those of victor-coding,
which may ask each other: that is one search. victor-rag has a store of another kind.
"""

from __future__ import annotations

from victor_otel.model import semconv
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Feeds, Target
from victor_otel.model.span import Attributes, Span
from victor_otel.victor.content import query
from victor_otel.victor.shared import RETRIEVAL_DURATION, RETRIEVED

RETRIEVAL = OperationType[object]("retrieval", outermost=True)


def expect_search(search: Operation) -> Attributes:
    limit = search.argument("limit")
    return {semconv.RETRIEVAL_TOP_K: limit if isinstance(limit, int) else None}


AREA = Area(
    name="retrieval",
    rows=(
        *(
            Begins(
                RETRIEVAL,
                Target(
                    f"{module}:BaseEmbeddingProvider.search_similar",
                    arguments=("query", "limit"),
                    overrides=True,
                ),
            )
            for module in (
                "victor.storage.vector_stores.base",
                "victor_coding.codebase.embeddings.base",
            )
        ),
        Feeds(RETRIEVAL, RETRIEVAL_DURATION, value="elapsed", labels=RETRIEVED),
    ),
    spans=(
        Span(RETRIEVAL, "retrieval", expect=expect_search, content=query(semconv.RETRIEVAL_QUERY)),
    ),
)
