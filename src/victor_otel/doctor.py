"""What is on, what is missing, and what to do about it.

Every check is on its own: it must work where Victor, the SDK or the settings are broken.
Nothing is started: no pipeline, no endpoint.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from victor_otel import drift
from victor_otel.health import installed
from victor_otel.settings import LIFETIME, OTEL_TEMPORALITY, Settings, metrics_url
from victor_otel.spec import Extra
from victor_otel.supported import BELOW, RANGE, TESTED
from victor_otel.version import __version__

OK, WARNING, PROBLEM = "ok", "warning", "problem"

_PACKAGES = (
    "victor-ai",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "opentelemetry-exporter-prometheus",
    "opentelemetry-exporter-otlp",
    "prometheus-client",
    "wrapt",
)
_TIMEOUT = 2.0
_NEXT = "Upgrade victor-otel, or report it with this output."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check; `advice` says what to do when `status` is not ok."""

    check: str
    status: str
    detail: str
    advice: str = ""


@dataclass(kw_only=True)
class Report:
    """Everything found. Healthy means that no check is a problem."""

    versions: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    hooks: dict[str, str] = field(default_factory=dict[str, str])
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def healthy(self) -> bool:
        return all(finding.status != PROBLEM for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {"healthy": self.healthy, **asdict(self)}


def examine() -> Report:
    """Runs all checks. Never raises."""
    report = Report()
    for check in (_versions, _switched_on, _hooks, _classes, _provider, _exporters):
        try:
            report.findings.extend(check(report))
        except Exception as error:
            name = check.__name__.strip("_").replace("_", " ")
            report.findings.append(
                Finding(
                    check=name,
                    status=PROBLEM,
                    detail=f"{type(error).__name__}: {error}",
                    advice="This environment is broken in a way that no check expects; "
                    "reinstall victor-otel and its dependencies.",
                )
            )
    return report


def _versions(report: Report) -> Iterator[Finding]:
    report.versions = {"victor-otel": __version__} | {name: installed(name) for name in _PACKAGES}
    for name in _PACKAGES[1:]:
        if report.versions[name] is None:
            yield Finding(
                check="versions",
                status=PROBLEM,
                detail=f"{name} is not installed",
                advice="pip install --upgrade victor-otel",
            )
    victor = report.versions["victor-ai"]
    if victor is None:
        yield Finding(
            check="versions",
            status=PROBLEM,
            detail="victor-ai is not installed in this environment",
            advice='pip install "victor-otel[instruments]"',
        )
    elif not _supported(victor):
        yield Finding(
            check="versions",
            status=WARNING,
            detail=f"victor-ai {victor} is outside the supported range {RANGE}",
            advice=f'pip install "victor-ai{RANGE}"; what still fits is recorded meanwhile',
        )
    elif _untested(victor):
        yield Finding(
            check="versions",
            status=WARNING,
            detail=f"victor-ai {victor} is newer than the last tested release {TESTED[-1]}",
            advice="pip install --upgrade victor-otel; what still fits is recorded meanwhile",
        )
    else:
        yield Finding(
            check="versions",
            status=OK,
            detail=f"victor-ai {victor} is supported ({RANGE})",
        )


def _supported(version: str) -> bool:
    from victor_otel.catalog import release

    return release(TESTED[0]) <= release(version) < release(BELOW)


def _untested(version: str) -> bool:
    from victor_otel.catalog import release

    return release(version) > release(TESTED[-1])


def _switched_on(_report: Report) -> Iterator[Finding]:
    found = importlib.metadata.entry_points(group="victor.plugins", name="otel")
    if any(entry.value == "victor_otel.plugin:plugin" for entry in found):
        yield Finding(check="plugin", status=OK, detail="Victor loads victor-otel as a plugin")
    else:
        yield Finding(
            check="plugin",
            status=PROBLEM,
            detail="the entry point that Victor loads plugins by is missing",
            advice="pip install --force-reinstall --no-deps victor-otel",
        )


def _hooks(report: Report) -> Iterator[Finding]:
    from victor_otel import instrumentation

    on = instrumentation.activate()
    if report.versions.get("victor-ai") is not None:
        for target in on.health.hooks:
            _import(target.partition(":")[0])
        on.retry()
    report.hooks = on.health.states()
    states = list(report.hooks.values())
    missing = [hook for hook, state in report.hooks.items() if state == "missing"]
    waiting = states.count("waiting")
    detail = f"{states.count('bound')} bound, {waiting} waiting, {len(missing)} missing"
    if missing:
        yield Finding(
            check="hooks",
            status=PROBLEM,
            detail=f"{detail}: {', '.join(missing)}",
            advice="This Victor lacks functions that are measured; their numbers are absent. "
            f"{_NEXT}",
        )
    else:
        advice = "Waiting hooks bind when Victor imports their modules." if waiting else ""
        yield Finding(check="hooks", status=OK, detail=detail, advice=advice)
    yield from _extras(report)


def _extras(report: Report) -> Iterator[Finding]:
    """What waits because Victor was installed without the extra that brings its module."""
    from victor_otel import catalog

    lacking: dict[Extra, set[str]] = {}
    for hook in catalog.HOOKS:
        if hook.needs and report.hooks.get(hook.target) == "waiting":
            lacking.setdefault(hook.needs, set()).add(hook.target)
    for extra, targets in lacking.items():
        if importlib.util.find_spec(extra.module) is None:
            yield Finding(
                check="extras",
                status=OK,
                detail=f"{len(targets)} waiting: {', '.join(sorted(targets))} "
                f"(needs the extra victor-ai[{extra.name}])",
                advice=f'pip install "victor-ai[{extra.name}]" if you use it',
            )


def _classes(report: Report) -> Iterator[Finding]:
    """Whether the classes and enumerations that are known by their paths are as they were."""
    if report.versions.get("victor-ai") is None:
        return
    for module in drift.MODULES:
        _import(module)
    states = list(drift.look())
    moved = [state.path for state in states if state.moved]
    changed = [state for state in states if state.undeclared or state.lost]
    if moved:
        yield Finding(
            check="classes",
            status=PROBLEM,
            detail=f"not where they were: {', '.join(moved)}",
            advice="This Victor moved, renamed or removed classes that victor-otel recognises by "
            "their paths; what hangs on them, such as the status of a call, is recorded wrongly. "
            f"{_NEXT}",
        )
    for state in changed:
        yield from _members(state)
    if not moved and not changed:
        known = f"{len(states)} classes and enumerations are as they were"
        yield Finding(check="classes", status=OK, detail=known)


def _members(state: drift.State) -> Iterator[Finding]:
    if state.lost:
        yield Finding(
            check="classes",
            status=PROBLEM,
            detail=f"{state.path} has lost: {', '.join(state.lost)}",
            advice=f"victor-otel compares with it; what should match is recorded wrongly. {_NEXT}",
        )
    if state.undeclared:
        yield Finding(
            check="classes",
            status=WARNING,
            detail=f"{state.path} has new members: {', '.join(state.undeclared)}",
            advice="victor-otel does not know them: they are recorded as `other`, or not at all. "
            f"{_NEXT}",
        )


def _import(module: str) -> None:
    """Importing is what binds a hook; what cannot be imported here leaves it waiting."""
    try:
        importlib.import_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise


def _provider(_report: Report) -> Iterator[Finding]:
    from opentelemetry.metrics import get_meter_provider

    provider = get_meter_provider()
    if type(provider).__name__ != "_ProxyMeterProvider":
        owner = f"{type(provider).__module__}.{type(provider).__qualname__}, set globally"
        yield Finding(check="meter provider", status=OK, detail=f"the application's: {owner}")
        return
    settings = Settings.from_environment()
    if settings.exporters and not settings.config_file:
        detail = "victor-otel builds its own, private one at the first real work"
    else:
        detail = "nobody's yet; recording starts when an application sets one"
    yield Finding(check="meter provider", status=OK, detail=detail)


def _exporters(_report: Report) -> Iterator[Finding]:
    settings = Settings.from_environment()
    for problem in settings.problems:
        yield Finding(check="settings", status=PROBLEM, detail=problem)
    if not settings.exporters:
        yield Finding(
            check="exporters",
            status=WARNING,
            detail="none is asked for by the environment",
            advice="Set VICTOR_PROMETHEUS_ENABLED=true to serve /metrics, or "
            "OTEL_EXPORTER_OTLP_ENDPOINT to push, unless your application owns the SDK.",
        )
    if "prometheus" in settings.exporters:
        yield _prometheus(settings)
    if "otlp" in settings.exporters:
        yield _otlp(settings)
    yield from _lifetime(settings)


def _prometheus(settings: Settings) -> Finding:
    host, port = settings.prometheus_host, settings.prometheus_port
    url = metrics_url(_reachable(host), port)
    if port == 0:
        return Finding(
            check="prometheus", status=OK, detail="each process serves a free port and logs it"
        )
    answer = _get(url)
    if answer is not None and "victor_otel_build_info" in answer:
        return Finding(check="prometheus", status=OK, detail=f"a Victor process serves {url}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        return Finding(
            check="prometheus",
            status=PROBLEM,
            detail=f"{host}:{port} cannot be served: {error.strerror or error}",
            advice="Another program has the port, or the address is not this machine's: set "
            "VICTOR_PROMETHEUS_PORT or VICTOR_PROMETHEUS_HOST.",
        )
    return Finding(
        check="prometheus",
        status=OK,
        detail=f"{url} is free; it is served as soon as Victor works",
    )


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:  # noqa: S310
            return response.read().decode("utf-8", "replace")
    except (OSError, ValueError, HTTPException):
        return None


def _otlp(settings: Settings) -> Finding:
    if settings.otlp_protocol == "grpc":
        url, probe = settings.otlp_endpoint or "http://localhost:4317", _connect
    else:
        url, probe = settings.otlp_metrics_url, _post
    problem = probe(url)
    if problem is None:
        return Finding(check="otlp", status=OK, detail=f"{url} answers ({settings.otlp_protocol})")
    return Finding(
        check="otlp",
        status=PROBLEM,
        detail=f"{url}: {problem}",
        advice="Is the Collector running, and is the protocol right? Port 4318 speaks "
        "http/protobuf, 4317 grpc (OTEL_EXPORTER_OTLP_PROTOCOL).",
    )


def _connect(url: str) -> str | None:
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 4317), _TIMEOUT):
            return None
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _post(url: str) -> str | None:
    """Sends an export without metrics: every OTLP receiver accepts it, and it changes nothing."""
    request = urllib.request.Request(  # noqa: S310
        url, data=b"", headers={"Content-Type": "application/x-protobuf"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        # Unauthorized: our probe carries no credentials, the exporter may.
        return None if error.code in {401, 403} else f"answers {error.code} {error.reason}"
    except (OSError, ValueError, HTTPException) as error:
        return str(getattr(error, "reason", error))


def _lifetime(settings: Settings) -> Iterator[Finding]:
    if settings.lifetime == "long":
        return
    name = f"{LIFETIME.name}={settings.lifetime}"
    if settings.temporality == "cumulative":
        yield Finding(
            check="lifetime",
            status=WARNING,
            detail=f"{name} with {OTEL_TEMPORALITY.name}=cumulative",
            advice="Cumulative series of short processes lose every first value to rate(); "
            f"unset {OTEL_TEMPORALITY.name} and push to an accumulating Collector.",
        )
    elif "/api/v1/otlp" in settings.otlp_endpoint:
        yield Finding(
            check="lifetime",
            status=PROBLEM,
            detail=f"{name} pushes deltas straight to Prometheus, which stores none of them",
            advice="Push short-lived runs to the Collector (collector/config.yaml).",
        )
    elif settings.exporters == ("prometheus",):
        yield Finding(
            check="lifetime",
            status=WARNING if settings.lifetime == "auto" else PROBLEM,
            detail=f"{name}, and no push is set up: a short-lived process serves no /metrics",
            advice="Set OTEL_EXPORTER_OTLP_ENDPOINT to your Collector.",
        )
