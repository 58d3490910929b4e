"""Spans by the environment alone: delivered at the end, bounded there, and counted if lost."""

from __future__ import annotations

import re

import pytest

from tests.kit.exits import TIMED, exit_seconds, undelivered
from tests.kit.otlp import http, rpc
from tests.kit.processes import AGENT, answer, free_port, run, silent_server

ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
PROTOCOLS = {"http/protobuf": http, "grpc": rpc}
WORK = AGENT + "work()"
TREE = ["chat m", "invoke_agent victor"]


def target(port: int, protocol: str = "http/protobuf") -> dict[str, str]:
    path = "" if protocol == "grpc" else "/v1/traces"
    return {ENDPOINT: f"http://127.0.0.1:{port}{path}", PROTOCOL: protocol}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_delivers_its_spans_at_its_end(protocol: str) -> None:
    with PROTOCOLS[protocol]() as backend:
        run(WORK, **target(backend.port, protocol))
    found = backend.spans()
    assert {service: sorted(span.name for span in spans) for service, spans in found.items()} == {
        "victor": TREE
    }
    (chat,) = (span for span in found["victor"] if span.name == "chat m")
    (turn,) = (span for span in found["victor"] if span is not chat)
    assert (chat.parent_span_id, turn.parent_span_id) == (turn.span_id, b"")


def test_spans_and_metrics_go_where_each_is_sent() -> None:
    with http() as spans, http() as metrics:
        run(
            WORK,
            **target(spans.port),
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"http://127.0.0.1:{metrics.port}/v1/metrics",
        )
    assert (set(spans.paths), set(metrics.paths)) == ({"/v1/traces"}, {"/v1/metrics"})


def test_one_address_gets_spans_and_metrics() -> None:
    with http() as backend:
        run(WORK, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{backend.port}")
    assert set(backend.paths) == {"/v1/traces", "/v1/metrics"}
    assert sorted(span.name for span in backend.spans()["victor"]) == TREE


def test_where_no_spans_are_taken_the_log_says_how_to_send_none() -> None:
    with http(404) as backend:
        done = run(WORK, **target(backend.port))
    (line,) = (line for line in done.stderr.splitlines() if "404 Not Found" in line)
    assert line.endswith("spans lost. If it takes no spans, set OTEL_TRACES_EXPORTER=none.")


@pytest.mark.parametrize(
    ("environ", "made"),
    [
        ({"OTEL_TRACES_EXPORTER": "none"}, 0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.0"}, 0),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, 2),
    ],
    ids=str,
)
def test_who_wants_no_spans_gets_none(environ: dict[str, str], made: int) -> None:
    with http() as backend:
        run(WORK, **target(backend.port), **environ)
    assert sum(map(len, backend.spans().values())) == made


def test_the_console_shows_them_on_stderr() -> None:
    done = run(WORK, OTEL_TRACES_EXPORTER="console")
    assert done.stdout == ""
    assert sorted(re.findall(r'"name": "(.+)"', done.stderr)) == TREE


def test_an_exporter_that_nobody_provides_is_an_error_in_the_log() -> None:
    done = run(WORK, OTEL_TRACES_EXPORTER="carrier-pigeon,console")
    assert "ERROR:victor_otel:victor-otel: OTEL_TRACES_EXPORTER names an exporter" in done.stderr
    assert len(re.findall('"name": ', done.stderr)) == 2
    assert "carrier-pigeon" not in done.stderr


def test_a_tracer_provider_of_the_application_gets_all_and_nothing_is_built() -> None:
    with http() as backend:
        told = answer(
            AGENT
            + """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
work()
from victor_otel.runtime import RUNTIME
private = RUNTIME.instrumentation.pipeline.tracer_provider
print(json.dumps([private, sorted(span.name for span in kept.get_finished_spans())]))
""",
            **target(backend.port),
        )
    assert told == [None, TREE]
    assert backend.traces == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusing_backend_delays_the_exit_by_the_bound_at_most(protocol: str) -> None:
    wanted = target(free_port(), protocol)
    done = run(TIMED, **wanted)
    assert exit_seconds(done.stderr) < 4
    (line,) = undelivered(done.stderr)
    refused = f"{'UNAVAILABLE, ' if protocol == 'grpc' else ''}connection refused"
    assert re.fullmatch(
        rf"ERROR:victor_otel:victor-otel: could not deliver the last spans to {wanted[ENDPOINT]}: "
        rf"{refused} \(\d+ (try|tries) in [\d.]+ s, VICTOR_OTEL_EXIT_TIMEOUT\); 2 spans lost\.",
        line,
    ), line


def test_one_bound_covers_both_signals() -> None:
    with silent_server() as port:
        done = run(
            TIMED,
            **target(port),
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"http://127.0.0.1:{port}/v1/metrics",
            VICTOR_OTEL_EXIT_TIMEOUT="2",
        )
    assert 2 <= exit_seconds(done.stderr) < 4
    lost = sorted(
        re.findall(r"\d+ (data points|spans) may be lost", "\n".join(undelivered(done.stderr)))
    )
    assert lost == ["data points", "spans"]


def test_spans_that_find_no_place_are_counted_and_no_call_waits() -> None:
    with silent_server() as port:
        told = answer(
            AGENT
            + """
from tests.kit.tools import own_tool
from victor_otel.runtime import RUNTIME
import victor_otel
victor_otel.start()
tool = own_tool(lambda _, number: number)
async def call():
    for number in range(50):
        await tool.execute({}, number=number)
asyncio.run(call())
print(json.dumps(RUNTIME.health.spans_dropped))
""",
            **target(port),
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
            VICTOR_OTEL_EXIT_TIMEOUT="0.1",
        )
    # One batch may be under way, and one waits.
    assert 50 - 2 * 8 <= told <= 50 - 8


def test_a_forked_child_delivers_its_own_spans_once() -> None:
    with http() as backend:
        run(
            AGENT
            + """
import multiprocessing
from tests.kit.tools import own_tool
import victor_otel
victor_otel.start()
tool = own_tool(lambda _, number: number)
def call():
    asyncio.run(tool.execute({}, number=1))
call()
child = multiprocessing.get_context("fork").Process(target=call)
child.start()
child.join()
call()
""",
            **target(backend.port),
        )
    spans = [span for each in backend.spans().values() for span in each]
    assert [span.name for span in spans] == ["execute_tool own_tool"] * 3
    assert len({span.span_id for span in spans}) == 3
