"""What is on, what is missing, and what to do about it.

Every check is on its own: it must work where Victor, the SDK or the settings are broken.
Nothing is started: no pipeline, no endpoint. Victor is read, not imported, unless all is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from victor_otel.model.rows import Extra
from victor_otel.signals import causes, webconfig
from victor_otel.signals.cautions import cautions
from victor_otel.signals.settings import (
    MAX_PORT,
    OTEL_DISABLED,
    OTEL_TRACES_EXPORTER,
    PROMETHEUS_ENABLED,
    PROMETHEUS_PORT,
    PROMETHEUS_WEB_CONFIG,
    Settings,
    metrics_url,
    shown_url,
)
from victor_otel.version import __version__
from victor_otel.victor import catalog, drift, ourselves, source
from victor_otel.victor.supported import (
    INSTALL,
    RANGE,
    TESTED,
    installed,
    is_supported,
    is_untested,
)

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_ORDER = (PROBLEM, WARNING, OK)

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
_PATIENCE = 30.0
"""Seconds for one try of an exporter, whose own timeout is 10 unless a setting says more."""
_SOURCE = "git+https://github.com/victor-otel/victor-otel"
_UPGRADE = f"pip install --upgrade {_SOURCE}"
_REPORT = f"{_UPGRADE}  # else report it, with `victor otel doctor --json`"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check: what is so, why, and the command that mends it."""

    check: str
    status: str
    detail: str
    why: str = ""
    command: str = ""


_ok = partial(Finding, status=OK)
_warning = partial(Finding, status=WARNING)
_problem = partial(Finding, status=PROBLEM)


