"""Where things are in this repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTOR = ROOT / "collector"
DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"
