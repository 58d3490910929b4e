"""Embeddings: calls to the models that turn texts into vectors.

Victor's own service runs its model in this process. It answers a text that it knows from its cache,
which is no call to a model, and what fails with vectors of zeros, which is an error here. Other
models are services; a batch is one call, whatever requests it takes. victor-coding has models of
its own beside Victor's.
"""

from collections.abc import Callable
from typing import NamedTuple

from victor_otel.model import semconv
from victor_otel.model.metric import Histogram
from victor_otel.model.operation import UNSET, Operation, OperationType
from victor_otel.model.rows import Area, Begins, Feeds, Target
from victor_otel.model.span import Attributes, Span, SpanKind
from victor_otel.victor import labels


class Embedding(NamedTuple):
    """A call to a model that embeds texts."""

    provider_name: str
    model: object
    status: str = ""
    error_type: str = ""


EMBEDDED_HERE = OperationType("embedded_here", Embedding, outermost=True)
"""By a model in this process."""
EMBEDDED = OperationType("embedded", Embedding, outermost=True)
"""By a service."""

DURATION = Histogram(
    semconv.EMBEDDINGS_DURATION,
    "Duration of a call to a model that embeds texts; of Victor's own, loading it included",
    unit="s",
    labels=(
        labels.GENAI_OPERATION,
        labels.GENAI_PROVIDER,
        labels.GENAI_MODEL,
        labels.GENAI_ERROR,
    ),
    buckets=semconv.SECONDS,
)


def is_unknown(call: Operation) -> bool:
    """Whether the cache does not know the text."""
    service = call.instance
    if not call.argument("use_cache", True):
        return True
    return service._get_cache_key(call.argument("text")) not in service._embedding_cache


def has_texts(call: Operation) -> bool:
    return bool(call.argument("texts"))


def expect_here(call: Operation) -> Embedding:
    return Embedding("sentence-transformers", call.instance.model_name)


def expect_service(provider: str) -> Callable[[Operation], Embedding]:
    return lambda call: Embedding(provider, call.instance.config.model_name)


def read_here(call: Operation) -> Embedding:
    if call.result is UNSET or call.result.any():
        return read(call)
    reason = "model_unavailable" if call.instance._model is None else ""
    return read(call)._replace(status="failure", error_type=reason)


def read(call: Operation) -> Embedding:
    expected: Embedding = call.facts
    return expected._replace(status=call.status)


def expect_span(call: Operation) -> Attributes:
    expected: Embedding = call.facts
    return {
        semconv.PROVIDER_NAME: expected.provider_name,
        semconv.REQUEST_MODEL: str(expected.model),
    }


_SERVICE = "victor.storage.embeddings.service:EmbeddingService"
_MODELS = ("victor.storage.vector_stores.models", "victor_coding.codebase.embeddings.models")
_EMBEDDINGS = {semconv.OPERATION_NAME: "embeddings"}

AREA = Area(
    name="embeddings",
    metrics=(DURATION,),
    rows=(
        Begins(
            EMBEDDED_HERE,
            Target(f"{_SERVICE}.embed_text_sync", arguments=("text", "use_cache")),
            when=is_unknown,
            at_start=expect_here,
            read=read_here,
        ),
        Begins(
            EMBEDDED_HERE,
            Target(f"{_SERVICE}.embed_batch_sync", arguments=("texts",)),
            when=has_texts,
            at_start=expect_here,
            read=read_here,
        ),
        *(
            Begins(
                EMBEDDED,
                Target(f"{module}:{model}.{method}"),
                at_start=expect_service(provider),
                read=read,
            )
            for module in _MODELS
            for model, provider in (
                ("OpenAIEmbeddingModel", "openai"),
                ("CohereEmbeddingModel", "cohere"),
                ("OllamaEmbeddingModel", "ollama"),
            )
            for method in ("embed_text", "embed_batch")
        ),
        Feeds(EMBEDDED_HERE, DURATION, value="elapsed", labels=_EMBEDDINGS),
        Feeds(EMBEDDED, DURATION, value="elapsed", labels=_EMBEDDINGS),
    ),
    spans=(
        Span(EMBEDDED_HERE, "embeddings", named=(semconv.REQUEST_MODEL,), expect=expect_span),
        Span(
            EMBEDDED,
            "embeddings",
            named=(semconv.REQUEST_MODEL,),
            kind=SpanKind.CLIENT,
            expect=expect_span,
        ),
    ),
)
