"""Every service of compose.yaml but Grafana as a process: as its container would run it.

Only what a container changes is changed: paths lead to folders of the test, names of services and
addresses to free ports of loopback. Prometheus scrapes and evaluates once a second.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import pytest

from tests.kit.compose import API_KEY, Service, command, copied, dockerfile, project, started
from tests.kit.processes import environment
from tests.stack.paging import Message, listener, serving
from tests.stack.processes import (
    COLLECTOR_CONFIG,
    DIRECT,
    HOST,
    answer,
    collector_ports,
    free_ports,
    program,
    query,
    running,
    wait_until,
)
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

pytestmark = pytest.mark.stack

# Grafana cannot be had without its image.
PROCESSES = ("victor", "collector", "prometheus", "alertmanager")
# What the Collector, which has no health check, says it is asked by.
COLLECTOR_HEALTH = "http://127.0.0.1:13133"
QUESTION = {"messages": [{"role": "user", "content": "What is the answer?"}]}


@dataclass(frozen=True)
class Machine:
    """All containers on this machine: `folder` has the file system of each, `ports` its ports.

    `messages` is what Alertmanager sent so far.
    """

    folder: Path
    ports: dict[tuple[str, int], int]
    messages: list[Message] = field(default_factory=list[Message])

    def root(self, service: Service) -> Path:
        return self.folder / service.name

    def build(self, service: Service) -> None:
        """What is mounted, where it is mounted; a later mount hides what was there."""
        root = self.root(service)
        for target, source in sorted(service.mounts("bind").items()):
            place = root / target.lstrip("/")
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
        for target in {*service.mounts("volume"), *service.writable}:
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for path in root.rglob("*.y*ml"):
            path.write_text(self.named(path.read_text(encoding="utf-8")), encoding="utf-8")

    def named(self, text: str) -> str:
        """The text, with addresses in place of the names of services."""
        for (name, port), here in self.ports.items():
            text = re.sub(rf"\b{name}:{port}\b", f"{HOST}:{here}", text)
        return text

    def translated(self, service: Service, text: str) -> str:
        text = self.named(text)
        if re.fullmatch(r"0\.0\.0\.0", text):
            return HOST
        for (name, port), here in self.ports.items():
            if name == service.name:
                text = re.sub(rf"(0\.0\.0\.0|127\.0\.0\.1):{port}\b", f"{HOST}:{here}", text)
                text = re.sub(rf"^{port}$", str(here), text)
        # Absolute paths, but not those of URLs.
        return re.sub(r"(?<![\w./:-])/(?=\w)", f"{self.root(service)}/", text)

    def url(self, service: str, port: int, path: str = "") -> str:
        return f"http://{HOST}:{self.ports[service, port]}{path}"


def machine(folder: Path, every: list[Service]) -> tuple[Machine, dict[str, str]]:
    """Free ports for all, and the settings that tell the Collector its own."""
    settings = collector_ports()
    defaults = re.findall(
        r"\{env:(VICTOR_COLLECTOR_\w+_PORT):-(\d+)\}", COLLECTOR_CONFIG.read_text(encoding="utf-8")
    )
    ports = {("collector", int(port)): int(settings[name]) for name, port in defaults}
    published = [
        (service.name, port["target"])
        for service in every
        for port in service.ports
        if service.name != "collector"
    ]
    ports.update(zip(published, free_ports(len(published)), strict=True))
    return Machine(folder, ports), settings


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("compose")
    owned = copied(folder)
    every = [s for s in started(project(owned)) if s.name in PROCESSES]
    here, collector_settings = machine(folder / "containers", every)
    config = "etc/prometheus/prometheus.yml"
    with ExitStack() as stack:
        hook = stack.enter_context(serving(ThreadingHTTPServer((HOST, 0), listener(here.messages))))
        switch = owned / "alertmanager" / "secrets" / "dead_mans_switch_url"
        switch.parent.mkdir()
        switch.write_text(f"http://{HOST}:{hook}/switch\n", encoding="utf-8")
        model = stack.enter_context(ScriptedModel({"m": Script([Step("42.")])}))
        for service in every:
            here.build(service)
            root = here.root(service)
            if service.name == "prometheus":
                text = (root / config).read_text(encoding="utf-8")
                faster = re.sub(r"(?<=: )1[05]s$", "1s", text, flags=re.MULTILINE)
                (root / config).write_text(faster, encoding="utf-8")
            if service.name == "victor":
                program_ = [sys.executable, "-m", "tests.kit.victor_cli", model.url]
                arguments, working = command()[1:], dockerfile()[-1]["WORKDIR"][-1]
            else:
                program_ = [program(service.name)]
                arguments = service.settings["command"]
                working = service.settings.get("working_dir", "/")
            translated = {k: here.translated(service, v) for k, v in service.environment.items()}
            if service.name == "collector":
                translated |= collector_settings
            stack.enter_context(
                running(
                    [*program_, *(here.translated(service, each) for each in arguments)],
                    root,
                    here.translated(service, service.health or COLLECTOR_HEALTH),
                    60,
                    environment(**translated),
                    start=root / working.lstrip("/"),
                )
            )
        yield here


def chat(here: Machine, **headers: str) -> int:
    request = Request(
        here.url("victor", 8765, "/chat"),
        json.dumps(QUESTION).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with DIRECT.open(request, timeout=60) as response:
            return response.status
    except HTTPError as error:
        return error.code


def test_a_question_with_and_one_without_the_key_are_counted_in_prometheus(
    composed: Machine,
) -> None:
    assert chat(composed) == 401
    assert chat(composed, Authorization=f"Bearer {API_KEY}") == 200
    counted = wait_until(
        lambda: query(composed.url("prometheus", 9090), "victor_requests_total > 0"), 40
    )
    (instance,) = {labels.pop("instance") for labels, _ in counted}
    assert instance
    of_victor = {"__name__": "victor_requests_total", "job": "victor", "interface": "api"}
    assert sorted(counted, key=lambda each: each[0]["status"]) == [
        ({**of_victor, "status": "rejected"}, 1),
        ({**of_victor, "status": "success"}, 1),
    ]


def test_the_health_check_of_the_image_tells_victor_from_nobody(composed: Machine) -> None:
    (check,) = dockerfile()[-1]["HEALTHCHECK"]
    asking, flag, code = json.loads(check.partition(" CMD ")[2])
    assert (asking, flag) == ("python", "-c")
    nobody, victor = free_ports(1)[0], composed.ports["victor", 8765]
    ended = [
        subprocess.run([sys.executable, flag, code.replace("8765", str(port))], capture_output=True)
        for port in (victor, nobody)
    ]
    assert [done.returncode for done in ended] == [0, 1]


def test_prometheus_scrapes_each_service_once_and_victor_only_through_the_collector(
    composed: Machine,
) -> None:
    url = composed.url("prometheus", 9090)
    expected = {
        (job, f"{HOST}:{composed.ports[service, port]}")
        for job, service, port in (
            ("collector", "collector", 8889),
            ("collector", "collector", 8890),
            ("otelcol", "collector", 8888),
            ("prometheus", "prometheus", 9090),
            ("alertmanager", "alertmanager", 9093),
        )
    }
    assert wait_until(
        lambda: (
            {(labels["job"], labels["instance"]) for labels, _ in query(url, "up == 1")} >= expected
        )
    )
    assert {(labels["job"], labels["instance"]) for labels, _ in query(url, "up")} == expected


def test_every_rule_is_evaluated_without_an_error(composed: Machine) -> None:
    def states() -> set[str]:
        groups = answer(composed.url("prometheus", 9090, "/api/v1/rules"))["data"]["groups"]
        assert len(groups) > 5
        return {rule["health"] for group in groups for rule in group["rules"]}

    assert wait_until(lambda: states() == {"ok"})


def test_alerts_reach_the_one_alertmanager_and_who_its_secrets_name(composed: Machine) -> None:
    active = composed.url("prometheus", 9090, "/api/v1/alertmanagers")
    assert [each["url"] for each in answer(active)["data"]["activeAlertmanagers"]] == [
        composed.url("alertmanager", 9093, "/api/v2/alerts")
    ]
    first = wait_until(lambda: composed.messages)[0]
    assert first.receiver == "switch"
    (alert,) = first.body["alerts"]
    assert alert["labels"]["alertname"] == "Watchdog"
    # Links lead to what is published.
    assert alert["generatorURL"].startswith(composed.url("prometheus", 9090, "/graph"))
    assert first.body["externalURL"] == composed.url("alertmanager", 9093)
