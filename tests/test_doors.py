"""Every way to switch the instrumentation on, alone and together."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.kit.processes import AGENT, answer, environment, free_port, run
from victor_otel.victor import catalog

CORE = {
    "victor_initialization_duration_seconds_count": 1,
    "victor_chat_request_duration_seconds_count": 1,
    "victor_requests_total": 1,
    "victor_user_sessions_total": 1,
    "victor_session_duration_seconds_count": 1,
}
SERVE = {"VICTOR_PROMETHEUS_ENABLED": "true", "VICTOR_PROMETHEUS_PORT": "0"}


def test_the_plugin_alone_covers_even_the_creation_that_loads_it() -> None:
    values = answer(AGENT + "work(); print(json.dumps(scraped()))", **SERVE)
    assert {name: values[name] for name in CORE} == CORE


def test_all_doors_at_once_count_once() -> None:
    values = answer(
        AGENT
        + """
import victor_otel
victor_otel.start(); victor_otel.start()
victor_otel.VictorInstrumentor().instrument()
work(); print(json.dumps(scraped()))
""",
        **SERVE,
    )
    assert {name: values[name] for name in CORE} == CORE


def test_a_provider_set_before_us_is_used_and_nothing_is_built() -> None:
    found = answer(
        AGENT
        + """
from opentelemetry import metrics
provider, reader = memory_provider()
metrics.set_meter_provider(provider)
work()
from victor_otel.runtime import RUNTIME
pipeline = RUNTIME.instrumentation.pipeline
print(json.dumps([pipeline.owner, pipeline.endpoint, counts(reader)["victor.requests"]]))
""",
        **SERVE,
    )
    assert found == ["application", None, 1]


def test_a_provider_given_while_the_plugin_is_on_already_is_used() -> None:
    found = answer(
        AGENT
        + """
