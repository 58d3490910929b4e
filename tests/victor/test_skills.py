"""Skills that become known, tools that Victor learns of, prompts that it tries to improve."""

from __future__ import annotations

import threading
from collections import Counter
from sqlite3 import ProgrammingError
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, model
from tests.kit.providers import openai
from tests.kit.tools import double, own_tool
from tests.scenarios.skills import PROMPT, Strategy, database, optimizer, selector, skill, use
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall

FOUND, SCORE = "victor.skill.discovery", "victor.proficiency_score"
LOOPS, ERRORS = "victor.self_improvement_loops", "victor.errors"

Points = dict[tuple[Any, ...], float]


def found(recorded: Recorded) -> dict[str, float]:
    points = recorded.points(FOUND, zeros=True)
    return {dict(key[1:])["skill_type"]: value for key, value in points.items()}


def scores(recorded: Recorded) -> dict[str, float]:
    points = recorded.points(SCORE, zeros=True)
    return {dict(key[1:])["skill"]: value for key, value in points.items()}


def loops(recorded: Recorded) -> dict[str, float]:
    points = recorded.points(LOOPS, zeros=True)
    return {dict(key[1:])["outcome"]: value for key, value in points.items()}


def registry() -> Any:
    from victor.framework.skills import SkillRegistry

    return SkillRegistry()


# Discovery


def test_a_skill_is_discovered_once_whatever_registers_it(recorded: Recorded) -> None:
    one, other = registry(), registry()
    for where in (one, one, other):
        where.register(skill("dig", "gardening"))
    other.register(skill("dig", "mining"))  # a later definition of the same name
    other.register(skill=skill("fry", "cooking"))
    assert found(recorded) == {"gardening": 1, "cooking": 1}


def test_every_source_of_skills_counts(recorded: Recorded) -> None:
    from victor.framework.skills import SkillRegistry

    known = SkillRegistry.from_all_sources().list_all()
    SkillRegistry.from_all_sources()
    assert found(recorded) == Counter(one.category for one in known)


def test_skills_registered_in_several_threads_count_once(recorded: Recorded) -> None:
    skills = [skill(f"dig-{number}", "gardening") for number in range(50)]
    start = threading.Barrier(8)

    def register() -> None:
        mine = registry()
        start.wait()
        for one in skills:
            mine.register(one)

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found(recorded) == {"gardening": 50}


def test_what_is_no_skill_is_refused_by_victor_and_not_counted(recorded: Recorded) -> None:
    with pytest.raises(AttributeError):
        registry().register(SimpleNamespace(category="gardening"))
    registry().register(skill("dig", "gardening"))
    assert found(recorded) == {"gardening": 1}


def test_types_of_skills_are_bounded_and_their_names_nowhere(recorded: Recorded) -> None:
    mine = registry()
    for number in range(60):
        mine.register(skill(f"secret-name-{number}", f"type-{number}"))
    counted = found(recorded)
    assert len(counted) == 51
    assert counted["other"] == 10
    assert "secret-name" not in str(recorded.points())


# Proficiency


def test_a_score_is_the_share_of_uses_that_succeeded_in_every_life(recorded: Recorded) -> None:
    known = database()
    assert scores(recorded) == {}
    for success in (True, True, False):
        selector(known).record_outcome(use("dig", success=success))
    assert scores(recorded) == {"dig": pytest.approx(2 / 3)}
    selector(known).record_outcome(outcome=use("dig", success=False))
    assert scores(recorded) == {"dig": 0.5}


def test_without_a_use_there_is_no_score(recorded: Recorded) -> None:
    """Victor answers 0.5 and 0.0 for a tool that it knows nothing of."""
    learner = selector(database())
    assert learner.get_tool_stats("dig")["q_value"] == 0.5
    learner.get_recommendation("dig", "m", "default")
    summary = use("", success=True)
    summary.metadata = {"session_summary": "secret-name"}
    learner.record_outcome(summary)
    learner.record_outcome(use("", success=True))
    assert scores(recorded) == {}


