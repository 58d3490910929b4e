"""What the pages in docs/ say is so: links, commands, queries, and every name in them."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import promql_parser
import pytest

from tests.kit.agents import sandboxed
from tests.kit.documentation import (
    DOCS,
    ELSEWHERE,
    NEEDS,
    PAGES,
    WRITTEN,
    Block,
    anchors,
    blocks,
    is_remark,
    links,
    missing,
    prose,
    remarks,
    spans,
)
from tests.kit.processes import run
from tests.kit.series import EXPORTED, OTHERS, RECORDED, labels
from tools.paths import ROOT
from tools.rules import ALERTS
from victor_otel.victor import catalog
from victor_otel.victor.outcomes import error_type

LOGGING = DOCS / "structured-logging.md"

LOGGED_BY = {
    "VICTOR_LOG_LEVEL": "error",
    "VICTOR_LOG_FILE": "here.log",
    "VICTOR_LOG_FILE_LEVEL": "debug",
    "VICTOR_LOG_DISABLED": "true",
}
"""The variables of Victor's log, and a value for each."""

LANGUAGES = {"sh", "text", "promql", "python", "yaml", ""}
"""Those of the blocks; nothing is checked in one without a language, such as a diagram."""

PROPER = {
    *("OpenTelemetry", "PagerDuty", "GitHub", "DevOps", "PromQL", "ReplicaSet", "StatefulSet"),
    *("ConfigMap", "NetworkPolicy", "NetworkPolicies", "ServiceMonitor", "PrometheusRule"),
    *("DataAnalysis", "KiB", "MiB", "GiB", "TiB", "PyPI", "VictoriaMetrics", "LoggerProvider"),
    "GenAI",
    *("OrgID", "RemoteWrite"),  # of a header of Mimir's and of a permission of Amazon's
    *("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),  # in a web configuration
    *("ServiceDown", "CodingAnalysisBacklog"),  # of an earlier guide, as docs/alerts.md says
}
"""Words that are written like an alert or a class, and are neither."""

each_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
each_query = pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in blocks(page, "promql")],
    ids=lambda block: block.place,
)
each_program = pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in blocks(page, "python")],
    ids=lambda block: block.place,
)


