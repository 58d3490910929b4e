"""The commands that install the package, typed as the documentation says, into a Python of nothing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kit.documentation import ELSEWHERE, blocks
from tools.paths import ROOT
from victor_otel.version import __version__


def typed(commands: str, folder: Path, *, path: str) -> str:
    """What commands print, with neither the Python of the tests nor its settings."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def outside() -> str:
    """A PATH on which `python3` is what the environment of the tests was made from."""
    ours = Path(sys.executable).parent
    others = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != ours]
    return os.pathsep.join([str(Path(sys.base_prefix) / "bin"), *others])


def test_what_the_pages_say_installs_the_package(tmp_path: Path) -> None:
    clone = tmp_path / "victor-otel"
    skipped = shutil.ignore_patterns(".nox", ".git", ".venv", "dist", "__pycache__", "*.whl")
    shutil.copytree(ROOT, clone, ignore=skipped)
    first, *_ = blocks(ROOT / "README.md", "sh")
    said = typed(first.text, clone, path=outside())
    victor = importlib.metadata.version("victor-ai")
    assert said.splitlines()[-1] == f"victor-otel {__version__}, victor-ai {victor}"

    inside = f"{clone / '.venv' / 'bin'}{os.pathsep}{outside()}"
    for page, folder in ELSEWHERE:
        (block,) = (block for block in blocks(page, "sh") if block.needs == "install")
        typed(block.text, clone / folder, path=inside)
    wheel = f"victor_otel-{__version__}-py3-none-any.whl"
    assert (clone / "deploy" / "victor" / wheel).is_file()
    where = typed("pip show --files victor-otel", clone, path=inside)
    assert "Editable" not in where
    assert "victor_otel/deploy/compose.yaml" in where
