"""Security: authorizations, blocked tools, and the results of scans.

A check counts once, at the outermost function that decides. A check that only asks the user, or
that is switched off, decides nothing and does not count. An API key is checked once for each
request and counts when the request ends.

A tool is blocked by the permission policy, a middleware or a role, not by a user who declines.
A scan that could not examine everything is a failure, but its findings count. A tool whose result
a middleware withheld was executed: the withheld result is an event of its own. Only findings with
an advisory are vulnerabilities, so findings in infrastructure code and secrets are not.

The pass rate belongs to the rules in force in the last complete policy check, or to the tests that
an application ran. It stays until the next check.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from victor_otel.model.metric import Counter, Gauge, Histogram, Ratio, Record
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Feeds, Observes, Target, Tells
from victor_otel.victor import labels
from victor_otel.victor.operations import CHAT_TURN, TOOL_CALL
from victor_otel.victor.outcomes import error_type
from victor_otel.victor.shared import SECURITY_EVENTS, WITHHELD
from victor_otel.victor.values import mapping


class Authorization(NamedTuple):
    """A decision on what somebody may do; an API request is one on its key."""

    source: str
    reason: str | None = None
    """Why it was refused; empty if it was granted, None if nothing was decided."""
    error_type: str = ""

    @property
    def decided(self) -> bool:
        return self.reason is not None

    @property
    def granted(self) -> bool:
        return self.reason == ""


class KeyCheck(NamedTuple):
    """A check of a key, which an API request may repeat; `reason` as in `Authorization`."""

    reason: str | None


class Scan(NamedTuple):
    """A scan for weaknesses."""

    scanner: str
    status: str = ""
    """Empty if there was nothing to scan."""
    seconds: float = 0.0
    found: bool = False
    severities: tuple[Any, ...] = ()
    """One for each advisory."""
    error_type: str = ""


class PolicyCheck(NamedTuple):
    """A check of a scan's result against the rules in force."""

    pass_rate: float | None = None
    error_type: str = ""


AUTHORIZATION = OperationType("authorization", Authorization, "security", outermost=True)
API_REQUEST = OperationType("api_request", Authorization, "security", outermost=True)
"""Checks of other things in it are authorizations of their own."""
KEY_CHECK = OperationType("key_check", KeyCheck)
ADVISORY_SCAN = OperationType("advisory_scan", Scan, "security")
IAC_SCAN = OperationType("iac_scan", Scan, "security")
POLICY_CHECK = OperationType("policy_check", PolicyCheck, "security")

AUTHORIZATION_SUCCESS_RATE = Ratio(
    "victor.security.authorization_success_rate",
    "Share of authorizations that were granted, over the last 5 minutes of this process",
    labels=(labels.AUTHORIZATION_SOURCE,),
    guide=True,
)
FAILED_AUTHORIZATIONS = Counter(
    "victor.security.failed_authorizations",
    "Authorizations that were refused",
    labels=(labels.AUTHORIZATION_SOURCE, labels.AUTHORIZATION_REASON),
    guide=True,
)
TEST_PASS_RATE = Gauge(
    "victor.security.test_pass_rate",
    "Share of rules, or tests, that passed in the last complete security check",
    guide=True,
    of=POLICY_CHECK,
    value="pass_rate",
)
VULNERABILITIES = Counter(
    "victor.security.vulnerabilities_found",
    "Vulnerabilities that scans found; an advisory for a version of a package counts once "
    "in each scan",
    labels=(labels.VULNERABILITY_SEVERITY,),
    guide=True,
)
SCAN_DURATION = Histogram(
    "victor.security.scan.duration",
    "Duration of a security scan; a scan that could not examine everything is a failure",
    unit="s",
    labels=(labels.SCANNER, labels.STATUS),
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    guide=True,
)

_UNAUTHORIZED = 401


# Authorizations


def read_check(
    source: str, refusal: Callable[[Operation], str | None]
) -> Callable[[Operation], Authorization]:
    """`refusal` says why a check refused; one that failed itself has decided nothing."""

    def read(check: Operation) -> Authorization:
        if check.error is None:
            return Authorization(source, refusal(check))
        return Authorization(source, error_type=_failure(check))

    return read


def _failure(check: Operation) -> str:
    failed = check.status in {"failure", "timeout"}
    return error_type(check.error) if failed and check.error is not None else ""


def is_restricting(check: Operation) -> bool:
    """A policy that allows everything looks at nothing."""
    return not check.instance._allow_all


