"""What the rendered pods would run, run here; and scraped as the Prometheus operator would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request

import pytest

from tests.kit.kubernetes import (
    Object,
    container,
    discovered,
    named,
    of_kind,
    rendered,
    scrape_configs,
    templates,
    variables,
)
from tests.kit.processes import environment, victor
from tests.stack.processes import (
    DIRECT,
    HOST,
    Collector,
    Prometheus,
    answer,
    collector,
    exposition,
    free_ports,
    prometheus_in,
    query,
    stop,
    wait_until,
)
from tests.stack.replica import replica
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

pytestmark = pytest.mark.stack

ANSWER = Step("The answer is 42. Task complete.")
NO_MODEL = "http://127.0.0.1:9/v1"
KEY = "not-a-secret"


def production() -> list[Object]:
    return rendered("production")


def pod(workload: str) -> Object:
    return templates(production())[workload]


@contextmanager
def collector_pod(folder: Path) -> Generator[Collector]:
    """The Collector with its pod's arguments and variables; volumes are folders below `folder`."""
    template = pod("StatefulSet/collector")
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    mounts = {
        each["mountPath"]: folder / each["name"] for each in container(template)["volumeMounts"]
    }
    for mount in container(template)["volumeMounts"]:
        place = mounts[mount["mountPath"]]
        place.mkdir()
        if reference := volumes.get(mount["name"], {}).get("configMap"):
            for name, text in named(production(), "ConfigMap", reference["name"])["data"].items():
                (place / name).write_text(text, encoding="utf-8")

    def here(path: str) -> Path:
        (mount,) = (each for each in mounts if path.startswith(f"{each}/"))
        return mounts[mount] / path.removeprefix(f"{mount}/")

    given = variables(template)
    queue = here(given["VICTOR_COLLECTOR_QUEUE"])
    (argument,) = container(template)["args"]
    moved = {"VICTOR_COLLECTOR_HOST": HOST, "VICTOR_COLLECTOR_QUEUE": str(queue)}
    with collector(
        here(argument.removeprefix("--config=")), environment={**given, **moved}
    ) as running:
        assert queue.is_dir()
        yield running


def status(url: str, body: bytes | None = None, key: str | None = None) -> int:
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        with DIRECT.open(Request(url, body, headers), timeout=60) as given:
            return given.status
    except HTTPError as error:
        return error.code


def test_the_collectors_pod_is_healthy_where_it_is_probed(tmp_path: Path) -> None:
    given = container(pod("StatefulSet/collector"))
    with collector_pod(tmp_path) as running:
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert status(f"{running.health}{given[kind]['httpGet']['path']}") == 200


