"""Writes the folders `collector` and `deploy` to where people deploy from.

The wheel carries them as they were tested with this version. A record of what was written,
kept beside it, tells on the next export what its owner changed since.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from victor_otel.alerting.parameters import chosen
from victor_otel.alerting.render import adapted
from victor_otel.version import __version__

RECORD = ".victor-otel-export.json"
_FOLDERS = ("collector", "deploy")


class ExportError(Exception):
    """Nothing was written; the message says what is in the way and what to do."""


@dataclass(kw_only=True)
class Outcome:
    """Paths relative to the folder, by what became of them."""

    written: list[str] = field(default_factory=list[str])
    unchanged: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])


def export(
    folder: Path, *, force: bool = False, runbooks: str = "", assignments: Iterable[str] = ()
) -> Outcome:
    """Write the files of this version to `folder`, and remove those that it no longer has.

    `runbooks` becomes the base of all links to runbooks, instead of the project's own, and each of
    the `assignments`, NAME=VALUE, another value of the alerts; both are remembered for the next
    export. Files that are not ours are left alone.

    Raises:
        ExportError: a file of ours was changed there, or a file that is not ours stands where
            one of ours belongs, and `force` is not given; or the folder cannot be written.
        ParameterError: a value cannot be.
    """
    before = _record(folder)
    values = chosen(assignments, before["parameters"])
    own, base = runbooks_base(), runbooks.rstrip("/") or before["runbooks"]
    files = {
        name: content.replace(own.encode(), base.encode())
        for name, content in adapted(dict(_shipped()), values, own).items()
    }
    digests = {name: _digest(content) for name, content in files.items()}
    known: Mapping[str, str] = before["files"]
    try:
        there = {
            name: _digest(path.read_bytes())
            for name in {*files, *known}
            if (path := folder / name).exists()
        }
    except OSError as error:
        raise ExportError(f"{error.filename} cannot be read: {error.strerror}") from error
    changed = sorted(
        name for name, digest in there.items() if digest not in {known.get(name), digests.get(name)}
    )
    if changed and not force:
        raise ExportError(
            f"changed since they were written, or not ours: {', '.join(changed)}.\n"
            "Nothing was written. Export to an empty folder and compare, or overwrite them "
            "with --force."
        )
    outcome = Outcome()
    try:
        for name, content in files.items():
            if there.get(name) == digests[name]:
                outcome.unchanged.append(name)
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            outcome.written.append(name)
        for name in sorted(there.keys() - files.keys()):
            (folder / name).unlink()
            outcome.removed.append(name)
        record = {
            "version": __version__,
            "runbooks": base,
            "parameters": values,
            "files": digests,
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{error.filename} cannot be written: {error.strerror}") from error
    return outcome


def runbooks_base() -> str:
    """Where the links to runbooks lead unless told otherwise, as the package says of itself."""
    urls = importlib.metadata.metadata("victor-otel").get_all("Project-URL") or []
    labelled = dict(url.split(", ", 1) for url in urls)
    return labelled["Runbooks"]


def _shipped() -> Iterator[tuple[str, bytes]]:
    """Each file by its path; a wheel has the folders beside this module."""
    here = Path(__file__).parent
    root = here if (here / "deploy").is_dir() else here.parents[1]
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and not _private(name):
                yield name.as_posix(), path.read_bytes()


def _private(name: Path) -> bool:
    """What a checkout holds besides: secrets, packages and data of whoever works there."""
    if "secrets" in name.parts:
        return name.name not in {"README.md", ".gitignore"}
    leftovers = name.name == ".env" or name.suffix in {".whl", ".log"}
    return leftovers or name.parts[1] in {"data", "queue"}


def _record(folder: Path) -> dict[str, Any]:
    """What the last export left here."""
    path = folder / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            "runbooks": str(found["runbooks"]),
            # Earlier versions have none.
            "parameters": dict(found.get("parameters", {})),
            "files": dict(found["files"]),
        }
    except FileNotFoundError:
        return {"runbooks": runbooks_base(), "parameters": {}, "files": {}}
    except NotADirectoryError as error:
        raise ExportError(f"{folder} is a file; name a folder") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ExportError(f"{path} cannot be read ({error!r}): move it away") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
