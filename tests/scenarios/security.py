"""Security: authorizations, blocked tools, scans of real files, policy checks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from tests.kit.agents import agent, model
from tests.scenarios.scenario import Count, Scenario
from victor_otel.demo.script import Step, ToolCall
from victor_otel.victor.areas.security import (
    AUTHORIZATION_SUCCESS_RATE,
    FAILED_AUTHORIZATIONS,
    SCAN_DURATION,
    TEST_PASS_RATE,
    VULNERABILITIES,
)
from victor_otel.victor.shared import SECURITY_EVENTS

GRANTED = "victor_security_authorization_success_rate"
REFUSED = "victor_security_failed_authorizations_total"
EVENTS = "victor_security_events_total"
FOUND = "victor_security_vulnerabilities_found_total"
SCANS = "victor_security_scan_duration_seconds_count"
PASSED = "victor_security_test_pass_rate"

_AUTHORIZATIONS = (AUTHORIZATION_SUCCESS_RATE, FAILED_AUTHORIZATIONS, SECURITY_EVENTS)


def refused(count: Count, source: str, reason: str) -> None:
    count.add(REFUSED, source=source, reason=reason)
    count.add(EVENTS, kind="authorization_failed")


async def permissions(count: Count) -> None:
    """A read-only agent reads and must not write; a writing one asks before it uses the shell."""
    from victor.core.container import reset_container
    from victor.security.permissions import PermissionMode, PermissionPolicy

    Path("notes.txt").write_text("Water the fern.")
    writes = ToolCall("write", {"path": "notes.txt", "content": "Do not."})
    calls = (ToolCall("read", {"path": "notes.txt"}), writes)
    asks = (ToolCall("shell", {"cmd": "echo moss"}),)
    answer = Step("That is all. Task complete.")
    reset_container()
    with model(m=[Step(calls=calls), answer, Step(calls=asks), answer]) as served:
        async with agent(served, "m") as created:
            policy = PermissionPolicy(PermissionMode.READ_ONLY)
            created.get_orchestrator()._tool_pipeline._permission_policy = policy
            await created.run("Read the notes, then change them.")
            assert Path("notes.txt").read_text() == "Water the fern."
            count.ratio(GRANTED, 1, 2, source="permission_policy")
            refused(count, "permission_policy", "forbidden")
            count.add(EVENTS, kind="tool_blocked")
            policy.active_mode = PermissionMode.WORKSPACE_WRITE
            await created.run("Say moss with the shell.")
        await asyncio.sleep(0.1)  # Victor's event bus
    reset_container()


async def roles(count: Count) -> None:
    """Every question to the manager, and a tool call that it refuses."""
    from victor.agent.tool_executor import ToolExecutor
    from victor.security.auth.rbac import Permission, RBACManager, User
    from victor.tools.enums import AccessMode
    from victor.tools.filesystem import write
    from victor.tools.registry import ToolRegistry

    manager = RBACManager(allow_unknown_users=False)
    manager.add_user(User("ann", roles={manager.PREDEFINED_ROLES["developer"]}))
    manager.add_user(User("bob", roles={manager.PREDEFINED_ROLES["viewer"]}))
    assert manager.check_permission("ann", Permission.WRITE)
    assert manager.check_tool_access("ann", "write", "filesystem", AccessMode.WRITE)
    assert not manager.check_tool_access("eve", "read", "filesystem", AccessMode.READONLY)
    refused(count, "rbac", "unknown")
    assert not manager.check_current_user_tool_access("read", "filesystem", AccessMode.READONLY)
    refused(count, "rbac", "anonymous")
    manager.set_current_user("bob")
    assert manager.check_current_user_tool_access("read", "filesystem", AccessMode.READONLY)
    registry = ToolRegistry()
    registry.register(write)
    executor = ToolExecutor(registry, rbac_manager=manager, current_user="bob")
    result = await executor.execute("write", {"path": "note.txt", "content": "Moss."})
    assert not result.success
    assert not Path("note.txt").exists()
    refused(count, "rbac", "forbidden")
    count.add(EVENTS, kind="tool_blocked")
    manager.disable()
    assert not manager.check_permission("ann", Permission.READ)  # asked of nobody
    count.ratio(GRANTED, 3, 6, source="rbac")


async def api_keys(count: Count) -> None:
    """Clients of the API server with a key, with a wrong one and without."""
    import httpx
    from victor.integrations.api.fastapi_server import VictorFastAPIServer

    api = VictorFastAPIServer(api_keys={"k1": "ann"}, enable_graphql=False)
    transport = httpx.ASGITransport(app=api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answers: list[int] = []
        for key in ("k1", "k1", "k2", ""):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            # Without a message: the key is verified, and there is nothing to say.
            for path in ("/chat", "/chat/stream"):
                answer = await client.post(path, json={"messages": []}, headers=headers)
                answers.append(answer.status_code)
            assert (await client.get("/health", headers=headers)).is_success
    assert answers == [400, 400, 400, 400, 401, 401, 401, 401]
    count.ratio(GRANTED, 4, 8, source="api_key")
    for reason in ("unknown", "unknown", "anonymous", "anonymous"):
        refused(count, "api_key", reason)


Advisories = Mapping[str, Sequence[Mapping[str, Any]]]

_HIGH = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}
_LOW = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}
ADVISORIES: Advisories = {
    "fernlib": (
        {"id": "DEMO-1", "summary": "Leaks water", "severity": [_HIGH]},
        {"id": "DEMO-2", "summary": "Drops leaves", "severity": [_LOW]},
    ),
    "mosslib": ({"id": "DEMO-3", "summary": "Spreads"},),
}


@contextmanager
def advisory_source(advisories: Advisories) -> Generator[str]:
    """The advisory database's API on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps({"vulns": advisories.get(query["package"]["name"], ())}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def security_manager(**options: Any) -> Any:
    """Victor's manager of the current project, with an advisory cache of its own."""
    from victor.security.cve_database import CachingCVEDatabase, LocalCVECache, OSVDatabase
    from victor.security.manager import SecurityManager
    from victor.security.scanner import SecurityScanner

    manager = SecurityManager(Path.cwd(), offline=True, **options)
    database = CachingCVEDatabase(OSVDatabase(rate_limit_delay=0), LocalCVECache(Path("cve.db")))
    manager._scanner = SecurityScanner(cve_db=database)
    return manager


