"""Texts that are embedded: by a model in this process, and by a service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor.areas.embeddings import DURATION

CURSED = "unspeakable"
"""A text that no model can embed."""


class Letters:
    """A model for Victor's service: it counts letters, and its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Any, **_: Any) -> Any:
        self.calls += 1
        if CURSED in texts:
            raise ValueError(texts)
        if isinstance(texts, str):
            return [texts.count(letter) for letter in "aeiou"]
        return [[text.count(letter) for letter in "aeiou"] for text in texts]

    def get_sentence_embedding_dimension(self) -> int:
        return 5


def service(model: Any = None) -> Any:
    """Victor's service with a model that is loaded already, or with none."""
    from victor.storage.embeddings.service import EmbeddingService

    made = EmbeddingService("letters")
    made._model = model
    return made


@contextmanager
def ollama() -> Iterator[tuple[str, list[str]]]:
    """A service that answers as Ollama and OpenAI do: where it is, and the texts it was sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body.get("prompt", body.get("input"))
            sent.append(text)
            self.send_response(500 if text == CURSED else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            vector = [1.0, 2.0]
            openai = {"model": body["model"], "data": [{"embedding": vector}], "object": "list"}
            self.wfile.write(json.dumps({"embedding": vector, **openai}).encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()


def on_ollama(url: str) -> Any:
    from victor.storage.vector_stores.models import EmbeddingModelConfig, create_embedding_model

    config = EmbeddingModelConfig(model_type="ollama", model_name="nomic", api_key=url)
    return create_embedding_model(config)


def embedded(count: Count, provider: str, model: str, times: int = 1, *, error: str = "") -> None:
    count.add(
        "gen_ai_client_embeddings_duration_seconds_count",
        times,
        gen_ai_operation_name="embeddings",
        gen_ai_provider_name=provider,
        gen_ai_request_model=model,
        error_type=error,
    )


async def here(count: Count) -> None:
    """Victor's service asks its model, unless it knows the text."""
    letters = Letters()
    served = service(letters)
    for text in ("fern", "moss", "fern"):
        assert (await served.embed_text(text)).any()
    assert served.embed_text_sync("fern", use_cache=False).any()
    assert (await served.embed_batch(["fern", "moss"])).any()
    assert len(await served.embed_batch([])) == 0
    assert letters.calls == 4
    embedded(count, "sentence-transformers", "letters", letters.calls)
    assert not (await served.embed_text(CURSED)).any()
    assert letters.calls == 5
    embedded(count, "sentence-transformers", "letters", error="_OTHER")
    served.shutdown()
    assert (await served.embed_batch(["fern"])).shape == (1, served.dimension)


async def by_service(count: Count) -> None:
    """A service is asked once for each text, and a batch of them is one call."""
    with ollama() as (url, sent):
        model = on_ollama(url)
        await model.initialize()  # tries the model, and embeds nothing
        assert await model.embed_text("fern") == [1.0, 2.0]
        assert len(await model.embed_batch(["fern", "moss", "rose"])) == 3
        with pytest.raises(RuntimeError):
            await model.embed_text(CURSED)
        await model.close()
    assert sorted(sent) == sorted(["test", "fern", "fern", "moss", "rose", CURSED])
    embedded(count, "ollama", "nomic", 2)
    embedded(count, "ollama", "nomic", error="RuntimeError")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=here, proves=(DURATION,)),
    Scenario(run=by_service, proves=(DURATION,)),
)
