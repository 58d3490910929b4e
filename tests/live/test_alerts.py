"""Every critical alert: fired and resolved, by what Victor really does where that can be done.

About half an hour: intervals, the rules' own `for` and their windows are as shipped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from tests.stack.checks import checking
from tests.stack.paging import paging
from tests.stack.processes import (
    answer,
    collector,
    collector_ports,
    free_ports,
    prometheus,
    query,
    wait_until,
)
from tests.stack.replica import Replica, replica, users
from tools.rules import ALERTS
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600)]

ANSWER = Step("The answer is 42. Task complete.")
SHIPPED_INTERVAL = "15s"
PATIENCE = 25 * 60
UP = 'up{{job="victor",instance="{}"}} == 1'
Alert = tuple[str, str]
"""Its name, and the job that it is about."""


@dataclass(frozen=True)
class Incident:
    """An alert that must fire and resolve, and what brings both about."""

    alert: str
    job: str
    by: str


BROKEN = "API server that cannot make an agent, then one that can"
REFUSED = "provider that answers 401, then one that answers"
SLOW = "provider that answers after 35 s, then at once"
KILLED = "API server killed, then started again"
INCIDENTS = (
    Incident("HighErrorRate", "broken", BROKEN),
    Incident("RequestErrorBudgetBurnFast", "broken", BROKEN),
    Incident("HighProviderErrorRate", "refused", REFUSED),
    Incident("RequestErrorBudgetBurnFast", "refused", REFUSED),
    Incident("SlowResponseTime", "slow", SLOW),
    Incident("VictorAbsent", "absent", KILLED),
    Incident("VictorDown", "victor", f"{KILLED}; scraped directly"),
    Incident(
        "SecurityTestFailure", "checked", "policy check of a vulnerable project, then a clean"
    ),
    Incident("HighMemoryUsage", "crowded", "injected series: 95 % of the limit, then 50 %"),
    Incident("OtelCollectorDown", "otelcol", "the only Collector killed, then started again"),
    Incident("PrometheusNotificationsFailing", "prometheus", "Alertmanager not there, then there"),
    Incident("AlertmanagerNotificationsFailing", "alertmanager", "no secrets, then secrets"),
)


def test_each_critical_alert_is_provoked_here() -> None:
    criticals = {alert.name for alert in ALERTS if alert.severity == "critical"}
    assert criticals == {incident.alert for incident in INCIDENTS}


def firing(prometheus_url: str) -> set[Alert]:
    alerts: list[dict[str, Any]] = answer(f"{prometheus_url}/api/v1/alerts")["data"]["alerts"]
    return {
        (alert["labels"]["alertname"], alert["labels"].get("job", ""))
        for alert in alerts
        if alert["state"] == "firing"
    }


@contextmanager
def serving(step: Step) -> Generator[ScriptedModel]:
    """A provider that answers every question in the same way."""
    with ScriptedModel({"m": Script([step], side=step)}) as model:
        yield model


@contextmanager
def crowded(otlp: str, share: float) -> Generator[None]:
    """A process whose memory is full to `share`: nothing real can be made to fill a machine."""
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{otlp}/v1/metrics"), export_interval_millis=15_000
    )
    resource = Resource({"service.name": "crowded", "service.instance.id": "one"})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter("injected")
    limit = 2**30
    meter.create_gauge("victor.memory.limit", "By").set(limit)
    usage = meter.create_gauge("victor.memory.usage", "By")
    usage.set(share * limit, {"component": "process"})
    usage.set(0, {"component": "children"})
    try:
        yield
    finally:
        provider.shutdown()


class Watched:
    """A monitoring that breaks, and a Prometheus of its own that watches it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._collector_ports = collector_ports()
        self._stack = stack
        # Its own: where no Collector is, VictorAbsent is not said.
        self.pager = stack.enter_context(paging(folder / "pager"))
        self._silent = stack.enter_context(paging(folder / "silent"))
        self._secrets = folder / "silent" / "secrets"
        self._secrets.rename(self._secrets.with_name("lost"))
        (nobody,) = free_ports(1)
        self._mute = stack.enter_context(
            prometheus(alertmanagers=[f"127.0.0.1:{nobody}"], interval=SHIPPED_INTERVAL)
        )
        with collector(environment=self._collector_ports) as gateway:
            self.prometheus = stack.enter_context(
                prometheus(
                    collectors=[gateway],
                    alertmanagers=[self.pager.url, self._silent.url],
                    prometheuses=[self._mute.url],
                    interval=SHIPPED_INTERVAL,
                )
            )
            wait_until(lambda: query(self.prometheus.url, 'up{job="otelcol"} == 1'))

    def repair(self) -> None:
        """Everything in order again."""
        self._stack.enter_context(collector(environment=self._collector_ports))
        self._secrets.with_name("lost").rename(self._secrets)
        found = json.dumps([{"targets": [self._silent.url.removeprefix("http://")]}])
        (self._mute.folder / "targets" / "alertmanager.yml").write_text(found, encoding="utf-8")