@dataclass(kw_only=True)
class Report:
    """Everything found, the worst first. Healthy means that no check is a problem."""

    versions: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    hooks: dict[str, str] = field(default_factory=dict[str, str])
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def healthy(self) -> bool:
        return all(finding.status != PROBLEM for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {"healthy": self.healthy, **asdict(self)}


def examine(*, thorough: bool = False) -> Report:
    """Runs all checks. Never raises.

    `thorough` imports all of Victor that is measured, and tells what can really be wrapped.
    """
    report = Report()
    checks = {
        "versions": _versions,
        "plugin": _plugin,
        "hooks": partial(_hooks, thorough=thorough),
        "classes": partial(_classes, thorough=thorough),
        "meter provider": _provider,
        "exporters": _exporters,
    }
    for name, check in checks.items():
        try:
            report.findings.extend(check(report))
        except Exception as error:
            report.findings.append(
                _problem(
                    check=name,
                    detail=_said(error),
                    why="this environment is broken in a way that no check expects",
                    command=f"pip install --force-reinstall {_SOURCE}",
                )
            )
    report.findings.sort(key=lambda finding: _ORDER.index(finding.status))
    return report


def _versions(report: Report) -> Iterator[Finding]:
    report.versions = {"victor-otel": __version__} | {name: installed(name) for name in _PACKAGES}
    finding = partial(Finding, check="versions")
    for name in _PACKAGES[1:]:
        if report.versions[name] is None:
            yield finding(
                status=PROBLEM,
                detail=f"{name} is not installed",
                why="victor-otel needs it",
                command=f"pip install {name}",
            )
    victor = report.versions["victor-ai"]
    if victor is None:
        yield finding(
            status=PROBLEM,
            detail="victor-ai is not installed in this environment",
            why="there is nothing to measure",
            command=INSTALL,
        )
    elif not is_supported(victor):
        yield finding(
            status=WARNING,
            detail=f"victor-ai {victor} is outside the supported range {RANGE}",
            why="what still fits is recorded, the rest is absent",
            command=f'pip install "victor-ai{RANGE}"',
        )
    elif is_untested(victor):
        yield finding(
            status=WARNING,
            detail=f"victor-ai {victor} is newer than the last tested release {TESTED[-1]}",
            why="what still fits is recorded, the rest is absent",
            command=_UPGRADE,
        )
    else:
        yield finding(status=OK, detail=f"victor-ai {victor} is supported ({RANGE})")


def _plugin(_report: Report) -> Iterator[Finding]:
    found = importlib.metadata.entry_points(group="victor.plugins", name="otel")
    if any(entry.value == "victor_otel.plugin:plugin" for entry in found):
        yield _ok(check="plugin", detail="Victor loads victor-otel as a plugin")
    else:
        yield _problem(
            check="plugin",
            detail="Victor does not load victor-otel as a plugin",
            why="the entry point that Victor loads plugins by is missing",
            command=f"pip install --force-reinstall --no-deps {_SOURCE}",
        )


def _written(report: Report) -> dict[str, str]:
    """The hooks as Victor's source says, and those know that are bound already."""
    from victor_otel import instrumentation
    from victor_otel.runtime import RUNTIME

    hooks = catalog.targets(report.versions.get("victor-ai"))
    targets = sorted({*hooks, instrumentation.BRIDGE})
    states = {target: source.state(target) for target in targets}
    lacking = (target for target, extra in _needs().items() if not _is_installed(extra))
    states |= {target: source.WAITING for target in lacking if target in states}
    on = RUNTIME.instrumentation
    live = ourselves.states(on.health) if on is not None else {}
    return states | {hook: state for hook, state in live.items() if state != "waiting"}


def _tried(report: Report) -> dict[str, str]:
    """The hooks, once all that is measured is imported."""
    from victor_otel.runtime import RUNTIME

    on = RUNTIME.activate()
    if report.versions.get("victor-ai") is not None:
        for target in on.health.hooks:
            _import(target.partition(":")[0])
        on.retry()
    return ourselves.states(on.health)


def _hooks(report: Report, *, thorough: bool) -> Iterator[Finding]:
    report.hooks = _tried(report) if thorough else _written(report)
    states = list(report.hooks.values())
    missing = [hook for hook, state in report.hooks.items() if state == "missing"]
    counts = {state: states.count(state) for state in ("bound", source.FOUND) if state in states}
    counts |= {state: states.count(state) for state in ("waiting", "missing")}
    detail = ", ".join(f"{count} {state}" for state, count in counts.items())
    if missing:
        yield _problem(
            check="hooks",
            detail=f"{detail}: {', '.join(missing)}",
            why="this Victor lacks functions that are measured; their numbers are absent",
            command=_REPORT,
        )
    else:
        yield _ok(check="hooks", detail=detail)
    lacking: dict[Extra, list[str]] = {}
    for target, extra in _needs().items():
        if report.hooks.get(target) == "waiting" and not _is_installed(extra):
            lacking.setdefault(extra, []).append(target)
    for extra, targets in lacking.items():
        yield _ok(
            check="extras",
            detail=f"{len(targets)} waiting: {', '.join(sorted(targets))} "
            f"(needs the extra victor-ai[{extra.name}])",
            why="Victor was installed without it; nobody needs it who does not use it",
            command=f'pip install "victor-ai[{extra.name}]"',
        )


def _needs() -> dict[str, Extra]:
    targets = map(catalog.target_of, catalog.WRAPPED)
    return {target.path: target.needs for target in targets if target.needs is not None}


def _is_installed(extra: Extra) -> bool:
    return importlib.util.find_spec(extra.module) is not None


def _classes(report: Report, *, thorough: bool) -> Iterator[Finding]:
    """Whether the classes and enumerations that are known by their paths are as they were."""
    if report.versions.get("victor-ai") is None:
        return
    for module in drift.MODULES if thorough else ():
        _import(module)
    states = list(drift.look() if thorough else source.look())
    finding = partial(Finding, check="classes", command=_REPORT)
    moved = [state.path for state in states if state.moved]
    if moved:
        yield finding(
            status=PROBLEM,
            detail=f"not where they were: {', '.join(moved)}",
            why="this Victor moved, renamed or removed classes that victor-otel recognises by "
            "their paths; what hangs on them, such as the status of a call, is recorded wrongly",
        )
    for state in states:
        if state.lost:
            yield finding(
                status=PROBLEM,
                detail=f"{state.path} has lost: {', '.join(state.lost)}",
                why="victor-otel compares with it; what should match is recorded wrongly",
            )
        if state.undeclared:
            yield finding(
                status=WARNING,
                detail=f"{state.path} has new members: {', '.join(state.undeclared)}",
                why="victor-otel does not know them: they are recorded as `other`, or not at all",
            )
    if not any(state.moved or state.lost or state.undeclared for state in states):
        known = f"{len(states)} classes and enumerations are as they were"
        yield _ok(check="classes", detail=known)


def _import(module: str) -> None:
    """Importing is what binds a hook; what cannot be imported here leaves it waiting."""
    try:
        importlib.import_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise


def _provider(_report: Report) -> Iterator[Finding]:
    from opentelemetry.metrics import get_meter_provider

    from victor_otel.signals.recorder import is_placeholder

    provider = get_meter_provider()
    if not is_placeholder(provider):
        owner = f"{type(provider).__module__}.{type(provider).__qualname__}, set globally"
        yield _ok(check="meter provider", detail=f"the application's: {owner}")
        return
    settings = Settings.from_environment()
    if settings.exporters and not settings.config_file:
        detail = "victor-otel builds its own, private one at the first real work"
    else:
        detail = "nobody's yet; recording starts when an application sets one"
    yield _ok(check="meter provider", detail=detail)


def _exporters(_report: Report) -> Iterator[Finding]:
    settings = Settings.from_environment()
    for problem in settings.problems:
        yield _problem(
            check="settings",
            detail=f"{problem.name} is not understood and is ignored",
            why=f"it is to be {problem.instead}",
            command=f"unset {problem.name}",
        )
    if settings.disabled:
        yield _warning(
            check="exporters",
            detail=f"{OTEL_DISABLED.name} switches OpenTelemetry off: nothing is recorded",
            why="that is right only if nobody wants numbers of this process",
            command=f"unset {OTEL_DISABLED.name}",
        )
    elif not settings.exporters and not settings.trace_exporters:
        yield _warning(
            check="exporters",
            detail="none is asked for by the environment",
            why="nothing is served or pushed, unless your application owns the SDK",
            command=f"export {PROMETHEUS_ENABLED.name}=true",
        )
    if "prometheus" in settings.exporters:
        yield from _prometheus(settings)
    if "otlp" in settings.exporters:
        yield _otlp(
            "otlp", settings.otlp_url, settings.otlp_protocol, partial(_metrics_exporter, settings)
        )
    if "otlp" in settings.trace_exporters:
        yield _otlp(
            _SPANS,
            settings.otlp_traces_url,
            settings.otlp_traces_protocol,
            partial(_spans_exporter, settings),
        )
    for caution in cautions(settings, settings.lifetime):
        yield Finding(
            check=caution.about,
            status=PROBLEM if caution.lost else WARNING,
            detail=caution.detail,
            why=caution.why,
            command=caution.command,
        )


def _prometheus(settings: Settings) -> Iterator[Finding]:
    web = None
    if settings.web_config:
        try:
            web = webconfig.load(Path(settings.web_config))
        except webconfig.WebConfigError as error:
            yield _problem(
                check="prometheus",
                detail=f"{PROMETHEUS_WEB_CONFIG.name}: {error}",
                why="until it is right /metrics is not served, and not openly instead",
                command=f"unset {PROMETHEUS_WEB_CONFIG.name}  # or correct the file",
            )
            return
    yield _served(settings, web.certificate if web is not None else None)
    if web is not None:
        kinds = [
            "TLS" if web.tls is not None else "",
            "client certificates" if web.demands_certificates else "",
            f"passwords of {len(web.users)} users" if web.users else "",
        ]
        detail = f"{', '.join(filter(None, kinds))}, by {PROMETHEUS_WEB_CONFIG.name}"
        yield _ok(check="access", detail=detail)


def _served(settings: Settings, certificate: Path | None) -> Finding:
    finding = partial(Finding, check="prometheus")
    host, port = settings.prometheus_host, settings.prometheus_port
    url = metrics_url(_reachable(host), port, "https" if certificate else "http")
    if port == 0:
        return finding(status=OK, detail="each process serves a free port and logs it")
    if _is_victor(url, certificate):
        return finding(status=OK, detail=f"a Victor process serves {url}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            pass
    except (OSError, ValueError) as error:
        return finding(
            status=PROBLEM,
            detail=f"{shown_url(host)}:{port} cannot be served: {_said(error)}",
            why="another program has the port, or the address is not this machine's",
            command=f"export {PROMETHEUS_PORT.name}={port + 1 if port < MAX_PORT else port - 1}",
        )
    return finding(status=OK, detail=f"{url} is free; it is served as soon as Victor works")


def _said(error: object) -> str:
    """What the system says of an error, else its class: its text may hold what a setting does."""
    return getattr(error, "strerror", None) or type(error).__name__


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104


def _is_victor(url: str, certificate: Path | None) -> bool:
    """Whether a Victor process answers there: by its certificate, page, or wish for a password."""
    try:
        if certificate is not None:
            there = urlsplit(url)
            address = (there.hostname or "", there.port or 0)
            shown = ssl.get_server_certificate(address, timeout=_TIMEOUT)
            return shown.strip() in certificate.read_text(encoding="utf-8")
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:  # noqa: S310
            return b"victor_otel_build_info" in response.read()
    except urllib.error.HTTPError as error:
        return webconfig.REALM in error.headers.get("WWW-Authenticate", "")
    except (OSError, ValueError, HTTPException):
        return False


def _metrics_exporter(settings: Settings) -> tuple[Any, object]:
    """The exporter of the run, and an export without data."""
    from opentelemetry.sdk.metrics.export import MetricsData

    from victor_otel.signals import pipeline

    nothing = MetricsData(resource_metrics=[])
    return pipeline.exporter("otlp", settings, settings.lifetime), nothing


def _spans_exporter(settings: Settings) -> tuple[Any, object]:
    """The same of spans."""
    from victor_otel.signals import traces

    return traces.exporter("otlp", settings), ()


_SPANS = "otlp spans"


def _otlp(
    check: str, endpoint: str, protocol: str, make: Callable[[], tuple[Any, object]]
) -> Finding:
    """Sends an export without data, as a process of Victor sends its own: it changes nothing."""
    url = shown_url(endpoint)
    finding = partial(Finding, check=check)
    # What gRPC's core writes to stderr says less than the finding does.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        exporter, nothing = make()
    except Exception as error:
        return finding(
            status=PROBLEM,
            detail=f"the exporter to {url} cannot be made: {_said(error)}",
            why="one of the variables OTEL_EXPORTER_OTLP_... has a value that it does not accept",
            command="env | grep OTEL_EXPORTER_OTLP_",
        )
    tries = causes.watch(exporter)
    sending = threading.Thread(target=_send, args=(exporter, nothing, tries), daemon=True)
    sending.start()
    answered = tries.ended.wait(_PATIENCE)
    exporter.shutdown()  # which ends what it would try again
    if answered and tries.cause is None:
        return finding(status=OK, detail=f"{url} answers ({protocol})")
    cause = tries.cause or causes.TIMED_OUT
    needless = cause.absent and check == _SPANS
    return finding(
        status=PROBLEM,
        detail=f"could not deliver to {url}: {cause.what}",
        why=cause.why,
        command=f"export {OTEL_TRACES_EXPORTER.name}=none" if needless else cause.command,
    )


def _send(exporter: Any, data: object, tries: causes.Tries) -> None:
    from victor_otel.signals.delivery import quiet

    try:
        with quiet():
            exporter.export(data)
    except Exception as error:
        tries.end(causes.of_error(error))
    tries.ended.set()
