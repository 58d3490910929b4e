"""Providers of models that need no network, and calls of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class Behaviour:
    """How an own provider behaves: what it raises, one call after the other."""

    def __init__(self, *failures: BaseException | None) -> None:
        self.failures = list(failures)

    async def act(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


def chunk(**facts: Any) -> Any:
    from victor.providers.base import StreamChunk

    return StreamChunk(**{"content": "", **facts})


def response(**facts: Any) -> Any:
    from victor.providers.base import CompletionResponse

    return CompletionResponse(**{"content": "hi", "role": "assistant", **facts})


async def chunks(*texts: str) -> AsyncIterator[Any]:
    for text in texts:
        yield chunk(content=text)
    yield chunk(is_final=True)


async def plain_chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
    await self.behaviour.act()
    return response(model="as-the-provider-calls-it")


async def plain_stream(self: Any, messages: Any, *, model: str, **_: Any) -> AsyncIterator[Any]:
    await self.behaviour.act()
    async for item in chunks("a", "b"):
        yield item


def provider_class(*bases: type, name: str = "own", **members: Any) -> Any:
    """A provider that an application defines."""
    from victor.providers.base import BaseProvider

    async def close(_: Any) -> None: ...

    own: dict[str, Any] = {"name": property(lambda _: name), "close": close}
    if not any(hasattr(base, "chat") for base in bases):
        own["chat"] = plain_chat
    if not any(hasattr(base, "stream") for base in bases):
        own["stream"] = plain_stream
    if not any(issubclass(base, BaseProvider) for base in bases):
        bases = (*bases, BaseProvider)
    return type("Own", bases, own | members)


def own(*failures: BaseException | None, name: str = "own", **members: Any) -> Any:
    provider = provider_class(name=name, **members)()
    provider.behaviour = Behaviour(*failures)
    return provider


async def read(stream: Any) -> list[Any]:
    if asyncio.iscoroutine(stream):
        stream = await stream
    return [item async for item in stream]


def resilient(provider: Any, *fallbacks: Any, **options: Any) -> Any:
    from victor.providers.resilience import ProviderRetryConfig, ResilientProvider

    retries = ProviderRetryConfig(max_retries=2, base_delay_seconds=0.01, jitter_factor=0.0)
    return ResilientProvider(
        provider, retry_config=retries, fallback_providers=list(fallbacks), **options
    )


def refused_key() -> Any:
    """An error that Victor does not try again: it looks for "502" and its like in the whole text,
    which begins with an id that would be drawn."""
    from victor.core.errors import ProviderAuthError

    return ProviderAuthError("no", provider="own", correlation_id="id")


def openai(url: str, **options: Any) -> Any:
    from victor.providers.registry import ProviderRegistry

    return ProviderRegistry.create(
        "openai", **{"api_key": "none", "base_url": url, "max_retries": 0, **options}
    )


async def ask(provider: Any, name: str, *, stream: bool = False) -> Any:
    """Asks with a tool on offer, as the script's dialogue wants."""
    from victor.providers.base import Message, ToolDefinition

    schema = {"type": "object", "properties": {}}
    tools = [ToolDefinition(name="x", description="Does x.", parameters=schema)]
    messages = [Message(role="user", content="Hi.")]
    if stream:
        return await read(provider.stream(messages, model=name, tools=tools))
    return await provider.chat(messages, model=name, tools=tools)
