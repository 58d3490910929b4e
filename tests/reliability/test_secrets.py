"""A secret that is put wherever there is content is in nothing that we export, log or print."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.kit.otlp import Backend, http, rpc
from tests.kit.processes import environment, run
from tests.reliability.trials import Trials

PROGRAM = """
import asyncio, contextlib, io, json, logging, os, sys, urllib.request

secret, words = sys.argv[1], f"my secret is {sys.argv[1]}, and nobody's business"
log = io.StringIO()
ours = logging.getLogger("victor_otel")
ours.addHandler(logging.StreamHandler(log))
ours.setLevel(logging.DEBUG)
ours.propagate = False

import victor_otel
from tests.reliability.inside import Work, agent_of, provider_of
from tests.kit.agents import sandboxed
from victor_otel import custom, instrumentation, record
from victor_otel.runtime import RUNTIME

console = io.StringIO()
with sandboxed():
    from tests.kit.providers import own, read
    from tests.kit.tools import Bench, asked, own_tool
    from tests.kit.workflows import named

    with contextlib.redirect_stderr(console):
        victor_otel.start()
        RUNTIME.instrumentation.open()

    class Torn(Exception):
        category = words

    async def attempt(work, *, fails=False):
        try:
            result = await work
        except Exception as error:
            assert fails, repr(error)
            return None
        return result

    async def agents():
        async with agent_of(Work()) as created:
            await attempt(created.run(words))
            async for event in created.stream(words):
                pass
            def spill(_tool, number):
                raise Torn(words)
            created.get_orchestrator().tools.register(own_tool(spill))
            await attempt(created.run(words))
            created.get_orchestrator()._chat_service._turn_executor = None
            await attempt(created.run(words), fails=True)

    async def tools():
        from victor.core.errors import VictorError
        from victor.tools.base import ToolResult
        def answer(_tool, number):
            if number == 1:
                return words
            if number == 2:
                raise VictorError(words, category=words)
            if number == 3:
                return ToolResult(False, None, error=words, metadata={"exception": words})
            raise Torn(words)
        bench = Bench(own_tool(answer), enable_caching=True)
        for number in (1, 2, 3, 4, words):
            await bench.batch(asked("own_tool", number=number, path=words), **{words: words})
            await attempt(bench.registry.execute("own_tool", {words: words}, number=number), fails=True)
        await bench.batch(asked(words, text=words))
        await attempt(own_tool(lambda _tool, **_: words).execute({}, number=words))

    async def providers():
        async def chat(self, messages, **options):
            raise Torn(words)
        async def stream(self, messages, **options):
            raise VictorError(words, category=words)
            yield
        from victor.core.errors import VictorError
        broken = own(chat=chat, stream=stream)
        await attempt(broken.chat([words], model="m"), fails=True)
        await attempt(read(broken.stream([words], model="m")), fails=True)
        class Hidden:
            content = words
            @property
            def usage(self):
                raise Torn(words)
        async def odd(self, messages, **options):
            return Hidden()
        await own(chat=odd).chat([words], model="m")  # our own error

    async def workflows():
        async def pass_on(state):
            return {**state, words: words}
        async def tear(state):
            raise Torn(words)
        for node in (pass_on, tear):
            await named(node).invoke({"subject": words, "thread_id": secret})

    async def teams():
        from victor.framework.teams import AgentTeam, TeamMemberSpec
        async with agent_of(Work()) as created:
            members = [TeamMemberSpec(role="researcher", goal=words)]
            made = await AgentTeam.create(
                orchestrator=created.get_orchestrator(), name=words, goal=words, members=members
            )
            await made.run()

    async def memories():
        from tests.kit.memory import Notes, coordinator, types
        for notes in (Notes(), Notes(raises=Torn(words))):
            everywhere = coordinator(notes)
            await attempt(everywhere.store(types().CODE, secret, words), fails=True)
            await attempt(everywhere.search_all(words), fails=True)
            await attempt(everywhere.get(types().CODE, secret), fails=True)

    async def http():
        import httpx
        from tests.kit.interfaces import server
        api = server(api_keys={secret: f"user {secret}"})
        @api.app.get("/gates/{gate}")
        async def knock(gate: str):
            raise Torn(words)
        transport = httpx.ASGITransport(app=api.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            headers = {"Authorization": f"Bearer {secret}", "X-Session-ID": secret, "Cookie": secret}
            for path in (f"/{secret}", f"/gates/{secret}", f"/modes?token={secret}", "/modes"):
                await client.get(path, headers=headers)
            await client.post("/chat", headers=headers, content=words)
            await client.request(secret.upper().replace("-", ""), "/modes", headers=headers)
            await client.get("/modes", headers={"Authorization": f"Bearer wrong {secret}"})

    async def events():
        from victor.core.events import MessagingEvent
        from victor_otel.guide import MetricsCollector
        collector = MetricsCollector()
        await collector.handle_tool_event(MessagingEvent(topic=f"tool.{secret}", data={words: words}))
        await collector.handle_error_event(Torn(words))

    async def own_numbers():
        record.recall_accuracy(1, 2, memory_type=words)
        record.synthesis_time(words)
        custom.counter("acme.secrets", "secrets", labels={"kind": ("a", "b")}).add(kind=words)
        custom.counter("acme.long", "long", labels=["who"]).add(who=words * 10)
        custom.counter("acme.missing", "missing", labels=["who"]).add(**{secret: words})

    async def everything():
        os.makedirs(secret, exist_ok=True)
        with contextlib.chdir(secret):
            for part in (agents, tools, providers, workflows, teams, memories, http, events, own_numbers):
                await asyncio.create_task(part())

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        asyncio.run(everything())
    pipeline = RUNTIME.instrumentation.pipeline
    page = urllib.request.urlopen(pipeline.endpoint).read().decode()
    pipeline.flush()

print(json.dumps({"log": log.getvalue(), "console": console.getvalue(), "page": page}))
"""


def planted(secret: str, port: int, protocol: str) -> Mapping[str, str]:
    """An environment in which it stands wherever people put secrets, and where they should not."""
    # gRPC would take a user and a password for a part of the host's name.
    user = f"me:{secret}@" if protocol == "http/protobuf" else ""
    return {
        "OTEL_METRICS_EXPORTER": f"prometheus,otlp,console,{secret}",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://{user}127.0.0.1:{port}/{secret}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {secret},x-api-key={secret}",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": protocol,
        "OTEL_TRACES_EXPORTER": f"otlp,console,{secret}",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://{user}127.0.0.1:{port}/{secret}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_PROTOCOL": secret,
        "VICTOR_PROMETHEUS_PORT": "0",
        "VICTOR_PROMETHEUS_ENABLED": secret,
        "VICTOR_OTEL_EXIT_TIMEOUT": secret,
        "VICTOR_OTEL_LIFETIME": secret,
        "VICTOR_OTEL_STRICT": secret,
        "OTEL_SDK_DISABLED": secret,
        "VICTOR_API_KEY": secret,
        "ACME_TOKEN": secret,
    }


@pytest.mark.parametrize(("protocol", "listener"), [("http/protobuf", http), ("grpc", rpc)])
def test_a_secret_is_in_nothing_that_leaves_the_process(
    trials: Trials, protocol: str, listener: Callable[[], AbstractContextManager[Backend]]
) -> None:
    pytest.importorskip("fastapi")
    secret = f"token-{secrets.token_hex(12)}"
    with listener() as backend:
        done = run(PROGRAM, secret, **planted(secret, backend.port, protocol))
    shown = json.loads(done.stdout.splitlines()[-1])
    assert backend.requests, "nothing was pushed"
    assert secret in str(backend.headers), "the push carried no credentials"
    assert "victor_tool_executions_total" in shown["page"]
    assert "victor.provider.requests" in shown["console"]
    assert '"name": "execute_tool own_tool"' in shown["console"]
    assert b"invoke_agent" in b"".join(backend.traces)
    assert "an error at" in shown["log"], "there was no error of ours to log"
    assert "is not understood" in shown["log"]
    pushed = b"".join(backend.requests + backend.traces).decode(errors="replace")
    routes = {"pushed": pushed, "stderr": done.stderr, **shown}
    for route, text in routes.items():
        found = text.find(secret)
        assert found < 0, f"{route}: {text[max(0, found - 300) : found + 60]}"
        assert secret.upper().replace("-", "") not in text, route
    trials.row(
        f"a secret in every kind of content, on each route, by {protocol}", times=len(routes)
    )


@pytest.mark.parametrize(("form", "protocol"), [([], "grpc"), (["--json"], "http/protobuf")])
def test_a_secret_is_not_what_doctor_prints(form: list[str], protocol: str, tmp_path: Path) -> None:
    secret = f"token-{secrets.token_hex(12)}"
    variables = {
        **planted(secret, 1, protocol),
        "OTEL_EXPORTER_PROMETHEUS_PORT": secret,
        "VICTOR_PROMETHEUS_HOST": f"me:{secret}@nowhere.invalid",
    }
    doctor = str(Path(sys.executable).with_name("victor-otel"))
    done = subprocess.run(
        [doctor, "doctor", *form],
        capture_output=True,
        text=True,
        env=environment(**variables),
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 1
    assert "is not understood" in done.stdout
    assert secret not in done.stdout + done.stderr
