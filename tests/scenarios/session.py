"""Sessions of real agents: the demo's, and one that an own clock times."""

from __future__ import annotations

import asyncio
import importlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from time import perf_counter

from tests.kit.agents import agent, model
from tests.kit.chat import own_vertical
from tests.scenarios.scenario import Count, Scenario
from victor_otel import demo
from victor_otel.demo.script import Step, ToolCall
from victor_otel.victor import shared
from victor_otel.victor.areas import agents, chat, interfaces, providers, sessions, tools, workflows

_RATED = frozenset({"success", "failure", "timeout"})
"""What is cancelled, paused or rejected is in no ratio."""


async def whole_demo(count: Count) -> None:
    """What `victor-otel demo` plays, against what its ledger says."""
    scenario = demo.Scenario(agents=2)
    began = perf_counter()
    with demo.ScriptedModel(scenario.scripts) as served:
        ledger = demo.Ledger(served)
        await demo.run_session(served.url, ledger, scenario)
    assert ledger.problems() == []
    expected = ledger.expected()
    for (name, labels), value in expected.items():
        count.add(name, value, **dict(labels))
    ratios = _successes(expected, "victor_tool_executions_total", "tool", "vertical")
    for labels, (good, total) in ratios:
        count.ratio("victor_tool_success_rate", good, total, **labels)
    ratios = _successes(expected, "victor_provider_requests_total", "provider", "model")
    for labels, (good, total) in ratios:
        count.ratio("victor_provider_success_rate", good, total, **labels)
    for _, (good, total) in _successes(expected, "victor_requests_total"):
        count.ratio("victor_error_rate", total - good, total)
    requests = sum(n for (name, _), n in expected.items() if name == "victor_requests_total")
    seconds = perf_counter() - began
    # On a busy machine it is read seconds later; half or twice as much is wrong.
    count.set("victor_request_rate", requests / seconds, within=0.4 * requests / seconds)
    count.set("victor_provider_up", 1, provider="openai")  # the parallel workers end well
    count.set("victor_active_users", 1, interface="sdk")


def _successes(
    expected: Mapping[demo.Series, float], counter: str, *kept: str
) -> Iterable[tuple[dict[str, str], tuple[float, float]]]:
    """Successes and totals behind a counter with `status`, by the labels `kept`."""
    found: dict[frozenset[tuple[str, str]], tuple[float, float]] = defaultdict(lambda: (0, 0))
    for (name, labels), value in expected.items():
        status = dict(labels).get("status")
        if name == counter and status in _RATED:
            key = frozenset(pair for pair in labels if pair[0] in kept)
            good, total = found[key]
            found[key] = good + value * (status == "success"), total + value
    return [(dict(labels), ratio) for labels, ratio in found.items()]


async def labels_and_durations(count: Count) -> None:
    """An agent with a vertical of its own, whose mode changes inside the first of two turns."""
    from victor.agent.mode_controller import AgentMode
    from victor.core.bootstrap import ensure_bootstrapped
    from victor.tools.decorators import tool

    ensure_bootstrapped()
    importlib.import_module("victor.framework.session_config")  # so that no import is timed
    dug: list[float] = []

    @tool
    async def dig(depth: int) -> str:
        """Digs, and has Victor explore from then on.

        Args:
            depth: How deep.
        """
        began = perf_counter()
        modes.switch_mode(AgentMode.EXPLORE)
        await asyncio.sleep(0.2)
        dug.append(perf_counter() - began)
        return f"{depth} deep"

    answer = Step("That is all. Task complete.", delay=0.2)
    steps = [
        step
        for depth in (1, 2)
        for step in (Step(calls=(ToolCall("dig", {"depth": depth}),)), answer)
    ]
    turns: list[float] = []
    with model(gardener=steps) as served:
        began = perf_counter()
        async with agent(served, "gardener", dig, vertical=own_vertical()) as created:
            ready = perf_counter()
            modes = created.get_orchestrator().mode_controller
            for place in ("garden", "field"):
                asked = perf_counter()
                assert (await created.run(f"Read the {place} and dig.")).content == answer.text
                turns.append(perf_counter() - asked)
            modes.switch_mode(AgentMode.BUILD)
        ended = perf_counter()
    context = {"vertical": "gardening", "status": "success"}
    for mode in ("build", "explore"):
        count.add("victor_tool_executions_total", tool="dig", mode=mode, **context)
        count.add("victor_vertical_usage_total", vertical="gardening", mode=mode)
    for name, durations, labels in (
        ("victor_tool_execution_duration_seconds", dug, {"tool": "dig", **context}),
        ("victor_chat_request_duration_seconds", turns, {"interface": "sdk", **context}),
        ("victor_initialization_duration_seconds", [ready - began], {"status": "success"}),
        ("victor_session_duration_seconds", [ended - ready], {"interface": "sdk"}),
    ):
        count.add(f"{name}_count", len(durations), **labels)
        count.add(f"{name}_sum", sum(durations), within=0.2, **labels)
    count.add("victor_user_sessions_total", interface="sdk")
    count.add("victor_requests_per_user_count", interface="sdk")
    count.add("victor_requests_per_user_sum", len(turns), interface="sdk")
    count.add("victor_requests_per_user_bucket", interface="sdk", le="2.0")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        run=whole_demo,
        proves=(
            agents.INITIALIZATION_DURATION,
            chat.DURATION,
            chat.VERTICAL_USAGE,
            interfaces.REQUEST_DURATION,
            providers.LATENCY,
            providers.REQUESTS,
            providers.RETRIES,
            providers.SUCCESS_RATE,
            providers.TIME_TO_FIRST_TOKEN,
            providers.TOKENS,
            providers.UP,
            sessions.ACTIVE_USERS,
            sessions.DURATION,
            sessions.REQUESTS_PER_USER,
            sessions.STARTED,
            shared.ERROR_RATE,
            shared.FEATURES,
            shared.REQUESTS,
            shared.REQUEST_RATE,
            tools.DURATION,
            tools.EXECUTIONS,
            tools.REJECTED,
            tools.SUCCESS_RATE,
            workflows.EXECUTIONS,
        ),
    ),
    Scenario(
        run=labels_and_durations,
        proves=(
            agents.INITIALIZATION_DURATION,
            chat.DURATION,
            chat.VERTICAL_USAGE,
            sessions.DURATION,
            sessions.REQUESTS_PER_USER,
            sessions.STARTED,
            tools.DURATION,
            tools.EXECUTIONS,
        ),
    ),
)
