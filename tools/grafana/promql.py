"""The kinds of questions that panels ask, each right for any number of replicas, and for none.

Ratios are of sums of counters, never of the ratios that processes compute for themselves, and
without traffic they have no value: a denominator of 0 is left out. Every question is limited to
the chosen jobs and processes. The instance of short-lived runs' totals is the Collector.
"""

from __future__ import annotations

PROCESS = 'job=~"$job",instance=~"$instance"'
FAILED = 'status=~"failure|timeout"'
ENDED = 'status=~"success|failure|timeout"'
"""Without what was cancelled, waits for an approval or was refused as wrong."""
USERS = 'endpoint!~"/(health|docs)(/.*)?|/status|/redoc|/openapi.json"'
"""Without probes and documentation: their milliseconds would hide the users' seconds."""


_WATCHERS = "otelcol|collector|prometheus|alertmanager|"
"""Who watches the chosen services: their alerts matter to all; some have no job at all."""

ABOUT = (
    "tool",
    "provider",
    "endpoint",
    "interface",
    "workflow",
    "component",
    "operation",
    "cache",
    "memory_type",
    "source",
    "scanner",
    "vulnerability_severity",
    "vertical",
    "hook",
    "metric",
    "victor_version",
    "integration",
    "exporter",
    "rule_group",
    "error",
)
"""Labels that say what an alert is about, besides its service and its process."""

_CARRY = {
    'vertical=~"$vertical"': (
        "victor_chat_request_duration_seconds",
        "victor_planning_success_rate",
        "victor_tool_execution",
        "victor_tool_success_rate",
        "victor_vertical_usage",
    ),
    'provider=~"$provider"': ("victor_provider_",),
}
"""What else is chosen, where a metric can tell: beginnings of names."""


def of(metric: str, *matchers: str) -> str:
    """A metric of the chosen processes."""
    chosen = [matcher for matcher, names in _CARRY.items() if metric.startswith(names)]
    return f"{metric}{{{','.join((PROCESS, *chosen, *matchers))}}}"


def summed(expr: str, by: str = "") -> str:
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def rate(metric: str, *matchers: str, by: str = "") -> str:
    """Events per second."""
    return summed(f"rate({of(metric, *matchers)}[$__rate_interval])", by)


def ratio(
    metric: str,
    part: str = FAILED,
    whole: tuple[str, ...] = (ENDED,),
    *,
    by: str = "",
    over: str = "5m",
) -> str:
    """The share of `part` in `whole`, as in the alerts."""
    above = summed(f"rate({of(metric, part)}[{over}])", by)
    return f"{above} / {traffic(metric, *whole, by=by, over=over)}"


def traffic(metric: str, *matchers: str, by: str = "", over: str = "5m") -> str:
    """What a share is of; without any there is no share."""
    return f"({summed(f'rate({of(metric, *matchers)}[{over}])', by)} > 0)"


def grown(metric: str, *matchers: str, by: str = "", over: str = "$__range") -> str:
    """How many events there were. `increase` does not see what a new series begins with.

    New is what was not there in the hour before either: a gap is no birth.
    """
    one = of(metric, *matchers)
    before = f"last_over_time({one}[1h] offset {over})"
    born = f"max_over_time({one}[{over}]) unless ignoring (gateway) {before}"
    return summed(f"({born}) or increase({one}[{over}])", by)


def or_zero(expr: str, known: str) -> str:
    """0 where what would have counted is there and has counted nothing."""
    return f"{expr} or 0 * count({known})"


def quantile(which: float, histogram: str, *matchers: str, by: str = "", over: str = "5m") -> str:
    """Of all replicas together. Without an event it would be NaN, which is left out."""
    labels = f"{by}, le" if by else "le"
    buckets = summed(f"rate({of(f'{histogram}_bucket', *matchers)}[{over}])", labels)
    return f"histogram_quantile({which:g}, {buckets}) >= 0"


def rare_ratio(metric: str, by: str, over: str) -> str:
    """The share of failures where one event matters, and it may be the first of its process."""
    ended = grown(metric, ENDED, by=by, over=over)
    return f"{grown(metric, FAILED, by=by, over=over)} / ({ended} > 0)"


def rare_quantile(
    which: float, histogram: str, *matchers: str, by: str = "", over: str = "5m"
) -> str:
    """The same where one event matters, and it may be the first of its process."""
    buckets = grown(f"{histogram}_bucket", *matchers, by=f"{by}, le" if by else "le", over=over)
    return f"histogram_quantile({which:g}, {buckets}) >= 0"


def each(gauge: str, *matchers: str, by: str = "") -> str:
    """Of each process; one that moves between gateways is there twice for half a minute."""
    labels = f"job, instance, {by}" if by else "job, instance"
    return f"max by ({labels}) ({of(gauge, *matchers)})"


def worst(gauge: str, *matchers: str, by: str = "") -> str:
    """Of a number that each process computes for itself, and that has no sum or mean."""
    return f"min by ({by}) ({of(gauge, *matchers)})" if by else f"min({of(gauge, *matchers)})"


def firing(*alerts: str) -> str:
    """The alerts that fire of the chosen services, and of what watches them; or some of these."""
    named = f'alertname=~"{"|".join(alerts)}",' if alerts else ""
    return (
        f'ALERTS{{alertstate="firing",{named}severity=~"critical|warning",job=~"$job|{_WATCHERS}"}}'
    )


def began(*alerts: str) -> str:
    """When the condition of each alert that fires became true, in milliseconds."""
    return f"1000 * (ALERTS_FOR_STATE and ignoring (alertstate) {firing(*alerts)})"


_NAMED = 'host_name!=""'


def named(expr: str) -> str:
    """Series of processes, which `process` names by host and process id, or by instance.

    The instance of a process that pushes is a random id. `target_info` has host and process id; it
    is there twice while a process moves between gateways or is replaced under its name, and gone
    a moment before what rules record of the process.
    """
    told = f"last_over_time({of('target_info', _NAMED)}[1m])"
    one = f"topk by (job, instance) (1, group by (job, instance, host_name, process_pid) ({told}))"
    both = f"({expr}) * on (job, instance) group_left (host_name, process_pid) {one}"
    return (
        f'label_join({both}, "process", " ", "host_name", "process_pid") '
        f'or on (job, instance) label_replace({expr}, "process", "$1", "instance", "(.+)")'
    )
