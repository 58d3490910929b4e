"""Every label, once: its allowed values or its bound, and what stands for the rest.

No prompt, path, argument, result, query, exception text, user id or session id is ever
a label value.
"""

from __future__ import annotations

from victor_otel.model import semconv
from victor_otel.model.metric import Label

STATUSES = ("success", "failure", "timeout", "cancelled")

TOOL = Label(
    name="tool",
    limit=200,
    meaning="registered tool; `unknown` for a name that the model invented",
)
PROVIDER = Label(name="provider", limit=50, meaning="Victor's name of the provider")
MODEL = Label(name="model", limit=100, meaning="model that was requested")
VERTICAL = Label(name="vertical", limit=50, meaning="active vertical; `none` without one")
WORKFLOW = Label(name="workflow", limit=100, meaning="name of the workflow; `unnamed` without one")
ENDPOINT = Label(
    name="endpoint", limit=200, meaning="route template; `unmatched` if no route matches"
)
FEATURE = Label(
    name="feature",
    limit=50,
    meaning="slash_command, team, subagent, planning, workflow, mcp, streaming, or a feature that "
    "an application declared",
)
ERROR_TYPE = Label(
    name="error_type",
    limit=100,
    meaning="Victor's error category, or the class of the exception if it has none",
)
HEALTH_COMPONENT = Label(name="component", limit=50, meaning="component of Victor's health checks")
QUEUE = Label(
    name="queue",
    values=("turn", "provider"),
    meaning="`turn`: chat turns that wait for their agent; `provider`: requests in a provider "
    "queue",
)
HOOK = Label(
    name="hook",
    limit=300,
    meaning="wrapped function as `module:Class.method`, or the part of victor-otel in which an "
    "error arose",
)
DRIFT = Label(
    name="kind",
    values=("class", "member"),
    meaning="`class`: 1 if the class has moved; `member`: number of an enumeration's members that "
    "are new, or that victor-otel compares with and are gone",
)
SYMBOL = Label(
    name="symbol", limit=100, meaning="class or enumeration of Victor, as `module:Class`"
)
METRIC = Label(name="metric", limit=200, meaning="metric with the label that was replaced")
VERSION = Label(name="version", limit=5, meaning="version of victor-otel")
VICTOR_VERSION = Label(name="victor_version", limit=5, meaning="version of victor-ai")