class Stage:
    """The pipeline, and what is put into it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.good = stack.enter_context(serving(ANSWER))
        self.pager = stack.enter_context(paging(folder / "pager"))
        self.gateway = stack.enter_context(collector())
        self.endpoints = free_ports(2)
        self.prometheus = stack.enter_context(
            prometheus(
                [f"127.0.0.1:{port}" for port in self.endpoints],
                [self.gateway],
                alertmanagers=[self.pager.url],
                interval=SHIPPED_INTERVAL,
            )
        )
        self.watched = Watched(stack, folder / "watched")

    def variables(self, job: str) -> dict[str, str]:
        """What makes a process push as `job`."""
        return {
            "OTEL_SERVICE_NAME": job,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.gateway.otlp_http,
            "OTEL_METRIC_EXPORT_INTERVAL": "15000",
        }

    def pushing(
        self, job: str, model: ScriptedModel, *provider: str
    ) -> AbstractContextManager[Replica]:
        """A replica of `job` whose numbers pass through the Collector."""
        return replica(model.url, *provider, **self.variables(job))

    def scraped(self, port: int) -> AbstractContextManager[Replica]:
        """A replica that Prometheus scrapes itself."""
        return replica(
            self.good.url, VICTOR_PROMETHEUS_ENABLED="true", VICTOR_PROMETHEUS_PORT=str(port)
        )

    def count(self, promql: str) -> int:
        """How many series a query gives now."""
        return len(query(self.prometheus.url, promql))

    def firing(self) -> set[Alert]:
        """What fires now."""
        return firing(self.prometheus.url) | firing(self.watched.prometheus.url)

    def paged(self, action: str) -> set[Alert]:
        """Of what a pager was told."""
        return {
            (body["payload"]["class"], body["payload"]["component"])
            for pager in (self.pager, self.watched.pager)
            for body in pager.to("pagerduty")
            if body["event_action"] == action
        }


@contextmanager
def trouble(stage: Stage) -> Generator[None]:
    """Everything that goes wrong, all at once."""
    with ExitStack() as wrong:
        started = [
            stage.pushing("absent", stage.good),
            stage.scraped(stage.endpoints[0]),
        ]
        stopping = [wrong.enter_context(ExitStack()) for _ in started]
        for stack, context in zip(stopping, started, strict=True):
            stack.enter_context(context)
        refusing = wrong.enter_context(serving(Step(status=401)))
        slow = wrong.enter_context(serving(replace(ANSWER, delay=35)))
        for job, model, provider, crowd in (
            ("broken", stage.good, ("no-such-provider",), 2),
            ("refused", refusing, (), 2),
            ("slow", slow, (), 12),
        ):
            served = wrong.enter_context(stage.pushing(job, model, *provider))
            wrong.enter_context(users(served, crowd, pause=3))
        wrong.enter_context(crowded(stage.gateway.otlp_http, 0.95))
        wait_until(lambda: stage.count('job:victor_otel_hooks:api_servers{job="absent"}'))
        wait_until(lambda: stage.count(UP.format(f"127.0.0.1:{stage.endpoints[0]}")))
        for stack in stopping:
            stack.close()
        yield


@contextmanager
def repair(stage: Stage) -> Generator[None]:
    """The same services, in order again."""
    with ExitStack() as right:
        for job in ("broken", "refused", "slow"):
            served = right.enter_context(stage.pushing(job, stage.good))
            # Enough that the failures are few of the last half hour's.
            right.enter_context(users(served, 2, pause=0))
        right.enter_context(stage.pushing("absent", stage.good))
        right.enter_context(stage.scraped(stage.endpoints[0]))
        stage.watched.repair()
        right.enter_context(crowded(stage.gateway.otlp_http, 0.5))
        yield


def test_each_critical_alert_fires_pages_and_resolves(tmp_path: Path) -> None:
    wanted = {(one.alert, one.job) for one in INCIDENTS}
    fired: dict[Alert, float] = {}
    resolved: dict[Alert, float] = {}
    with ExitStack() as stack:
        stage = Stage(stack, tmp_path)
        # Of two scraped servers one stays: it is missed by name.
        stack.enter_context(stage.scraped(stage.endpoints[1]))
        checks = stack.enter_context(checking(**stage.variables("checked")))
        assert stage.firing().isdisjoint(wanted)
        with trouble(stage):
            checks.check("vulnerable")
            began = time.monotonic()

            def all_fire() -> bool:
                for alert in stage.firing() & wanted:
                    fired.setdefault(alert, time.monotonic() - began)
                assert set(fired) == wanted
                return wanted <= stage.paged("trigger")

            wait_until(all_fire, PATIENCE, interval=1)
        checks.check("clean")
        with repair(stage):
            began = time.monotonic()

            def all_resolve() -> bool:
                for alert in wanted - stage.firing():
                    resolved.setdefault(alert, time.monotonic() - began)
                assert set(resolved) == wanted
                return wanted <= stage.paged("resolve")

            wait_until(all_resolve, PATIENCE, interval=1)
    print("\n| Alert | Job | Brought about by | Fired after | Resolved after |")
    print("| --- | --- | --- | --- | --- |")
    for one in INCIDENTS:
        times = (f"{moments[one.alert, one.job]:.0f} s" for moments in (fired, resolved))
        print("|", " | ".join((one.alert, one.job, one.by, *times)), "|")
