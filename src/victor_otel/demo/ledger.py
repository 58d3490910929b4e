"""What really happened, counted without the instrumentation.

Three witnesses feed it: the model server (what it answered), the demo's own tools (each counts
itself), and the driver of the session (what it asked for and how that ended). Only for Victor's
own tools does it rely on the plan: it knows what the model called and how that must end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from victor_otel.demo.expected import Series, Tally, provider_series
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.scenario import HIT, RAN, Part, Turn

VERTICAL, MODE, INTERFACE = "none", "build", "sdk"
"""What every agent of the demo is: no vertical, Victor's default mode, in the user's process."""


class Ledger:
    """The independent count of one session."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self._lock = threading.Lock()
        self._tools: Counter[tuple[str, str]] = Counter()
        self._planned: Counter[tuple[str, str]] = Counter()
        self._own: set[str] = set()
        self._turns: Counter[tuple[str, bool]] = Counter()
        self._sessions: list[int] = []
        self._created: Counter[str] = Counter()
        self._workflows: Counter[tuple[str, str]] = Counter()
        self._http: Counter[tuple[str, str, str]] = Counter()
        self._parts: list[Part] = []
        self._problems: list[str] = []

    def own_tool(self, tool: str, status: str) -> None:
        """Note that one of the demo's own tools ran, and how that ended."""
        with self._lock:
            self._tools[tool, status] += 1

    def know_own_tools(self, names: set[str]) -> None:
        """Say which tools count themselves."""
        self._own |= names

    def agent_created(self, status: str) -> None:
        """Note that an agent was created, or could not be."""
        self._created[status] += 1

    def turn_ended(self, part: Part, turn: Turn, observed: str) -> None:
        """Note how a chat turn ended, and hold what the driver saw against the plan."""
        self._turns[observed, turn.stream] += 1
        self._planned.update((call.name, outcome) for call, outcome in turn.calls)
        if observed != turn.ends:
            self._problems.append(f"{part.model}: a turn ended in {observed}, not {turn.ends}")

    def session_ended(self, part: Part, requests: int) -> None:
        """Note that an agent was closed, after so many turns."""
        self._parts.append(part)
        self._sessions.append(requests)

    def workflow_ended(self, workflow: str, status: str) -> None:
        """Note how an outermost workflow run ended."""
        self._workflows[workflow, status] += 1

    def http_answered(self, endpoint: str, status: int, method: str) -> None:
        """Note that Victor's API server answered a request that ran no chat turn."""
        self._http[endpoint, str(status), method] += 1

    def expected(self) -> Mapping[Series, float]:
        """Every number that is known, as {(Prometheus name, labels): value}. Zeros are left out.

        Not in it, because nobody but Victor knows: how often a cache was asked in vain, and the
        type of the errors of agents that could not be created and of workflows.
        """
        tally = Tally()
        self._add_tools(tally)
        self._add_turns(tally)
        self._add_sessions(tally)
        provider_series(tally, self.model.answers)
        for (workflow, status), times in self._workflows.items():
            tally.add("victor_workflow_executions_total", times, workflow=workflow, status=status)
            tally.add("victor_feature_usage_total", times, feature="workflow")
        for (endpoint, status, method), times in self._http.items():
            labels = {"endpoint": endpoint, "status": status, "method": method}
            tally.add("victor_request_duration_seconds_count", times, **labels)
        return tally.series

    def problems(self) -> list[str]:
        """Where the session did not go as planned: nothing, or the expected numbers mean little."""
        found = list(self._problems)
        planned = {
            key: times
            for key, times in self._planned.items()
            if key[0] in self._own and key[1] in RAN
        }
        if planned != dict(self._tools):
            found.append(f"own tools ran {dict(self._tools)}, not {planned}")
        for part in self._parts:
            wanted = sum(len(turn.steps) + turn.side_calls for turn in part.turns)
            asked = self.model.requests(part.model)
            if asked != wanted:
                found.append(f"{part.model}: {asked} requests to the model, not {wanted}")
        return found

    def _add_tools(self, tally: Tally) -> None:
        ran = Counter(self._tools)
        for (tool, outcome), times in self._planned.items():
            if outcome == HIT:
                tally.add("victor_cache_requests_total", times, cache="tool", result="hit")
            elif outcome not in RAN:
                known = "unknown" if outcome == "tool_unavailable" else tool
                tally.add("victor_tool_calls_rejected_total", times, tool=known, reason=outcome)
            elif tool not in self._own:
                ran[tool, outcome] += times
        for (tool, status), times in ran.items():
            labels = {"tool": tool, "status": status, "vertical": VERTICAL}
            tally.add("victor_tool_executions_total", times, mode=MODE, **labels)
            tally.add("victor_tool_execution_duration_seconds_count", times, **labels)
            if status != "success":
                error = "tool_timeout" if status == "timeout" else "tool_execution"
                tally.add("victor_errors_total", times, component="tool", error_type=error)

    def _add_turns(self, tally: Tally) -> None:
        for (status, stream), times in self._turns.items():
            labels = {"interface": INTERFACE, "status": status}
            tally.add(
                "victor_chat_request_duration_seconds_count", times, vertical=VERTICAL, **labels
            )
            tally.add("victor_requests_total", times, **labels)
            tally.add("victor_vertical_usage_total", times, vertical=VERTICAL, mode=MODE)
            if stream:
                tally.add("victor_feature_usage_total", times, feature="streaming")
        for (endpoint, status, _), times in self._http.items():
            if endpoint == "unmatched" and status == "404":
                tally.add("victor_requests_total", times, interface="api", status="rejected")

    def _add_sessions(self, tally: Tally) -> None:
        for status, times in self._created.items():
            tally.add("victor_initialization_duration_seconds_count", times, status=status)
        tally.add("victor_user_sessions_total", self._created["success"], interface=INTERFACE)
        ended, requests = len(self._sessions), sum(self._sessions)
        tally.add("victor_session_duration_seconds_count", ended, interface=INTERFACE)
        tally.add("victor_requests_per_user_count", ended, interface=INTERFACE)
        tally.add("victor_requests_per_user_sum", requests, interface=INTERFACE)
