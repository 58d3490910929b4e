"""Where the time goes: requests, chat turns, tools, providers, and the processes below."""

from __future__ import annotations

from tools.grafana.alerts import fires
from tools.grafana.model import Dashboard, Kind, Panel, Query, Row
from tools.grafana.promql import (
    ENDED,
    PROCESS,
    USERS,
    each,
    named,
    of,
    quantile,
    rare_quantile,
    rate,
    ratio,
)

_REQUEST = "victor_request_duration_seconds"
_CHAT = "victor_chat_request_duration_seconds"
_START = "victor_initialization_duration_seconds"
_TOOL = "victor_tool_execution_duration_seconds"
_PROVIDER = "victor_provider_latency_seconds"
_FIRST = "victor_provider_time_to_first_token_seconds"
_STARTED = 'status=~"success|failure"'
_PROGRAMS = 'tool!~"batch|cicd|code|docker|sandbox|shell|test|workflow"'
_HALF, _MOST, _TAIL = 0.5, 0.95, 0.99


def _percentiles(histogram: str, *matchers: str, over: str = "5m") -> tuple[Query, ...]:
    return tuple(
        Query(expr=quantile(q, histogram, *matchers, over=over), legend=f"p{q * 100:g}")
        for q in (_HALF, _MOST, _TAIL)
    )


def _now(number: int, title: str, says: str, expr: str, *, limit: float | str, more: int) -> Panel:
    return Panel(
        id=number,
        title=title,
        says=says,
        kind=Kind.STAT,
        width=4,
        height=4,
        queries=(Query(expr=expr, legend="p95"),),
        unit="s",
        steps=((limit, "red"),),
        empty="none in 5 min",
        detail=("victor-performance", more),
    )


_REQUESTS = Row(
    title="Requests: how long a client waits",
    panels=(
        Panel(
            id=10,
            title="Response time percentiles",
            says="HTTP answers over 5 minutes, without probes and documentation "
            f"(`{_REQUEST}`). p95 should stay below ${{DegradedResponseTime.threshold}} s, p99 "
            "below ${SlowResponseTimeTail.threshold} s.",
            queries=_percentiles(_REQUEST, USERS),
            unit="s",
            steps=(
                ("${DegradedResponseTime.threshold}", "yellow"),
                ("${SlowResponseTimeTail.threshold}", "red"),
            ),
            empty="no HTTP requests",
        ),
        Panel(
            id=11,
            title="Response time p95 by endpoint",
            says="The ten slowest endpoints over 5 minutes. A warning from "
            "${DegradedResponseTime.threshold} s, critical from "
            "${SlowResponseTime.threshold} s.",
            queries=(
                Query(
                    expr=f"topk(10, {quantile(_MOST, _REQUEST, by='endpoint')})",
                    legend="{{endpoint}}",
                ),
            ),
            unit="s",
            steps=(
                ("${DegradedResponseTime.threshold}", "yellow"),
                ("${SlowResponseTime.threshold}", "red"),
            ),
            empty="no HTTP requests",
            alerts=("DegradedResponseTime", "SlowResponseTime", "SlowResponseTimeTail"),
        ),
        Panel(
            id=12,
            title="Request rate trends",
            says="Requests per second over 5 minutes: all, those of each API server on average, "
            "and as usual at this hour of this day. The last two by service alone.",
            queries=(
                Query(expr=rate("victor_requests_total"), legend="all"),
                Query(
                    expr='max(job:victor_requests:rate_5m_per_api_server{job=~"$job"})',
                    legend="per API server",
                ),
                Query(
                    expr='sum(job:victor_requests:total_5m_baseline{job=~"$job"}) / 300',
                    legend="usual",
                ),
            ),
            unit="reqps",
            alerts=("LoadPerServerHigh",),
        ),
    ),
)

_TURNS = Row(
    title="Chat turns and agents: how long a user waits",
    panels=(
        Panel(
            id=20,
            title="Chat time percentiles",
            says=f"Chat turns that succeeded, failed or timed out, over 5 minutes (`{_CHAT}`). "
            "p95 should stay below ${SlowChat.threshold} s, p99 below ${SlowChatTail.threshold} s.",
            queries=_percentiles(_CHAT, ENDED),
            unit="s",
            steps=(("${SlowChat.threshold}", "yellow"), ("${SlowChatTail.threshold}", "red")),
            empty="no turns",
            alerts=("SlowChat", "SlowChatTail", "ChatLatencyRegression"),
        ),
        Panel(
            id=21,
            title="Chat time distribution",
            says="How many turns took how long: each cell counts those up to its bound and above "
            "the one below. Two bands are two kinds of work, which no percentile shows.",
            kind=Kind.HEATMAP,
            queries=(
                Query(
                    # A bound is 15.0 in a scraped process and 15 through OTLP.
                    expr="sum by (le) (label_replace(increase("
                    f"{of(f'{_CHAT}_bucket', ENDED)}[$__rate_interval]), "
                    '"le", "$1", "le", "([0-9]+)[.]0"))',
                    legend="{{le}}",
                    buckets=True,
                ),
            ),
            unit="locale",
            empty="no turns",
        ),
        Panel(
            id=22,
            title="Agent start percentiles",
            says=f"Time to create an agent, over an hour (`{_START}`). p95 should stay below "
            "${SlowInitialization.threshold} s, "
            "p99 below ${SlowInitializationTail.threshold} s. By service alone, the slowest of "
            "those chosen.",
            queries=tuple(
                Query(expr=f'max(job:{_START}:p{q}_1h{{job=~"$job"}})', legend=f"p{q}")
                for q in (50, 95, 99)
            ),
            unit="s",
            steps=(
                ("${SlowInitialization.threshold}", "yellow"),
                ("${SlowInitializationTail.threshold}", "red"),
            ),
            empty="no agent created",
            alerts=("SlowInitialization", "SlowInitializationTail"),
        ),
    ),
)

