"""Authorizations, blocked tools, scans and policy checks of a real Victor."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded
from tests.kit.interfaces import client, point, server, websocket
from tests.kit.tools import Bench, asked, double, human, own_tool, shell
from tests.scenarios.security import ADVISORIES, advisory_source, security_manager

GRANTED = "victor.security.authorization_success_rate"
REFUSED = "victor.security.failed_authorizations"
PASSED = "victor.security.test_pass_rate"
FOUND = "victor.security.vulnerabilities_found"
SCANS = "victor.security.scan.duration"
EVENTS = "victor.security.events"
ERRORS = "victor.errors"

Points = dict[tuple[Any, ...], float]


pytestmark = pytest.mark.usefixtures("own_folder")


def event(kind: str, value: float = 1) -> Points:
    return point(EVENTS, value, kind=kind)


def refused(source: str, reason: str, value: float = 1) -> Points:
    return {
        **point(REFUSED, value, source=source, reason=reason),
        **event("authorization_failed", value),
    }


def scan(scanner: str, status: str = "success", value: float = 1) -> Points:
    return point(SCANS, value, scanner=scanner, status=status)


def error(kind: str, component: str = "security") -> Points:
    return point(ERRORS, component=component, error_type=kind)


def decisions(recorded: Recorded) -> Points:
    return recorded.points(REFUSED, EVENTS, ERRORS)


def granted(recorded: Recorded) -> Points:
    return recorded.points(GRANTED, zeros=True)


def seen(recorded: Recorded) -> Points:
    return recorded.points(SCANS, FOUND, EVENTS, ERRORS)


# The permission policy


def policy(mode: str = "read-only", **options: Any) -> Any:
    from victor.security.permissions import PermissionMode, PermissionPolicy

    return PermissionPolicy(PermissionMode.from_string(mode), **options)


def test_before_a_decision_there_is_no_share_and_every_counter_is_at_0(recorded: Recorded) -> None:
    policy()
    assert granted(recorded) == recorded.points(PASSED, zeros=True) == {}
    labels = {key[1:] for key in recorded.points(REFUSED, zeros=True)}
    assert len(labels) == 9
    assert decisions(recorded) == {}


def test_what_the_policy_allows_and_denies_is_counted_by_source(recorded: Recorded) -> None:
    reader = policy()
    assert reader.authorize("read", {"path": "secret-name"}).allowed
    assert not reader.authorize("write", {"path": "secret-name"}).allowed
    assert not reader.authorize("shell").needs_prompt
    assert granted(recorded) == point(GRANTED, 1 / 3, source="permission_policy")
    assert decisions(recorded) == refused("permission_policy", "forbidden", 2)


def test_a_decision_that_only_asks_the_user_is_none(recorded: Recorded) -> None:
    assert policy("workspace-write").authorize("shell").needs_prompt
    assert granted(recorded) == {}
    assert decisions(recorded) == {}


def test_a_policy_that_allows_everything_decides_nothing(recorded: Recorded) -> None:
    assert policy(allow_all=True).authorize("shell").allowed
    assert granted(recorded) == {}


def test_a_policy_that_breaks_has_decided_nothing_and_is_an_error(recorded: Recorded) -> None:
    broken = policy()
    broken.active_mode = "read-only"
    with pytest.raises(TypeError):
        broken.authorize("write")
    assert granted(recorded) == {}
    assert decisions(recorded) == error("TypeError")


# Roles


def manager(**options: Any) -> Any:
    """A manager that knows Ann, who may write, and Bob, who may read."""
    from victor.security.auth.rbac import RBACManager, User

    made = RBACManager(**options)
    made.add_user(User("ann", roles={made.PREDEFINED_ROLES["developer"]}))
    made.add_user(User("bob", roles={made.PREDEFINED_ROLES["viewer"]}))
    return made


def writes(asked_manager: Any, user: str | None) -> bool:
    from victor.security.auth.rbac import Permission

    return asked_manager.check_permission(user, Permission.WRITE)


def writing() -> tuple[str, str, Any]:
    from victor.tools.enums import AccessMode

    return "write", "filesystem", AccessMode.WRITE


def test_a_refusal_says_whether_the_user_is_nobody_unknown_or_forbidden(
    recorded: Recorded,
) -> None:
    strict = manager(allow_unknown_users=False)
    assert [writes(strict, user) for user in ("ann", "bob", "eve", None)] == [True, *[False] * 3]
    assert granted(recorded) == point(GRANTED, 1 / 4, source="rbac")
    assert decisions(recorded) == {
        **refused("rbac", "forbidden"),
        **refused("rbac", "unknown"),
        **refused("rbac", "anonymous"),
        **event("authorization_failed", 3),
    }


def test_an_unknown_user_with_the_default_role_is_known_and_forbidden(recorded: Recorded) -> None:
    assert not writes(manager(), "eve")
    assert decisions(recorded) == refused("rbac", "forbidden")


def test_the_question_for_the_current_user_is_one_decision(recorded: Recorded) -> None:
    asked_manager = manager()
    asked_manager.set_current_user("ann")
    assert asked_manager.check_current_user_tool_access(*writing())
    asked_manager.set_current_user("bob")
    assert not asked_manager.check_current_user_tool_access(*writing())
    assert granted(recorded) == point(GRANTED, 1 / 2, source="rbac")
    assert decisions(recorded) == refused("rbac", "forbidden")


def test_a_manager_that_asks_another_one_is_one_decision(recorded: Recorded) -> None:
    asked_manager, other = manager(), manager()
    asked_manager.check_tool_access = other.check_tool_access
    asked_manager.set_current_user("bob")
    assert not asked_manager.check_current_user_tool_access(*writing())
    assert decisions(recorded) == refused("rbac", "forbidden")


@pytest.mark.parametrize("lenient", [True, False])
def test_without_a_current_user_the_manager_decides_alone(
    recorded: Recorded, *, lenient: bool
) -> None:
    asked_manager = manager(allow_unknown_users=lenient)
    assert asked_manager.check_current_user_tool_access(*writing()) is lenient
    assert granted(recorded) == point(GRANTED, float(lenient), source="rbac")
    assert decisions(recorded) == ({} if lenient else refused("rbac", "anonymous"))


@pytest.mark.parametrize("fail_open", [True, False])
def test_a_disabled_manager_decides_nothing(recorded: Recorded, *, fail_open: bool) -> None:
    disabled = manager(enabled=False, fail_open=fail_open)
    assert writes(disabled, "ann") is fail_open
    assert disabled.check_tool_access("ann", *writing()) is fail_open
    assert disabled.check_current_user_tool_access(*writing()) is fail_open
    assert granted(recorded) == {}
    assert decisions(recorded) == {}


async def test_a_function_that_requires_a_permission_asks_once(recorded: Recorded) -> None:
    from victor.security.auth import rbac

    async def write() -> str:
        return "written"

    module: Any = rbac
    save = module.require_permission(module.Permission.WRITE)(write)
    asked_manager = manager()
    assert await save(_rbac_manager=asked_manager, _rbac_user="ann") == "written"
    with pytest.raises(PermissionError):
        await save(_rbac_manager=asked_manager, _rbac_user="bob")
    assert granted(recorded) == point(GRANTED, 1 / 2, source="rbac")
    assert decisions(recorded) == refused("rbac", "forbidden")


# API keys

SAY_NOTHING: Mapping[str, Any] = {"messages": []}


async def test_a_key_that_is_verified_twice_in_a_request_counts_once(recorded: Recorded) -> None:
    async with client(server(api_keys={"k1": "ann"}), "k1") as ann:
        assert (await ann.post("/chat", json=SAY_NOTHING)).status_code == 400
        wrong = {"Authorization": "Bearer k2"}
        for headers in (wrong, {"Authorization": "Basic k1"}):
            answer = await ann.post("/chat", json=SAY_NOTHING, headers=headers)
            assert answer.status_code == 401
    assert granted(recorded) == point(GRANTED, 1 / 3, source="api_key")
    assert decisions(recorded) == {
        **refused("api_key", "unknown"),
        **refused("api_key", "anonymous"),
        **event("authorization_failed", 2),
    }


async def test_the_decision_stands_also_when_the_request_then_fails(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = server(api_keys={"k1": "ann"})

    async def break_down() -> None:
        raise OSError

    monkeypatch.setattr(api, "_get_victor_client", break_down)
    async with client(api, "k1") as ann:
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        assert (await ann.post("/chat", json=body)).status_code == 500
    assert granted(recorded) == point(GRANTED, 1, source="api_key")
    assert decisions(recorded) == error("OSError", "api")


async def test_a_server_without_keys_decides_nothing(recorded: Recorded) -> None:
    async with client(server(), "k1") as anybody:
        assert (await anybody.post("/chat", json=SAY_NOTHING)).status_code == 400
    async with client(server(api_keys={"k1": "ann"})) as anybody:
        assert (await anybody.get("/health")).status_code == 200
    assert granted(recorded) == {}
    assert decisions(recorded) == {}


async def test_concurrent_requests_are_decisions_of_their_own(recorded: Recorded) -> None:
    async with client(server(api_keys={"k1": "ann"})) as api:
        headers = [{"Authorization": f"Bearer k{number % 2}"} for number in range(20)]
        await asyncio.gather(*(api.post("/chat", json=SAY_NOTHING, headers=one) for one in headers))
    assert granted(recorded) == point(GRANTED, 1 / 2, source="api_key")
    assert decisions(recorded) == refused("api_key", "unknown", 10)


async def test_each_login_over_a_websocket_is_a_decision(recorded: Recorded) -> None:
    api = server(api_keys={"k1": "ann"})
    keys = ("k1", "k2", "")
    logins = [{"type": "auth", "api_key": key} for key in keys]
    answers = await websocket(api.app, *logins, {"type": "ping"})
    assert [answer["type"] for answer in answers] == [
        "auth_success",
        "auth_failed",
        "auth_failed",
        "pong",
    ]
    await websocket(server().app, logins[0])
    assert granted(recorded) == point(GRANTED, 1 / 3, source="api_key")
    assert decisions(recorded) == {
        **refused("api_key", "unknown"),
        **refused("api_key", "anonymous"),
        **event("authorization_failed", 2),
    }


# Blocked tools


def middleware_that(**result: Any) -> Any:
    from victor.agent.middleware_chain import MiddlewareChain
    from victor.core.vertical_types import MiddlewarePriority, MiddlewareResult

    async def before(_name: str, _arguments: Any) -> MiddlewareResult:
        return MiddlewareResult(**result)

    async def after(*_: Any) -> None:
        return None

    chain = MiddlewareChain()
    guard: Any = SimpleNamespace(
        before_tool_call=before,
        after_tool_call=after,
        get_priority=lambda: MiddlewarePriority.NORMAL,
        get_applicable_tools=lambda: None,
    )
    chain.add(guard)
    return chain


async def test_each_tool_call_that_the_policy_denies_is_blocked_once(recorded: Recorded) -> None:
    bench = Bench(own_tool(double, name="write"), permission_policy=policy())
    await bench.batch(asked("write", number=1), asked("write", number=2))
    assert decisions(recorded) == {
        **refused("permission_policy", "forbidden", 2),
        **event("tool_blocked", 2),
    }


async def test_a_tool_that_the_user_is_only_asked_about_is_not_blocked(recorded: Recorded) -> None:
    bench = Bench(shell(), permission_policy=policy("workspace-write"))
    assert (await bench.call("shell", cmd="ls")).success
    assert decisions(recorded) == {}


async def test_a_tool_that_a_middleware_stops_is_blocked(recorded: Recorded) -> None:
    stopped = Bench(own_tool(double), middleware_chain=middleware_that(proceed=False))
    await stopped.call("own_tool", number=1)
    passed = Bench(own_tool(double), middleware_chain=middleware_that(proceed=True))
    assert (await passed.call("own_tool", number=1)).success
    assert decisions(recorded) == event("tool_blocked")


@pytest.mark.parametrize("level", ["pipeline", "executor"])
async def test_a_tool_that_a_role_forbids_is_blocked_once(recorded: Recorded, level: str) -> None:
    from victor.tools.enums import AccessMode

    writer = own_tool(double, access_mode=AccessMode.WRITE)
    bench = Bench(writer, rbac_manager=manager(), current_user="bob")
    if level == "pipeline":
        await bench.call("own_tool", number=1)
    else:
        await bench.executor.execute("own_tool", {"number": 1})
    bench.executor.set_current_user("ann")
    assert (await bench.executor.execute("own_tool", {"number": 1})).success
    assert granted(recorded) == point(GRANTED, 1 / 2, source="rbac")
    assert decisions(recorded) == {**refused("rbac", "forbidden"), **event("tool_blocked")}


async def test_what_no_rule_forbids_is_not_blocked(recorded: Recorded) -> None:
    """A human's no, a name that is no tool, arguments that do not fit, a tool that fails."""

    def fail(_tool: Any, number: int) -> None:
        raise PermissionError(number)

    await Bench(shell(), safety_checker=human(False)).call("shell", cmd="rm -rf /")
    bench = Bench(own_tool(fail))
    await bench.call("no_such_tool")
    await bench.call("own_tool")
    await bench.call("own_tool", number=1)
    assert recorded.points(REFUSED, EVENTS) == {}