async def dependency_scans(count: Count) -> None:
    """A project whose vulnerable package stands in two files, one of which is read twice."""
    from victor.security.cve_database import OSVDatabase

    Path("requirements.txt").write_text("fernlib==1.0\nmosslib==2.0\nstonelib==3.0\n")
    Path("requirements-dev.txt").write_text("fernlib==1.0\n")
    Path("clean").mkdir()
    Path("clean/requirements.txt").write_text("stonelib==3.0\n")
    with (
        advisory_source(ADVISORIES) as url,
        mock.patch.object(OSVDatabase, "API_URL", url),
    ):
        manager = security_manager()
        scanned = (await manager.scan(), await manager.scan_file(Path("requirements.txt")))
        assert not (await manager.scan_file(Path("clean/requirements.txt"))).vulnerabilities
    assert len(scanned[0].vulnerabilities) > len(scanned[1].vulnerabilities) == 3
    for result in scanned:
        found = {one.cve.cve_id: one.cve.severity.value for one in result.vulnerabilities}
        assert sorted(found) == ["DEMO-1", "DEMO-2", "DEMO-3"]
        for severity in found.values():
            count.add(FOUND, severity=severity)
        count.add(EVENTS, kind="vulnerability_found")
    count.add(SCANS, 3, scanner="dependency", status="success")
    Path("clean/gems.lock").write_text("")
    assert (await manager.scan_file(Path("clean/gems.lock"))).errors
    count.add(SCANS, scanner="dependency", status="failure")