def policy_refusal(check: Operation) -> str | None:
    verdict = check.result
    if verdict.needs_prompt:
        return None
    return "" if verdict.allowed else "forbidden"


def is_enabled(check: Operation) -> bool:
    return check.instance.enabled


def user_refusal(check: Operation) -> str:
    return _refusal(check, check.argument("username"))


def current_user_refusal(check: Operation) -> str:
    return _refusal(check, check.instance.get_current_user())


def _refusal(check: Operation, user: Any) -> str:
    manager = check.instance
    if check.result:
        return ""
    if user is None:
        return "anonymous"
    stranger = user not in manager._users and not manager._allow_unknown_users
    return "unknown" if stranger else "forbidden"


def has_keys(operation: Operation) -> bool:
    return bool(operation.instance.api_keys)


def read_key(check: Operation) -> KeyCheck:
    if check.error is None:
        return KeyCheck("")
    if getattr(check.error, "status_code", None) != _UNAUTHORIZED:
        return KeyCheck(None)
    header = check.argument("request").headers.get("Authorization", "")
    return KeyCheck("unknown" if header.startswith("Bearer ") else "anonymous")


def read_api_request(request: Operation) -> Authorization:
    """A route may ask again for what was verified in front of it already."""
    reasons = [check.reason for check in request.told("key") if check.reason is not None]
    return Authorization("api_key", reasons[-1] if reasons else None)


def is_login(login: Operation) -> bool:
    """A WebSocket sends its key in a message."""
    return has_keys(login) and mapping(login.argument("data")).get("type") == "auth"


def login_refusal(login: Operation) -> str:
    key = login.argument("data").get("api_key")
    if not key:
        return "anonymous"
    return "" if key in login.instance.api_keys else "unknown"


def is_blocked(verdict: Any) -> bool:
    """Whether policies kept a user's message from the model, or an answer from the user."""
    return getattr(verdict, "allowed", True) is False


def observe_message(check: Operation, record: Record) -> None:
    if is_blocked(check.result):
        record(SECURITY_EVENTS, kind="message_blocked")


# Scans and checks


def read_dependency_scan(scan: Operation) -> Scan:
    """Victor repeats what it found for each file in which the package stands."""
    advisories = {
        (found.cve.cve_id, found.dependency.name, found.dependency.version): found.cve.severity
        for found in getattr(scan.result, "vulnerabilities", ())
    }
    severities = tuple(severity.value for severity in advisories.values())
    incomplete = bool(getattr(scan.result, "errors", ()))
    return _scan(scan, "dependency", severities, found=bool(advisories), incomplete=incomplete)


def read_iac_scan(scan: Operation) -> Scan:
    """Victor reports a file that it could not scan as a finding."""
    findings: Iterable[Any] = getattr(scan.result, "findings", scan.result)
    rules = {finding.rule_id for finding in findings} if scan.error is None else set[str]()
    found, incomplete = bool(rules - _NOT_SCANNED), bool(rules & _NOT_SCANNED)
    return _scan(scan, "iac", (), found=found, incomplete=incomplete)


_NOT_SCANNED = {"SCAN-ERROR", "FILE-NOT-FOUND", "UNKNOWN-FORMAT"}


def read_code_scan(scan: Operation) -> Scan:
    told = mapping(scan.result)
    if told.get("success") is False:
        return Scan("code")
    parts = mapping(told.get("results"))
    advisories = {
        (one.get("id"), one.get("package"), one.get("version")): one.get("severity")
        for one in mapping(parts.get("dependencies")).get("vulnerabilities", ())
    }
    severities, found = tuple(advisories.values()), bool(told.get("findings"))
    incomplete = any("error" in mapping(part) for part in parts.values())
    return _scan(scan, "code", severities, found=found, incomplete=incomplete)


def _scan(
    scan: Operation, scanner: str, severities: tuple[Any, ...], *, found: bool, incomplete: bool
) -> Scan:
    status = "failure" if scan.status == "success" and incomplete else scan.status
    kind = "incomplete_scan" if scan.error is None else error_type(scan.error)
    failed = status in {"failure", "timeout"} and not scan.failures
    return Scan(scanner, status, scan.elapsed, found, severities, kind if failed else "")


def observe_severities(scan: Operation, record: Record) -> None:
    for severity in scan.facts.severities:
        record(VULNERABILITIES, severity=severity)


def read_policy_check(check: Operation) -> PolicyCheck:
    """An incomplete scan can neither pass nor fail."""
    if check.error is not None:
        return PolicyCheck(error_type=_failure(check))
    rules = _rules_in_force(check.instance)
    if check.argument("result").errors or not rules:
        return PolicyCheck()
    _passed, failures = check.result
    return PolicyCheck(1 - len(failures) / rules)