_CALLS = Row(
    title="Where the time goes: tools, models and their tokens, caches",
    panels=(
        Panel(
            id=30,
            title="Tool execution time by tool (p95)",
            says=f"The ten slowest tools over 5 minutes (`{_TOOL}`). p95 should stay below "
            "${SlowToolExecution.threshold} s, "
            "p99 below ${SlowToolExecutionTail.threshold} s, except for tools that run programs.",
            queries=(
                Query(
                    expr=f"topk(10, {quantile(_MOST, _TOOL, ENDED, by='tool')})",
                    legend="{{tool}}",
                ),
            ),
            unit="s",
            steps=(
                ("${SlowToolExecution.threshold}", "yellow"),
                ("${SlowToolExecutionTail.threshold}", "red"),
            ),
            empty="no tool calls",
            alerts=("SlowToolExecution", "SlowToolExecutionTail"),
        ),
        Panel(
            id=31,
            title="Provider latency by provider (p95, p99)",
            says=f"Calls to models over 5 minutes, to the end of the answer (`{_PROVIDER}`). p95 "
            "should stay below ${SlowProvider.threshold} s, p99 below "
            "${SlowProviderTail.threshold} s.",
            queries=tuple(
                Query(
                    expr=quantile(q, _PROVIDER, ENDED, by="provider"),
                    legend=f"{{{{provider}}}} p{q * 100:g}",
                )
                for q in (_MOST, _TAIL)
            ),
            unit="s",
            steps=(
                ("${SlowProvider.threshold}", "yellow"),
                ("${SlowProviderTail.threshold}", "red"),
            ),
            empty="no calls",
            alerts=("SlowProvider", "SlowProviderTail"),
        ),
        Panel(
            id=32,
            title="Time to first token by provider (p50, p95)",
            says=f"From a stream's first read to its first content, over 5 minutes (`{_FIRST}`): "
            "so long a user sees nothing.",
            queries=tuple(
                Query(
                    expr=rare_quantile(q, _FIRST, by="provider"),
                    legend=f"{{{{provider}}}} p{q * 100:g}",
                )
                for q in (_HALF, _MOST)
            ),
            unit="s",
            empty="no streams",
        ),
        Panel(
            id=33,
            title="Tokens by type",
            says="Tokens per second as providers reported them (`victor_provider_tokens_total`). "
            "Input and output are all of them: reasoning is a part of output, cache_read and "
            "cache_write are parts of input.",
            queries=(
                Query(
                    expr=rate("victor_provider_tokens_total", by="type"),
                    legend="{{type}}",
                ),
            ),
            unit="suffix: tokens/s",
            empty="no tokens reported",
            alerts=("TokenUsageSurge",),
        ),
        Panel(
            id=34,
            title="Provider calls",
            says="Calls to models per second by provider and outcome "
            "(`victor_provider_requests_total`).",
            queries=(
                Query(
                    expr=rate("victor_provider_requests_total", by="provider, status"),
                    legend="{{provider}} {{status}}",
                ),
            ),
            unit="reqps",
            empty="no calls",
        ),
        Panel(
            id=35,
            title="Cache hit rates",
            says="Questions that a cache could answer, of all, over 5 minutes "
            "(`victor_cache_requests_total`). Below 10% a cache saves next to nothing.",
            queries=(
                Query(
                    expr=ratio(
                        "victor_cache_requests_total", part='result="hit"', whole=(), by="cache"
                    ),
                    legend="{{cache}}",
                ),
            ),
            unit="percentunit",
            most=1,
            empty="no cache was asked",
            alerts=("HighCacheMissRate",),
        ),
    ),
)

