"""Reviews, indexes, measurements, generated tests and refactorings of code."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.agents import Recorded, recording
from tests.kit.tools import Bench, own_tool

FILES, LINES, ISSUES = (
    "victor.coding.files_analyzed",
    "victor.coding.loc_reviewed",
    "victor.coding.issues_found",
)
TESTS, RATE = "victor.coding.tests_generated", "victor.coding.refactoring_success_rate"
ALL = (FILES, LINES, ISSUES, TESTS, RATE)

Points = dict[tuple[Any, ...], float]

PRICE = '''def price(amount):
    """What it costs."""
    total = amount * 2
    return total
'''


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """In a folder with one file that can be read and one that cannot."""
    monkeypatch.chdir(tmp_path)
    Path("price.py").write_text(PRICE, encoding="utf-8")
    Path("latin.py").write_bytes(b"# caf\xe9\n")
    with recording() as held:
        yield held


def analyzed(source: str, files: float, lines: float) -> Points:
    return {(FILES, ("source", source)): files, (LINES, ("source", source)): lines}


def issues(source: str, **severities: float) -> Points:
    return {
        (ISSUES, ("severity", severity), ("source", source)): number
        for severity, number in severities.items()
    }


def seen(recorded: Recorded) -> Points:
    return recorded.points(*ALL)


def rate(recorded: Recorded) -> list[float]:
    """The success rate if there is one, 0 included."""
    return list(recorded.points(RATE, zeros=True).values())


# Where nothing has been done.


def test_every_counter_is_there_from_the_start_and_the_rate_is_not(recorded: Recorded) -> None:
    for module in ("review.manager", "codebase.indexer", "testgen.manager"):
        importlib.import_module(f"victor_coding.{module}")

    points = recorded.points(*ALL, zeros=True)
    assert set(points.values()) == {0}
    assert {key[0] for key in points} == {FILES, LINES, ISSUES, TESTS}
    assert [dict(key[1:])["source"] for key in points if key[0] == FILES] == [
        "review",
        "index",
        "metrics",
    ]


# Reviews.


def reviewer(**config: Any) -> Any:
    from victor_coding.review.manager import ReviewManager
    from victor_coding.review.protocol import ReviewConfig
    from victor_coding.review.rules import RuleRegistry

    return ReviewManager(Path.cwd(), ReviewConfig(**config), RuleRegistry())


def test_a_review_counts_its_file_however_often_it_is_reviewed(recorded: Recorded) -> None:
    for _ in range(2):
        assert reviewer().review_file(Path("price.py")).lines_analyzed == 5
    assert seen(recorded) == analyzed("review", 2, 10)


def test_a_file_that_cannot_be_read_is_no_file_and_its_error_no_issue(recorded: Recorded) -> None:
    manager = reviewer()
    for unreadable in ("latin.py", "nowhere.py", "."):
        assert manager.review_file(Path(unreadable)).findings[0].rule_id == "internal-error"
    assert seen(recorded) == {}


def test_only_the_findings_that_a_review_reports_are_issues(recorded: Recorded) -> None:
    """Those below its threshold and above its limit are not."""
    Path("price.py").write_text("def A(): eval('')\n\ndef B(): eval('')\n", encoding="utf-8")
    review = reviewer(max_findings_per_file=3).review_file(Path("price.py"))
    assert len(review.findings) == 3
    warnings = sum(one.severity.value == "warning" for one in review.findings)
    expected = analyzed("review", 1, 4) | issues("review", warning=warnings)
    if warnings < 3:
        expected |= issues("review", error=3 - warnings)
    assert seen(recorded) == expected


def test_an_analyzer_that_breaks_down_is_no_issue(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = reviewer()
    for analyzer in manager._analyzers.values():
        monkeypatch.setattr(analyzer, "analyze", lambda *_: 1 / 0)
    assert manager.review_file(Path("price.py")).findings == []
    assert seen(recorded) == analyzed("review", 1, 5)


def test_a_review_that_raises_has_reviewed_nothing(recorded: Recorded) -> None:
    manager = reviewer()
    manager.rule_registry._rulesets.clear()
    with pytest.raises(AttributeError, match="get_enabled_rules"):
        manager.review_file(Path("price.py"))
    assert seen(recorded) == {}


def test_a_review_of_a_subclass_counts_once(recorded: Recorded) -> None:
    from victor_coding.review.manager import ReviewManager

    class Own(ReviewManager):
        def review_file(self, *args: Any, **kwargs: Any) -> Any:
            return super().review_file(*args, **kwargs)

    Own().review_directory(Path.cwd())
    assert seen(recorded) == analyzed("review", 1, 5)


# Indexes.


@pytest.fixture
def index(recorded: Recorded) -> Iterator[Callable[..., Any]]:
    from victor.core.database import reset_project_database
    from victor_coding.codebase.indexer import CodebaseIndex

    def make(workers: int = 1) -> Any:
        return CodebaseIndex(
            str(Path.cwd()), use_embeddings=False, enable_watcher=False, parallel_workers=workers
        )

    yield make
    reset_project_database(Path.cwd())


async def test_an_index_counts_what_it_has_read(index: Any, recorded: Recorded) -> None:
    await index().index_codebase()
    assert seen(recorded) == analyzed("index", 1, 5)


async def test_an_incremental_index_counts_what_has_changed(index: Any, recorded: Recorded) -> None:
    """Without an index it is a full one. A file that is named twice is read once."""
    made = index()
    await made.incremental_reindex()
    await made.incremental_reindex()
    await made.ensure_indexed()
    assert seen(recorded) == analyzed("index", 1, 5)
    Path("more.py").write_text("A = 1\n", encoding="utf-8")
    more = Path("more.py").resolve()
    assert (await made.incremental_reindex([more, more]))["added"] == ["more.py"]
    assert seen(recorded) == analyzed("index", 2, 7)


async def test_an_index_made_by_several_processes_counts_each_file_once(
    index: Any, recorded: Recorded
) -> None:
    for number in range(60):
        Path(f"module_{number}.py").write_text("A = 1\n", encoding="utf-8")
    made = index(workers=2)
    await made.index_codebase()
    assert len(made.files) == 61
    assert seen(recorded) == analyzed("index", 61, 5 + 60 * 2)


async def test_a_file_that_fails_to_be_indexed_does_not_count(
    index: Any, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = index()
    monkeypatch.setattr(made, "_graph_nodes", None)
    monkeypatch.setattr(made, "_reset_graph_buffers", lambda: None)
    await made.index_codebase()
    assert seen(recorded) == {}


async def test_a_cancelled_index_counts_what_it_came_to(
    index: Any, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Path(f"module_{number}.py").write_text("A = 1\n", encoding="utf-8")
    Path("price.py").unlink()
    made, stuck = index(), asyncio.Event()
    extract = made._unified_extractor.extract_symbols

    async def extract_two(*args: Any) -> Any:
        if len(made.files) == 2:
            stuck.set()
            await asyncio.sleep(30)
        return await extract(*args)

    monkeypatch.setattr(made._unified_extractor, "extract_symbols", extract_two)
    indexing = asyncio.create_task(made.index_codebase())
    await asyncio.wait_for(stuck.wait(), 30)
    indexing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await indexing
    assert seen(recorded) == analyzed("index", 2, 4)


async def test_the_background_indexer_counts(index: Any, recorded: Recorded) -> None:
    from victor_coding.codebase.indexer import BackgroundIndexerService

    service = BackgroundIndexerService(Path.cwd(), interval_seconds=60)
    service._indexer = index()
    await asyncio.to_thread(service._run_incremental_reindex)
    assert service.get_stats()["files_updated"] == 1
    assert seen(recorded) == analyzed("index", 1, 5)


async def test_the_symbol_store_counts_what_it_has_read(index: Any, recorded: Recorded) -> None:
    """It reads past what is not UTF-8, and a file of another language differently."""
    from victor_coding.codebase.symbol_store import SymbolStore

    Path("shop.go").write_text("package shop\n", encoding="utf-8")
    Path("gone.py").symlink_to("nowhere.py")
    store = SymbolStore(str(Path.cwd()))
    assert (await store.index_codebase())["files_indexed"] == 3
    assert seen(recorded) == analyzed("index", 3, 5 + 2 + 2)
    assert (await store.index_codebase(force=True))["files_indexed"] == 3
    assert seen(recorded) == analyzed("index", 6, 18)


# Measurements.


async def test_both_ways_into_the_tool_metrics_count_once(recorded: Recorded) -> None:
    from victor.tools.metrics_tool import metrics

    assert (await metrics("."))["files_analyzed"] == 1
    assert seen(recorded) == analyzed("metrics", 1, 4)
    assert (await metrics.Tool.execute({}, path=".")).success
    assert seen(recorded) == analyzed("metrics", 2, 8)


async def test_metrics_without_a_profile_know_no_lines(recorded: Recorded) -> None:
    from victor.tools.metrics_tool import metrics

    await metrics("price.py", ["maintainability"])
    assert seen(recorded) == {(FILES, ("source", "metrics")): 1}


async def test_a_file_above_the_threshold_of_metrics_is_one_issue(recorded: Recorded) -> None:
    from victor.tools.metrics_tool import metrics

    await metrics("price.py", complexity_threshold=1)
    assert seen(recorded) == analyzed("metrics", 1, 4)
    await metrics("price.py", ["complexity"], complexity_threshold=0)
    assert seen(recorded) == {
        (FILES, ("source", "metrics")): 2,
        (LINES, ("source", "metrics")): 4,
        **issues("metrics", warning=1),
    }


async def test_metrics_of_nothing_count_nothing(recorded: Recorded) -> None:
    from victor.tools.metrics_tool import metrics

    Path("empty").mkdir()
    for nothing in ("empty", "nowhere", ""):
        await metrics(nothing)
    with pytest.raises(TypeError):
        await metrics(7)
    assert seen(recorded) == {}


async def test_the_metrics_of_the_tool_code_count(recorded: Recorded) -> None:
    from victor.tools.unified.code_tool import code_tool

    assert "**files**: 2" in await code_tool("metrics .")
    assert seen(recorded) == analyzed("metrics", 2, 5)
    await code_tool("metrics nowhere")
    assert seen(recorded) == analyzed("metrics", 2, 5)


# Generated tests.


def generator() -> Any:
    from victor_coding.testgen.manager import TestGenManager

    return TestGenManager(Path.cwd())


def test_test_cases_count_written_or_not(recorded: Recorded) -> None:
    cases = generator().generate_for_file(Path("price.py").resolve()).total_test_cases
    assert cases == 1
    assert seen(recorded) == {(TESTS,): cases}
    generator().generate_for_file(Path("price.py").resolve(), write_file=False)
    assert seen(recorded) == {(TESTS,): 2 * cases}


def test_tests_that_could_not_be_written_or_were_only_looked_at_are_none(
    recorded: Recorded,
) -> None:
    Path("tests").write_text("in the way", encoding="utf-8")
    assert not generator().generate_for_file(Path("price.py").resolve()).success
    assert generator().preview_generation(Path("price.py"))
    assert generator().generate_for_file(Path("latin.py")).total_test_cases == 0
    assert seen(recorded) == {}


# Refactorings.


def refactorer() -> Any:
    from victor_coding.refactor.manager import RefactorManager

    return RefactorManager(Path.cwd())


def request(new_name: str = "cost", **options: Any) -> Any:
    from victor_coding.refactor.protocol import RefactorRequest, RefactorType, SourceLocation

    target = SourceLocation(Path("price.py").resolve(), 3, 4, 3, 9)
    return RefactorRequest(RefactorType.RENAME_SYMBOL, target, new_name=new_name, **options)


def function_renamed() -> Any:
    """Victor renames the uses of a function, of which there are none."""
    wanted = request()
    wanted.target.start_line = wanted.target.end_line = 1
    return wanted


def test_a_refactoring_succeeds_in_victors_own_word(recorded: Recorded) -> None:
    assert rate(recorded) == []
    assert refactorer().apply(request()).success
    assert rate(recorded) == [1]
    assert not refactorer().apply(request("class")).success
    assert rate(recorded) == [1 / 2]
    changed = refactorer().apply(function_renamed())
    assert changed.success
    assert changed.edits_applied == 0
    assert rate(recorded) == [2 / 3]


def test_a_preview_is_no_refactoring_and_apply_is_none_whatever_is_asked(
    recorded: Recorded,
) -> None:
    assert refactorer().preview_request(request()).is_valid
    assert rate(recorded) == []
    assert refactorer().apply(request(preview=True)).success
    assert "return cost" in Path("price.py").read_text(encoding="utf-8")
    assert rate(recorded) == [1]


@pytest.mark.parametrize(
    ("error", "expected"), [(ValueError("no"), [0]), (KeyboardInterrupt(), [])]
)
def test_a_refactoring_that_raises_is_a_failure_and_one_that_is_broken_off_is_none(
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    expected: list[float],
) -> None:
    manager = refactorer()

    def preview(_request: Any) -> Any:
        raise error

    monkeypatch.setattr(manager, "preview_request", preview)
    with pytest.raises(type(error)) as raised:
        manager.apply(request())
    assert raised.value is error
    assert rate(recorded) == expected


async def test_both_ways_into_a_tool_count_once(recorded: Recorded) -> None:
    from victor.tools.refactor_tool import inline, rename

    assert (await rename("price", "cost", "price.py"))["success"]
    assert not (
        await rename.Tool.execute({}, old_name="price", new_name="x", path="price.py")
    ).success
    assert rate(recorded) == [1 / 2]
    assert (await inline.Tool.execute({}, file="price.py", variable_name="total")).success
    assert rate(recorded) == [2 / 3]


async def test_previews_of_tools_count_neither_way(recorded: Recorded) -> None:
    from victor.tools.refactor_tool import extract, inline, organize_imports, rename

    for answer in (
        rename("price", "cost", "price.py", "file", 0, True),
        rename("nothing", "cost", "price.py", preview=True),
        extract("price.py", 3, 3, "double", True),
        inline("price.py", "total", True),
        organize_imports("price.py", True),
        organize_imports.Tool.execute({}, file="price.py", preview=True),
        inline.Tool.execute({}, file="nowhere.py", variable_name="total", preview=True),
    ):
        await answer
    assert Path("price.py").read_text(encoding="utf-8") == PRICE
    assert rate(recorded) == []


async def test_a_tool_that_raises_is_a_failure(recorded: Recorded) -> None:
    from victor.tools.refactor_tool import inline

    with pytest.raises(UnicodeDecodeError):
        await inline("latin.py", "total")
    assert rate(recorded) == [0]
    assert not (await inline.Tool.execute({}, file="latin.py", variable_name="total")).success
    await inline("price.py", "total")
    assert rate(recorded) == [1 / 3]


def retried(tool: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`tool`, which Victor would repeat: since 0.10 it repeats only what has no effect."""
    from victor.tools.enums import AccessMode

    monkeypatch.setattr(type(tool), "access_mode", property(lambda _: AccessMode.READONLY))
    return tool


