"""Writes the dashboards: `--write`, or `--check` that they are as generated.

collector/grafana/dashboards/ and the table in docs/dashboards.md come from scripts/grafana/. Needs
grafana-foundation-sdk.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.docs import between  # noqa: E402
from scripts.grafana import DASHBOARDS  # noqa: E402
from scripts.grafana.build import VARIABLES, document  # noqa: E402
from scripts.grafana.model import Dashboard, Panel  # noqa: E402

FOLDER = ROOT / "collector" / "grafana" / "dashboards"
PAGE = ROOT / "docs" / "dashboards.md"


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
            "| Row | Panel | Shows | Alerts |",
            "| --- | --- | --- | --- |",
            *(_line(row.title, panel) for row in dashboard.rows for panel in row.panels),
        ]
    )


def _line(row: str, panel: Panel) -> str:
    alerts = [f"[{name}](../collector/runbooks/{name}.md)" for name in panel.alerts]
    return f"| {row} | {panel.title} | {panel.says} | {', '.join(alerts)} |"


def main() -> None:
    files = {FOLDER / each.file: document(each) for each in DASHBOARDS}
    files[PAGE] = between(PAGE, "panels", tables())
    stale = [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--write" in sys.argv:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    elif stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise SystemExit(f"stale: {names}; run `nox -s docs -- --write`")


if __name__ == "__main__":
    main()
