"""Turns of agents, and what is seen of them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import time
from types import SimpleNamespace
from typing import Any

from tests.kit.agents import Recorded
from victor_otel.demo.script import Step, ToolCall

ASK = "Read the file and tell me what it says."

LOOK = Step(calls=(ToolCall("ls", {"path": "."}),))

ANSWER = Step("That is all. Task complete.")

REFUSED = Step(status=400)

TURNS, VERTICALS = "victor.chat.request.duration", "victor.vertical.usage"

REQUESTS, FEATURES, ERRORS = "victor.requests", "victor.feature.usage", "victor.errors"

IN_FLIGHT, QUEUED = "victor.requests_in_flight", "victor.queue_depth"


Points = dict[tuple[Any, ...], float]


def point(name: str, value: float = 1, **labels: str) -> Points:
    return {(name, *sorted(labels.items())): value}


def seen(recorded: Recorded) -> Points:
    return recorded.points(TURNS, VERTICALS, REQUESTS, FEATURES, ERRORS)


NOBODY = point(IN_FLIGHT, 0, interface="sdk")


async def listen(created: Any, prompt: str = ASK) -> list[str]:
    return [event.type.value async for event in created.stream(prompt)]


def service(created: Any) -> Any:
    return created.get_orchestrator()._chat_service


def answer_with(created: Any, answer: Any) -> Any:
    """A chat service below which `answer(message)` stands for all of Victor."""

    async def execute_agentic_loop(message: str, **_: Any) -> Any:
        return await answer(message)

    own = service(created)
    own._turn_executor = SimpleNamespace(execute_agentic_loop=execute_agentic_loop)
    return own


def response(**metadata: Any) -> Any:
    from victor.providers.base import CompletionResponse

    return CompletionResponse(content="hi", role="assistant", metadata=metadata)


class Resumable:
    """As much of an orchestrator as `resume_paused_run` wants, with a call to decide on."""

    def __init__(self, execute_turn: Any, add_tool_result: Any = lambda *_: None) -> None:
        messages = [
            SimpleNamespace(role="user", content=ASK),
            SimpleNamespace(role="assistant", content="", tool_calls=[PARKED]),
        ]
        self._conversation_controller = SimpleNamespace(
            messages=messages, add_tool_result=add_tool_result
        )
        self._tool_service = SimpleNamespace()
        self._get_tool_execution_runtime = SimpleNamespace
        self.active_session_id = "s"
        self.turn_executor = SimpleNamespace(execute_turn=execute_turn)
        self.mode_controller = SimpleNamespace(current_mode=SimpleNamespace(value="plan"))
        self._vertical_context = SimpleNamespace(name="coding")


async def resume(orchestrator: Any) -> Any:
    import victor.agent.durable_resume as module

    return await module.resume_paused_run(orchestrator, parked(), SimpleNamespace(approved=False))


PARKED = {"id": "call_0", "function": {"name": "ls", "arguments": "{}"}}


def parked() -> Any:
    """A run that waits for a decision on its one call, bound to it where Victor binds (not 0.9)."""
    places = ("victor.agent.approval_binding", "victor.framework.approval_binding")
    found = next((place for place in places if importlib.util.find_spec(place)), None)
    if found is None:
        return SimpleNamespace(pending_tool=None, session_id="s", agent_id=None, run_id="r")
    binds = importlib.import_module(found)
    digest, proposal = binds.digest, binds.proposal
    request: dict[str, Any] = {"id": "a", "timeout_seconds": 60, "created_at": time.time()}
    action = {
        "version": 1,
        "call_id": PARKED["id"],
        "tool_name": "ls",
        "proposal": digest(proposal(PARKED)),
        "payload": digest({}),
    }
    binding = {
        **action,
        "session_id": "s",
        "agent_id": None,
        "request_id": request["id"],
        "expires_at": request["created_at"] + request["timeout_seconds"],
    }
    request["context"] = {"action_binding": action, "tool_name": "ls", "arguments": {}}
    return SimpleNamespace(
        approval_request=request,
        pending_tool={"binding": binding, "tool_name": "ls", "arguments": {}},
        session_id="s",
        agent_id=None,
        run_id="r",
    )


def own_vertical() -> Any:
    from victor.core.verticals.base import VerticalBase

    class Gardening(VerticalBase):
        name = "gardening"
        description = "Plants and such."
        version = "1.0.0"

        @classmethod
        def get_tools(cls) -> list[str]:
            return ["ls", "read"]

        @classmethod
        def get_system_prompt(cls) -> str:
            return "You are a gardener."

    return Gardening


def gate() -> tuple[Any, asyncio.Semaphore, asyncio.Semaphore]:
    """A tool that tells when it was entered, and waits until it is let go on."""
    from victor.tools.decorators import tool

    entered, let_in = asyncio.Semaphore(0), asyncio.Semaphore(0)

    @tool
    async def knock(door: str) -> str:
        """Knocks at a door.

        Args:
            door: Which one.
        """
        entered.release()
        await let_in.acquire()
        return f"{door} is open"

    return knock, entered, let_in


KNOCK = Step(calls=(ToolCall("knock", {"door": "the front door"}),))


def spawner(created: Any) -> Any:
    """A tool with which the model has a sub-agent do something."""
    from victor.agent.subagents import SubAgentOrchestrator, SubAgentRole
    from victor.tools.decorators import tool

    helpers = SubAgentOrchestrator(created.get_orchestrator())

    @tool
    async def delegate(task: str) -> str:
        """Has a sub-agent do a task.

        Args:
            task: What to do.
        """
        done = await helpers.spawn(SubAgentRole.RESEARCHER, task)
        return f"{done.success}"

    return delegate


DELEGATE = Step(calls=(ToolCall("delegate", {"task": ASK}),))


async def team(created: Any, *roles: str) -> Any:
    from victor.framework.teams import AgentTeam, TeamMemberSpec

    return await AgentTeam.create(
        orchestrator=created.get_orchestrator(),
        name="garden",
        goal=ASK,
        members=[TeamMemberSpec(role=role, goal=ASK) for role in roles],
    )