def test_what_a_learner_refuses_is_no_use(recorded: Recorded) -> None:
    learner, unjudged = selector(database()), use("dig", success=True)
    unjudged.quality_score = None
    with pytest.raises(TypeError):
        learner.record_outcome(unjudged)
    assert learner.get_tool_stats("dig")["success_rate"] == 0
    assert scores(recorded) == {}


def test_what_a_learner_cannot_keep_it_still_learned(recorded: Recorded) -> None:
    known = database()
    learner = selector(known)
    known.close()
    with pytest.raises(ProgrammingError):
        learner.record_outcome(use("dig", success=True))
    assert learner.get_tool_stats("dig")["selection_count"] == 1
    assert scores(recorded) == {"dig": 1}


async def test_a_tool_that_the_model_invented_is_no_skill(recorded: Recorded) -> None:
    calls = ToolCall("own_tool", {"number": 2}), ToolCall("secret_name", {"number": 2})
    learned: list[Any] = []
    with model(m=[Step(calls=calls), Step("That is all. Task complete.")]) as served:
        async with agent(served, "m", own_tool(double)) as created:
            rl = created.get_orchestrator()._rl_coordinator
            learner = rl.get_learner("tool_selector")
            learner.feed_outcome_to_predictor = learned.append
            await created.run("Double the number with the tool.")
            del learner.feed_outcome_to_predictor
    tools = {one.metadata.get("tool_name") for one in learned}
    assert {"own_tool", "secret_name"} <= tools  # Victor learns of both
    assert set(scores(recorded)) == {"own_tool"}


# Self-improvement


def test_every_outcome_begins_at_0(recorded: Recorded) -> None:
    optimizer(Strategy(PROMPT))
    assert loops(recorded) == {"evolved": 0, "no_change": 0, "error": 0}


def test_a_loop_without_a_candidate_changed_nothing(recorded: Recorded) -> None:
    rejected = "Dig. " * 2000  # Victor takes no garbage
    for learner in (
        optimizer(Strategy(PROMPT)),
        optimizer(Strategy(rejected)),
        optimizer(Strategy("- Dig."), traces=0),
    ):
        assert learner.evolve("OWN_SECTION", PROMPT) is None
    assert loops(recorded) == {"evolved": 0, "no_change": 3, "error": 0}


@pytest.mark.parametrize(
    ("raised", "errors"), [(ValueError(), 1), (TimeoutError(), 1), (KeyboardInterrupt(), 0)]
)
def test_what_a_strategy_raises_is_an_error_and_raised(
    recorded: Recorded, raised: BaseException, errors: int
) -> None:
    def mutate(*_: Any, **__: Any) -> str:
        raise raised

    strategy = Strategy()
    strategy.mutate = mutate
    with pytest.raises(type(raised)) as caught:
        optimizer(strategy).evolve("OWN_SECTION", PROMPT)
    assert caught.value is raised
    assert loops(recorded) == {"evolved": 0, "no_change": 0, "error": errors}


def gepa(served: ScriptedModel, name: str) -> Any:
    """Victor's own strategy, which asks a model."""
    from victor.framework.rl.gepa_service import GEPAService
    from victor.framework.rl.gepa_strategy_adapter import GEPAServiceStrategy

    tiers: Any = SimpleNamespace(get_service=lambda: GEPAService(openai(served.url), name))
    return GEPAServiceStrategy(tiers)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Step(f"{PROMPT}\n- Water the fern before noon, and the moss in the evening."), "evolved"),
        (Step(PROMPT), "no_change"),
        (Step(status=400), "error"),
    ],
    ids=["evolved", "no_change", "error"],
)
def test_a_model_that_fails_a_loop_is_an_error_although_victor_says_no_change(
    recorded: Recorded, answer: Step, outcome: str
) -> None:
    with ScriptedModel({"m": Script([answer], side=answer)}) as served:
        evolved = optimizer(gepa(served, "m")).evolve("OWN_SECTION", PROMPT)
    assert (evolved is not None) is (outcome == "evolved")
    expected = {"evolved": 0, "no_change": 0, "error": 0, outcome: 1}
    assert loops(recorded) == expected
    components = {dict(key[1:])["component"] for key in recorded.points(ERRORS)}
    assert components == ({"provider"} if outcome == "error" else set())
