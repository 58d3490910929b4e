"""Embeddings without a model.

Victor streams only with an embedding service, and the real one needs a download of gigabytes.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from victor_otel.demo.victor_parts import part

DIMENSION = 384
"""What Victor expects of its own default model."""


@contextmanager
def deterministic_embeddings() -> Generator[None]:
    """Seat a deterministic service as Victor's only one, and give the seat back afterwards.

    Equal texts get equal vectors, all others unrelated ones: enough for Victor to work, and the
    same choices in every run.
    """
    base = part("victor.storage.embeddings.service", "EmbeddingService")
    previous = base._instance  # Victor has no public way to seat one
    base._instance = _service_class(base)()
    try:
        yield
    finally:
        base._instance = previous


def _service_class(base: Any) -> Any:
    numpy = importlib.import_module("numpy")

    def vector(text: str) -> Any:
        drawn = numpy.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSION)
        return (drawn / numpy.linalg.norm(drawn)).astype(numpy.float32)

    class DeterministicEmbeddings(base):
        """Victor's service with the model taken out; the asynchronous methods end here too."""

        @property
        def dimension(self) -> int:
            return DIMENSION

        @property
        def is_loaded(self) -> bool:
            return True

        def _ensure_model_loaded(self) -> None:
            """There is nothing to load."""

        def embed_text_sync(self, text: str, use_cache: bool = True) -> Any:  # noqa: ARG002
            return vector(text)

        def embed_batch_sync(self, texts: list[str]) -> Any:
            if not texts:
                return numpy.empty((0, DIMENSION), dtype=numpy.float32)
            return numpy.stack([vector(text) for text in texts])

    return DeterministicEmbeddings