@cache
def source_of(package: str) -> str:
    """All Python of an installed package, to look a name up in."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.py"))
    return "\n".join(file.read_text(encoding="utf-8", errors="ignore") for file in files)


@cache
def ours() -> str:
    files = sorted((ROOT / "src").rglob("*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


# Blocks


@each_page
def test_blocks_are_in_a_language_that_is_checked(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@each_page
def test_what_stands_above_a_block_is_a_remark_that_tests_know(page: Path) -> None:
    assert [comment for comment in remarks(page) if not is_remark(comment)] == []


def test_a_remark_is_about_the_block_below_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- needs: engine -->\n```sh\na\n```\n```text\nb ... d\n```\n"
        "<!-- until Ctrl-C -->\n```sh\nc\n```\n1. In a list:\n   ```sh\n   e\n   ```\n"
    )
    a, c, e = blocks(page, "sh")
    assert (a.text, a.needs, a.stays, a.line) == ("a\n", "engine", False, 2)
    assert (c.text, c.needs, c.stays) == ("c\n", "", True)
    assert (e.text, e.needs, e.stays) == ("e\n", "", False)
    assert missing(a, "x\nb c d \n") == []
    assert missing(a, "b d\n") == ["b ... d"]
    assert not is_remark("<!-- needs: luck -->")
    assert set(NEEDS) == {"engine", "cluster", "install"}


@each_page
def test_commands_are_what_bash_understands(page: Path) -> None:
    for block in blocks(page, "sh"):
        done = subprocess.run(
            ["bash", "-n", "-c", block.text], capture_output=True, text=True, timeout=10
        )
        assert done.returncode == 0, f"{block.place}: {done.stderr}"


@each_page
def test_only_what_cannot_run_here_is_marked(page: Path) -> None:
    words = {"engine": "docker", "cluster": "kubectl", "install": "pip "}
    for block in blocks(page, "sh"):
        assert not block.needs or words[block.needs] in block.text, block.place


def test_every_page_that_installs_is_tried() -> None:
    install = {page for page in PAGES for block in blocks(page, "sh") if block.needs == "install"}
    assert install <= {page for page, _ in ELSEWHERE}


@each_query
def test_a_query_reads_what_is_exported(block: Block) -> None:
    labels(promql_parser.parse(block.text))


@each_program
def test_a_program_runs(block: Block) -> None:
    run(block.text, VICTOR_OTEL_STRICT="true")


# Links


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    broken: list[str] = []
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_pages_name_each_other() -> None:
    guide = {link.partition("#")[0] for link in links(DOCS / "guide.md")}
    assert {page.name for page in PAGES} - {"guide.md"} <= guide


# Names


@each_page
def test_series_that_are_named_exist(page: Path) -> None:
    known = {*EXPORTED, *RECORDED, *OTHERS}
    for metric in catalog.METRICS:
        known |= {metric.prometheus_name, *(label.prometheus_name for label in metric.labels)}
    modules = {"victor_otel", *(package.name for package in ROOT.glob("src/*"))}
    named = re.findall(r"(?<![\w./-])(?:\w+:)?victor_\w+(?::\w+)?(?![\w/*]|\.\w)", prose(page))
    assert {name for name in named if name not in known | modules} == set()


@each_page
def test_alerts_and_classes_that_are_named_exist(page: Path) -> None:
    known = {alert.name for alert in ALERTS} | set(dir(builtins)) | PROPER
    known |= {part for target in catalog.targets(None) for part in re.split(r"[.:]", target)}
    named = set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]*)+\b", prose(page))) - known
    everywhere = ours() + source_of("victor")
    unknown = {
        name for name in named if not re.search(rf"\b(class|def|import) {name}\b", everywhere)
    }
    own = "\n".join(block.text for block in blocks(page))
    assert {name for name in unknown if f"class {name}" not in own} == set()


@each_page
def test_variables_that_are_named_exist(page: Path) -> None:
    collector = "\n".join(path.read_text("utf-8") for path in ROOT.glob("collector/**/*.yaml"))
    read = "\n".join((ours(), collector, source_of("opentelemetry"), source_of("victor")))
    named = set(re.findall(r"\b(?:VICTOR|OTEL)_[A-Z_]*[A-Z]\b", prose(page)))
    assert {name for name in named if not re.search(rf"\b{name}\b", read)} == set()


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    made = {"dist", "build"}  # by commands that a page shows
    top = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made
    words = [
        word for span in [prose(page), *spans(page)] for word in re.split(r"[\s`'\"(),]+", span)
    ]
    paths = {word.rstrip(".:;") for word in words if word.split("/")[0] in top and "/" in word}
    paths.discard("tools/call")  # a method of MCP
    unknown = [path for path in paths if not (ROOT / path).exists() and not any(ROOT.glob(path))]
    assert sorted(unknown) == []


@each_page
def test_log_lines_that_are_quoted_are_ours(page: Path) -> None:
    joined = re.sub(r'"\s*\n\s*f?"', "", ours())
    for span in spans(page):
        if span.startswith("victor-otel: "):
            assert all(part in joined for part in span.split("...")), span


def test_the_functions_that_a_call_passes_are_where_the_page_says() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`([\w.]+)`\]\(\.\./(src/[\w/]+\.py)\)", text)
    assert len(named) > 20
    assert [one for one in named if one[0] not in defined(ROOT / one[1])] == []


def defined(path: Path) -> set[str]:
    """The functions and classes of a module, and the methods as `Class.method`."""
    made = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    outer = [
        one for one in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(one, made)
    ]
    inner = {
        f"{one.name}.{each.name}" for one in outer for each in one.body if isinstance(each, made)
    }
    return {one.name for one in outer} | inner


@pytest.fixture(scope="module")
def victor() -> Iterator[None]:
    with sandboxed():
        yield


@pytest.mark.usefixtures("victor")
def test_victor_logs_as_the_page_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from victor.config import config_loaders

    monkeypatch.setattr(config_loaders, "USER_CONFIG_FILE", tmp_path / "none.yaml")
    config_loaders.invalidate_config_cache()
    for name in LOGGED_BY:
        monkeypatch.delenv(name, raising=False)
    levels = [
        config_loaders.get_logging_config(command).console_level for command in ("chat", "serve")
    ]
    assert levels == ["WARNING", "INFO"]
    usual = config_loaders.get_logging_config()
    assert usual.file_level == "INFO"
    assert usual.file_path == "~/.victor/logs/victor.log"
    assert (usual.file_max_bytes, usual.file_backup_count) == (10 * 1024**2, 5)
    for name, value in LOGGED_BY.items():
        monkeypatch.setenv(name, value)
    told = config_loaders.get_logging_config()
    assert (told.console_level, told.file_level, told.file_path) == ("ERROR", "DEBUG", "here.log")
    assert not told.file_enabled
    named = set(re.findall(r"^\| `(VICTOR_\w+)` \|", LOGGING.read_text("utf-8"), re.MULTILINE))
    assert named == set(LOGGED_BY)
    config_loaders.invalidate_config_cache()


@pytest.mark.usefixtures("victor")
def test_a_class_in_the_log_is_the_error_type_that_the_page_says() -> None:
    from victor.core import errors

    rows = re.findall(r"^\| `(\w+)` \| `(\w+Error)` \|$", LOGGING.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 4
    assert [error_type(getattr(errors, name)("gone")) for _, name in rows] == [
        kind for kind, _ in rows
    ]


def test_the_guide_speaks_of_every_metric_of_victors_guide() -> None:
    names = {metric.prometheus_name for metric in catalog.METRICS if metric.guide}
    said = prose(DOCS / "guide.md")
    assert {name for name in names if name not in said} == set()


def test_the_quick_reference_speaks_of_every_alert_that_calls_a_person() -> None:
    critical = {alert.name for alert in ALERTS if alert.severity == "critical"}
    said = prose(DOCS / "quick-reference.md")
    assert {name for name in critical if name not in said} == set()
