"""What settings that are understood make impossible: told at the start, and by doctor."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from victor_otel.signals import webconfig
from victor_otel.signals.settings import (
    INSTANCE,
    LIFETIME,
    OTEL_CERTIFICATE,
    OTEL_ENDPOINT,
    OTEL_EXPORTER,
    OTEL_HISTOGRAMS,
    OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TEMPORALITY,
    OTEL_TRACES_EXPORTER,
    PROMETHEUS_ENABLED,
    PROMETHEUS_WEB_CONFIG,
    VARIABLES,
    Settings,
)

_RECEIVER = "/api/v1/otlp"
"""The path of Prometheus's own OTLP receiver."""
_TO_COLLECTOR = f"export {OTEL_ENDPOINT.name}=http://COLLECTOR:4318"
METRICS, SPANS = "opentelemetry_metrics_exporter", "opentelemetry_traces_exporter"
"""The groups of entry points by which packages provide exporters."""
_BUILT_IN = {METRICS: ("prometheus", "otlp", "console"), SPANS: ("otlp", "console")}
_OURS = ("VICTOR_OTEL_", "VICTOR_PROMETHEUS_")
"""Nobody but us reads what begins like this."""
_SIMILAR = 0.88
"""From here on a name is a slip of another one: two letters of twenty."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CERTIFICATES = (OTEL_CERTIFICATE.name, "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE")


@dataclass(frozen=True, kw_only=True)
class Caution:
    """`lost` says that numbers do not arrive at all; otherwise they arrive and mislead."""

    about: str
    detail: str
    why: str
    command: str
    """What mends it."""
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.detail}: {self.why}. To mend it: {self.command}"


def cautions(
    settings: Settings, lifetime: str, environ: Mapping[str, str] = os.environ
) -> Iterator[Caution]:
    """Those for a process of a lifetime: `long`, `short`, or `auto` while it can be either."""
    yield from _of_exporters(settings)
    yield from misspelt(environ)
    pushes = "otlp" in settings.exporters
    deltas = settings.temporality in {"delta", "lowmemory"}
    if lifetime != "short":
        yield from _of_an_endpoint(settings)
    if lifetime != "long":
        yield from _of_a_short_process(settings, lifetime, pushes=pushes)
        deltas = settings.temporality != "cumulative"
    if pushes and deltas and _RECEIVER in settings.otlp_endpoint:
        yield Caution(
            about="temporality",
            detail="deltas are pushed straight to Prometheus, which stores none of them",
            why=f"{LIFETIME.name}={lifetime} and {OTEL_TEMPORALITY.name}={settings.temporality} "
            "ask for deltas, which need a Collector that accumulates (collector/config.yaml)",
            command=_TO_COLLECTOR,
            lost=True,
        )
    if settings.histograms.startswith("base2"):
        yield Caution(
            about="histograms",
            detail="histograms are exponential, and no quantile of this process is shown",
            why=f"{OTEL_HISTOGRAMS.name}={settings.histograms}, and the rules and dashboards that "
            "are shipped read explicit buckets",
            command=f"unset {OTEL_HISTOGRAMS.name}",
        )
    if settings.instance and lifetime != "short":
        yield Caution(
            about="identity",
            detail=f"this process is {settings.instance!r}, and so is any other with this "
            "environment",
            why=f"{OTEL_RESOURCE_ATTRIBUTES.name} sets {INSTANCE}: several would overwrite each "
            "other's numbers",
            command=f"leave {INSTANCE} out of {OTEL_RESOURCE_ATTRIBUTES.name}",
        )
    yield from _of_certificates(settings, environ)


def is_provided(exporter: str, group: str = METRICS) -> bool:
    """Whether an installed package provides an exporter of metrics of this name."""
    found = importlib.metadata.entry_points(group=group, name=exporter)
    return exporter in _BUILT_IN[group] or bool(list(found))


def provided(exporter: str, group: str, protocol: str) -> Any:
    """The class of an exporter that an installed package provides; of OTLP that of a protocol."""
    if exporter == "otlp":
        exporter = f"otlp_proto_{'grpc' if protocol == 'grpc' else 'http'}"
    (entry_point, *_) = importlib.metadata.entry_points(group=group, name=exporter)
    return entry_point.load()


def provides_spans(exporter: str) -> bool:
    """Whether an installed package provides an exporter of spans of this name."""
    return is_provided(exporter, SPANS)


def _of_exporters(settings: Settings) -> Iterator[Caution]:
    for variable, group, names in (
        (OTEL_EXPORTER, METRICS, settings.exporters),
        (OTEL_TRACES_EXPORTER, SPANS, settings.trace_exporters),
    ):
        known = _BUILT_IN[group]
        for name in names:
            if is_provided(name, group):
                continue
            # The name is not shown: it may be a secret that went astray.
            near = get_close_matches(name.lower(), known, 1)
            yield Caution(
                about="exporters",
                detail=f"{variable.name} names an exporter that no installed package provides",
                why=f"nothing goes there; known are {', '.join(known)} and none",
                command=f"export {variable.name}={near[0] if near else 'otlp'}",
                lost=True,
            )


def misspelt(environ: Mapping[str, str] = os.environ) -> Iterator[Caution]:
    """Variables that nobody reads, also where nothing else is asked for: that is how it looks."""
    for name in sorted(environ):
        near = _near(name)
        if near is not None:
            yield Caution(
                about="variables",
                detail=f"{name} is read by nobody",
                why=f"it is probably meant to be {near}" if near else "no such variable is known",
                command=f"unset {name}" + (f"; export {near}=..." if near else ""),
            )


def _near(name: str) -> str | None:
    """The variable that a name that nobody reads is meant to be: `""` if there is none near."""
    upper = name.upper()
    if not upper.startswith(("VICTOR_", "OTEL_")) or name in _known():
        return None
    near = get_close_matches(upper, [variable.name for variable in VARIABLES], 1, _SIMILAR)
    return near[0] if near else "" if upper.startswith(_OURS) else None


@functools.cache
def _known() -> frozenset[str]:
    """Every variable that we or OpenTelemetry read."""
    import opentelemetry.environment_variables as api
    import opentelemetry.sdk.environment_variables as sdk

    theirs = (*vars(api).values(), *vars(sdk).values())
    return frozenset(
        {one for one in theirs if isinstance(one, str) and one.startswith("OTEL_")}
        | {variable.name for variable in VARIABLES}
    )


def _of_an_endpoint(settings: Settings) -> Iterator[Caution]:
    """Cautions for who serves `/metrics`, which a short process does not."""
    if "prometheus" not in settings.exporters:
        return
    if "otlp" in settings.exporters:
        why = (
            "the push goes into a Prometheus: if the same one scrapes this process, it has each "
            "number twice; whether it does cannot be known here"
            if _RECEIVER in settings.otlp_endpoint
            else "a Prometheus that scrapes both this process and the Collector that gets the push "
            "has each number twice; who scrapes what cannot be known here"
        )
        yield Caution(
            about="routes",
            detail="metrics are served on /metrics and pushed as well",
            why=why,
            command=f"unset {PROMETHEUS_ENABLED.name}",
        )
    try:
        web = webconfig.load(Path(settings.web_config)) if settings.web_config else None
        lacks = webconfig.exposure(settings.prometheus_host, web)
    except (OSError, ValueError):  # whoever serves it says so
        return
    if lacks:
        yield Caution(
            about="access",
            detail=f"/metrics on {settings.prometheus_host} is open to other machines without "
            f"{lacks}",
            why="whoever reaches it reads it: let only Prometheus, by a firewall or a "
            "NetworkPolicy, or demand more",
            command=f"export {PROMETHEUS_WEB_CONFIG.name}=/path/to/web.yml",
        )


def _of_a_short_process(settings: Settings, lifetime: str, *, pushes: bool) -> Iterator[Caution]:
    if "prometheus" in settings.exporters and (lifetime == "short" or not pushes):
        yield Caution(
            about="lifetime",
            detail="a short-lived process serves no /metrics",
            why=f"{LIFETIME.name}={lifetime}, and it would be over before it is scraped",
            command=_TO_COLLECTOR,
            lost=lifetime == "short" and not pushes,
        )
    if pushes and settings.temporality == "cumulative":
        yield Caution(
            about="temporality",
            detail="the totals of each run are series of their own, which end with it",
            why=f"{LIFETIME.name}={lifetime} with {OTEL_TEMPORALITY.name}=cumulative: rate() does "
            "not see their first values; a Collector adds deltas up",
            command=f"unset {OTEL_TEMPORALITY.name}",
        )


def _of_certificates(settings: Settings, environ: Mapping[str, str]) -> Iterator[Caution]:
    """The library beneath the exporter of HTTP prefers its own variables to OpenTelemetry's."""
    if "otlp" not in settings.exporters or not settings.otlp_url.startswith("https:"):
        return
    bundle = next((name for name in _BUNDLES if environ.get(name)), None)
    given = next((name for name in _CERTIFICATES if environ.get(name)), None)
    if bundle and given and settings.otlp_protocol != "grpc":
        yield Caution(
            about="tls",
            detail=f"{given} is not used",
            why=f"{bundle} is set, which the exporter of http/protobuf prefers",
            command=f"unset {' '.join(_BUNDLES)}",
        )