_PROCESSES = Row(
    title="What processes need: memory, CPU, disks",
    panels=(
        Panel(
            id=40,
            title="Memory usage",
            says="Resident memory of the ten largest processes, children included "
            "(`victor_memory_usage_bytes`).",
            width=12,
            queries=(
                Query(
                    expr=named(
                        f"topk(10, job_instance:victor_memory_usage_bytes:sum{{{PROCESS}}})"
                    ),
                    legend="{{job}} {{process}}",
                ),
            ),
            unit="bytes",
            process=True,
            empty="no process",
            alerts=("MemoryLeakSuspected",),
        ),
        Panel(
            id=41,
            title="Memory, share of the limit",
            says="The same as share of the cgroup's limit, else of the machine's memory. A "
            "warning from ${ElevatedMemoryUsage.threshold:percent}, critical from "
            "${HighMemoryUsage.threshold:percent}: at 100% the system kills the process.",
            width=12,
            queries=(
                Query(
                    expr=named(f"topk(10, job_instance:victor_memory_usage:ratio{{{PROCESS}}})"),
                    legend="{{job}} {{process}}",
                ),
            ),
            unit="percentunit",
            steps=(
                ("${ElevatedMemoryUsage.threshold}", "yellow"),
                ("${HighMemoryUsage.threshold}", "red"),
            ),
            process=True,
            empty="no process",
            alerts=("HighMemoryUsage", "ElevatedMemoryUsage", "MemoryExhaustionPredicted"),
        ),
        Panel(
            id=42,
            title="CPU usage",
            says="Of the ten busiest processes: share of the CPUs that each may use, 100% is all "
            "of them (`victor_cpu_usage_percent`). A warning from ${HighCPUUsage.threshold}%.",
            width=12,
            queries=(
                Query(
                    expr=named(f"topk(10, {each('victor_cpu_usage_percent')})"),
                    legend="{{job}} {{process}}",
                ),
            ),
            unit="percent",
            steps=(("${HighCPUUsage.threshold}", "red"),),
            process=True,
            empty="no process",
            alerts=("HighCPUUsage", "CPUHeadroomLow"),
        ),
        Panel(
            id=43,
            title="I/O wait",
            says="Share of time in which the machine's CPUs waited for its disks, as the ten "
            "worst-off processes see it (`victor_io_wait_percent`). A hint from "
            "${HighIOWait.threshold}%.",
            width=12,
            queries=(
                Query(
                    expr=named(f"topk(10, {each('victor_io_wait_percent')})"),
                    legend="{{job}} {{process}}",
                ),
            ),
            unit="percent",
            steps=(("${HighIOWait.threshold}", "yellow"),),
            process=True,
            empty="not known here",
            alerts=("HighIOWait",),
        ),
    ),
)

_NOW = Row(
    title="Is it slow now? 95% are quicker than",
    panels=(
        fires(7, _REQUESTS, _TURNS, _CALLS, _PROCESSES),
        _now(
            1,
            "Request p95",
            "HTTP answers of the last 5 minutes, without probes. Red from "
            "${DegradedResponseTime.threshold} s.",
            quantile(_MOST, _REQUEST, USERS),
            limit="${DegradedResponseTime.threshold}",
            more=10,
        ),
        _now(
            2,
            "Chat p95",
            "Chat turns of the last 5 minutes, to the end of their answers. Red from "
            "${SlowChat.threshold} s.",
            quantile(_MOST, _CHAT, ENDED),
            limit="${SlowChat.threshold}",
            more=20,
        ),
        _now(
            3,
            "First token p95",
            "Time from the call to the first content of streams, in the last 5 minutes. The guide "
            "has no threshold; red from 5 s, when a person begins to doubt.",
            rare_quantile(_MOST, _FIRST),
            limit=5,
            more=32,
        ),
        _now(
            4,
            "Provider p95",
            "Calls to models in the last 5 minutes. Red from ${SlowProvider.threshold} s.",
            quantile(_MOST, _PROVIDER, ENDED),
            limit="${SlowProvider.threshold}",
            more=31,
        ),
        _now(
            5,
            "Tool p95",
            "Tool calls of the last 5 minutes, without tools that run programs: those take as "
            "long as the program. Red from ${SlowToolExecution.threshold} s.",
            quantile(_MOST, _TOOL, ENDED, _PROGRAMS),
            limit="${SlowToolExecution.threshold}",
            more=30,
        ),
        Panel(
            id=6,
            title="Agent start p95",
            says="Time to create an agent, in the last hour because starts are few. Red from "
            "${SlowInitialization.threshold} s. "
            "By service alone: most processes start one before they are first scraped.",
            kind=Kind.STAT,
            width=4,
            height=4,
            queries=(
                Query(
                    expr='max(job:victor_initialization_duration_seconds:p95_1h{job=~"$job"})',
                    legend="p95",
                ),
            ),
            unit="s",
            steps=(("${SlowInitialization.threshold}", "red"),),
            empty="none in 1 h",
            detail=("victor-performance", 22),
        ),
    ),
)

PERFORMANCE = Dashboard(
    uid="victor-performance",
    title="Victor / Performance",
    says="Where the time goes: requests, chat turns, tools, providers, and the processes below.",
    refresh="15s",
    since="now-1h",
    variables=("job", "instance", "vertical", "provider"),
    rows=(_NOW, _REQUESTS, _TURNS, _CALLS, _PROCESSES),
)
