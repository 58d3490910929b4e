"""Three routes into the real Prometheus: same names, same labels, same values."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.kit.processes import environment, victor
from tests.scenarios.session import SCENARIOS, whole_demo
from tests.stack.processes import (
    Labels,
    collector,
    exposition,
    free_ports,
    prometheus,
    same,
    series,
    wait_until,
)
from tests.stack.routes import (
    ANSWER,
    Series,
    counted,
    cumulative,
    demo,
    exported_name,
    names,
    normalized,
    total,
)
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script
from victor_otel.demo.view import differences
from victor_otel.model.metric import Kind
from victor_otel.victor import catalog

pytestmark = pytest.mark.stack


_OURS = '{__name__=~"(victor|gen_ai|mcp)_.+"}'
_SESSION = [m for s in SCENARIOS if s.run is whole_demo for m in s.proves]


def check_gauges(found: Series) -> None:
    values: dict[str, list[float]] = {}
    for (name, _), value in found.items():
        values.setdefault(name, []).append(value)
    assert values["victor_requests_in_flight"] == [0] * len(values["victor_requests_in_flight"])
    for metric in catalog.METRICS:
        if metric.kind is Kind.RATIO:
            assert all(0 <= value <= 1 for value in values.get(metric.prometheus_name, ()))
    assert min(values["victor_memory_usage_bytes"]) >= 0
    assert max(values["victor_memory_usage_bytes"]) < values["victor_memory_limit_bytes"][0]
    assert 0 <= values["victor_cpu_usage_percent"][0] <= 110
    assert values["victor_request_rate"][0] > 0
    assert values["victor_active_users"] == [1]
    assert values["victor_provider_up"] == [1]


@pytest.mark.parametrize("agents", [4, 20])
def test_one_session_is_the_same_on_three_routes_and_as_counted(agents: int) -> None:
    (port,) = free_ports(1)
    with (
        collector() as gateway,
        prometheus([f"127.0.0.1:{port}"], [gateway]) as scraping,
        prometheus() as receiving,
    ):
        command = [sys.executable, "-m", "tests.stack.session", str(port)]
        command += [gateway.otlp_http, receiving.otlp_metrics, str(agents)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        ) as session:
            assert session.stdout is not None
            expected = counted(json.loads(session.stdout.readline()))

            def arrived() -> tuple[Series, Series, Series]:
                """All routes, once their totals agree: another moment may miss a scrape."""
                seen = (
                    normalized(
                        series(scraping.url, '{job="victor",__name__=~"(victor|gen_ai|mcp)_.+"}')
                    ),
                    normalized(
                        series(scraping.url, '{job="three",__name__=~"(victor|gen_ai|mcp)_.+"}')
                    ),
                    normalized(series(receiving.url, _OURS)),
                )
                direct, pushed, received = map(cumulative, seen)
                assert direct
                assert not differences(direct, expected)
                assert same(direct, pushed)
                assert same(direct, received)
                return seen

            in_process, through_collector, straight = wait_until(arrived, 60)
            session.communicate("", timeout=60)
    for found in (in_process, through_collector, straight):
        assert {exported_name(metric) for metric in _SESSION} <= names(found)
        check_gauges(found)
    assert names(in_process) == names(through_collector) == names(straight)


def test_our_own_pipeline_pushes_to_the_collector() -> None:
    with collector() as gateway, prometheus(collectors=[gateway]) as scraping:
        expected = counted(demo(f"--otlp={gateway.otlp_http}"))
        wait_until(lambda: agrees(series(scraping.url, _OURS), expected))


def test_our_own_pipeline_pushes_straight_into_prometheus() -> None:
    with prometheus() as receiving:
        expected = counted(demo(f"--otlp={receiving.url}/api/v1/otlp"))
        wait_until(lambda: agrees(series(receiving.url, _OURS), expected))


def test_our_own_pipeline_is_scraped() -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "victor_otel.demo", "--json", f"--port={port}"]
    with (
        prometheus([f"127.0.0.1:{port}"]) as scraping,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as session,
    ):
        assert session.stdout is not None
        expected = counted(json.loads(session.stdout.readline()))
        wait_until(lambda: agrees(series(scraping.url, _OURS), expected))
        session.terminate()


def agrees(found: Mapping[Labels, float], expected: Series) -> bool:
    assert not differences(normalized(found), expected)
    return True


RUNS = 4


def test_one_shot_commands_add_up_through_the_collector_and_leave_no_gauges() -> None:
    with (
        collector() as gateway,
        ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model,
    ):
        for _ in range(RUNS):
            victor(
                model.url,
                "run",
                "What is the answer?",
                OTEL_EXPORTER_OTLP_ENDPOINT=gateway.otlp_http,
                VICTOR_OTEL_LIFETIME="auto",
                VICTOR_OTEL_EXIT_TIMEOUT="5",
            )

        def arrived() -> Series:
            found = exposition(gateway.short_metrics)
            assert total(found, "victor_requests_total") == RUNS
            return found

        found = wait_until(arrived)
        assert total(found, "victor_requests_total", interface="cli", status="success") == RUNS
        assert total(found, "victor_user_sessions_total", interface="cli") == RUNS
        assert total(found, "victor_session_duration_seconds_count", interface="cli") == RUNS
        assert total(found, "victor_provider_tokens_total", type="input") == sum(
            answer.usage.prompt for answer in model.answers if answer.usage is not None
        )
        gauges = {m.prometheus_name for m in catalog.METRICS} - {
            m.prometheus_name for m in catalog.METRICS if m.kind in {Kind.COUNTER, Kind.HISTOGRAM}
        }
        assert not gauges & names(found)
        assert exposition(gateway.long_metrics) == {}


def test_deltas_pushed_straight_into_prometheus_are_refused_and_the_log_says_why() -> None:
    with (
        prometheus() as receiving,
        ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model,
    ):
        done = victor(
            model.url,
            "run",
            "What is the answer?",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"{receiving.url}/api/v1/otlp",
            VICTOR_OTEL_LIFETIME="short",
        )
        assert done.stderr.count("Deltas need a Collector that accumulates") == 1
        assert series(receiving.url, _OURS) == {}
