"""The tree of a session is the one that its own ledger has: each call once, in its place."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tree, whole_session
from tests.scenarios.scenario import Count, Scenario, played
from tests.traced import Traced
from tests.victor.agents import recording
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
    assert seen == tree.of_demo(scenario, served.answers)


async def test_sub_agents_plans_and_messages_to_other_programs_are_in_their_places(
    tmp_path: Path,
) -> None:
    expected: list[tree.Conversation] = []
    with demo.ScriptedModel({whole_session.MODEL: whole_session.SCRIPT}) as served:

        async def session(_: Count) -> None:
            expected.append(await whole_session.play(served))

        seen = await traced_in(tmp_path, session)
    assert list(map(tree.drawn, seen)) == list(map(tree.drawn, expected))
    assert seen == expected


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
