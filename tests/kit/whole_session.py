"""One real session with all that a tree can have, and the tree that it must leave.

A turn asks a sub-agent, another program by the Model Context Protocol, and a tool that fails; the
next one makes a plan, which its sub-agents carry out.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kit.agents import agent
from tests.kit.processes import MCP_SERVER
from tests.kit.tree import Conversation, Node, answered, node, tool
from victor_otel.demo.model import Answer, ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall, Usage

MODEL = "gardener"
NOTES = "notes.txt"

_ASK = "Read the notes of the garden and tell me what to do."
_READ = Step(calls=(ToolCall("read", {"path": NOTES}),), usage=Usage(prompt=120, completion=15))
_TOLD = Step("The notes say that the roses are dry. Task complete.", usage=Usage(160, 12))
_WORK = Step(
    calls=(ToolCall("water", {"bed": "roses"}), ToolCall("prune", {"bed": "roses"})),
    usage=Usage(prompt=210, completion=22),
)
_DELEGATE = Step(calls=(ToolCall("delegate", {"task": _ASK}),), usage=Usage(90, 9))
_DONE = Step("The roses are wet. Task complete.", usage=Usage(240, 8))
_PLAN = Step(
    json.dumps(
        {
            "name": "Garden",
            "complexity": "moderate",
            "desc": "A green garden",
            "steps": [
                [1, "research", "Read the notes of the garden", "read"],
                [2, "research", "Read the notes again", "read", [1]],
            ],
        }
    ),
    usage=Usage(300, 60),
)
SCRIPT = Script([_DELEGATE, _READ, _TOLD, _WORK, _DONE, *(_READ, _TOLD) * 2], side=_PLAN)


def own_tools(created: Any) -> Sequence[Any]:
    """The tools of the session's agent."""
    from victor.agent.subagents import SubAgentOrchestrator, SubAgentRole
    from victor.integrations.mcp.client import MCPClient
    from victor.tools.decorators import tool as as_tool

    helpers = SubAgentOrchestrator(created.get_orchestrator())

    @as_tool
    async def delegate(task: str) -> str:
        """Has a sub-agent do a task.

        Args:
            task: What to do.
        """
        return (await helpers.spawn(SubAgentRole.RESEARCHER, task)).summary

    @as_tool
    async def water(bed: str) -> str:
        """Has another program water a bed.

        Args:
            bed: Its name.
        """
        caller = MCPClient(health_check_interval=0)
        await caller.connect([sys.executable, "-c", MCP_SERVER])
        try:
            return str((await caller.call_tool("water", plant=bed)).result)
        finally:
            caller.disconnect()

    @as_tool
    async def prune(bed: str) -> str:
        """Prunes a bed.

        Args:
            bed: Its name.
        """
        raise LookupError(f"no shears for the {bed}")

    return delegate, water, prune


async def play(served: ScriptedModel) -> Conversation:
    """Plays the session in the current folder; the tree of what its model was asked and said."""
    Path(NOTES).write_text("The roses are dry.\n", encoding="utf-8")
    async with agent(served, MODEL) as created:
        for each in own_tools(created):
            created.get_orchestrator().tools.register(each)
        assert (await created.run(_ASK)).content == _DONE.text
        asked = len(served.answers)
        with contextlib.redirect_stdout(sys.stderr):  # where Victor shows its plan
            await created.get_orchestrator()._chat_service.chat_with_planning(
                "Make a plan for the garden, and carry it out.", use_planning=True
            )
    first, second = served.answers[:asked], served.answers[asked:]
    return _first_turn(first), _planned_turn(second)


def _first_turn(answers: Sequence[Answer]) -> Node:
    delegating, reading, telling, working, done = map(answered, answers)
    return node(
        "invoke_agent victor",
        "success",
        delegating,
        tool(
            "delegate",
            "success",
            node("invoke_agent researcher", "success", reading, tool("read"), telling),
        ),
        working,
        tool("water", "success", *map(_message, (*_CONNECTS, "tools/call water"))),
        tool("prune", "failure"),
        done,
    )


_CONNECTS = ("initialize", "tools/list", "resources/list")


def _message(name: str) -> Node:
    return node(name, "success", kind="client")


def _planned_turn(answers: Sequence[Answer]) -> Node:
    """Victor is not content with what was read, so it fails, here before a step and there after.

    What is asked without tools is asked by itself: the plan, and in some versions the last words.
    """
    plan, *carried_out = answers
    last_words = [answered(one) for one in carried_out if one.side]
    steps = [answered(one) for one in carried_out if not one.side]
    return node(
        "invoke_agent victor",
        "failure",
        node("plan victor", "success", answered(plan)),
        *(
            node("invoke_agent researcher", "success", reading, tool("read", "hit"), telling)
            for reading, telling in zip(steps[::2], steps[1::2], strict=True)
        ),
        *last_words,
    )
