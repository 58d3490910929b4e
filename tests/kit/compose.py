"""compose.yaml and Victor's Dockerfile as data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

from tests.kit.processes import environment
from tools.paths import COLLECTOR, DEPLOY, ROOT

GUIDE = DEPLOY / "compose.md"
API_KEY = "one-key-of-a-test"
DOTENV = f"VICTOR_API_KEYS={API_KEY}\nANTHROPIC_API_KEY=one-key-of-a-model\n"
# Go's command needs no other settings, and no workspace around us interferes.
_GO = {"CGO_ENABLED": "0", "GOWORK": "off"}


class ComposeError(Exception):
    """What Compose says of a project that it does not start."""


@dataclass(frozen=True)
class Service:
    """A service as Compose understands it, with everything short written out."""

    name: str
    settings: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return self.settings.get("environment") or {}

    @property
    def networks(self) -> set[str]:
        return set(self.settings["networks"])

    @property
    def ports(self) -> list[dict[str, Any]]:
        return self.settings.get("ports", [])

    @property
    def dependencies(self) -> dict[str, str]:
        """What it waits for, and until when."""
        every: dict[str, dict[str, Any]] = self.settings.get("depends_on") or {}
        return {name: each["condition"] for name, each in every.items()}

    def mounts(self, kind: str) -> dict[str, Path]:
        """Where it has files of one kind, bind or volume, and which."""
        every = self.settings.get("volumes", [])
        return {m["target"]: Path(m["source"]) for m in every if m["type"] == kind}

    @property
    def writable(self) -> set[str]:
        """Folders in memory, gone with the container."""
        return {entry.partition(":")[0] for entry in self.settings.get("tmpfs") or ()}

    @property
    def health(self) -> str | None:
        """The URL that its health check asks."""
        if "build" in self.settings:
            return url(" ".join(dockerfile()[-1]["HEALTHCHECK"]))
        check = self.settings.get("healthcheck")
        return url(" ".join(check["test"])) if check else None


def url(command: str) -> str:
    (found,) = re.findall(r"http://[^\s'\"]+", command)
    return found


def copied(folder: Path, dotenv: str = DOTENV) -> Path:
    """A copy of deploy/ with a `.env`, as its owner has it; none, if there is no text for it.

    What it reads of the Collector stands beside it.
    """
    copy = folder / "deploy"
    shutil.copytree(COLLECTOR, folder / "collector")
    shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns(".env", "secrets"))
    if dotenv:
        (copy / ".env").write_text(dotenv, encoding="utf-8")
    return copy


def project(folder: Path, override: str = "", **variables: str) -> dict[str, Any]:
    """The project in `folder`, perhaps with the text of a compose.override.yaml, in a shell that
    has `variables`.

    Raises:
        ComposeError: Compose would not start it.
    """
    files = [folder / "compose.yaml"]
    if override:
        files.append(folder / "compose.override.yaml")
        files[-1].write_text(override, encoding="utf-8")
    read = subprocess.run(
        ["go", "run", ".", str(folder), *map(str, files)],
        cwd=ROOT / "tests" / "kit" / "compose_loader",
        env=environment(**_GO, **variables),
        capture_output=True,
        text=True,
    )
    if read.returncode:
        raise ComposeError(read.stderr)
    return json.loads(read.stdout)


def services(loaded: dict[str, Any]) -> dict[str, Service]:
    return {name: Service(name, settings) for name, settings in loaded["services"].items()}


def started(loaded: dict[str, Any]) -> Iterator[Service]:
    """Services in an order in which each comes after those it depends on."""
    waiting = services(loaded)
    while waiting:
        for name, service in list(waiting.items()):
            if not waiting.keys() & service.dependencies.keys():
                yield waiting.pop(name)


def dockerfile() -> list[dict[str, list[str]]]:
    """The stages of Victor's Dockerfile: what each says, by instruction."""
    stages: list[dict[str, list[str]]] = []
    for entry in DockerfileParser(path=os.fspath(DEPLOY / "victor")).structure:
        instruction = entry["instruction"]
        if instruction == "FROM":
            stages.append({})
        if instruction != "COMMENT":
            stages[-1].setdefault(instruction, []).append(entry["value"])
    return stages


def command() -> list[str]:
    """What the image of Victor runs."""
    last = dockerfile()[-1]
    return [*json.loads(*last["ENTRYPOINT"]), *json.loads(*last["CMD"])]
