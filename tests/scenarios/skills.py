"""Skills that become known, tools that are learned, prompts that evolve or do not."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.scenario import Count, Scenario
from victor_otel import record
from victor_otel.victor.areas.skills import DISCOVERED, LOOPS, PROFICIENCY

FOUND, SCORE, RAN = (
    "victor_skill_discovery_total",
    "victor_proficiency_score",
    "victor_self_improvement_loops_total",
)

PROMPT = "- Read the plan.\n- Keep it short."


def skill(name: str, category: str) -> Any:
    from victor.framework.skills import SkillDefinition

    return SkillDefinition(name, "Does it", category, "Do it.", [])


def database() -> sqlite3.Connection:
    """Where Victor's learners keep what they know."""
    from victor.core.schema import Schema

    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    for table in (Schema.RL_Q_VALUE, Schema.RL_TASK_STAT, Schema.RL_TRANSITION):
        connection.executescript(table)
    return connection


def selector(known: sqlite3.Connection) -> Any:
    from victor.framework.rl.learners.tool_selector import ToolSelectorLearner

    return ToolSelectorLearner("tool_selector", known)


def use(tool: str, *, success: bool) -> Any:
    from victor.framework.rl.base import RLOutcome

    quality = float(success)
    return RLOutcome("openai", "m", "default", success, quality, metadata={"tool_name": tool})


def optimizer(strategy: Any, traces: int = 6) -> Any:
    """Victor's optimiser with a history of as many sessions."""
    from victor.framework.rl.learners.prompt_optimizer import (
        ExecutionTrace,
        PromptOptimizerLearner,
    )

    history = [
        ExecutionTrace(str(number), "default", "openai", "m", 3, {}, True, 0.9, 10)
        for number in range(traces)
    ]
    learner = PromptOptimizerLearner(
        "prompt_optimizer", sqlite3.connect(":memory:"), strategy=strategy
    )
    learner._collect_learning_traces = lambda limit=50: history[:limit]
    return learner


class Strategy:
    """Makes of a prompt what it is told to."""

    def __init__(self, to: str = "") -> None:
        self.to = to

    def reflect(self, *_: Any, **__: Any) -> str:
        return "It could be better."

    def mutate(self, *_: Any, **__: Any) -> str:
        if not self.to:
            raise ConnectionError
        return self.to


async def discovery(count: Count) -> None:
    """Skills registered by hand, by a file and by verticals, more than once and in two places."""
    from victor.framework.skills import SkillRegistry

    run = secrets.token_hex(4)
    registry, other = SkillRegistry(), SkillRegistry()
    for name, category, where in (
        ("dig", "gardening", registry),
        ("water", "gardening", registry),
        ("dig", "gardening", registry),
        ("dig", "gardening", other),
        ("fry", "cooking", other),
    ):
        where.register(skill(f"{name}-{run}", category))
    Path("skills").mkdir()
    written = (
        "name: {name}\ndescription: Does it\ncategory: cooking\n"
        "prompt_fragment: Do it.\nrequired_tools: []\n"
    )
    for name in ("fry", "bake"):
        Path("skills", f"{name}.yaml").write_text(written.format(name=f"{name}-{run}"))
    registry.from_yaml_directory("skills")
    assert len(registry.list_all()) == 4

    class Garden:
        @staticmethod
        def get_skills() -> list[Any]:
            return [skill(f"{name}-{run}", "gardening") for name in ("water", "mow")]

    other.from_vertical(Garden)
    assert len(other.list_all()) == 4
    count.add(FOUND, 3, skill_type="gardening")  # dig, water, mow
    count.add(FOUND, 2, skill_type="cooking")  # fry, bake


async def proficiency(count: Count) -> None:
    """Tools that Victor's learner learns of, over two lives of it, and an application's word."""
    known = database()
    learner = selector(known)
    for success in (True, False, True):
        learner.record_outcome(use("dig", success=success))
    learner.record_outcome(use("mow", success=False))
    selector(known).record_outcome(use("dig", success=True))
    assert selector(known).get_tool_stats("dig")["selection_count"] == 4
    count.set(SCORE, 0.75, skill="dig")
    count.set(SCORE, 0, skill="mow")
    record.proficiency("fry", 0.2)
    record.proficiency("fry", 0.9)
    count.set(SCORE, 0.9, skill="fry")


async def loops(count: Count) -> None:
    """A prompt that evolves, one that does not, too little history, and a broken strategy."""
    better = PROMPT + "\n- Water the fern before noon."
    evolved = optimizer(Strategy(better)).evolve("OWN_SECTION", PROMPT)
    assert evolved.text == better
    count.add(RAN, outcome="evolved")
    assert optimizer(Strategy(PROMPT)).evolve("OWN_SECTION", PROMPT) is None
    assert optimizer(Strategy(better), traces=1).evolve("OWN_SECTION", PROMPT) is None
    count.add(RAN, 2, outcome="no_change")
    with pytest.raises(ConnectionError):
        optimizer(Strategy()).evolve("OWN_SECTION", PROMPT)
    count.add(RAN, outcome="error")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=discovery, proves=(DISCOVERED,)),
    Scenario(run=proficiency, proves=(PROFICIENCY,)),
    Scenario(run=loops, proves=(LOOPS,)),
)
