"""The dashboards as data: panels, and what they ask, as it stands in the files that are shipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tools.grafana import DASHBOARDS
from tools.paths import DEPLOY

FOLDER = DEPLOY / "grafana" / "dashboards"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """`json` is the whole of it, as Grafana loads it."""

    uid: str
    """Of its dashboard."""
    id: int
    title: str
    json: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One query of a panel; `expr` is a template for `filled`."""

    uid: str
    id: int
    title: str
    legend: str
    expr: str
    instant: bool

    @property
    def place(self) -> str:
        return f"{self.uid}:{self.title}:{self.legend}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A variable that offers the values of `label` of what `selector` (a template) selects."""

    uid: str
    name: str
    selector: str
    label: str
    all_value: str


@dataclass(frozen=True, kw_only=True)
class Annotation:
    uid: str
    name: str
    expr: str
    json: Mapping[str, Any]


_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


def _documents() -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _panels() -> Iterator[Panel]:
    for document in DOCUMENTS:
        for place in document["panels"]:
            collapsed = place.get("panels", ())
            for panel in collapsed if place["type"] == "row" else (place,):
                yield Panel(uid=document["uid"], id=panel["id"], title=panel["title"], json=panel)


def _questions() -> Iterator[Question]:
    for panel in PANELS:
        for target in panel.json["targets"]:
            yield Question(
                uid=panel.uid,
                id=panel.id,
                title=panel.title,
                legend=target["legendFormat"],
                expr=target["expr"],
                instant=target.get("instant", False),
            )


def _choices() -> Iterator[Choice]:
    for document in DOCUMENTS:
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                asked = _VALUES.fullmatch(variable["query"])
                if asked is None:
                    raise ValueError(variable["query"])
                yield Choice(
                    uid=document["uid"],
                    name=variable["name"],
                    all_value=variable["allValue"],
                    **asked.groupdict(),
                )


def _annotations() -> Iterator[Annotation]:
    for document in DOCUMENTS:
        for each in document["annotations"]["list"]:
            yield Annotation(uid=document["uid"], name=each["name"], expr=each["expr"], json=each)


DOCUMENTS = list(_documents())
PANELS = list(_panels())
QUESTIONS = list(_questions())
CHOICES = list(_choices())
ANNOTATIONS = list(_annotations())

ALERT_PANELS: Mapping[str, tuple[str, int]] = {
    alert: (dashboard.uid, panel.id)
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for alert in panel.alerts
}
"""Where an alert leads to, by its name."""

FIRING = ("victor-overview", 32)
"""Where those lead to that have no panel of their own: what fires."""

EMPTY_ALLOWED: Mapping[tuple[str, str, str], str] = {
    ("victor-overview", "Request rate", "usual"): "needs a week of data",
    ("victor-performance", "Request rate trends", "usual"): "needs a week of data",
    ("victor-overview", "In flight and queued", "queued: {{queue}}"): (
        "Victor makes queues on demand, and the scenario's may be gone before it is scraped"
    ),
    **{
        (uid, "What fires", "{{severity}} {{alertname}} {{job}} {{about}}"): "nothing may fire"
        for uid in ("victor-performance", "victor-verticals", "victor-errors")
    },
    ("victor-errors", "Error rate heatmap (endpoint x time)", "{{endpoint}}"): (
        "no scenario is answered with 5xx"
    ),
    ("victor-overview", "Error budget left", "left"): "needs a day of data",
    ("victor-errors", "Error budget left", "left"): "needs a day of data",
    ("victor-errors", "Endpoints", "{{job}} {{process}}"): (
        "the scenarios serve /metrics by a reader of their own, not by VICTOR_PROMETHEUS_ENABLED"
    ),
    ("victor-errors", "What of Victor is not found", "{{symbol}} {{kind}}"): "all is found",
}
"""Queries, by dashboard, panel and legend, that may be empty after every scenario, and why."""


def filled(
    expr: str,
    *,
    job: str = ".*",
    instance: str = ".*",
    vertical: str = ".*",
    provider: str = ".*",
    rate_interval: str = "1m",
    interval: str = "15s",
    range_: str = "1h",
) -> str:
    """A template with its variables replaced as Grafana would; `.*` is All."""
    values = {
        "job": job,
        "instance": instance,
        "vertical": vertical,
        "provider": provider,
        "__rate_interval": rate_interval,
        "__interval": interval,
        "__range": range_,
    }
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), expr)
