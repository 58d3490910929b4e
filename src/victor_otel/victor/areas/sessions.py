"""Sessions and users. Only their number leaves the process.

In a terminal, in the web chat or in an application a session is the life of an agent. The session
of an MCP server lasts from its first message to its end. The API serves all clients with one
agent, so a session there belongs to one authenticated client and ends after half an hour without
a request.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from victor_otel.engine import failsafe
from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Gauge, Histogram, Reading, Record
from victor_otel.model.operation import UNSET, Operation
from victor_otel.model.rows import Area, Observes, Target
from victor_otel.victor import labels
from victor_otel.victor.classes import MCP_SERVER, is_a
from victor_otel.victor.operations import AGENT_CREATION, REQUEST, TERMINAL

STARTED = Counter(
    "victor.user.sessions",
    "Sessions that began",
    labels=(labels.INTERFACE,),
    guide=True,
)
DURATION = Histogram(
    "victor.session.duration",
    "Duration of a session, from its first to its last moment",
    unit="s",
    labels=(labels.INTERFACE,),
    buckets=(60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0),
    guide=True,
)
REQUESTS_PER_USER = Histogram(
    "victor.requests_per_user",
    "Requests in a session, recorded when the session ends",
    labels=(labels.INTERFACE,),
    buckets=(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0),
    guide=True,
)
MCP_SERVER_SESSION = Histogram(
    semconv.MCP_SERVER_SESSION,
    "Duration of a session of Victor's MCP server, from its first message until it stops",
    unit="s",
    labels=(labels.GENAI_ERROR,),
    buckets=semconv.MCP_SECONDS,
)
ACTIVE_USERS = Gauge(
    "victor.active_users",
    "Distinct users with a request in the last 15 minutes: authenticated clients of the "
    "API, or one local user of another interface; absent for the web chat, which does not know "
    "its users",
    labels=(labels.INTERFACE,),
    guide=True,
)

ACTIVE_SECONDS = 15 * 60.0
IDLE_SECONDS = 30 * 60.0
MAX_CLIENTS = 10_000
"""API clients remembered at once; beyond it the one idle for longest ends first."""

_LOCAL_USER = ""


@dataclass(slots=True)
class Session:
    interface: str
    started: float
    last: float
    requests: int = 0
    counted: bool = False
    agent: weakref.ref[Any] | None = None
    """Keeps the callback that ends the session of an agent that was never closed."""


class Sessions:
    """The open sessions, and when each user was last seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[object, Session] = OrderedDict()
        self._seen: dict[str, OrderedDict[str, float]] = {}

    def observe_creation(self, call: Operation, record: Record) -> None:
        """An agent was created; a sub-agent is part of its parent."""
        interface = call.context.interface
        if call.result is UNSET or interface in {"api", "mcp"} or call.facts.sub_agent:
            return
        # `victor chat` makes its agent before it chooses between terminal and full screen.
        undecided = interface == "cli"
        self._begin(id(call.result), interface, call.end, record, count=not undecided)

    def observe_agent(self, call: Operation, record: Record) -> None:
        """The orchestrator outlives its agent even when closed, so the agent is watched."""
        key = id(call.argument("orchestrator"))
        with self._lock:
            session = self._open.get(key)
            if session is not None:
                session.agent = weakref.ref(
                    call.instance,
                    lambda _: failsafe.defer(self._end, key, record, perf_counter()),
                )

    def observe_screen(self, call: Operation, record: Record) -> None:
        """The full-screen interface took over an agent, if that was made before."""
        key = id(getattr(call.argument("agent"), "_orchestrator", None))
        with self._lock:
            session = self._open.get(key)
            if session is not None:
                session.interface = "tui"
        self._count(session, record)

    def observe_shutdown(self, call: Operation, record: Record) -> None:
        self._end(id(call.instance), record, call.end)

    def observe_message(self, call: Operation, record: Record) -> None:
        """The first message begins the session of an MCP server."""
        self._begin(("mcp", id(call.instance)), "mcp", call.started, record)

    def observe_server_end(self, call: Operation, record: Record) -> None:
        self._end(("mcp", id(call.instance)), record, call.end, call.failed_with)

    def observe_request(self, call: Operation, record: Record) -> None:
        interface, user = call.context.interface, _LOCAL_USER
        if interface == "api":
            if call.facts.user is None:
                return
            user = call.facts.user
            key: object = ("api", user)
            self._end_idle(record, call.end)
            self._begin(key, interface, call.started, record)
        elif is_a(call.instance, MCP_SERVER):
            key = ("mcp", id(call.instance))
            self._begin(key, interface, call.started, record)
        else:
            key = call.facts.agent
        with self._lock:
            session = self._open.get(key)
            if session is not None:
                if not session.counted:
                    session.interface = interface
                session.requests += 1
                session.last = call.end
                self._open.move_to_end(key)
            if interface != "web":
                self._saw(interface, user, call.end)
        self._count(session, record)

    def _saw(self, interface: str, user: str, moment: float) -> None:
        seen = self._seen.setdefault(interface, OrderedDict())
        seen[user] = moment
        seen.move_to_end(user)
        if len(seen) > MAX_CLIENTS:
            seen.popitem(last=False)

    def read_active_users(self) -> Iterator[tuple[float, Mapping[str, str]]]:
        since = perf_counter() - ACTIVE_SECONDS
        with self._lock:
            seen = {interface: list(users.values()) for interface, users in self._seen.items()}
        for interface, moments in seen.items():
            yield sum(moment > since for moment in moments), {"interface": interface}

    def end_all(self, record: Record) -> None:
        """The process ends, and with it every session."""
        now = perf_counter()
        for key, session in list(self._open.items()):
            self._end(key, record, session.last if session.interface == "api" else now)

    def _begin(
        self, key: object, interface: str, moment: float, record: Record, *, count: bool = True
    ) -> None:
        with self._lock:
            if key in self._open:
                return
            session = self._open[key] = Session(interface, moment, moment)
        if count:
            self._count(session, record)

    def _count(self, session: Session | None, record: Record) -> None:
        """Counts a session once, as soon as its interface is certain."""
        with self._lock:
            if session is None or session.counted:
                return
            session.counted = True
        record(STARTED, interface=session.interface)

    def _end(self, key: object, record: Record, moment: float, error: str = "") -> None:
        with self._lock:
            session = self._open.pop(key, None)
        if session is not None:
            self._count(session, record)
            record(DURATION, moment - session.started, interface=session.interface)
            record(REQUESTS_PER_USER, session.requests, interface=session.interface)
            if session.interface == "mcp":
                record(MCP_SERVER_SESSION, moment - session.started, **{semconv.ERROR_TYPE: error})

    def _end_idle(self, record: Record, now: float) -> None:
        with self._lock:
            clients = [(key, s) for key, s in self._open.items() if s.interface == "api"]
        surplus = len(clients) - MAX_CLIENTS
        for rank, (key, session) in enumerate(clients):
            if rank < surplus or now - session.last > IDLE_SECONDS:
                self._end(key, record, session.last)


