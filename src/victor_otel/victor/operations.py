"""The work of Victor that several areas know: its types, and the facts of each.

Facts are plain values; none is content. Those of one area alone stand on its page.
"""

# Without annotations as strings, here and on pages with facts of their own: each would be compiled.
from typing import NamedTuple

from victor_otel.model.operation import OperationType
from victor_otel.model.rows import Extra

TERMINAL = Extra(module="textual", name="tui")


class Request(NamedTuple):
    """What a user asked for once, through any interface."""

    status: str
    """That of the turn which decides it, else of the interface's own answer."""
    user: str | None = None
    """The authenticated client of the API; never exported."""
    agent: int = 0
    """The identity of the orchestrator that answered, if known."""
    component: str = ""
    error_type: str = ""
    mcp: bool = False
    """An MCP client called a tool."""

    @property
    def judged(self) -> bool:
        """Cancelled, paused and rejected ones are in no ratio."""
        return self.status in {"success", "failure", "timeout"}

    @property
    def failed(self) -> bool:
        return self.status != "success"


class Turn(NamedTuple):
    """A chat turn, or the run of a team: a question and its whole answer."""

    status: str
    seconds: float
    streamed: bool = False
    user: str | None = None
    agent: int = 0
    error_type: str = ""
    inference_calls: int = 0
    """Calls to models that the agent itself made: those of sub-agents are of their own turns."""
    tool_calls: int = 0
    """Its calls whose tool ran; known where a metric shows it."""


class AgentCreation(NamedTuple):
    """The creation of an agent; that of a sub-agent is part of its parent."""

    sub_agent: bool
    status: str = ""
    seconds: float = 0.0
    error_type: str = ""

    @property
    def counts(self) -> bool:
        return not self.sub_agent


class ToolCall(NamedTuple):
    """A call of a tool that a model made."""

    tool: str
    """The registered name, `unknown` for one that the model invented."""
    ran: bool = False
    """The tool was executed: these have a status and a duration."""
    status: str = ""
    seconds: float = 0.0
    judged: bool = False
    """Whether it succeeded or not; a cancelled one did neither."""
    succeeded: bool = False
    reason: str = ""
    """Why the tool was not executed."""
    cache_hit: bool = False
    cache_miss: bool = False
    blocked: bool = False
    """A rule forbade the call: the permission policy, a middleware or a role."""
    withheld: bool = False
    """A middleware refused to hand the result on."""
    error_type: str = ""

    @property
    def ending(self) -> str:
        """How the call ended for who made it; empty where only Victor's answer tells."""
        return "rejected" if self.reason else self.status


_FINISHES = {
    **{each: each for each in ("stop", "length", "content_filter", "tool_call")},
    **dict.fromkeys(("end_turn", "stop_sequence", "eos"), "stop"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "tool_call"),
    **dict.fromkeys(("max_tokens", "max_output_tokens"), "length"),
    **dict.fromkeys(("safety", "refusal", "guardrail_intervened"), "content_filter"),
}
"""What providers say, which Victor passes on, and the conventions' names for it."""


class ProviderCall(NamedTuple):
    """A call to a model."""

    provider: str
    model: object
    status: str
    seconds: float
    """Of a stream, the time spent in its iterator."""
    tool_calls: str
    """`true` if the answer contained tool calls, else `false`."""
    judged: bool
    succeeded: bool
    first_token: float | None
    """Seconds from the first read of a stream to its first content."""
    first_chunk: float | None
    """The same to its first chunk, which may hold none."""
    input: int | None
    """Tokens; None where the provider reported none."""
    output: int | None
    reasoning: int | None
    cache_read: int | None
    cache_write: int | None
    retries: int
    rate_limited: int
    streamed: bool
    error_type: str = ""
    stopped: object = None
    """Why the model stopped, in its provider's word."""

    @property
    def failed(self) -> bool:
        return self.status in {"failure", "timeout"}

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The same as the conventions name it; nothing where it is not known what is meant."""
        named = _FINISHES.get(self.stopped.lower()) if isinstance(self.stopped, str) else None
        return () if named is None else (named,)

    @property
    def provider_name(self) -> str:
        """What OpenTelemetry calls the provider."""
        return conventional(self.provider)

    @property
    def input_used(self) -> int:
        """0 where the provider reported none."""
        return self.input or 0

    @property
    def output_used(self) -> int:
        return self.output or 0


_CONVENTIONAL = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}


def conventional(provider: str) -> str:
    """OpenTelemetry's name of a provider, where it has another one than Victor."""
    return _CONVENTIONAL.get(provider, provider)


class WorkflowRun(NamedTuple):
    """A run of a workflow, in any of Victor's engines."""

    workflow: str
    status: str
    seconds: float
    error_type: str = ""


class Plan(NamedTuple):
    """The execution of a plan; it succeeded if it was carried out completely."""

    failed: bool
    judged: bool
    succeeded: bool
    error_type: str = ""


class CacheLookup(NamedTuple):
    """A question to a cache; one cache that asks another is one question."""

    cache: str
    result: str = ""
    """`hit` or `miss`; empty if the cache was not really asked."""

    @property
    def tiered(self) -> bool:
        return self.cache == "tiered"


class MemoryUse(NamedTuple):
    """An operation on the memories of an agent."""

    operation: str
    operation_name: str = ""
    """What OpenTelemetry calls it; empty where it has no name for it."""
    status: str = ""
    error_type: str = ""
    found: int = 0
    """How many records a search returned."""


REQUEST = OperationType("request", Request, outermost=True)
AGENT_CREATION = OperationType("agent_creation", AgentCreation, component="agent", outermost=True)
SUB_AGENT = OperationType[object]("sub_agent")
"""A task that one agent, or a team, gives to another one."""
CHAT_TURN = OperationType("chat_turn", Turn, component="chat")
TEAM_RUN = OperationType("team_run", Turn, outermost=True)
TOOL_BATCH = OperationType[object]("tool_batch")
TOOL_CALL = OperationType("tool_call", ToolCall, component="tool", status="ending")
PROVIDER_CALL = OperationType("provider_call", ProviderCall, component="provider")
WORKFLOW_RUN = OperationType("workflow_run", WorkflowRun, component="workflow", outermost=True)
PLANNING = OperationType[object]("planning", outermost=True)
"""The making of a plan, which may ask a model; `PLAN` carries it out."""
PLAN = OperationType("plan", Plan, component="planning", outermost=True)
MEMORY = OperationType("memory", MemoryUse, component="memory", outermost=True)
CACHE_LOOKUP = OperationType("cache_lookup", CacheLookup)
ONE_SHOT = OperationType[object]("one_shot", outermost=True)
"""`victor run ...`, `victor chat MESSAGE` and `victor review ...`: one answer, then the end."""
