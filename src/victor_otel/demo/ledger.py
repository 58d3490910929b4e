"""What really happened, counted without the instrumentation.

Three witnesses feed it: the model server (what it answered), the demo's own tools (each counts
itself), and the driver of the session (what it asked for and how that ended). Only for Victor's
own tools does it rely on the plan: it knows what the model called and how that must end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus

from victor_otel.demo.expected import Series, provider_series, series
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.scenario import HIT, RAN, Part, Turn

VERTICAL, MODE, INTERFACE = "none", "build", "sdk"
"""What every agent of the demo is: no vertical, Victor's default mode, in the user's process."""


class Ledger:
    """The independent count of one session."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self._lock = threading.Lock()
        self._counted: Counter[Series] = Counter()
        self._ran: Counter[tuple[str, str]] = Counter()
        self._planned: Counter[tuple[str, str]] = Counter()
        self._own: set[str] = set()
        self._parts: list[Part] = []
        self._problems: list[str] = []

    def own_tool(self, tool: str, status: str) -> None:
        """Note that one of the demo's own tools ran, and how that ended."""
        with self._lock:
            self._ran[tool, status] += 1
        self._tool_ran(tool, status)

    def know_own_tools(self, names: set[str]) -> None:
        """Say which tools count themselves."""
        self._own |= names

    def agent_created(self, status: str) -> None:
        """Note that an agent was created, or could not be."""
        self._add("victor_initialization_duration_seconds_count", status=status)
        if status == "success":
            self._add("victor_user_sessions_total", interface=INTERFACE)

    def turn_ended(self, part: Part, turn: Turn, observed: str) -> None:
        """Note how a chat turn ended, and hold what the driver saw against the plan."""
        labels = {"interface": INTERFACE, "status": observed}
        self._add("victor_chat_request_duration_seconds_count", vertical=VERTICAL, **labels)
        self._add("victor_requests_total", **labels)
        self._add("victor_vertical_usage_total", vertical=VERTICAL, mode=MODE)
        if turn.stream:
            self._add("victor_feature_usage_total", feature="streaming")
        for call, outcome in turn.calls:
            self._tool_called(call.name, outcome)
        if observed != turn.ends:
            self._problems.append(f"{part.model}: a turn ended in {observed}, not {turn.ends}")

    def session_ended(self, part: Part, requests: int) -> None:
        """Note that an agent was closed, after so many turns."""
        self._parts.append(part)
        self._add("victor_session_duration_seconds_count", interface=INTERFACE)
        self._add("victor_requests_per_user_count", interface=INTERFACE)
        self._add("victor_requests_per_user_sum", requests, interface=INTERFACE)

    def workflow_ended(self, workflow: str, status: str) -> None:
        """Note how an outermost workflow run ended."""
        self._add("victor_workflow_executions_total", workflow=workflow, status=status)
        self._add("victor_feature_usage_total", feature="workflow")

    def http_answered(self, endpoint: str, status: int, method: str) -> None:
        """Note that Victor's API server answered a request that ran no chat turn."""
        labels = {"endpoint": endpoint, "status": str(status), "method": method}
        self._add("victor_request_duration_seconds_count", **labels)
        if endpoint == "unmatched" and status == HTTPStatus.NOT_FOUND:
            self._add("victor_requests_total", interface="api", status="rejected")

    def expected(self) -> Mapping[Series, float]:
        """Every number that is known, as {(Prometheus name, labels): value}. Zeros are left out.

        Not in it, because nobody but Victor knows: how often a cache was asked in vain, and the
        type of the errors of agents that could not be created and of workflows.
        """
        with self._lock:
            return self._counted + provider_series(self.model.answers)

    def problems(self) -> list[str]:
        """Where the session did not go as planned: nothing, or the expected numbers mean little."""
        found = list(self._problems)
        if self._planned != self._ran:
            found.append(f"own tools ran {dict(self._ran)}, not {dict(self._planned)}")
        for part in self._parts:
            wanted = sum(len(turn.steps) + turn.side_calls for turn in part.turns)
            asked = self.model.requests(part.model)
            if asked != wanted:
                found.append(f"{part.model}: {asked} requests to the model, not {wanted}")
        return found

    def _tool_called(self, tool: str, outcome: str) -> None:
        """A call of the model's, which its own tools count by themselves where they ran."""
        if outcome == HIT:
            self._add("victor_cache_requests_total", cache="tool", result="hit")
        elif outcome not in RAN:
            known = "unknown" if outcome == "tool_unavailable" else tool
            self._add("victor_tool_calls_rejected_total", tool=known, reason=outcome)
        elif tool in self._own:
            self._planned[tool, outcome] += 1
        else:
            self._tool_ran(tool, outcome)

    def _tool_ran(self, tool: str, status: str) -> None:
        labels = {"tool": tool, "status": status, "vertical": VERTICAL}
        self._add("victor_tool_executions_total", mode=MODE, **labels)
        self._add("victor_tool_execution_duration_seconds_count", **labels)
        if status != "success":
            error = "tool_timeout" if status == "timeout" else "tool_execution"
            self._add("victor_errors_total", component="tool", error_type=error)

    def _add(self, name: str, value: int = 1, /, **labels: str) -> None:
        with self._lock:
            self._counted[series(name, **labels)] += value