import victor_otel
with sandbox(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    from victor.core.bootstrap import ensure_bootstrapped
    ensure_bootstrapped()
    provider, reader = memory_provider()
    victor_otel.VictorInstrumentor().instrument(meter_provider=provider)
    asyncio.run(use(model.url))
print(json.dumps([counts(reader)["victor.requests"], counts(reader)["victor.user.sessions"]]))
"""
    )
    assert found == [1, 1]


def test_a_provider_set_after_us_receives_everything_from_then_on() -> None:
    found = answer(
        AGENT
        + """
from opentelemetry import metrics
work()
provider, reader = memory_provider()
metrics.set_meter_provider(provider)
work()
values = counts(reader)
print(json.dumps([values["victor.requests"], values["victor.requests_in_flight"], values["victor.memory.limit"] > 0]))
"""
    )
    assert found == [1, 0, True]


def test_a_private_provider_is_not_the_global_one_and_stays() -> None:
    found = answer(
        AGENT
        + """
from opentelemetry import metrics
work()
provider, reader = memory_provider()
metrics.set_meter_provider(provider)
work()
print(json.dumps([metrics.get_meter_provider() is provider, counts(reader), scraped()["victor_requests_total"]]))
""",
        **SERVE,
    )
    assert found == [True, {}, 2]


def test_nothing_set_starts_no_thread_no_socket_and_imports_no_sdk() -> None:
    found = answer(
        AGENT
        + """
import socket, threading, traceback
sdk = []
class Watch:
    # Victor imports the tracing SDK by itself; the question is what we import.
    def find_spec(self, name, path=None, target=None):
        heavy = name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client"))
        if heavy and any("victor_otel" in f.filename and "demo" not in f.filename for f in traceback.extract_stack()[-8:]):
            sdk.append(name)
sys.meta_path.insert(0, Watch())
served = []
listen = socket.socket.listen
socket.socket.listen = lambda self, *a: (served.append(self.getsockname()), listen(self, *a))[1]
with sandbox(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    served.clear()
    asyncio.run(use(model.url))
ours = [t.name for t in threading.enumerate() if "otel" in t.name.lower()]
from victor_otel.runtime import RUNTIME
print(json.dumps([served, ours, sdk, RUNTIME.instrumentation.pipeline.owner]))
"""
    )
    assert found == [[], [], [], "nobody"]


@pytest.mark.parametrize("command", [["--version"], ["--help"], ["otel", "--help"]])
def test_commands_that_do_no_work_open_nothing(command: list[str]) -> None:
    port = free_port()
    found = answer(
        """
import json, sys
sys.argv[0] = "victor"
from victor_otel.demo.sandbox import sandbox
with sandbox():
    from victor.ui.cli import app
    try:
        app()
    except SystemExit:
        pass
    from victor_otel.runtime import RUNTIME
    print()
    print(json.dumps([RUNTIME.instrumentation is not None, RUNTIME.instrumentation.pipeline]))
""",
        *command,
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT=str(port),
    )
    assert found == [True, None]


def test_the_api_server_as_the_first_call_is_covered() -> None:
    values = answer(
        AGENT
        + """
import httpx
async def serve():
    from victor.integrations.api.fastapi_server import create_fastapi_app
    app = create_fastapi_app()
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
            await client.get("/health")
            await client.get("/no-such-page")
            await client.request("OPTIONS", "/chat")
with sandbox():
    asyncio.run(serve())
from victor_otel.runtime import RUNTIME
from prometheus_client.parser import text_string_to_metric_families
text = urllib.request.urlopen(RUNTIME.instrumentation.pipeline.endpoint).read().decode()
found = sorted(
    [*(sample.labels[name] for name in ("endpoint", "method", "interface", "status") if name in sample.labels), sample.value]
    for family in text_string_to_metric_families(text) for sample in family.samples
    if sample.name in ("victor_request_duration_seconds_count", "victor_requests_total") and sample.value
)
print(json.dumps(found))
""",
        **SERVE,
    )
    assert values == [
        ["/chat", "OPTIONS", "405", 1],
        ["/health", "GET", "200", 1],
        ["api", "rejected", 1],
        ["unmatched", "GET", "404", 1],
    ]


def test_a_taken_port_is_one_warning_a_metric_and_no_exception() -> None:
    done = run(
        AGENT
        + """
import socket, os
taken = socket.create_server(("127.0.0.1", 0))
os.environ["VICTOR_PROMETHEUS_PORT"] = str(taken.getsockname()[1])
work()
from victor_otel.runtime import RUNTIME
print(json.dumps([RUNTIME.instrumentation.health.endpoint_up, taken.getsockname()[1]]))
""",
        VICTOR_PROMETHEUS_ENABLED="true",
    )
    up, port = json.loads(done.stdout.splitlines()[-1])
    assert up is False
    warnings = [line for line in done.stderr.splitlines() if "cannot be served" in line]
    assert len(warnings) == 1
    assert f":{port} " in warnings[0]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in warnings[0]


def test_without_victor_starting_is_harmless() -> None:
    found = answer(
        """
import json, sys
sys.modules["victor"] = None
import victor_otel
from victor_otel.runtime import RUNTIME
victor_otel.start()
victor_otel.VictorInstrumentor().instrument()
print(json.dumps(sorted(set(RUNTIME.instrumentation.health.hooks.values()))))
"""
    )
    assert found == ["waiting"]


def test_counters_start_at_0_whenever_an_application_sets_its_provider() -> None:
    """Whoever sees a counter for the first time at 1 has seen no increase."""
    early, late = (
        answer(
            AGENT
            + """
from opentelemetry import metrics
provider, reader = memory_provider()
if sys.argv[1] == "before the agent":
    metrics.set_meter_provider(provider)
work()
if sys.argv[1] == "after its turn":
    metrics.set_meter_provider(provider)
print(json.dumps(counts(reader)))
""",
            moment,
        )
        for moment in ("before the agent", "after its turn")
    )
    starting = early.keys() & {metric.name for metric in catalog.METRICS if metric.starts_at_zero}
    assert {name: late.get(name) for name in starting} == dict.fromkeys(starting, 0)
    assert early["victor.requests"] == 1


def test_the_endpoint_shows_only_what_is_asked_for_by_name_and_says_its_address() -> None:
    shown, address = answer(
        AGENT
        + """
from victor_otel.runtime import RUNTIME
work()
address = RUNTIME.instrumentation.pipeline.endpoint
names = ("victor_requests_total", "victor_chat_request_duration_seconds", "nothing")
shown = {}
for name in names:
    with urllib.request.urlopen(f"{address}?name[]={name}") as page:
        lines = page.read().decode().splitlines()
    shown[name] = sorted({line.split("{")[0] for line in lines if line[0] != "#"})
print(json.dumps([shown, address]))
""",
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_HOST="::1",
        VICTOR_PROMETHEUS_PORT="0",
    )
    turns = "victor_chat_request_duration_seconds"
    assert shown == {
        "victor_requests_total": ["victor_requests_total"],
        turns: [f"{turns}_{part}" for part in ("bucket", "count", "sum")],
        "nothing": [],
    }
    assert address.startswith("http://[::1]:")


def test_a_setting_that_is_not_understood_stops_no_exporter_that_does_without_it() -> None:
    done = run(
        AGENT + "work(); print(json.dumps(scraped()['victor_requests_total']))",
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT="0",
        VICTOR_OTEL_EXIT_TIMEOUT="2s",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/json",
    )
    assert json.loads(done.stdout) == 1
    assert done.stderr.count("VICTOR_OTEL_EXIT_TIMEOUT is not understood and is ignored") == 1
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" not in done.stderr


def test_importing_the_plugin_costs_less_than_30_ms_beyond_victor() -> None:
    done = run(
        """
import subprocess, sys
program = "import victor.core.plugins.registry; import victor_otel.plugin"
print(subprocess.run([sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True).stderr)
"""
    )
    line = next(line for line in done.stdout.splitlines() if line.endswith(" victor_otel.plugin"))
    assert int(line.split("|")[1]) < 30_000


def test_opentelemetry_instrument_switches_on_with_its_own_sdk() -> None:
    script = AGENT + "work()\nfrom victor_otel.runtime import RUNTIME\n"
    script += "print(RUNTIME.instrumentation.pipeline.owner, file=sys.stderr)"
    done = subprocess.run(
        ["opentelemetry-instrument", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(OTEL_METRICS_EXPORTER="console", OTEL_TRACES_EXPORTER="none"),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "application"
    assert '"victor.chat.request.duration"' in done.stdout
