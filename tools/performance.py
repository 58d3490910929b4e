"""Writes the tables of a page of docs/ from what a session of nox has measured.

python -m tools.performance performance   # nox -s benchmarks
python -m tools.performance scale         # nox -s scale
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.generated import between
from tools.paths import DOCS, ROOT

SESSIONS = {"performance": "benchmarks", "scale": "scale"}
VERSIONS = ("victor-ai", "opentelemetry-sdk", "prometheus-client")


def processor() -> str:
    """As the system names it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def machine() -> str:
    """Where and on what was measured, in one sentence."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in VERSIONS]
    load = os.getloadavg()[2]
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores of {processor()} "
        f"({platform.system()}), on which {load:.1f} processes wanted to run at once; "
        f"CPython {platform.python_version()}, {', '.join(versions)}."
    )


def table(kept: dict[str, Any]) -> str:
    """As Markdown, with the sentence that says what is compared."""
    head = kept["head"]
    ruler = ["---", *("---:" for _ in head[1:])]
    rows = ["| " + " | ".join(cells) + " |" for cells in (head, ruler, *kept["rows"])]
    return "\n".join((kept["compares"], "", *rows))


def main(name: str) -> None:
    page, session = DOCS / f"{name}.md", SESSIONS[name]
    found = sorted((ROOT / ".nox" / session / "tables").glob("*.json"))
    if not found:
        raise SystemExit(f"nothing was measured: run `nox -s {session}` first")
    sections = {path.stem: table(json.loads(path.read_text(encoding="utf-8"))) for path in found}
    written = between(page, **{"machine": machine(), **sections})
    page.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
