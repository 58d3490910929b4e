"""Which process a series comes from can be read, and nothing more of it than that."""

from __future__ import annotations

import os
import socket

import pytest

from tests.kit.processes import AGENT, answer
from victor_otel.signals import pipeline

TARGET = (
    AGENT
    + """
import os
import victor_otel

def target():
    from victor_otel.runtime import RUNTIME
    from prometheus_client.parser import text_string_to_metric_families
    endpoint = RUNTIME.instrumentation.pipeline.endpoint
    text = urllib.request.urlopen(endpoint).read().decode()
    (family,) = (one for one in text_string_to_metric_families(text) if one.name == "target_info")
    (sample,) = family.samples
    return sample.labels

victor_otel.start()
told = [[os.getpid(), target()]]
reading, writing = os.pipe()
if os.fork() == 0:
    victor_otel.start()
    os.write(writing, json.dumps([os.getpid(), target()]).encode())
    os._exit(0)
os.wait()
told.append(json.loads(os.read(reading, 10_000)))
print(json.dumps(told))
"""
)


def test_target_info_names_host_and_process_of_parent_and_forked_child() -> None:
    (parent, of_parent), (child, of_child) = answer(
        TARGET, VICTOR_PROMETHEUS_ENABLED="true", VICTOR_PROMETHEUS_PORT="0"
    )
    assert parent != child
    for pid, labels in ((parent, of_parent), (child, of_child)):
        assert labels["host_name"] == socket.gethostname()
        assert labels["process_pid"] == str(pid)
    assert of_parent["service_instance_id"] != of_child["service_instance_id"]


def test_no_command_line_path_or_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    attributes = dict(pipeline._resource("long", "").attributes)
    del attributes["service.instance.id"]
    assert {name: attributes[name] for name in attributes if "telemetry.sdk" not in name} == {
        "service.name": "victor",
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }


def test_host_and_pid_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=shop-1,process.pid=7")
    attributes = pipeline._resource("long", "").attributes
    assert (attributes["host.name"], attributes["process.pid"]) == ("shop-1", "7")
