"""Skills: which ones become known, how well they are mastered, how prompts improve.

Victor's own proficiency is that of its tools: the share of successes among all uses that it
learned from, those of earlier processes included.
"""

from __future__ import annotations

import threading

from victor_otel import labels
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Record, Scope, mapping

DISCOVERED = Metric(
    name="victor.skill.discovery",
    kind=Kind.COUNTER,
    meaning="Skills that were registered for the first time in this process",
    labels=(labels.SKILL_TYPE,),
    guide=True,
)
PROFICIENCY = Metric(
    name="victor.proficiency_score",
    kind=Kind.GAUGE,
    meaning="How well a skill is mastered, from 0 to 1: the share of a tool's uses that Victor "
    "learned from and that succeeded, or what an application said last",
    labels=(labels.SKILL,),
    guide=True,
)
LOOPS = Metric(
    name="victor.self_improvement_loops",
    kind=Kind.COUNTER,
    meaning="Attempts to evolve a section of Victor's prompt",
    labels=(labels.LOOP_OUTCOME,),
    guide=True,
)

LOOP = Scope(name="self_improvement", outermost=True)

MAX_SKILLS = 10_000
"""Names of skills remembered at once; beyond it no further ones are counted."""


class Skills:
    """The names of the skills that were registered so far, whatever the registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def observe_registration(self, call: Call, record: Record) -> None:
        if call.error is not None:
            return
        skill = call.argument("skill", 0)
        with self._lock:
            if skill.name in self._known or len(self._known) >= MAX_SKILLS:
                return
            self._known.add(skill.name)
        record(DISCOVERED, skill_type=skill.category)

    def observe_use(self, call: Call, record: Record) -> None:
        """What Victor knows now of a tool, earlier processes included.

        It also learns of tools that a model invented; their names are nobody's skills.
        """
        tool = mapping(getattr(call.argument("outcome", 0), "metadata", None)).get("tool_name")
        registry = getattr(call.owner, "tools", None)
        if not tool or (registry is not None and registry.get(tool) is None):
            return
        stats = mapping(call.instance.get_tool_stats(tool))
        if stats.get("selection_count", 0) > 0:
            record(PROFICIENCY, stats["success_rate"], skill=tool)

    def observe_loop(self, call: Call, record: Record) -> None:
        """Without a candidate nothing changed, unless something that was asked for one failed."""
        if call.status == "cancelled":
            return
        failed = call.error is not None or (call.result is None and call.failures)
        evolved = "no_change" if call.result is None else "evolved"
        record(LOOPS, outcome="error" if failed else evolved)


_LEARNERS = "victor.framework.rl.learners"

AREA = Area(
    name="skills",
    metrics=(DISCOVERED, PROFICIENCY, LOOPS),
    hooks=(
        Hook(
            target="victor.framework.skills:SkillRegistry.register",
            observe=Skills.observe_registration,
            feeds=(DISCOVERED,),
        ),
        Hook(
            target=f"{_LEARNERS}.tool_selector:ToolSelectorLearner.record_outcome",
            observe=Skills.observe_use,
            feeds=(PROFICIENCY,),
        ),
        Hook(
            target=f"{_LEARNERS}.prompt_optimizer:PromptOptimizerLearner.evolve",
            scope=LOOP,
            observe=Skills.observe_loop,
            feeds=(LOOPS,),
        ),
    ),
    state=Skills,
)