def test_victors_pod_answers_probes_without_a_key_users_with_one_and_prometheus() -> None:
    given = container(pod("Deployment/victor"))
    port, metrics = free_ports(2)
    moved = {"0.0.0.0": HOST, "8765": str(port)}
    arguments = [moved.get(str(each), str(each)) for each in given["command"][1:]]
    own = {**variables(pod("Deployment/victor")), "VICTOR_API_KEYS": f"{KEY}:alice"}
    own |= {"VICTOR_PROMETHEUS_HOST": HOST, "VICTOR_PROMETHEUS_PORT": str(metrics)}
    url = f"http://{HOST}:{port}"
    question = json.dumps({"messages": [{"role": "user", "content": "What is it?"}]}).encode()
    with (
        ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model,
        subprocess.Popen(
            [sys.executable, "-m", "tests.kit.victor_cli", model.url, *arguments],
            env=environment(**own),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            startup = given["startupProbe"]
            patience = startup["periodSeconds"] * startup["failureThreshold"]
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                probed = url + given[kind]["httpGet"]["path"]
                wait_until(lambda probed=probed: status(probed) == 200, patience)
            assert status(f"{url}/chat", question) == 401
            assert status(f"{url}/chat", question, KEY) == 200
            page = exposition(f"http://{HOST}:{metrics}/metrics")
        finally:
            stop(process)
    asked = {
        (dict(pairs)["endpoint"], dict(pairs)["status"]): value
        for (name, pairs), value in page.items()
        if name == "victor_request_duration_seconds_count"
    }
    assert asked["/chat", "200"] == 1
    assert asked["/chat", "401"] == 1


def test_a_run_adds_up_in_the_collector(tmp_path: Path) -> None:
    command = container(pod("CronJob/victor-run"))["command"]
    with (
        collector_pod(tmp_path) as gateway,
        ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model,
    ):
        own = variables(pod("CronJob/victor-run"))
        assert urlsplit(own["OTEL_EXPORTER_OTLP_ENDPOINT"]).hostname == "collector"
        own["OTEL_EXPORTER_OTLP_ENDPOINT"] = gateway.otlp_http
        victor(model.url, *command[1:], **own)

        def requests() -> list[tuple[dict[str, str], float]]:
            page = exposition(gateway.short_metrics)
            return [
                (dict(pairs), value)
                for (name, pairs), value in page.items()
                if name == "victor_requests_total" and value
            ]

        counted = {"job": "victor", "interface": "cli", "status": "success"}
        assert wait_until(requests) == [(counted, 1)]
        assert exposition(gateway.long_metrics) == {}


# As the operator scrapes.


@dataclass(frozen=True)
class Fleet:
    """A server whose chats fail with 500, a Collector that a run has pushed to, and who asks."""

    addresses: dict[str, str]
    """host:port by the name of the Service's port."""
    chats: Iterator[int]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    (metrics,) = free_ports(1)
    serving = {"VICTOR_PROMETHEUS_ENABLED": "true", "VICTOR_PROMETHEUS_PORT": str(metrics)}
    with (
        collector_pod(tmp_path_factory.mktemp("collector")) as gateway,
        replica(NO_MODEL, "nobody", **serving) as server,
        ScriptedModel({"m": Script([ANSWER], ANSWER)}) as model,
    ):
        pushing = {**variables(pod("CronJob/victor-run")), "OTEL_SERVICE_NAME": "nightly"}
        pushing["OTEL_EXPORTER_OTLP_ENDPOINT"] = gateway.otlp_http
        victor(model.url, "run", "What is it?", **pushing)
        pages = {
            "long": gateway.long_metrics,
            "short": gateway.short_metrics,
            "telemetry": gateway.telemetry,
        }
        addresses = {name: urlsplit(url).netloc for name, url in pages.items()}

        def chats() -> Iterator[int]:
            while True:
                server.modes()
                yield server.chat()

        yield Fleet({**addresses, "metrics": f"{HOST}:{metrics}"}, chats())


@contextmanager
def operated(monitors: list[Object], fleet: Fleet, folder: Path) -> Generator[Prometheus]:
    """Prometheus with what the operator makes of monitors and PrometheusRules, once a second."""
    discovery = folder / "targets.json"
    discovery.write_text(json.dumps(discovered(production(), fleet.addresses)), encoding="utf-8")
    scrapes = [each for monitor in monitors for each in scrape_configs(monitor, discovery)]
    for each in scrapes:
        each |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    for rules in of_kind(production(), "PrometheusRule"):
        path = folder / f"{rules['metadata']['name']}.rules"
        path.write_text(json.dumps(rules["spec"]), encoding="utf-8")
    config = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": ["*.rules"],
        "scrape_configs": scrapes,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    (port,) = free_ports(1)
    with prometheus_in(folder, port) as running:
        yield running


def values(found: Prometheus, promql: str, *names: str) -> set[tuple[str | None, ...]]:
    return {tuple(labels.get(name) for name in names) for labels, _ in query(found.url, promql)}


RATE = "job_endpoint:victor_request_duration_seconds:rate_5m > 0"
PENDING = 'ALERTS{alertname="HighErrorRate"}'


def test_jobs_and_endpoints_are_what_rules_expect(fleet: Fleet, tmp_path: Path) -> None:
    with operated(of_kind(production(), "ServiceMonitor"), fleet, tmp_path) as found:
        up = "up == 1"
        everything = {
            ("victor", "metrics", "victor-metrics", "victor"),
            ("collector", "long", "collector-metrics", "collector"),
            ("collector", "short", "collector-metrics", "collector"),
            ("otelcol", "telemetry", "collector-metrics", "collector"),
        }
        shown = ("job", "endpoint", "service", "container")
        wait_until(lambda: values(found, up, *shown) == everything)
        assert {pair[0] for pair in values(found, "up", "pod")} == {"a-pod"}

        def alerted() -> bool:
            assert next(fleet.chats) == 500
            return bool(query(found.url, PENDING))

        wait_until(alerted)
        assert values(found, PENDING, "job", "endpoint") == {("victor", "/chat")}
        assert {("victor", "/chat"), ("victor", "/modes")} <= values(found, RATE, "job", "endpoint")
        assert not query(found.url, '{exported_endpoint!=""}')
        assert not query(found.url, '{exported_job!=""}')
        # What a run pushed is its own service's, not the Collector's.
        runs = 'victor_requests_total{interface="cli"} > 0'
        assert values(found, runs, "job", "endpoint") == {("nightly", "short")}
        assert query(found.url, 'otelcol_receiver_accepted_metric_points{job="otelcol"}')
        assert not query(found.url, '{job="otelcol",__name__=~".*[.].*"}')
        # The labels that the operator adds keep no rule from being evaluated.
        groups = answer(f"{found.url}/api/v1/rules")["data"]["groups"]
        assert len(groups) > 10
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def test_without_honored_labels_every_endpoint_would_be_one(fleet: Fleet, tmp_path: Path) -> None:
    monitor = json.loads(json.dumps(named(production(), "ServiceMonitor", "victor")))
    (endpoint,) = monitor["spec"]["endpoints"]
    endpoint["honorLabels"] = False
    with operated([monitor], fleet, tmp_path) as found:

        def counted() -> bool:
            assert next(fleet.chats) == 500
            return bool(query(found.url, RATE))

        wait_until(counted)
        assert values(found, RATE, "job", "endpoint") == {("victor", "metrics")}
        count = "victor_request_duration_seconds_count"
        renamed = values(found, count, "endpoint", "exported_endpoint")
        assert {("metrics", "/chat"), ("metrics", "/modes")} <= renamed
