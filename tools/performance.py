"""Writes the tables of docs/performance.md from what `nox -s benchmarks` has measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.generated import between
from tools.paths import DOCS, ROOT

PAGE = DOCS / "performance.md"
TABLES = ROOT / ".nox" / "benchmarks" / "tables"

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


def main() -> None:
    found = sorted(TABLES.glob("*.json"))
    if not found:
        raise SystemExit("nothing was measured: run `nox -s benchmarks` first")
    sections = {path.stem: table(json.loads(path.read_text(encoding="utf-8"))) for path in found}
    for name, content in {"machine": machine(), **sections}.items():
        PAGE.write_text(between(PAGE, **{name: content}), encoding="utf-8")


if __name__ == "__main__":
    main()