_FEEDS = (STARTED, DURATION, REQUESTS_PER_USER, MCP_SERVER_SESSION)
"""A session that was not counted before is counted when it ends."""
_ORCHESTRATOR = "victor.agent.orchestrator:AgentOrchestrator"
_MCP = "victor.integrations.mcp.server:MCPServer"

AREA = Area(
    name="sessions",
    metrics=(*_FEEDS, ACTIVE_USERS),
    rows=(
        Observes(AGENT_CREATION, Sessions.observe_creation, feeds=(STARTED,)),
        Observes(REQUEST, Sessions.observe_request, feeds=_FEEDS),
        Observes(
            Target("victor.framework.agent:Agent.__init__", arguments=("orchestrator",)),
            Sessions.observe_agent,
            feeds=_FEEDS,
        ),
        Observes(
            Target("victor.ui.tui.app:VictorTUIApp.__init__", arguments=("agent",), needs=TERMINAL),
            Sessions.observe_screen,
            feeds=(STARTED,),
        ),
        *(
            Observes(Target(f"{_ORCHESTRATOR}.{method}"), Sessions.observe_shutdown, feeds=_FEEDS)
            for method in ("shutdown", "graceful_shutdown")
        ),
        Observes(Target(f"{_MCP}.handle_message"), Sessions.observe_message, feeds=(STARTED,)),
        Observes(Target(f"{_MCP}.start_stdio_server"), Sessions.observe_server_end, feeds=_FEEDS),
    ),
    readings=(Reading(metric=ACTIVE_USERS, read=Sessions.read_active_users),),
    state=Sessions,
    at_exit=Sessions.end_all,
)
