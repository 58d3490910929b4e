"""A real Victor session against the scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from victor_otel.demo.extras import call_api, run_workflows
from victor_otel.demo.ledger import Ledger
from victor_otel.demo.scenario import Part, Scenario, Turn
from victor_otel.demo.tools import own_tools
from victor_otel.demo.victor_parts import part as victor


async def run_session(
    model_url: str, ledger: Ledger, scenario: Scenario, *, extras: bool = True
) -> None:
    """Play the scenario in the current working directory and tell the ledger what was seen.

    Call it inside `sandbox()`. The soloists play one after the other, the workers all at once.
    """
    _write_files(scenario.files)
    driver = _Driver(model_url, ledger)
    await asyncio.create_task(driver.fail_to_create())
    for part in scenario.soloists:
        await asyncio.create_task(driver.play(part))
    await asyncio.gather(*(driver.play(part) for part in scenario.workers))
    if extras:
        await run_workflows(ledger)
        await call_api(ledger)


def _write_files(names: Sequence[str]) -> None:
    for name in names:
        Path(name).write_text(f"This is {name}.\n", encoding="utf-8")


class _Driver:
    """Plays parts. Each must have a task of its own: agents created in one task share state."""

    def __init__(self, model_url: str, ledger: Ledger) -> None:
        self._url = model_url
        self._ledger = ledger

    async def play(self, part: Part) -> None:
        """Live the whole life of one agent."""
        agent = await self._create("openai", part.model)
        try:
            tools = own_tools(self._ledger.own_tool)
            self._ledger.know_own_tools({getattr(tool, "Tool", tool).name for tool in tools})
            orchestrator = agent.get_orchestrator()
            orchestrator.console.quiet = True
            for tool in tools:
                orchestrator.tools.register(tool)
            for turn in part.turns:
                self._ledger.turn_ended(part, turn, await self._take(agent, part, turn))
        finally:
            await agent.close()
            self._ledger.session_ended(part, len(part.turns))

    async def fail_to_create(self) -> None:
        """Ask for a provider that Victor does not know."""
        try:
            agent = await self._create("demo-no-such-provider", "demo-nobody")
        except Exception:  # which exception it is differs between versions
            return
        await agent.close()

    async def _create(self, provider: str, model: str) -> Any:
        override = victor("victor.framework.session_config", "ProviderOverrideConfig")
        config = victor("victor.framework.session_config", "SessionConfig")
        agent = victor("victor.framework", "Agent")
        chosen = override(provider=provider, model=model, endpoint=self._url)
        status = "failure"
        try:
            created = await agent.create(session_config=config(provider_override=chosen))
            status = "success"
        finally:
            self._ledger.agent_created(status)
        return created

    async def _take(self, agent: Any, part: Part, turn: Turn) -> str:
        if turn.manner == "left after a tool":
            return await _leave(agent, turn)
        if turn.manner == "cancelled while waiting":
            return await self._cancel(agent, part, turn)
        said = await (_listen(agent, turn) if turn.stream else _ask(agent, turn))
        # Victor reports success also when it only apologises for its provider.
        return "success" if turn.steps[-1].text and turn.steps[-1].text in said else "failure"

    async def _cancel(self, agent: Any, part: Part, turn: Turn) -> str:
        model = self._ledger.model
        arrived = model.requests(part.model) + len(turn.steps)
        running = asyncio.ensure_future(_ask(agent, turn))
        await asyncio.to_thread(model.wait_for_request, part.model, arrived)
        running.cancel()
        await asyncio.wait([running])
        return "cancelled" if running.cancelled() else "failure"


async def _ask(agent: Any, turn: Turn) -> str:
    result = await agent.run(turn.prompt)
    return str(result.content)


async def _listen(agent: Any, turn: Turn) -> str:
    stream: AsyncIterator[Any] = agent.stream(turn.prompt)
    return "".join(
        [str(event.content or "") async for event in stream if event.type.value == "content"]
    )


async def _leave(agent: Any, turn: Turn) -> str:
    ending = "failure"
    async with aclosing(agent.stream(turn.prompt)) as events:
        async for event in events:
            if event.type.value == "tool_result":
                ending = "cancelled"
                break
    del events
    # Victor's inner generators are not closed with the outer one but by the event loop, later.
    await asyncio.sleep(0.1)
    return ending
