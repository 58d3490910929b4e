"""Nothing of ours is written to standard output, whatever is exported."""

from __future__ import annotations

import json

import pytest

from tests.kit.processes import exported, victor
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

ANSWER = Step("The answer is 42. Task complete.")
BUSY = {
    "OTEL_METRICS_EXPORTER": "console,prometheus,otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "VICTOR_PROMETHEUS_PORT": "0",
    "VICTOR_OTEL_EXIT_TIMEOUT": "0.5",
}
MESSAGES = "".join(
    json.dumps({"jsonrpc": "2.0", "id": str(number), "method": method, "params": params}) + "\n"
    for number, (method, params) in enumerate(
        [
            ("initialize", {}),
            ("tools/call", {"name": "no_such_tool", "arguments": {}}),
            ("tools/call", {"arguments": {}}),
            ("ping", {}),
        ]
    )
)


@pytest.fixture(scope="module")
def printed() -> str:
    """What Victor prints without us."""
    without = answered(WITHOUT_US="1")
    assert "42" in without
    return without


def answered(**settings: str) -> str:
    with ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model:
        return victor(model.url, "run", "What is the answer?", **settings).stdout


@pytest.mark.parametrize("settings", [{}, BUSY], ids=["nothing set", "all exporters"])
def test_victor_run_prints_the_same_byte_for_byte(printed: str, settings: dict[str, str]) -> None:
    assert answered(**settings) == printed


def test_an_mcp_server_on_stdio_answers_the_same_byte_for_byte_and_is_a_session() -> None:
    without = victor("none", "mcp", given=MESSAGES, WITHOUT_US="1").stdout
    assert len(without.splitlines()) == 4
    settings = {"OTEL_METRICS_EXPORTER": "console", "VICTOR_OTEL_EXIT_TIMEOUT": "10"}
    done = victor("none", "mcp", given=MESSAGES, **settings)
    assert done.stdout == without
    metrics = exported(done.stderr)
    requests = {
        point["attributes"]["status"]: point["value"]
        for point in metrics["victor.requests"]
        if point["attributes"]["interface"] == "mcp"
    }
    assert requests == {
        "success": 0,
        "failure": 1,
        "timeout": 0,
        "cancelled": 0,
        "paused": 0,
        "rejected": 1,
    }
    sessions = metrics["victor.session.duration"]
    assert [(p["attributes"], p["count"]) for p in sessions] == [({"interface": "mcp"}, 1)]
    assert [p["sum"] for p in metrics["victor.requests_per_user"]] == [2]