def _rules_in_force(policy: Any) -> int:
    """One for each severity that the policy limits, and one for unknown severities."""
    return 1 + sum(
        bool(getattr(policy, f"fail_on_{severity}")) or getattr(policy, f"max_{severity}") >= 0
        for severity in ("critical", "high", "medium", "low")
    )


_POLICY = "victor.security.permissions:PermissionPolicy.authorize"
_RBAC = "victor.security.auth.rbac:RBACManager"
_CURRENT = f"{_RBAC}.check_current_user_tool_access"
_USER = ("username",)
_API = "victor.integrations.api.fastapi_server:VictorFastAPIServer"
_SCANNER = "victor.security.scanner:SecurityScanner"
_IAC = "victor.iac.manager:IaCManager"
_TOOL = "victor.tools.security_scanner_tool:scan"
_GATE = "policies.gate:MessagePolicyGate"
_GATES = tuple(
    # The old module repeats the new one, but need not be imported.
    Target(f"victor.agent.{_GATE}.{name}", moved=("0.16", f"victor.framework.{_GATE}.{name}"))
    for name in ("gate_request", "gate_response")
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
    rows=(
        *(
            Begins(
                AUTHORIZATION,
                Target(path, arguments),
                when=when,
                read=read_check(source, refusal),
            )
            for path, arguments, when, source, refusal in (
                (_POLICY, (), is_restricting, "permission_policy", policy_refusal),
                (f"{_RBAC}.check_permission", _USER, is_enabled, "rbac", user_refusal),
                (f"{_RBAC}.check_tool_access", _USER, is_enabled, "rbac", user_refusal),
                (_CURRENT, (), is_enabled, "rbac", current_user_refusal),
                (f"{_API}._handle_ws_message", ("data",), is_login, "api_key", login_refusal),
            )
        ),
        Begins(API_REQUEST, Target(f"{_API}._setup_routes", asgi="app"), read=read_api_request),
        Begins(
            KEY_CHECK,
            Target(f"{_API}._verify_api_key", arguments=("request",)),
            when=has_keys,
            read=read_key,
        ),
        Tells(API_REQUEST, "key", KEY_CHECK),
        *(
            row
            for check in (AUTHORIZATION, API_REQUEST)
            for row in (
                Feeds(check, AUTHORIZATION_SUCCESS_RATE, when="decided", value="granted"),
                Feeds(check, FAILED_AUTHORIZATIONS, when="reason"),
                Feeds(
                    check, SECURITY_EVENTS, when="reason", labels={"kind": "authorization_failed"}
                ),
            )
        ),
        # Not what a user declined, nor what no rule covers.
        Feeds(TOOL_CALL, SECURITY_EVENTS, when="blocked", labels={"kind": "tool_blocked"}),
        Feeds(TOOL_CALL, SECURITY_EVENTS, when="withheld", labels={"kind": WITHHELD}),
        Tells(CHAT_TURN, "gate_request", _GATES[0], read=is_blocked),
        *(Observes(gate, observe_message, feeds=(SECURITY_EVENTS,)) for gate in _GATES),
        *(
            Begins(scan, Target(path), read=read)
            for scan, path, read in (
                (ADVISORY_SCAN, f"{_SCANNER}.scan", read_dependency_scan),
                (ADVISORY_SCAN, f"{_SCANNER}.scan_file", read_dependency_scan),
                # Called as a function, and as the registered tool.
                (ADVISORY_SCAN, _TOOL, read_code_scan),
                (ADVISORY_SCAN, f"{_TOOL}.Tool._fn", read_code_scan),
                (IAC_SCAN, f"{_IAC}.scan", read_iac_scan),
                (IAC_SCAN, f"{_IAC}.scan_file", read_iac_scan),
            )
        ),
        *(
            row
            for scan in (ADVISORY_SCAN, IAC_SCAN)
            for row in (
                Feeds(scan, SCAN_DURATION, when="status", value="seconds"),
                Feeds(scan, SECURITY_EVENTS, when="found", labels={"kind": "vulnerability_found"}),
            )
        ),
        Observes(ADVISORY_SCAN, observe_severities, feeds=(VULNERABILITIES,)),
        Begins(
            POLICY_CHECK,
            Target("victor.security.protocol:SecurityPolicy.check", arguments=("result",)),
            read=read_policy_check,
        ),
    ),
)