MODE = Label(
    name="mode",
    values=("build", "plan", "explore", "review", "delegate", "none"),
    meaning="agent mode; `none` without an agent",
)
INTERFACE = Label(
    name="interface",
    values=("cli", "tui", "web", "api", "mcp", "sdk"),
    meaning="interface through which the user reached Victor; `web` is the chat of `victor ui`",
)
STATUS = Label(name="status", values=STATUSES, meaning="outcome")
TURN_STATUS = Label(
    name="status",
    values=(*STATUSES, "paused"),
    meaning="outcome; `paused`: the turn waits for an approval",
)
REQUEST_STATUS = Label(
    name="status",
    values=(*STATUSES, "paused", "rejected"),
    meaning="outcome; `paused`: the request waits for an approval; `rejected`: it was answered "
    "with 4xx",
)
CREATION_STATUS = Label(
    name="status", values=("success", "failure", "cancelled"), meaning="outcome"
)
HTTP_STATUS = Label(
    name="status", limit=60, meaning="HTTP status code; 499 if the client closed the connection"
)
METHOD = Label(
    name="method",
    values=(
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "CONNECT",
        "OPTIONS",
        "TRACE",
        "PATCH",
        "other",
    ),
    others=True,
    meaning="HTTP method",
)
TOOL_CALLS = Label(
    name="tool_calls",
    values=("true", "false"),
    meaning="whether the answer contained tool calls",
)
TOKEN_TYPE = Label(
    name="type",
    values=("input", "output", "reasoning", "cache_read", "cache_write"),
    meaning="`input` and `output` are all tokens; `cache_read` and `cache_write` are parts of "
    "input, `reasoning` is a part of output",
)
REASON = Label(
    name="reason",
    values=(
        "tool_unavailable",
        "duplicate_in_batch",
        "duplicate_read",
        "redundant_call",
        "budget_exhausted",
        "permission_denied",
        "repeated_failure",
        "middleware_blocked",
        "middleware_error",
        "invalid_tool_name",
        "missing_tool_name",
        "invalid_tool_call",
        "broad_code_read",
        "user_declined",
        "rbac",
        "invalid_arguments",
        "other",
    ),
    meaning="why the call was not executed",
)
CACHE = Label(name="cache", values=("tool", "tiered"), meaning="cache that was asked")
CACHE_RESULT = Label(name="result", values=("hit", "miss"), meaning="result of the lookup")
ERROR_COMPONENT = Label(
    name="component",
    values=(
        "agent",
        "tool",
        "provider",
        "chat",
        "workflow",
        "planning",
        "memory",
        "security",
        "api",
        "mcp",
    ),
    meaning="component in which the failure arose",
)
EVENT_FAMILY = Label(
    name="family",
    values=("tool", "agent", "error"),
    meaning="first word of the event's topic",
)
SECURITY_EVENT = Label(
    name="kind",
    values=(
        "authorization_failed",
        "tool_blocked",
        "result_withheld",
        "message_blocked",
        "vulnerability_found",
    ),
    meaning="`authorization_failed`: an authorization was refused; `tool_blocked`: a tool was "
    "blocked; `result_withheld`: the result of a tool was withheld from the model; "
    "`message_blocked`: a policy blocked a user's message or an answer; `vulnerability_found`: a "
    "scan found a vulnerability",
)
AUTHORIZATION_SOURCE = Label(
    name="source",
    values=("permission_policy", "rbac", "api_key"),
    meaning="who decided: the permission policy of tools, role-based access control, or the keys "
    "of the API",
)
AUTHORIZATION_REASON = Label(
    name="reason",
    values=("anonymous", "unknown", "forbidden"),
    meaning="`anonymous`: no key or no user was given; `unknown`: the key or user does not exist; "
    "`forbidden`: the user is known, and not allowed",
)
VULNERABILITY_SEVERITY = Label(
    name="severity",
    values=("critical", "high", "medium", "low", "none", "unknown"),
    meaning="Victor's severity of the advisory",
)
SCANNER = Label(
    name="scanner",
    values=("dependency", "iac", "code"),
    meaning="`dependency`: advisories for packages; `iac`: infrastructure as code; `code`: the "
    "tool `scan`",
)
DEPLOYMENT_SOURCE = Label(
    name="source",
    values=("conversation", "terraform", "docker", "kubernetes", "ecs", "other"),
    others=True,
    meaning="who deployed; `conversation`: Victor was only told of the deployment; `other`: a "
    "handler of the application",
)
DOC_TYPE = Label(
    name="doc_type",
    values=(
        "text",
        "markdown",
        "code",
        "pdf",
        "html",
        "json",
        "yaml",
        "xml",
        "csv",
        "auto",
        "other",
    ),
    others=True,
    meaning="type that the document was given, as victor-rag keeps it; `auto`: victor-rag detects "
    "it",
)
SEARCH_STATUS = Label(
    name="status",
    values=("results", "empty", "error", "cancelled"),
    meaning="`empty`: an endpoint answered without results; `error`: Victor reported an error, or "
    "no endpoint answered",
)
ANALYSIS_SOURCE = Label(
    name="source",
    values=("review", "index", "metrics"),
    meaning="`review`: a file was reviewed; `index`: a code base was indexed; `metrics`: the tool "
    "`metrics`",
)
ISSUE_SOURCE = Label(
    name="source",
    values=("review", "metrics"),
    meaning="`review`: a file was reviewed; `metrics`: the tool `metrics`",
)
ISSUE_SEVERITY = Label(
    name="severity",
    values=("error", "warning", "info", "hint"),
    meaning="Victor's severity of the finding; the tool `metrics` reports warnings only",
)
MEMORY_COMPONENT = Label(
    name="component",
    values=("process", "children"),
    meaning="`process`: this process; `children`: its living descendants",
)
MEMORY_OPERATION = Label(
    name="operation",
    values=("search", "get", "store", "delete"),
    meaning="operation on the memory",
)
MEMORY_TYPE = Label(
    name="memory_type",
    values=(
        "entity",
        "conversation",
        "embedding",
        "graph",
        "rl_experience",
        "code",
        "none",
        "other",
    ),
    others=True,
    meaning="Victor's type of memory; `none`: nothing was recalled; `other`: a type of the "
    "application's own",
)
SKILL_TYPE = Label(name="skill_type", limit=50, meaning="category of the skill")
SKILL = Label(
    name="skill",
    limit=200,
    meaning="tool that Victor learns to select, or skill that an application named",
)
LOOP_OUTCOME = Label(
    name="outcome",
    values=("evolved", "no_change", "error"),
    meaning="`evolved`: there is a new candidate; `no_change`: there is none, or too little was "
    "known to look for one",
)
HOOK_STATE = Label(
    name="state",
    values=("bound", "waiting", "missing"),
    meaning="`bound`: the function is wrapped; `waiting`: Victor has not imported its module; "
    "`missing`: it does not exist",
)

