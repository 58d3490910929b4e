"""Security: who was let in, which tools were blocked, what scans found.

A check counts once, as seen from the outermost function that decides. One that only asks
the user has not decided, and one that is switched off decides nothing. An API key is
decided upon once a request, when that ends.

A tool is blocked by the permission policy, a middleware or a role; a human's no blocks
none. A scan that could not look at everything is a failure, and what it found counts still.
A tool whose result a middleware withheld has run: the withholding is an event of its own.
Findings in infrastructure code and secrets are no vulnerabilities: those have an advisory.

The pass rate is of the rules in force of the last complete policy check, or of the tests
that an application ran, until the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from victor_otel import labels
from victor_otel.shared import (
    CHAT_TURN,
    ERRORS,
    SECURITY_EVENTS,
    TOOL_CALL,
    WITHHELD,
    error_type,
    record_error,
    record_security_event,
)
from victor_otel.spec import Area, Call, Follow, Hook, Kind, Metric, Record, Scope, mapping

AUTHORIZATION_SUCCESS_RATE = Metric(
    name="victor.security.authorization_success_rate",
    kind=Kind.RATIO,
    meaning="Share of authorizations that were granted over the last 5 minutes of this process",
    labels=(labels.AUTHORIZATION_SOURCE,),
    guide=True,
)
FAILED_AUTHORIZATIONS = Metric(
    name="victor.security.failed_authorizations",
    kind=Kind.COUNTER,
    meaning="Authorizations that were refused",
    labels=(labels.AUTHORIZATION_SOURCE, labels.AUTHORIZATION_REASON),
    guide=True,
)
TEST_PASS_RATE = Metric(
    name="victor.security.test_pass_rate",
    kind=Kind.GAUGE,
    meaning="Share of the rules, or tests, that passed in the last complete security check",
    guide=True,
)
VULNERABILITIES = Metric(
    name="victor.security.vulnerabilities_found",
    kind=Kind.COUNTER,
    meaning="Vulnerabilities that scans found: an advisory for a version of a package, once a scan",
    labels=(labels.VULNERABILITY_SEVERITY,),
    guide=True,
)
SCAN_DURATION = Metric(
    name="victor.security.scan.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Security scans; one that could not look at everything is a failure",
    labels=(labels.SCANNER, labels.STATUS),
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    guide=True,
)

AUTHORIZATION = Scope(name="authorization", outermost=True)
API_REQUEST = Scope(name="api_request", outermost=True)

_UNAUTHORIZED = 401


# Authorizations


def _record_decision(record: Record, source: str, reason: str) -> None:
    """Counts a decision; without a `reason` to refuse it was granted."""
    record(AUTHORIZATION_SUCCESS_RATE, not reason, source=source)
    if reason:
        record(FAILED_AUTHORIZATIONS, source=source, reason=reason)
        record_security_event(record, "authorization_failed")


def _raised(call: Call, record: Record) -> bool:
    """Whether a check failed itself: then it has decided nothing."""
    if call.error is not None and call.status in {"failure", "timeout"}:
        record_error(record, "security", error_type(call.error))
    return call.error is not None


def is_restricting(call: Call) -> bool:
    """A policy that allows everything looks at nothing."""
    return not call.instance._allow_all


def observe_policy(call: Call, record: Record) -> None:
    if not _raised(call, record) and not call.result.needs_prompt:
        _record_decision(record, "permission_policy", "" if call.result.allowed else "forbidden")


def is_enabled(call: Call) -> bool:
    return call.instance.enabled


def observe_user(call: Call, record: Record) -> None:
    _observe_rbac(call, record, call.argument("username", 0))


def observe_current_user(call: Call, record: Record) -> None:
    _observe_rbac(call, record, call.instance.get_current_user())


def _observe_rbac(call: Call, record: Record, user: Any) -> None:
    if not _raised(call, record):
        _record_decision(record, "rbac", "" if call.result else _refusal(call.instance, user))


def _refusal(manager: Any, user: Any) -> str:
    if user is None:
        return "anonymous"
    stranger = user not in manager._users and not manager._allow_unknown_users
    return "unknown" if stranger else "forbidden"


def has_keys(call: Call) -> bool:
    return bool(call.instance.api_keys)


def key_refusal(call: Call) -> str | None:
    """Why a key was refused: empty if it was not, None if that was not decided."""
    if call.error is None:
        return ""
    if getattr(call.error, "status_code", None) != _UNAUTHORIZED:
        return None
    header = call.argument("request", 0).headers.get("Authorization", "")
    return "unknown" if header.startswith("Bearer ") else "anonymous"


def observe_api_request(call: Call, record: Record) -> None:
    """A route may ask again for what was verified in front of it already."""
    refusals = [part.digest for part in call.parts.get("key", ()) if part.digest is not None]
    if refusals:
        _record_decision(record, "api_key", refusals[-1])


def is_login(call: Call) -> bool:
    """A WebSocket sends its key in a message."""
    return has_keys(call) and mapping(call.argument("data", 1)).get("type") == "auth"


def observe_login(call: Call, record: Record) -> None:
    if not _raised(call, record):
        key = call.argument("data", 1).get("api_key")
        refusal = "" if key and key in call.instance.api_keys else "unknown"
        _record_decision(record, "api_key", refusal if key else "anonymous")


def observe_tool_call(call: Call, record: Record) -> None:
    """A call that a rule forbade; what a human declined, or no rule speaks of, is none."""
    kind = getattr(call.result, "outcome_kind", None)
    forbidden = any(part.digest is False for part in call.parts.get("rbac", ()))
    if kind in _BLOCKED or forbidden:
        record_security_event(record, "tool_blocked")
    elif kind == WITHHELD:
        record_security_event(record, WITHHELD)


_BLOCKED = ("permission_denied", "middleware_blocked")


def is_blocked(call: Call) -> bool:
    """Whether policies kept a user's message from the model, or an answer from the user."""
    return getattr(call.result, "allowed", True) is False


