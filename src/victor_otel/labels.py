"""Every label, once: its allowed values or its bound, and what stands for the rest.

No prompt, path, argument, result, query, exception text, user id or session id is ever
a label value.
"""

from __future__ import annotations

from victor_otel.spec import Label

STATUSES = ("success", "failure", "timeout", "cancelled")

TOOL = Label(
    name="tool",
    limit=200,
    meaning="registered tool; `unknown` for a name the model invented",
)
PROVIDER = Label(name="provider", limit=50, meaning="Victor's provider name")
MODEL = Label(name="model", limit=100, meaning="model as requested")
VERTICAL = Label(name="vertical", limit=50, meaning="active vertical, or `none`")
WORKFLOW = Label(name="workflow", limit=100, meaning="workflow name, or `unnamed`")
ENDPOINT = Label(name="endpoint", limit=200, meaning="route template, or `unmatched`")
FEATURE = Label(
    name="feature",
    limit=50,
    meaning="slash_command, team, subagent, planning, workflow, mcp, streaming, or one "
    "that an application declared",
)
ERROR_TYPE = Label(
    name="error_type",
    limit=100,
    meaning="Victor's error category, else the exception's class",
)
HEALTH_COMPONENT = Label(name="component", limit=50, meaning="component of Victor's health checks")
QUEUE = Label(
    name="queue",
    values=("turn", "provider"),
    meaning="`turn`: at an agent; `provider`: in a queue of provider requests",
)
HOOK = Label(
    name="hook",
    limit=300,
    meaning="wrapped function, `module:Class.method`, or the place of ours where an error was",
)
DRIFT = Label(
    name="kind",
    values=("class", "member"),
    meaning="`class`: 1 if it is not where it was; `member`: how many of an enumeration's are new "
    "to us, or gone although we compare with them",
)
SYMBOL = Label(name="symbol", limit=100, meaning="class or enumeration of Victor's, `module:Class`")
METRIC = Label(name="metric", limit=200, meaning="metric whose label cap was reached")
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
    meaning="what the user reached Victor through; `web` is the chat of `victor ui`",
)
STATUS = Label(name="status", values=STATUSES, meaning="outcome")
TURN_STATUS = Label(
    name="status",
    values=(*STATUSES, "paused"),
    meaning="outcome; `paused` waits for an approval",
)
REQUEST_STATUS = Label(
    name="status",
    values=(*STATUSES, "paused", "rejected"),
    meaning="outcome; `rejected` is a 4xx",
)
CREATION_STATUS = Label(
    name="status", values=("success", "failure", "cancelled"), meaning="outcome"
)
HTTP_STATUS = Label(name="status", limit=60, meaning="HTTP status code; 499 if the client left")
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
    meaning="whether the answer held tool calls",
)
TOKEN_TYPE = Label(
    name="type",
    values=("input", "output", "cache_read", "cache_write"),
    meaning="kind of token; cache_read and cache_write as the provider reports them",
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
    meaning="why the call was not run",
)
CACHE = Label(name="cache", values=("tool", "tiered"), meaning="cache asked")
CACHE_RESULT = Label(name="result", values=("hit", "miss"), meaning="its answer")
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
    meaning="where the failure arose",
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
    meaning="an authorization failed, a tool was blocked, what a tool returned was withheld from "
    "the model, policies blocked a user's message or an answer, a scan found something",
)
AUTHORIZATION_SOURCE = Label(
    name="source",
    values=("permission_policy", "rbac", "api_key"),
    meaning="what decided: the permission policy of tools, role-based access, the API's keys",
)
AUTHORIZATION_REASON = Label(
    name="reason",
    values=("anonymous", "unknown", "forbidden"),
    meaning="`anonymous`: no key, or no user; `unknown`: one that does not exist; `forbidden`: "
    "known, and not allowed",
)
VULNERABILITY_SEVERITY = Label(
    name="severity",
    values=("critical", "high", "medium", "low", "none", "unknown"),
    meaning="Victor's severity of the advisory",
)
SCANNER = Label(
    name="scanner",
    values=("dependency", "iac", "code"),
    meaning="`dependency`: advisories of packages; `iac`: infrastructure as code; `code`: the "
    "tool `scan`",
)
DEPLOYMENT_SOURCE = Label(
    name="source",
    values=("conversation", "terraform", "docker", "kubernetes", "ecs", "other"),
    others=True,
    meaning="what deployed; `conversation` was only told of it, `other` is a handler of one's own",
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
    meaning="type that the document was given, as victor-rag keeps it; `auto` lets it guess",
)
SEARCH_STATUS = Label(
    name="status",
    values=("results", "empty", "error", "cancelled"),
    meaning="`empty`: an endpoint answered without results; `error`: Victor said so, or no "
    "endpoint answered",
)
ANALYSIS_SOURCE = Label(
    name="source",
    values=("review", "index", "metrics"),
    meaning="`review` of a file, `index` of a code base, or the tool `metrics`",
)
ISSUE_SOURCE = Label(
    name="source",
    values=("review", "metrics"),
    meaning="`review` of a file, or the tool `metrics`",
)
ISSUE_SEVERITY = Label(
    name="severity",
    values=("error", "warning", "info", "hint"),
    meaning="Victor's severity of the finding; the tool `metrics` knows warnings only",
)
MEMORY_COMPONENT = Label(
    name="component",
    values=("process", "children"),
    meaning="`process` itself, or its living descendants",
)
MEMORY_OPERATION = Label(
    name="operation",
    values=("search", "get", "store", "delete"),
    meaning="what was asked of a memory",
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
    meaning="Victor's type of memory; `none`: nothing was recalled, `other`: one of your own",
)
SKILL_TYPE = Label(name="skill_type", limit=50, meaning="the skill's category")
SKILL = Label(
    name="skill",
    limit=200,
    meaning="a tool that Victor learns to select, or a skill that an application named",
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
    meaning="1 for the present state; `waiting` until Victor imports the module",
)
