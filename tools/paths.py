"""Where things are in this repository."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTOR = ROOT / "collector"
DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"


@cache
def tracked(*folders: str) -> tuple[str, ...]:
    """The files that the repository has, or has in these folders, by their paths from ROOT."""
    command = ["git", "ls-files", "-z", *folders]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    return tuple(path for path in listed.decode().split("\0") if path)
