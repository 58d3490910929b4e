"""The tree of a session is the one that its own ledger has: each call once, in its place."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit import tree, whole_session
from tests.kit.agents import agent, model, recording
from tests.kit.chat import ANSWER, LOOK, Resumable, response, resume, team
from tests.kit.traced import Traced
from tests.scenarios.scenario import Count, Scenario, played
from victor_otel import demo

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(autouse=True)
def _every_context_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "Failed to detach context" not in caplog.text


async def test_the_tree_of_the_demo_is_that_of_its_ledger(tmp_path: Path) -> None:
    scenario = demo.Scenario(agents=4)
    with demo.ScriptedModel(scenario.scripts) as served:
        ledger = demo.Ledger(served)

        async def session(_: Count) -> None:
            await demo.run_session(served.url, ledger, scenario)

        seen = await traced_in(tmp_path, session)
    assert ledger.problems() == []
    tree.hold(seen, tree.of_demo(scenario, served.answers))


async def test_sub_agents_plans_and_messages_to_other_programs_are_in_their_places(
    tmp_path: Path,
) -> None:
    expected: list[tree.Conversation] = []
    with demo.ScriptedModel({whole_session.MODEL: whole_session.SCRIPT}) as served:

        async def session(_: Count) -> None:
            expected.append(await whole_session.play(served))

        seen = await traced_in(tmp_path, session)
    tree.hold(seen, expected)


async def test_teams_and_resumed_turns_are_trees_of_their_own(tmp_path: Path) -> None:
    async def execute_turn(_message: str) -> Any:
        return SimpleNamespace(response=response(), has_tool_calls=False)

    async def session(_: Count) -> None:
        async with agent(served, "m") as created:
            assert (await (await team(created, "researcher", "planner")).run()).success
        assert (await resume(Resumable(execute_turn))).final_content == "hi"

    with model(m=[LOOK, ANSWER] * 2) as served:
        seen = await traced_in(tmp_path, session)
    calls = [tree.answered(answer) for answer in served.answers]
    members = [
        tree.node(f"invoke_agent {role}", "success", asked, tree.tool("ls", ls), told)
        for role, ls, asked, told in (
            ("researcher", "success", *calls[:2]),
            ("planner", "hit", *calls[2:]),
        )
    ]
    turns = [node for conversation in seen for node in conversation]
    resumed = tree.node("invoke_agent victor", "success")
    tree.hold(
        [tuple(sorted(turns))],
        [(resumed, tree.node("invoke_workflow team", "success", *members))],
    )


async def traced_in(
    folder: Path, session: Callable[[Count], Coroutine[Any, Any, None]]
) -> list[tree.Conversation]:
    """What a session in `folder` leaves; nothing else is wrong with its spans."""
    traced = Traced()
    with recording(traced=traced):
        async with played(Scenario(run=session, proves=()), folder):
            pass
    assert traced.problems() == []
    return tree.conversations(map(tree.seen, traced.ours))
