"""Writes the dashboards: `--write`, or `--check` that they are as generated.

deploy/grafana/dashboards/ and the table in docs/dashboards.md come from tools/grafana/. Needs
grafana-foundation-sdk.
"""

from __future__ import annotations

from pathlib import Path

from tools.generated import between, write_or_check
from tools.grafana import DASHBOARDS
from tools.grafana.build import VARIABLES, document
from tools.grafana.model import Dashboard, Panel
from tools.panels import EMPTY_ALLOWED, FOLDER, filled
from tools.paths import DOCS
from tools.rules import selected
from victor_otel.alerting import parameters

PAGE = DOCS / "dashboards.md"


def tables() -> str:
    """Every panel, by dashboard."""
    return "\n\n".join(_table(dashboard) for dashboard in DASHBOARDS)


def _table(dashboard: Dashboard) -> str:
    chosen = ", ".join(VARIABLES[name][0].split(",")[0].lower() for name in dashboard.variables)
    return "\n".join(
        [
            f"### {dashboard.title.removeprefix('Victor / ')}",
            "",
            dashboard.says,
            "",
            f"- Address: `/d/{dashboard.uid}`, {len(dashboard.panels)} panels",
            f"- Refreshed every {dashboard.refresh}, shows {dashboard.since.removeprefix('now-')}",
            f"- Choices: source, {chosen}",
            "",
            "| Row | Panel | Shows | Series | Alerts |",
            "| --- | --- | --- | --- | --- |",
            *(_line(row.title, panel) for row in dashboard.rows for panel in row.panels),
        ]
    )


def _line(row: str, panel: Panel) -> str:
    alerts = [f"[{name}](../deploy/runbooks/{name}.md)" for name in panel.alerts]
    series = sorted({name for query in panel.queries for name in selected(filled(query.expr))})
    names = ", ".join(f"`{name}`" for name in series)
    says = parameters.filled(panel.says, parameters.DEFAULTS)
    return f"| {row} | {panel.title} | {says} | {names} | {', '.join(alerts)} |"


def empty() -> str:
    """What is not filled after every scenario."""
    titles = {each.uid: each.title.removeprefix("Victor / ") for each in DASHBOARDS}
    rows = [
        f"| {titles[uid]} | {title} | `{legend}` | {reason} |"
        for (uid, title, legend), reason in EMPTY_ALLOWED.items()
    ]
    return "\n".join(
        [
            "### What may be empty",
            "",
            "Every other query is answered after every scenario: with one replica and with three,",
            "with all choices at *All* and with each of them at one value.",
            "",
            "| Dashboard | Panel | Legend | Why |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def files() -> dict[Path, str]:
    """What is written."""
    page = between(PAGE, panels=f"{tables()}\n\n{empty()}")
    return {PAGE: page, **{FOLDER / each.file: document(each) for each in DASHBOARDS}}


if __name__ == "__main__":
    write_or_check(files())
