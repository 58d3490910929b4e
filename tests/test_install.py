"""The commands that install the package, typed as the documentation says, into a Python of nothing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kit import otlp
from tests.kit.documentation import ELSEWHERE, blocks
from tools.paths import DEPLOY, ROOT
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


INJECTED = """
import asyncio
from victor.tools.base import BaseTool, ToolResult

class Dig(BaseTool):
    name = "dig"
    description = "Digs."
    parameters = {"type": "object", "properties": {}}

    async def execute(self, _exec_ctx, **_):
        return ToolResult(success=True, output="a hole")

asyncio.run(Dig().execute({}))
"""


def test_what_an_operator_injects_instruments_a_victor_that_knows_nothing_of_it(
    tmp_path: Path,
) -> None:
    image = (DEPLOY / "victor" / "injection.Dockerfile").read_text(encoding="utf-8")
    (install,) = re.findall(r"^RUN (python -m pip (?:.*\\\n)*.*)", image, re.MULTILINE)
    (distro,) = re.findall(r"^ARG DISTRO=(\S+)$", image, re.MULTILINE)
    source = tmp_path / "source"
    source.mkdir()
    for each in ("src", "collector", "deploy"):
        (source / each).symlink_to(ROOT / each)
    for each in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / each, source)
    injected = tmp_path / "autoinstrumentation"
    command = (
        install.replace("python -m", "python3 -m")
        .replace("/autoinstrumentation", str(injected))
        .replace("${VICTOR_OTEL}", str(source))
        .replace("${DISTRO}", distro)
    )
    typed(command, tmp_path, path=outside())
    victor = importlib.metadata.version("victor-ai")
    typed(
        f"python3 -m venv app && app/bin/pip install --quiet victor-ai=={victor} numpy",
        tmp_path,
        path=outside(),
    )
    with otlp.http() as backend:
        # As the operator sets them for Python.
        done = subprocess.run(
            [tmp_path / "app" / "bin" / "python", "-c", INJECTED],
            env={
                "HOME": str(tmp_path),
                "PYTHONPATH": f"{injected}/opentelemetry/instrumentation/auto_instrumentation:{injected}",
                "OTEL_SERVICE_NAME": "garden",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{backend.port}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert executions(backend) == {"garden": 1}


def executions(backend: otlp.Backend) -> dict[str, int]:
    """The tool calls that arrived, by service."""
    return {
        named["service.name"]: sum(point.as_int for point in metric.sum.data_points)
        for named, metrics in backend.metrics()
        for metric in metrics
        if metric.name == "victor.tool.executions"
    }
