"""Writes the rules with the defaults of their parameters: `--write`, or `--check` that they are so.

They come from src/victor_otel/alerting/, which `victor otel export` renders in the same way. What
the package must know of the dashboards for this goes there as grafana.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.generated import write_or_check
from tools.grafana import DASHBOARDS
from tools.grafana.build import template
from tools.grafana.model import Panel
from tools.panels import ALERT_PANELS, FIRING
from tools.paths import ROOT
from tools.rules import RUNBOOK_BASE
from victor_otel.alerting import render
from victor_otel.alerting.parameters import PLACEHOLDER

PLACES = ROOT / "src" / "victor_otel" / "alerting" / "grafana.json"


def places() -> dict[str, Any]:
    """Where each alert leads to, and which panels show parameters."""
    shown = {
        dashboard.file: {
            str(panel.id): place for panel in dashboard.panels if (place := _place(panel))
        }
        for dashboard in DASHBOARDS
    }
    return {
        "generated": "by tools/alerts.py from tools/grafana; not to be edited",
        "alerts": {name: list(ALERT_PANELS.get(name, FIRING)) for name in render.alerts()},
        "panels": {file: panels for file, panels in shown.items() if panels},
    }


def _place(panel: Panel) -> dict[str, Any]:
    """The description with its placeholders, and the thresholds by their place among all."""
    place: dict[str, Any] = {}
    if PLACEHOLDER.search(panel.says):
        place["description"] = template(panel)
    # The colours of no value and of the least one come first.
    before = 2 if panel.kind.latest else 1
    steps = {
        str(index): begins
        for index, (begins, _) in enumerate(panel.steps, start=before)
        if isinstance(begins, str)
    }
    if steps:
        place["steps"] = steps
    return place


def files() -> dict[Path, str]:
    """What is written."""
    found = places()
    rules = render.rules({}, found["alerts"], RUNBOOK_BASE)
    return {
        PLACES: json.dumps(found, indent=2, ensure_ascii=False) + "\n",
        ROOT / render.OPERATOR: render.operator(rules),
        **{ROOT / render.RULES / name: text for name, text in rules.items()},
    }


if __name__ == "__main__":
    write_or_check(files())
