"""Spans through the Collector: which traces are kept, what is masked, and exemplars beside them."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.kit import otlp
from tests.kit.processes import run
from tests.stack.backends import spans_to
from tests.stack.collectors import TOKEN, labels, own
from tests.stack.gateways import NAMES, agents, gateway
from tests.stack.processes import (
    COLLECTOR_CONFIG,
    HOST,
    Collector,
    Prometheus,
    answer,
    collector,
    free_ports,
    prometheus,
    wait_until,
)
from tests.stack.spans import ERROR, body, contents, made, push
from tools.paths import COLLECTOR
from victor_otel.victor.areas.tools import DURATION

pytestmark = pytest.mark.stack

WAITING = labels(exporter="otlp_http/traces", data_type="traces")
_DROPPED = labels(sampled="false", decision="not_sampled")
SAMPLING = "otelcol_processor_tail_sampling"


def sending_to(backend: otlp.Backend, **variables: str) -> dict[str, str]:
    return spans_to(f"http://{HOST}:{backend.port}", **variables)


def names(backend: otlp.Backend) -> list[str]:
    return sorted(span.name for span in backend.spans().get("victor", ()))


def arrived(backend: otlp.Backend, *expected: str) -> Callable[[], bool]:
    def all_of_them() -> bool:
        assert names(backend) == sorted(expected)
        return True

    return all_of_them


def attributes(pairs: Any) -> dict[str, Any]:
    return {
        each.key: each.value.string_value or each.value.int_value or each.value.array_value
        for each in pairs
    }


# --- Which traces are kept ---------------------------------------------------------------------

# Shipped are 10 s.
SOON = "processors::tail_sampling::decision_wait_after_root_received=1s"
NOTHING_ELSE = {"VICTOR_COLLECTOR_TRACES_PERCENT": "0"}


def dropped(gateway: Collector) -> float:
    """How many traces the Collector has decided not to keep."""
    return own(gateway, f"{SAMPLING}_global_count_traces_sampled").get(_DROPPED, 0)


def test_every_trace_goes_on_at_once_unless_a_share_is_asked_for() -> None:
    with otlp.http() as backend, collector(environment=sending_to(backend)) as gateway:
        for number in range(1, 6):
            assert push(gateway.otlp_http, made(number, f"chat {number}")) == 200
            wait_until(arrived(backend, *(f"chat {n}" for n in range(1, number + 1))), 5)
        wait_until(lambda: own(gateway, f"{SAMPLING}_sampling_traces_on_memory") == {labels(): 0})
        assert dropped(gateway) == 0


def test_without_a_backend_no_trace_is_held() -> None:
    with collector() as gateway:
        assert push(gateway.otlp_http, made(1), made(2)) == 200
        wait_until(lambda: own(gateway, f"{SAMPLING}_new_trace_id_received") == {labels(): 2})
        wait_until(lambda: own(gateway, f"{SAMPLING}_sampling_traces_on_memory") == {labels(): 0})


def test_of_the_rest_what_failed_or_is_slow_is_kept_whole_and_what_is_fine_is_not() -> None:
    fine, failed, slow = 1, 2, 3
    with (
        otlp.http() as backend,
        collector(environment=sending_to(backend, **NOTHING_ELSE), settings=[SOON]) as gateway,
    ):
        # A model's call is over long before its turn.
        for trace in (fine, failed, slow):
            assert push(gateway.otlp_http, made(trace, f"chat {trace}")) == 200
        wait_until(lambda: own(gateway, f"{SAMPLING}_new_trace_id_received") == {labels(): 3})
        assert names(backend) == []
        ends = (
            made(fine, "turn 1", root=True, seconds=29),
            made(failed, "turn 2", root=True, status=Status(code=ERROR)),
            made(slow, "turn 3", root=True, seconds=30),
        )
        for end in ends:
            assert push(gateway.otlp_http, end) == 200
        kept = ("chat 2", "turn 2", "chat 3", "turn 3")
        wait_until(arrived(backend, *kept))
        wait_until(lambda: dropped(gateway) == 1)

        # What comes later goes the way of its trace.
        late = [made(trace, f"late {trace}", seconds=60) for trace in (fine, failed, slow)]
        assert push(gateway.otlp_http, *late) == 200
        wait_until(arrived(backend, *kept, "late 2", "late 3"))


def test_an_error_that_comes_after_the_end_of_its_turn_keeps_the_trace() -> None:
    with (
        otlp.http() as backend,
        collector(environment=sending_to(backend, **NOTHING_ELSE)) as gateway,
    ):
        assert push(gateway.otlp_http, made(1, "turn", root=True)) == 200
        assert push(gateway.otlp_http, made(1, "tool", status=Status(code=ERROR))) == 200
        wait_until(arrived(backend, "tool", "turn"))


def test_what_is_slow_and_which_share_is_kept_are_settings() -> None:
    share, slow = "VICTOR_COLLECTOR_TRACES_PERCENT", "VICTOR_COLLECTOR_TRACES_SLOW_MS"
    with (
        otlp.http() as backend,
        collector(
            environment=sending_to(backend, **{share: "50", slow: "2000"}), settings=[SOON]
        ) as gateway,
    ):
        traces = [hash((number, "trace")) % 2**127 for number in range(400)]
        turns = [made(trace, "fine", root=True) for trace in traces]
        turns += [made(2**127 + number, "slow", root=True, seconds=2) for number in range(20)]
        assert push(gateway.otlp_http, *turns) == 200
        wait_until(lambda: names(backend).count("slow") == 20 and dropped(gateway) > 0)
        wait_until(lambda: names(backend).count("fine") + dropped(gateway) == len(traces))
        assert 150 < dropped(gateway) < 250


@pytest.mark.parametrize("killed", [False, True])
def test_what_waits_for_the_backend_outlasts_the_collector(killed: bool, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    away = otlp.Backend(200, port)
    queue = {"VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue")}
    with collector(environment=sending_to(away, **queue)) as gateway:
        assert push(gateway.otlp_http, made(1, "first"), made(2, "second")) == 200
        wait_until(lambda: "Will retry" in gateway.log.read_text())
        if killed:
            gateway.process.kill()
            gateway.process.wait()
        else:
            # One more, which nobody has tried to send.
            assert push(gateway.otlp_http, made(3, "third")) == 200
    with (
        otlp.http(port=port) as backend,
        collector(environment=sending_to(backend, **queue)),
    ):
        expected = ("first", "second") if killed else ("first", "second", "third")
        wait_until(arrived(backend, *expected))


def test_what_a_backend_that_is_away_misses_it_gets_when_it_is_back() -> None:
    (port,) = free_ports(1)
    with collector(environment=sending_to(otlp.Backend(200, port))) as gateway:
        assert push(gateway.otlp_http, made(1, "first")) == 200
        wait_until(lambda: own(gateway, "otelcol_exporter_queue_size") == {WAITING: 1})
        with otlp.http(port=port) as backend:
            wait_until(arrived(backend, "first"))


def test_a_trace_is_whole_on_one_gateway_through_whichever_agents_it_comes() -> None:
    with (
        otlp.http() as one,
        otlp.http() as other,
        gateway(NAMES[0], environment=sending_to(one, **NOTHING_ELSE)) as first,
        gateway(NAMES[1], environment=sending_to(other, **NOTHING_ELSE)) as second,
        agents([first, second]) as through,
    ):
        for trace in range(1, 41):
            for number, each in enumerate(through):
                assert push(each.otlp_http, made(trace, f"chat {trace} {number}")) == 200
        # The end alone says that the whole is kept.
        for trace, each in zip(range(1, 41), itertools.cycle(through), strict=False):
            end = made(trace, f"turn {trace}", root=True, status=Status(code=ERROR))
            assert push(each.otlp_http, end) == 200

        def whole() -> bool:
            assert len(names(one)) + len(names(other)) == 40 * 3
            return True

        wait_until(whole)
        traces = [{s.trace_id for s in each.spans()["victor"]} for each in (one, other)]
        assert all(traces)
        assert not traces[0] & traces[1]


def test_spans_with_contents_reach_a_gateway_however_large_they_are_together() -> None:
    with (
        otlp.http() as backend,
        gateway(NAMES[0], environment=sending_to(backend)) as only,
        agents([only], 1) as (through,),
    ):
        # A gateway takes 20 MiB at once, and so does an agent.
        for half in (range(4), range(4, 8)):
            spans = [made(1, f"chat {number}", contents=contents(2_900_000)) for number in half]
            assert push(through.otlp_http, *spans) == 200
        wait_until(arrived(backend, *(f"chat {number}" for number in range(8))))


def test_spans_need_the_token_as_metrics_do(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("right\n")
    token = {"VICTOR_COLLECTOR_TOKEN_FILE": str(secret)}
    with (
        otlp.http() as backend,
        collector(COLLECTOR_CONFIG, TOKEN, environment=sending_to(backend, **token)) as gateway,
    ):
        assert push(gateway.otlp_http, made(1, "refused")) == 401
        with grpc.insecure_channel(gateway.otlp_grpc.partition("://")[2]) as channel:
            stub: Any = TraceServiceStub(channel)
            for given, expected in (("wrong", "UNAUTHENTICATED"), ("right", "OK")):
                metadata = [("authorization", f"Bearer {given}")]
                sent = stub.Export.future(body(made(1, given)), metadata=metadata, timeout=10)
                assert sent.code() is grpc.StatusCode[expected]
        assert push(gateway.otlp_http, made(1, "taken"), token="right") == 200
        wait_until(arrived(backend, "right", "taken"))


# --- What is masked ----------------------------------------------------------------------------

_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    f"it is sk-ant-api03-{'a' * 40}, he said": "it is ****, he said",
    f"sk-proj-{'B2_' * 10}": "****",
    f"sk-{'0a' * 16}": "****",
    f"xai-{'b' * 20}": "****",
    f"gsk_{'b' * 20}": "****",
    f"hf_{'b' * 34}": "****",
    f"ghp_{'c' * 36}": "****",
    f"github_pat_{'c_' * 11}": "****",
    f"glpat-{'d' * 20}": "****",
    f"xoxb-{'1-a' * 10}": "****",
    "AKIAIOSFODNN7EXAMPLE": "****",
    f"AIza{'e' * 35}": "****",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmN": "****",
    "Authorization: Bearer 0123456789abcdef": "Authorization: ****",
    f"cat id_rsa\n{_KEY}\ndone": "cat id_rsa\n****\ndone",
    f"{_KEY[:40]}, cut": "****",
    "postgres://victor:hunter2@db/victor": "postgres****db/victor",
    '{"api_key": "0123456789", "a": 1}': '{"****", "a": 1}',
    r"{\"password\":\"0123456789\"}": r"{\"****\"}",
    'curl -d "password=hunter22"': 'curl -d "****"',
    "OPENAI_API_KEY=0123456789": "OPENAI_API****",
}
ORDINARY = {
    "gen_ai.agent.name": "victor",
    "gen_ai.conversation.id": "session-0192f0c1-7c1e-7bd2-a5a2-9d3c0e1f2a3b",
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": "claude-sonnet-4-5-20250929",
    "gen_ai.tool.call.id": "toolu_01A09q90qw90lq917835lq9",
    "gen_ai.tool.name": "task-management-of-everything-there-is",
    "gen_ai.usage.input_tokens": 1234,
    "victor.operation.status": "success",
    "url.full": "https://api.anthropic.com:443/v1/messages?beta=true",
    "db.query.text": "SELECT secret, password FROM users WHERE id = ?",
    "code.file.path": "src/risk-assessment/sk-learn-and-other-things.py",
    "task.id": "task-0192f0c1-7c1e-7bd2-a5a2-9d3c0e1f2a3b",
    "said": 'The token: "max_tokens": 4096, then bearer of news, the secret is to ask why.',
}


def masked(span: Span, *settings: str) -> tuple[Any, Mapping[str, Any]]:
    """The span as it leaves the Collector, and its attributes."""
    with (
        otlp.http() as backend,
        collector(environment=sending_to(backend), settings=settings) as gateway,
    ):
        assert push(gateway.otlp_http, span) == 200
        wait_until(lambda: names(backend) == [span.name])
        (found,) = backend.spans()["victor"]
        return found, attributes(found.attributes)


def test_what_looks_like_a_secret_is_masked_in_values_wherever_they_stand() -> None:
    given = {f"said.{number}": secret for number, secret in enumerate(SECRETS)}
    span, found = masked(made(1, **given))
    assert found.pop("redaction.masked.count") == len(SECRETS)
    assert found == {f"said.{number}": kept for number, kept in enumerate(SECRETS.values())}

    (secret, kept), *_ = SECRETS.items()
    failed = Status(code=ERROR, message=f"KeyError: {secret}")
    event = {"exception.message": secret}
    sent = made(1, status=failed, event=event, headers=["plain", secret], **ORDINARY)
    span, found = masked(sent)
    assert attributes(span.events[0].attributes)["exception.message"] == kept
    assert span.status == Status(code=ERROR, message=f"KeyError: {kept}")
    assert found.pop("headers") == f'["plain","{kept}"]'
    assert found.pop("redaction.masked.count") == 2
    assert found == ORDINARY


def test_what_is_named_like_a_secret_is_masked_whatever_it_is() -> None:
    secret = {
        "http.request.header.authorization": ["Basic dTpw"],
        "http.response.header.set-cookie": ["a=b"],
        "http.request.header.x-api-key": ["short"],
        "db.password": "short",
        "oauth.access_token": "short",
    }
    _, found = masked(made(1, **secret, **ORDINARY))
    assert found.pop("redaction.masked.count") == len(secret)
    assert found == dict.fromkeys(secret, "****") | ORDINARY


def test_the_documented_setting_masks_contents() -> None:
    readme = (COLLECTOR / "README.md").read_text(encoding="utf-8")
    (setting,) = re.findall(r"^  --set '(.*)'$", readme, re.MULTILINE)
    contents = {
        "gen_ai.input.messages": '[{"role": "user"}]',
        "gen_ai.output.messages": '[{"role": "assistant"}]',
        "gen_ai.system_instructions": "You are",
        "gen_ai.tool.call.arguments": '{"path": "a"}',
        "gen_ai.tool.call.result": "done",
        "gen_ai.tool.definitions": "[]",
    }
    _, found = masked(made(1, **contents, **ORDINARY), setting)
    assert found.pop("redaction.masked.count") == len(contents)
    assert found == dict.fromkeys(contents, "****") | ORDINARY
    _, found = masked(made(1, **contents, **ORDINARY))
    assert found == contents | ORDINARY


def test_an_ordinary_span_stays_as_it_is() -> None:
    sent = made(1, root=True, status=Status(code=ERROR, message="no such file"), **ORDINARY)
    found, _ = masked(sent)
    assert found == sent


# --- Exemplars ---------------------------------------------------------------------------------

TOOL = """
    import asyncio, time
    import victor_otel
    from victor.tools.decorators import tool

    @tool
    async def water(bed: str) -> str:
        '''Waters a bed.

        Args:
            bed: Its name.
        '''
        return "done"

    victor_otel.start()
    asyncio.run(water.Tool.execute({}, bed="roses"))
