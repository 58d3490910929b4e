"""What `victor otel export` writes, and what it never overwrites."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.paths import ROOT, tracked
from victor_otel import export as exporting
from victor_otel.cli import app
from victor_otel.export import RECORD, ExportError, export, runbooks_base

CONFIG = "collector/config.yaml"
RULES = "deploy/prometheus/rules/requests.yml"


def shipped() -> dict[str, bytes]:
    """The files of both folders that the repository has."""
    return {path: (ROOT / path).read_bytes() for path in tracked("collector", "deploy")}


def found(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != RECORD
    }


def test_an_empty_folder_gets_every_file_as_it_was_tested(tmp_path: Path) -> None:
    outcome = export(tmp_path / "stack")
    assert found(tmp_path / "stack") == shipped()
    assert set(outcome.written) == shipped().keys()
    assert (outcome.unchanged, outcome.removed) == ([], [])


def test_a_second_export_leaves_everything_as_it_is(tmp_path: Path) -> None:
    export(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.y*ml")}
    assert export(tmp_path).written == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.y*ml")} == times


def test_a_changed_file_is_kept_and_nothing_else_is_written(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / CONFIG).write_text("mine\n")
    (tmp_path / RULES).unlink()
    with pytest.raises(ExportError, match=rf"changed .*: {CONFIG}\.\nNothing was written"):
        export(tmp_path)
    assert (tmp_path / CONFIG).read_text() == "mine\n"
    assert not (tmp_path / RULES).exists()


def test_a_file_that_was_there_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / CONFIG).parent.mkdir()
    (tmp_path / CONFIG).write_text("somebody else's\n")
    with pytest.raises(ExportError, match=CONFIG):
        export(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / CONFIG]


def test_force_overwrites_what_was_changed_and_leaves_what_is_not_ours(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / CONFIG).write_text("mine\n")
    (tmp_path / "deploy/prometheus/targets/mine.yml").write_text("[]\n")
    assert export(tmp_path, force=True).written == [CONFIG]
    assert found(tmp_path) == {**shipped(), "deploy/prometheus/targets/mine.yml": b"[]\n"}


def test_a_new_version_replaces_its_own_files_and_removes_those_it_has_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {CONFIG: b"old\n", "prometheus/rules/gone.yml": b"old\n", "kept.yml": b"same\n"}
    monkeypatch.setattr(exporting, "_shipped", lambda: iter(shipped.items()))
    export(tmp_path)
    shipped.update({CONFIG: b"new\n"})
    del shipped["prometheus/rules/gone.yml"]
    outcome = export(tmp_path)
    assert outcome.written == [CONFIG]
    assert outcome.removed == ["prometheus/rules/gone.yml"]
    assert outcome.unchanged == ["kept.yml"]
    assert found(tmp_path) == {CONFIG: b"new\n", "kept.yml": b"same\n"}


def test_what_a_version_without_parameters_has_exported_is_replaced(tmp_path: Path) -> None:
    export(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    del record["parameters"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert RULES in export(tmp_path, assignments=["HighErrorRate.threshold=0.1"]).written


def test_links_lead_to_runbooks_of_the_users_own_from_then_on(tmp_path: Path) -> None:
    url = "https://wiki.example.org/victor"
    export(tmp_path, runbooks=f"{url}/")
    assert f"runbook_url: {url}/HighErrorRate.md" in (tmp_path / RULES).read_text()
    assert not [n for n, content in found(tmp_path).items() if runbooks_base().encode() in content]
    assert export(tmp_path).written == []
    assert export(tmp_path, runbooks=runbooks_base()).written
    assert found(tmp_path) == shipped()


def test_secrets_and_data_of_the_checkout_stay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    package = checkout / "src/victor_otel"
    package.mkdir(parents=True)
    monkeypatch.setattr(exporting, "__file__", str(package / "export.py"))
    secrets = checkout / "deploy/alertmanager/secrets"
    secrets.mkdir(parents=True)
    for name in ("slack", "README.md", ".gitignore"):
        (secrets / name).touch()
    (checkout / "deploy/.env").touch()
    for data in ("collector/queue", "deploy/data"):
        (checkout / data).mkdir(parents=True)
        (checkout / data / "wal").touch()
    written = export(tmp_path / "out").written
    assert written == [
        "deploy/alertmanager/secrets/.gitignore",
        "deploy/alertmanager/secrets/README.md",
    ]


def test_an_unreadable_record_is_said_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("[]")
    with pytest.raises(ExportError, match=r"export\.json cannot be read"):
        export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path / "stack")])
    assert done.exit_code == 0
    count = len(shipped())
    assert f"{count} files written, 0 as they were" in done.stdout
    assert json.loads((tmp_path / "stack" / RECORD).read_text())["files"].keys() == shipped().keys()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{folder}/file"], 1, "is a file; name a folder"),
        (["{folder}", "--runbooks", "wiki"], 2, "--runbooks wants a URL, not 'wiki'"),
        (["{folder}/changed"], 1, "with --force"),
    ],
)
def test_what_is_in_the_way_is_said_in_a_line(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "file").touch()
    changed = tmp_path / "changed" / CONFIG
    changed.parent.mkdir(parents=True)
    changed.touch()
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    done = CliRunner().invoke(app, ["export", *filled])
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_the_wheel_carries_what_the_repository_has_and_nothing_else(tmp_path: Path) -> None:
    secret = ROOT / "deploy/alertmanager/secrets/wheel-test"
    secret.touch()
    try:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    finally:
        secret.unlink()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        package = "victor_otel/"
        carried = {
            name.removeprefix(package): wheel.read(name)
            for name in wheel.namelist()
            if name.startswith((f"{package}collector/", f"{package}deploy/"))
        }
    assert carried == shipped()
