"""Victor with nothing outside of the process: what its parts did is counted where it was done.

The provider is an application's own, so that a call waits equally often each time; it stands in
the place of one that Victor knows, because Victor offers tools to those only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from tests.kit.providers import chunk, provider_class, response
from tests.kit.tools import own_tool

ASK = "Read the file and tell me what it says."
ANSWER = "That is all. Task complete."
TOOL = "own_tool"


class Work:
    """What was begun inside of Victor, by kind, and how it ended there."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()

    def take(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """What was begun and what ended since the last look."""
        taken = self.begun, self.ended
        self.__init__()
        return taken

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        self.begun[kind] += 1
        status = "failure"
        try:
            yield
            status = "success"
        except (asyncio.CancelledError, GeneratorExit):
            status = "cancelled"
            raise
        finally:
            self.ended[kind, status] += 1


def _asks(messages: Any, options: Any) -> bool:
    """Whether the model now wants its tool: once in a turn."""
    return bool(options.get("tools")) and messages[-1].role == "user"


CALL = {"id": "call_1", "name": TOOL, "arguments": {"number": 21}}


def provider_of(work: Work, name: str = "openai") -> Any:
    """A class of providers that answer after some waits, and first ask for the tool."""

    async def chat(_: Any, messages: Any, *, model: str, **options: Any) -> Any:
        with work.of("provider"):
            for _wait in range(2):
                await asyncio.sleep(0)
            if _asks(messages, options):
                return response(content="", tool_calls=[CALL], model=model)
            return response(content=ANSWER, model=model)

    async def stream(_: Any, messages: Any, *, model: str, **options: Any) -> AsyncIterator[Any]:
        with work.of("provider"):
            await asyncio.sleep(0)
            if _asks(messages, options):
                yield chunk(tool_calls=[CALL])
            else:
                for word in ANSWER.split():
                    await asyncio.sleep(0)
                    yield chunk(content=f"{word} ")
            yield chunk(is_final=True)

    return provider_class(
        name=name,
        chat=chat,
        stream=stream,
        supports_tools=lambda _: True,
        supports_streaming=lambda _: True,
        __init__=lambda self, *_, **__: None,
    )


def tool_of(work: Work) -> Any:
    async def double(_: Any, number: int) -> str:
        with work.of("tool"):
            for _wait in range(2):
                await asyncio.sleep(0)
            return str(2 * number)

    return own_tool(double, name=TOOL)


@asynccontextmanager
async def agent_of(work: Work) -> AsyncIterator[Any]:
    """A real agent on such a provider, with such a tool."""
    async with agent_on(provider_of(work), tool_of(work)) as created:
        yield created


def _registering() -> asyncio.Lock:
    """One for each event loop, since a lock belongs to the one that waited first."""
    return _LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock())


_LOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


@asynccontextmanager
async def agent_on(provider: Any, tool: Any) -> AsyncIterator[Any]:
    """A real agent on a class of providers in the place of OpenAI's, with a tool."""
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    from victor.providers.registry import ProviderRegistry

    async with _registering():  # several agents may be made at once
        known = ProviderRegistry.get("openai")
        ProviderRegistry.register("openai", provider)
        try:
            override = ProviderOverrideConfig(provider="openai", model="m")
            created = await Agent.create(session_config=SessionConfig(provider_override=override))
        finally:
            ProviderRegistry.register("openai", known)
    orchestrator: Any = created.get_orchestrator()
    orchestrator.console.quiet = True
    orchestrator.tools.register(tool)
    try:
        yield created
    finally:
        await created.close()