GENAI_OPERATION = Label(
    name=semconv.OPERATION_NAME,
    fact="operation_name",
    values=(
        "chat",
        "execute_tool",
        "invoke_agent",
        "invoke_workflow",
        "embeddings",
        "retrieval",
        "search_memory",
        "upsert_memory",
        "delete_memory",
    ),
    meaning="what is done; teams are workflows too",
)
GENAI_PROVIDER = Label(
    name=semconv.PROVIDER_NAME,
    fact="provider_name",
    limit=50,
    meaning="OpenTelemetry's name of the provider",
)
GENAI_OWN_PROVIDER = Label(
    name=semconv.PROVIDER_NAME,
    fact="provider_name",
    limit=50,
    optional=True,
    meaning="OpenTelemetry's name of the provider; only of a call to a model",
)
GENAI_MODEL = Label(
    name=semconv.REQUEST_MODEL,
    fact="model",
    optional=True,
    meaning="model that was requested",
)
GENAI_ERROR = Label(
    name=semconv.ERROR_TYPE,
    fact="failed_with",
    optional=True,
    meaning="only of what failed or timed out: Victor's error category, or the class of the "
    "exception; `_OTHER` where the cause is counted elsewhere",
)
GENAI_MODALITY = Label(
    name=semconv.MODALITY,
    values=("text", "image", "audio", "unknown"),
    meaning="always `unknown`: what Victor passes on of a provider's usage does not tell",
)
GENAI_TOKEN_TYPE = Label(
    name=semconv.OLD_TYPE,
    values=("input", "output"),
    meaning="all tokens of the question, or of the answer",
)
GENAI_TOOL = Label(
    name=semconv.TOOL_NAME,
    fact="tool",
    limit=200,
    meaning="registered tool; `unknown` for a name that the model invented",
)
GENAI_TOOL_TYPE = Label(
    name=semconv.TOOL_TYPE,
    values=("function", "extension", "datastore"),
    meaning="always `function`",
)
GENAI_AGENT = Label(
    name=semconv.AGENT_NAME,
    fact="agent_name",
    limit=100,
    meaning="`victor`, the role of a sub-agent or of a team's member, `team`, or the name of the "
    "workflow",
)
MCP_METHOD = Label(
    name=semconv.MCP_METHOD,
    fact="method",
    values=(
        "initialize",
        "ping",
        "tools/list",
        "tools/call",
        "resources/list",
        "resources/read",
        "other",
    ),
    others=True,
    meaning="method of the message; `other` for one that Victor neither sends nor answers",
)
MCP_OPERATION = Label(
    name=semconv.OPERATION_NAME,
    fact="operation_name",
    values=("execute_tool",),
    optional=True,
    meaning="only of `tools/call`",
)
MCP_TOOL = Label(
    name=semconv.TOOL_NAME,
    fact="tool",
    limit=200,
    optional=True,
    meaning="only of `tools/call`: a tool that the server has; `unknown` for any other name",
)
MCP_STATUS_CODE = Label(
    name=semconv.RPC_STATUS_CODE,
    fact="code",
    limit=50,
    optional=True,
    meaning="only of a JSON-RPC error: its code",
)