"""


def exemplars(url: str) -> set[tuple[str, str]]:
    """Trace and span of each that Prometheus has of the duration of tool calls."""
    asked = urlencode(
        {
            "query": f"histogram_quantile(0.95, rate({DURATION.prometheus_name}_bucket[5m]))",
            "start": time.time() - 300,
            "end": time.time() + 1,
        }
    )
    found = answer(f"{url}/api/v1/query_exemplars?{asked}")["data"]
    pairs = [each["labels"] for one in found for each in one["exemplars"]]
    return {(each["trace_id"], each["span_id"]) for each in pairs}


def through_the_collector(gateway: Collector, _: Prometheus) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": gateway.otlp_http}


def of_a_short_run(gateway: Collector, _: Prometheus) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": gateway.otlp_http, "VICTOR_OTEL_LIFETIME": "short"}


def straight_to_prometheus(_: Collector, scraping: Prometheus) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": scraping.otlp_metrics}


@pytest.mark.parametrize("route", [through_the_collector, of_a_short_run, straight_to_prometheus])
def test_prometheus_knows_the_span_of_a_call(
    route: Callable[[Collector, Prometheus], dict[str, str]],
) -> None:
    with (
        otlp.http() as backend,
        collector(environment=sending_to(backend)) as gateway,
        prometheus(collectors=[gateway]) as scraping,
    ):
        run(
            TOOL,
            OTEL_SERVICE_NAME="victor",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{gateway.otlp_http}/v1/traces",
            VICTOR_OTEL_EXIT_TIMEOUT="10",
            **route(gateway, scraping),
        )
        wait_until(arrived(backend, "execute_tool water"))
        (span,) = backend.spans()["victor"]
        wanted = {(span.trace_id.hex(), span.span_id.hex())}
        wait_until(lambda: exemplars(scraping.url) == wanted)