def observe_message(call: Call, record: Record) -> None:
    if is_blocked(call):
        record_security_event(record, "message_blocked")


# Scans and checks


def observe_dependency_scan(call: Call, record: Record) -> None:
    """Victor repeats what it found for each file in which the package stands."""
    advisories = {
        (found.cve.cve_id, found.dependency.name, found.dependency.version): found.cve.severity
        for found in getattr(call.result, "vulnerabilities", ())
    }
    _record_vulnerabilities(record, (severity.value for severity in advisories.values()))
    incomplete = bool(getattr(call.result, "errors", ()))
    _record_scan(call, record, "dependency", found=bool(advisories), incomplete=incomplete)


def observe_iac_scan(call: Call, record: Record) -> None:
    """Victor reports a file that it could not scan as a finding."""
    findings: Iterable[Any] = getattr(call.result, "findings", call.result)
    rules = {finding.rule_id for finding in findings} if call.error is None else set[str]()
    found, incomplete = bool(rules - _NOT_SCANNED), bool(rules & _NOT_SCANNED)
    _record_scan(call, record, "iac", found=found, incomplete=incomplete)


_NOT_SCANNED = {"SCAN-ERROR", "FILE-NOT-FOUND", "UNKNOWN-FORMAT"}


def observe_code_scan(call: Call, record: Record) -> None:
    told = mapping(call.result)
    if told.get("success") is False:
        return  # nothing there to scan
    parts = mapping(told.get("results"))
    advisories = {
        (one.get("id"), one.get("package"), one.get("version")): one.get("severity")
        for one in mapping(parts.get("dependencies")).get("vulnerabilities", ())
    }
    _record_vulnerabilities(record, advisories.values())
    incomplete = any("error" in mapping(part) for part in parts.values())
    _record_scan(call, record, "code", found=bool(told.get("findings")), incomplete=incomplete)


def _record_vulnerabilities(record: Record, severities: Iterable[Any]) -> None:
    for severity in severities:
        record(VULNERABILITIES, severity=severity)


def _record_scan(
    call: Call, record: Record, scanner: str, *, found: bool, incomplete: bool
) -> None:
    status = "failure" if call.status == "success" and incomplete else call.status
    record(SCAN_DURATION, call.elapsed, scanner=scanner, status=status)
    if found:
        record_security_event(record, "vulnerability_found")
    if status in {"failure", "timeout"} and not call.failures:
        kind = "incomplete_scan" if call.error is None else error_type(call.error)
        record_error(record, "security", kind)