async def infrastructure_scans(count: Count) -> None:
    """A careless image, a clean one, and a file that is no infrastructure."""
    from victor.iac.manager import IaCManager

    careless, clean = Path("careless"), Path("clean")
    for folder in (careless, clean):
        folder.mkdir()
    (careless / "Dockerfile").write_text('FROM scratch:latest\nENV DB_PASSWORD="moss-and-fern"\n')
    (clean / "Dockerfile").write_text("FROM scratch:1.0\nUSER fern\nHEALTHCHECK NONE\n")
    (clean / "notes.txt").write_text("Water the fern.")
    assert (await IaCManager(careless).scan()).high_count >= 1
    assert await IaCManager(careless).scan_file(careless / "Dockerfile")
    count.add(EVENTS, 2, kind="vulnerability_found")
    assert not (await IaCManager(clean).scan()).findings
    count.add(SCANS, 3, scanner="iac", status="success")
    assert len(await IaCManager(clean).scan_file(clean / "notes.txt")) == 1
    count.add(SCANS, scanner="iac", status="failure")


async def code_scans(count: Count) -> None:
    """The tool `scan`, called by a model's request and as a function."""
    from victor.tools.registry import ToolRegistry
    from victor.tools.security_scanner_tool import scan

    Path("careless.py").write_text('password = "moss-and-fern"\n')
    Path("clean.py").write_text("print(1)\n")
    registry = ToolRegistry()
    registry.register(scan)
    result = await registry.execute("scan", {}, path="careless.py")
    assert result.output["total_issues"] == 1
    count.add(EVENTS, kind="vulnerability_found")
    assert (await scan(path="clean.py"))["total_issues"] == 0
    count.add(SCANS, 2, scanner="code", status="success")
    told = (await scan(path="clean.py", dependency_scan=True))["results"]["dependencies"]
    assert "not found" in told["error"]
    count.add(SCANS, scanner="code", status="failure")
    assert not (await scan(path="no-such-file.py"))["success"]


async def policy_checks(count: Count) -> None:
    """A policy that limits all severities: first a clean project, then a vulnerable one."""
    from victor.security.cve_database import OSVDatabase
    from victor.security.protocol import SecurityPolicy

    Path("clean").mkdir()
    Path("clean/requirements.txt").write_text("stonelib==3.0\n")
    Path("requirements.txt").write_text("mosslib==2.0\n")
    manager = security_manager(policy=SecurityPolicy(fail_on_medium=True, max_low=0))
    with (
        advisory_source(ADVISORIES) as url,
        mock.patch.object(OSVDatabase, "API_URL", url),
    ):
        clean = await manager.scan_file(Path("clean/requirements.txt"))
        vulnerable = await manager.scan_file(Path("requirements.txt"))
    severity = vulnerable.vulnerabilities[0].cve.severity.value
    count.add(FOUND, severity=severity)
    count.add(EVENTS, kind="vulnerability_found")
    assert manager.check_policy(clean) == (True, [])
    passed, failures = manager.check_policy(vulnerable)
    assert (passed, len(failures)) == (False, 1)
    incomplete = await manager.scan_file(Path("gems.lock"))
    manager.check_policy(incomplete)
    # Four severities are limited; a Victor that knows unknown ones allows none of those.
    count.set(PASSED, 4 / 5 if hasattr(vulnerable, "unknown_count") else 3 / 4)


_SCANS = (SCAN_DURATION, SECURITY_EVENTS)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=permissions, proves=_AUTHORIZATIONS),
    Scenario(run=roles, proves=_AUTHORIZATIONS),
    Scenario(run=api_keys, proves=_AUTHORIZATIONS, needs=("fastapi",)),
    Scenario(run=dependency_scans, proves=(VULNERABILITIES, *_SCANS)),
    Scenario(run=infrastructure_scans, proves=_SCANS),
    Scenario(run=code_scans, proves=_SCANS),
    Scenario(run=policy_checks, proves=(TEST_PASS_RATE, VULNERABILITIES, SECURITY_EVENTS)),
)