# Scans of dependencies


def scanner(answer: Any) -> Any:
    """A scanner whose advisory database answers every question so, or raises it."""
    from victor.security.scanner import SecurityScanner

    async def search_by_package(*_: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return [answer]

    database: Any = SimpleNamespace(search_by_package=search_by_package)
    return SecurityScanner(cve_db=database)


def advisory(severity: str) -> Any:
    from victor.security.protocol import CVE, CVESeverity

    return CVE(cve_id="DEMO-1", description="secret-name", severity=CVESeverity(severity))


def requirements(*lines: str, name: str = "requirements.txt") -> Path:
    path = Path(name)
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("severity", ["none", "low", "medium", "high", "critical"])
async def test_a_vulnerability_in_several_files_is_found_once_a_scan(
    recorded: Recorded, severity: str
) -> None:
    requirements("fernlib==1.0", "fernlib==1.0")
    requirements("fernlib==1.0", "mosslib==2.0", name="requirements-dev.txt")
    found = await scanner(advisory(severity)).scan(Path.cwd())
    assert len(found.vulnerabilities) == 6
    assert seen(recorded) == {
        **scan("dependency"),
        **point(FOUND, 2, severity=severity),
        **event("vulnerability_found"),
    }


async def test_the_same_vulnerability_is_found_again_by_the_next_scan(recorded: Recorded) -> None:
    path = requirements("fernlib==1.0")
    with advisory_source(ADVISORIES) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr("victor.security.cve_database.OSVDatabase.API_URL", url)
        security = security_manager()
        for _ in range(2):
            assert len((await security.scan_file(path)).vulnerabilities) == 2
    assert sum(recorded.points(FOUND).values()) == 4
    assert recorded.points(SCANS, EVENTS) == {
        **scan("dependency", value=2),
        **event("vulnerability_found", 2),
    }


async def test_a_scan_that_misses_a_file_has_failed_and_counts_what_it_found(
    recorded: Recorded,
) -> None:
    requirements("fernlib==1.0")
    Path("package.json").write_text('{"dependencies": {"fern": 1}}')
    assert (await scanner(advisory("high")).scan(Path.cwd())).errors
    assert seen(recorded) == {
        **point(FOUND, severity="high"),
        **event("vulnerability_found"),
        **scan("dependency", "failure"),
        **error("incomplete_scan"),
    }


async def test_a_scan_without_advisories_has_failed(recorded: Recorded) -> None:
    assert (await scanner(OSError("no route")).scan_file(requirements("fernlib==1.0"))).errors
    assert seen(recorded) == {**scan("dependency", "failure"), **error("incomplete_scan")}


async def test_a_file_that_victor_cannot_scan_is_a_failed_scan(recorded: Recorded) -> None:
    assert (await scanner(advisory("low")).scan_file(Path("gems.lock"))).errors
    assert seen(recorded) == {**scan("dependency", "failure"), **error("incomplete_scan")}


async def test_a_scan_that_raises_is_an_error_of_its_kind(recorded: Recorded) -> None:
    with pytest.raises(AttributeError):
        await scanner(advisory("low")).scan("no path")
    assert seen(recorded) == {**scan("dependency", "failure"), **error("AttributeError")}


async def test_a_scan_that_takes_too_long_timed_out(recorded: Recorded) -> None:
    def walk(_pattern: str) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await scanner(advisory("low")).scan(SimpleNamespace(rglob=walk))
    assert seen(recorded) == {**scan("dependency", "timeout"), **error("TimeoutError")}


async def test_a_cancelled_scan_is_neither_failure_nor_error(recorded: Recorded) -> None:
    with pytest.raises(asyncio.CancelledError):
        await scanner(asyncio.CancelledError()).scan_file(requirements("fernlib==1.0"))
    assert seen(recorded) == scan("dependency", "cancelled")


# Scans of infrastructure


def image(*lines: str, folder: str = ".") -> Path:
    path = Path(folder, "Dockerfile")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    return path


def infrastructure(folder: str = ".") -> Any:
    from victor.iac.manager import IaCManager

    return IaCManager(Path(folder))


async def test_what_is_wrong_with_infrastructure_is_one_event_and_no_vulnerability(
    recorded: Recorded,
) -> None:
    image("FROM scratch:latest", 'ENV DB_PASSWORD="moss-and-fern"')
    assert len((await infrastructure().scan()).findings) > 1
    assert seen(recorded) == {**scan("iac"), **event("vulnerability_found")}


async def test_a_clean_scan_is_no_event(recorded: Recorded) -> None:
    path = image("FROM scratch:1", "USER fern", "HEALTHCHECK NONE")
    assert not (await infrastructure().scan()).findings
    assert not await infrastructure().scan_file(path)
    assert seen(recorded) == scan("iac", value=2)


async def test_a_summary_and_a_verdict_for_ci_are_scans_of_their_own(recorded: Recorded) -> None:
    image("FROM scratch:1", "USER fern", "HEALTHCHECK NONE")
    await infrastructure().get_summary()
    assert not (await infrastructure().should_fail_ci())[0]
    assert seen(recorded) == scan("iac", value=2)


async def test_a_file_that_cannot_be_read_makes_a_scan_fail_without_a_finding(
    recorded: Recorded,
) -> None:
    image().write_bytes(b"FROM \xff")
    assert [one.rule_id for one in (await infrastructure().scan()).findings] == ["SCAN-ERROR"]
    assert seen(recorded) == {**scan("iac", "failure"), **error("incomplete_scan")}
    with pytest.raises(UnicodeDecodeError):
        await infrastructure().scan_file(Path("Dockerfile"))
    assert seen(recorded) == {
        **scan("iac", "failure", 2),
        **error("incomplete_scan"),
        **error("UnicodeDecodeError"),
    }


@pytest.mark.parametrize("name", ["no-such-file", "notes.txt"])
async def test_what_is_no_infrastructure_is_not_scanned(recorded: Recorded, name: str) -> None:
    Path("notes.txt").write_text("Water the fern.")
    assert len(await infrastructure().scan_file(Path(name))) == 1
    assert seen(recorded) == {**scan("iac", "failure"), **error("incomplete_scan")}


# Scans of code


async def scan_code(**arguments: Any) -> Any:
    from victor.tools.security_scanner_tool import scan as function

    return await function(**arguments)


async def scan_as_tool(**arguments: Any) -> Any:
    from victor.tools.registry import ToolRegistry
    from victor.tools.security_scanner_tool import scan as function

    registry = ToolRegistry()
    registry.register(function)
    return (await registry.execute("scan", {}, **arguments)).output


ROUTES = pytest.mark.parametrize("run", [scan_code, scan_as_tool])


@ROUTES
async def test_a_scan_of_code_counts_on_both_of_its_routes(recorded: Recorded, run: Any) -> None:
    Path("careless.py").write_text('password = "moss-and-fern"')
    assert (await run(path="."))["total_issues"] == 1
    assert (await run(path=".", scan_types=["config"]))["total_issues"] == 0
    assert seen(recorded) == {**scan("code", value=2), **event("vulnerability_found")}


@ROUTES
async def test_what_is_below_the_threshold_is_not_found(recorded: Recorded, run: Any) -> None:
    Path("careless.py").write_text("debug = True")
    assert (await run(path=".", severity_threshold="high"))["total_issues"] == 0
    assert seen(recorded) == scan("code")


async def test_a_path_that_does_not_exist_is_no_scan(recorded: Recorded) -> None:
    assert not (await scan_code(path="no-such-file"))["success"]
    assert seen(recorded) == {}


def auditor(output: str, *, code: int = 0) -> None:
    """A `pip-audit` that answers so."""
    requirements("fernlib==1.0")
    program = Path("pip-audit")
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n")
    program.chmod(0o755)


@pytest.fixture
def _here_first(own_folder: None, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorded.points(SCANS) == {}
    monkeypatch.setenv("PATH", f"{Path.cwd()}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("_here_first")
async def test_advisories_of_the_auditor_are_vulnerabilities(recorded: Recorded) -> None:
    vulnerable = {"name": "fernlib", "version": "1.0", "vulns": [{"id": "DEMO-1"}] * 2}
    auditor(json.dumps({"dependencies": [vulnerable]}))
    told = await scan_code(path=".", scan_types=["dependencies"], dependency_scan=True)
    assert told["total_issues"] == 2
    assert seen(recorded) == {
        **scan("code"),
        **point(FOUND, severity="medium"),  # Victor's word where the auditor says nothing
        **event("vulnerability_found"),
    }


@pytest.mark.usefixtures("_here_first")
async def test_an_auditor_that_fails_leaves_the_scan_incomplete(recorded: Recorded) -> None:
    auditor("", code=1)
    told = await scan_as_tool(path=".", dependency_scan=True)
    assert "pip-audit failed" in told["results"]["dependencies"]["error"]
    assert seen(recorded) == {**scan("code", "failure"), **error("incomplete_scan")}


@pytest.mark.usefixtures("_here_first")
async def test_what_a_scan_raises_is_one_error_also_if_it_ran_as_a_tool(
    recorded: Recorded,
) -> None:
    auditor("no JSON")
    arguments: Any = {"path": ".", "dependency_scan": True}
    with pytest.raises(json.JSONDecodeError) as raised:
        await scan_code(**arguments)
    kind = type(raised.value).__name__
    assert seen(recorded) == {**scan("code", "failure"), **error(kind)}
    await scan_as_tool(**arguments)
    assert recorded.points(SCANS) == scan("code", "failure", 2)
    components = {dict(key[1:])["component"]: n for key, n in recorded.points(ERRORS).items()}
    assert components == {"security": 2}


# Policy checks


def checker(**options: Any) -> Any:
    from victor.security.protocol import SecurityPolicy

    return security_manager(policy=SecurityPolicy(**options))


def scanned(*severities: str, errors: tuple[str, ...] = ()) -> Any:
    from victor.security.protocol import SecurityDependency, SecurityScanResult, Vulnerability

    package = SecurityDependency("fernlib", "1.0", "pypi")
    found = [Vulnerability(advisory(severity), package) for severity in severities]
    return SecurityScanResult([package], found, errors=list(errors))


def passed(recorded: Recorded) -> float | None:
    return recorded.points(PASSED, zeros=True).get((PASSED,))


def rules(limited: int) -> int:
    """How many rules are in force: a Victor that knows unknown severities has one more."""
    return limited + hasattr(scanned(), "unknown_count")


def test_the_share_of_rules_that_passed_stays_until_the_next_check(recorded: Recorded) -> None:
    security = checker()
    assert passed(recorded) is None
    assert security.check_policy(scanned("medium", "low"))[0]
    assert passed(recorded) == passed(recorded) == 1
    assert len(security.check_policy(scanned("critical", "critical", "high"))[1]) == 2
    assert passed(recorded) == pytest.approx(1 - 2 / rules(2))


def test_rules_are_the_severities_that_a_policy_limits(recorded: Recorded) -> None:
    security = checker(fail_on_medium=True, max_low=0, max_high=-1, fail_on_high=False)
    assert len(security.check_policy(scanned("low", "high"))[1]) == 1
    assert passed(recorded) == pytest.approx(1 - 1 / rules(3))


def test_a_policy_without_rules_checks_nothing(recorded: Recorded) -> None:
    security = checker(fail_on_critical=False, max_critical=-1, fail_on_high=False, max_high=-1)
    assert security.check_policy(scanned("critical"))[0]
    assert passed(recorded) == (1 if rules(0) else None)


def test_an_incomplete_scan_neither_passes_nor_fails(recorded: Recorded) -> None:
    security = checker()
    security.check_policy(scanned(errors=("secret-name",)))
    assert passed(recorded) is None
    security.check_policy(scanned("critical"))
    share = passed(recorded)
    security.check_policy(scanned(errors=("secret-name",)))
    assert passed(recorded) == share == pytest.approx(1 - 1 / rules(2))


def test_without_a_scan_there_is_no_check(recorded: Recorded) -> None:
    assert not checker().check_policy()[0]
    assert passed(recorded) is None
    assert recorded.points(ERRORS) == {}


def test_a_report_checks_as_well(recorded: Recorded) -> None:
    checker().generate_report(scanned())
    assert passed(recorded) == 1


def test_a_check_that_raises_is_an_error_and_changes_no_share(recorded: Recorded) -> None:
    security = checker()
    security.check_policy(scanned())
    with pytest.raises(AttributeError):
        security.policy.check(None)
    assert passed(recorded) == 1
    assert recorded.points(ERRORS) == error("AttributeError")


# Nothing of what was scanned or asked


async def test_no_name_path_or_key_is_a_label(recorded: Recorded) -> None:
    policy().authorize("write", {"path": "secret-name"})
    writes(manager(allow_unknown_users=False), "secret-name")
    path = requirements("secret-name==1.0", name="requirements-secret-name.txt")
    await scanner(advisory("high")).scan_file(path)
    async with client(server(api_keys={"secret-name": "ann"}), "secret-name-2") as api:
        await api.post("/chat", json=SAY_NOTHING)
    assert len(recorded.points(REFUSED)) == 3
    assert "secret-name" not in str(recorded.points())