async def test_one_call_of_the_model_is_one_refactoring_however_often_victor_tries(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Victor tries other spellings of the path of a file that it does not find."""
    from victor.tools.refactor_tool import inline

    bench = Bench(retried(inline.Tool, monkeypatch))
    assert (await bench.call("inline", file="price.py", variable_name="total")).success
    tried: list[str] = []
    found = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: tried.append(str(path)) or found(path))
    assert not (await bench.call("inline", file="nowhere.py", variable_name="total")).success
    assert sum(path.endswith("nowhere.py") for path in tried) > 1
    assert rate(recorded) == [1 / 2]


async def test_the_last_attempt_decides(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from victor.tools.refactor_tool import inline

    answers = iter([False])  # as long as the file is not there yet
    found = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: next(answers, None) is None and found(path))
    bench = Bench(retried(inline.Tool, monkeypatch))
    assert (await bench.call("inline", file="price.py", variable_name="total")).success
    assert next(answers, None) is None
    assert "return amount * 2" in Path("price.py").read_text(encoding="utf-8")
    assert rate(recorded) == [1]


async def test_a_call_that_is_not_run_is_no_refactoring(recorded: Recorded) -> None:
    from victor.tools.refactor_tool import inline

    assert not (await Bench(inline.Tool).call("inline", file="price.py")).success
    assert rate(recorded) == []


async def test_tools_inside_a_tool_are_refactorings_of_their_own(recorded: Recorded) -> None:
    from victor.tools.refactor_tool import inline, rename

    async def tidy(_tool: Any, number: int) -> str:
        await bench.registry.execute("rename", {}, old_name="no", new_name="x", path="price.py")
        await bench.registry.execute("inline", {}, file="price.py", variable_name="total")
        return "tidy"

    bench = Bench(inline.Tool, rename.Tool, own_tool(tidy))
    assert (await bench.call("own_tool", number=1)).success
    assert rate(recorded) == [1 / 2]


async def test_refactorings_side_by_side_are_each_counted(recorded: Recorded) -> None:
    from victor.tools.refactor_tool import inline

    files = [f"copy_{number}.py" for number in range(8)]
    for name in files[:6]:
        Path(name).write_text(PRICE, encoding="utf-8")
    await asyncio.gather(
        *(inline.Tool.execute({}, file=name, variable_name="total") for name in files)
    )
    assert rate(recorded) == [6 / 8]
