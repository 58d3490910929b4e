"""Skills: which skills are registered, how well they are mastered, how prompts are improved.

Victor's own proficiency is that of its tools: the share of successes among all uses that it
learned from, including those of earlier processes.
"""

import threading
from typing import NamedTuple

from victor_otel.model.metric import Counter, Gauge, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Observes, Target
from victor_otel.victor import labels
from victor_otel.victor.values import mapping


class Lesson(NamedTuple):
    """What Victor knows of a skill when it has learned from a use of it; None is nothing."""

    skill: str
    score: float | None


class Loop(NamedTuple):
    """An attempt to improve a section of Victor's prompt; a cancelled one has no outcome."""

    outcome: str


LESSON = OperationType("lesson", Lesson)
LOOP = OperationType("self_improvement", Loop, outermost=True)

DISCOVERED = Counter(
    "victor.skill.discovery",
    "Skills that were registered for the first time in this process",
    labels=(labels.SKILL_TYPE,),
    guide=True,
)
PROFICIENCY = Gauge(
    "victor.proficiency_score",
    "Proficiency in a skill, from 0 to 1: the share of successes among the uses of a tool "
    "that Victor learned from, or the last score that an application gave",
    labels=(labels.SKILL,),
    guide=True,
    of=LESSON,
    value="score",
)
LOOPS = Counter(
    "victor.self_improvement_loops",
    "Attempts to improve a section of Victor's prompt",
    labels=(labels.LOOP_OUTCOME,),
    guide=True,
    of=LOOP,
    when="outcome",
)

MAX_SKILLS = 10_000
"""Names of skills remembered at once; beyond it no further ones are counted."""


class Skills:
    """The names of the skills that were registered so far, whatever the registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def observe_registration(self, registration: Operation, record: Record) -> None:
        if registration.error is not None:
            return
        skill = registration.argument("skill")
        with self._lock:
            if skill.name in self._known or len(self._known) >= MAX_SKILLS:
                return
            self._known.add(skill.name)
        record(DISCOVERED, skill_type=skill.category)


def read_lesson(lesson: Operation) -> Lesson:
    """Victor counts earlier processes in.

    It also learns from tools that a model invented; their names are not skills.
    """
    tool = mapping(getattr(lesson.argument("outcome"), "metadata", None)).get("tool_name")
    registry = getattr(lesson.owner, "tools", None)
    if not tool or (registry is not None and registry.get(tool) is None):
        return Lesson("", None)
    stats = mapping(lesson.instance.get_tool_stats(tool))
    return Lesson(tool, stats["success_rate"] if stats.get("selection_count", 0) > 0 else None)


def read_loop(loop: Operation) -> Loop:
    """Without a candidate nothing changed, unless something that was asked for one failed."""
    if loop.status == "cancelled":
        return Loop("")
    failed = loop.error is not None or (loop.result is None and loop.failures)
    evolved = "no_change" if loop.result is None else "evolved"
    return Loop("error" if failed else evolved)


_LEARNERS = "victor.framework.rl.learners"
_LEARN = f"{_LEARNERS}.tool_selector:ToolSelectorLearner.record_outcome"
_EVOLVE = f"{_LEARNERS}.prompt_optimizer:PromptOptimizerLearner.evolve"

AREA = Area(
    name="skills",
    metrics=(DISCOVERED, PROFICIENCY, LOOPS),
    rows=(
        Observes(
            Target("victor.framework.skills:SkillRegistry.register", arguments=("skill",)),
            Skills.observe_registration,
            feeds=(DISCOVERED,),
        ),
        Begins(LESSON, Target(_LEARN, arguments=("outcome",)), read=read_lesson),
        Begins(LOOP, Target(_EVOLVE), read=read_loop),
    ),
    state=Skills,
)