def observe_check(call: Call, record: Record) -> None:
    """An incomplete scan can neither pass nor fail."""
    scanned = call.argument("result", 0)
    if _raised(call, record) or scanned.errors:
        return
    _passed, failures = call.result
    rules = _rules_in_force(call.instance)
    if rules:
        record(TEST_PASS_RATE, 1 - len(failures) / rules)


def _rules_in_force(policy: Any) -> int:
    """One for each severity that the policy limits, and one for unknown severities."""
    return 1 + sum(
        bool(getattr(policy, f"fail_on_{severity}")) or getattr(policy, f"max_{severity}") >= 0
        for severity in ("critical", "high", "medium", "low")
    )


_DECISION_FEEDS = (AUTHORIZATION_SUCCESS_RATE, FAILED_AUTHORIZATIONS, SECURITY_EVENTS, ERRORS)
_SCAN_FEEDS = (SCAN_DURATION, SECURITY_EVENTS, ERRORS)
_API = "victor.integrations.api.fastapi_server:VictorFastAPIServer"
_RBAC = "victor.security.auth.rbac:RBACManager"
_SCANNER = "victor.security.scanner:SecurityScanner"
_IAC = "victor.iac.manager:IaCManager"
_TOOL = "victor.tools.security_scanner_tool:scan"
# Victor moved it; the old module repeats the new one, but need not be imported.
_GATES = (
    ("victor.framework.policies.gate:MessagePolicyGate", "", "0.16"),
    ("victor.agent.policies.gate:MessagePolicyGate", "0.16", ""),
)

AREA = Area(
    name="security",
    metrics=(
        AUTHORIZATION_SUCCESS_RATE,
        FAILED_AUTHORIZATIONS,
        TEST_PASS_RATE,
        VULNERABILITIES,
        SCAN_DURATION,
    ),
    follows=(Follow(scope=TOOL_CALL, observe=observe_tool_call, feeds=(SECURITY_EVENTS,)),),
    hooks=(
        Hook(
            target="victor.security.permissions:PermissionPolicy.authorize",
            scope=AUTHORIZATION,
            when=is_restricting,
            observe=observe_policy,
            feeds=_DECISION_FEEDS,
        ),
        *(
            Hook(
                target=f"{_RBAC}.{method}",
                scope=AUTHORIZATION,
                when=is_enabled,
                observe=observe,
                feeds=_DECISION_FEEDS,
            )
            for method, observe in (
                ("check_permission", observe_user),
                ("check_tool_access", observe_user),
                ("check_current_user_tool_access", observe_current_user),
            )
        ),
        Hook(
            target=f"{_API}._setup_routes",
            asgi="app",
            scope=API_REQUEST,
            observe=observe_api_request,
            feeds=_DECISION_FEEDS,
        ),
        Hook(
            target=f"{_API}._verify_api_key",
            part="key",
            of=API_REQUEST,
            when=has_keys,
            digest=key_refusal,
        ),
        Hook(
            target=f"{_API}._handle_ws_message",
            when=is_login,
            observe=observe_login,
            feeds=_DECISION_FEEDS,
        ),
        *(
            Hook(
                target=f"{gate}.{method}",
                part=method,
                of=CHAT_TURN,
                digest=is_blocked,
                observe=observe_message,
                feeds=(SECURITY_EVENTS,),
                since=since,
                until=until,
            )
            for gate, since, until in _GATES
            for method in ("gate_request", "gate_response")
        ),
        *(
            Hook(
                target=f"{_SCANNER}.{method}",
                observe=observe_dependency_scan,
                feeds=(VULNERABILITIES, *_SCAN_FEEDS),
            )
            for method in ("scan", "scan_file")
        ),
        *(
            Hook(target=f"{_IAC}.{method}", observe=observe_iac_scan, feeds=_SCAN_FEEDS)
            for method in ("scan", "scan_file")
        ),
        # Called as a function, and as the registered tool.
        *(
            Hook(target=target, observe=observe_code_scan, feeds=(VULNERABILITIES, *_SCAN_FEEDS))
            for target in (_TOOL, f"{_TOOL}.Tool._fn")
        ),
        Hook(
            target="victor.security.protocol:SecurityPolicy.check",
            observe=observe_check,
            feeds=(TEST_PASS_RATE, ERRORS),
        ),
    ),
)
