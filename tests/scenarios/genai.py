"""What OpenTelemetry's names must show, by what a scenario counted under Victor's.

A call is one count in either vocabulary. Their labels differ: ours tell how a call ended, theirs
the error of what failed; both tell whether it failed, and that is what is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.scenarios.scenario import Scenario, Series
from victor_otel.model.metric import Metric
from victor_otel.victor.areas import chat, genai, memory, providers, tools, workflows

_FAILED = frozenset({"failure", "timeout"})


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A series of a metric of the conventions, and ours that is to show the same."""

    metric: Metric
    part: str = "_count"
    of: Metric
    counted: str = ""
    """The part of ours, which is a counter otherwise."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Our labels, and what theirs are called."""
    only: Mapping[str, str] = field(default_factory=dict[str, str])
    """The series of ours."""
    within: Mapping[str, str] = field(default_factory=dict[str, str])
    """The series of theirs."""
    fails: bool = False
    """Whether both tell what failed."""
    also: tuple[Metric, ...] = ()
    """What a scenario must prove as well for both to be about the same calls."""

    @property
    def theirs(self) -> str:
        return self.metric.prometheus_name + self.part

    @property
    def ours(self) -> str:
        return self.of.prometheus_name + self.counted

    def is_proven(self, scenario: Scenario) -> bool:
        return {self.of, *self.also} <= {*scenario.proves}

    def expected(self, counted: Series) -> Counter[tuple[str, ...]]:
        """By the count of a scenario, under the labels that both have."""
        found: Counter[tuple[str, ...]] = Counter()
        for (name, pairs), value in counted.items():
            labels = dict(pairs)
            if name == self.ours and self.only.items() <= pairs:
                failed = self.fails and labels["status"] in _FAILED
                found[(*(labels[ours] for ours in self.labels), str(failed))] += round(value)
        return +found

    def seen(self, exported: Series) -> Counter[tuple[str, ...]]:
        found: Counter[tuple[str, ...]] = Counter()
        for (name, pairs), value in exported.items():
            labels = dict(pairs)
            if name == self.theirs and self.within.items() <= pairs and not _is_team(labels):
                failed = self.fails and bool(labels.get("error_type"))
                found[(*(labels[theirs] for theirs in self.labels.values()), str(failed))] += round(
                    value
                )
        return +found


def _is_team(labels: Mapping[str, str]) -> bool:
    workflow = labels.get("gen_ai_operation_name") == "invoke_workflow"
    return workflow and labels["gen_ai_agent_name"] == "team"


_MODEL = {"provider": "gen_ai_provider_name", "model": "gen_ai_request_model"}
_AGENT = {"gen_ai_operation_name": "invoke_agent"}
_WORKFLOW = {"gen_ai_operation_name": "invoke_workflow"}

TWINS = (
    *(
        Twin(metric=metric, of=providers.REQUESTS, labels=_MODEL, fails=True)
        for metric in (genai.INFERENCE_DURATION, genai.INPUT, genai.OUTPUT)
    ),
    Twin(
        metric=genai.OPERATION_DURATION,
        of=providers.REQUESTS,
        labels=_MODEL,
        within={"gen_ai_operation_name": "chat"},
        fails=True,
    ),
    *(
        Twin(
            metric=genai.OPERATION_DURATION,
            of=memory.OPERATIONS,
            only={"operation": operation},
            within={"gen_ai_operation_name": f"{operation}_memory"},
            fails=True,
        )
        for operation in ("search", "delete")
    ),
    *(
        Twin(metric=metric, part=part, of=providers.TOKENS, only={"type": kind}, labels=_MODEL)
        for metric, part, kind in (
            (genai.USED_INPUT, "", "input"),
            (genai.USED_OUTPUT, "", "output"),
            (genai.CACHE_READ, "", "cache_read"),
            (genai.CACHE_WRITE, "", "cache_write"),
            (genai.REASONING, "", "reasoning"),
            (genai.INPUT, "_sum", "input"),
            (genai.OUTPUT, "_sum", "output"),
        )
    ),
    *(
        Twin(
            metric=genai.OLD_TOKENS,
            part="_sum",
            of=providers.TOKENS,
            only={"type": kind},
            within={"gen_ai_token_type": kind},
            labels=_MODEL,
        )
        for kind in ("input", "output")
    ),
    Twin(
        metric=genai.TOOL_DURATION,
        of=tools.EXECUTIONS,
        labels={"tool": "gen_ai_tool_name"},
        fails=True,
    ),
    Twin(
        metric=genai.AGENT_DURATION,
        of=chat.DURATION,
        counted="_count",
        within=_AGENT,
        fails=True,
    ),
    Twin(
        metric=genai.AGENT_DURATION,
        of=workflows.EXECUTIONS,
        labels={"workflow": "gen_ai_agent_name"},
        within=_WORKFLOW,
        fails=True,
    ),
    *(
        Twin(metric=metric, of=chat.DURATION, counted="_count")
        for metric in (genai.INFERENCE_CALLS, genai.TOOL_CALLS)
    ),
    # Where turns are proven as well, no call is outside of one.
    *(
        Twin(metric=metric, part="_sum", of=of, also=(chat.DURATION,))
        for metric, of in (
            (genai.INFERENCE_CALLS, providers.REQUESTS),
            (genai.TOOL_CALLS, tools.EXECUTIONS),
        )
    ),
)


def proven(scenario: Scenario) -> Iterator[Metric]:
    """The metrics that a scenario proves, under either name."""
    yield from scenario.proves
    yield from (twin.metric for twin in TWINS if twin.is_proven(scenario))
