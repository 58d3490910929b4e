"""A code base that is reviewed, indexed, measured, tested and refactored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from tests.kit.agents import agent, model
from tests.scenarios.scenario import Count, Scenario
from victor_otel.demo.script import Step, ToolCall
from victor_otel.victor.verticals.coding import (
    FILES_ANALYZED,
    ISSUES_FOUND,
    LOC_REVIEWED,
    REFACTORING_SUCCESS_RATE,
    TESTS_GENERATED,
)

FILES, LINES, ISSUES = (
    "victor_coding_files_analyzed_total",
    "victor_coding_loc_reviewed_total",
    "victor_coding_issues_found_total",
)
TESTS, REFACTORINGS = (
    "victor_coding_tests_generated_total",
    "victor_coding_refactoring_success_rate",
)

PRICES = '''"""Prices and what comes on top of them."""

from os import *


def Price(amount):
    try:
        return eval(amount)
    except:
        return None


def rounded(amount: float, places: int = 2) -> float:
    """Rounds as a cash desk does."""
    shown = amount
    return round(shown, places)
'''
"""An error (eval) and four warnings: `*`, the name of `Price`, its docstring, the bare except."""

TANGLED = "def tangled(given: int) -> int:\n" + "".join(
    f"    if given == {number}:\n        return {number}\n" for number in range(12)
)
"""Two warnings: a complexity of 13, where 10 is allowed, and no docstring."""

TREE = {
    "shop/prices.py": PRICES,
    "shop/tangled.py": TANGLED + "\n\nNAMES = ()\n",
    "shop/cart.py": '"""A cart."""\n\nITEMS: list[str] = []',  # no line break at the end
    "shop/broken.py": "def broken(:\n    pass\n",
}
SETTINGS = '{"currency": "EUR"}\n'
LATIN = b'"""A caf\xe9."""\n'
"""Not UTF-8: Victor cannot read it."""


def plant() -> Path:
    """The code base: four files that can be read, one that cannot, and one of no code."""
    root = Path("code").resolve()
    for name, text in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "shop/latin.py").write_bytes(LATIN)
    (root / "settings.json").write_text(SETTINGS, encoding="utf-8")
    return root


def analyzed(count: Count, source: str, *texts: str) -> None:
    """A line ends the file, if only by being empty: so Victor counts."""
    count.add(FILES, len(texts), source=source)
    count.add(LINES, sum(text.count("\n") + 1 for text in texts), source=source)


def found(count: Count, **findings: int) -> None:
    for severity, number in findings.items():
        count.add(ISSUES, number, source="review", severity=severity)


async def reviews(count: Count) -> None:
    """By directory and by file; a file that cannot be read is no file, its error no issue."""
    from victor_coding.review.manager import ReviewManager
    from victor_coding.review.protocol import ReviewCategory as Category
    from victor_coding.review.protocol import ReviewConfig, ReviewRule, ReviewRuleSet
    from victor_coding.review.protocol import ReviewSeverity as Severity
    from victor_coding.review.rules import RuleRegistry

    root, rules = plant(), RuleRegistry()
    manager = ReviewManager(root, rule_registry=rules)
    reviewed = manager.review_directory(root)
    assert reviewed.total_files == len(TREE) + 1
    analyzed(count, "review", *TREE.values())
    found(count, error=1, warning=4 + 2)

    assert manager.review_file(root / "shop/cart.py").findings == []
    analyzed(count, "review", TREE["shop/cart.py"])
    manager.review_file(root / "shop/prices.py", "security")
    analyzed(count, "review", PRICES)
    found(count, error=1)
    assert manager.review_file(root / "shop/latin.py").error_count == 1

    notes = (
        ReviewRule("doc-module-docstring", "", "", Category.DOCUMENTATION, Severity.HINT),
        ReviewRule(
            "complexity-parameters",
            "",
            "",
            Category.COMPLEXITY,
            Severity.INFO,
            parameters={"max": 1},
        ),
    )
    rules.register_ruleset(ReviewRuleSet(name="notes", rules=list(notes)))
    everything = ReviewConfig(min_severity=Severity.HINT)
    manager.review_directory(root / "shop", "notes", everything, recursive=False)
    analyzed(count, "review", *TREE.values())
    found(count, hint=1, info=1)  # tangled has no docstring; `rounded` has two parameters


async def indexes(count: Count) -> None:
    """The whole code base, then what has changed of it; and the second index, twice."""
    from victor.core.database import reset_project_database
    from victor_coding.codebase.indexer import CodebaseIndex
    from victor_coding.codebase.symbol_store import SymbolStore

    root = plant()
    count.lasting.callback(reset_project_database, root)
    index = CodebaseIndex(str(root), use_embeddings=False, enable_watcher=False, parallel_workers=1)
    await index.ensure_indexed()
    assert set(index.files) == {*TREE, "settings.json"}
    analyzed(count, "index", *TREE.values(), SETTINGS)

    (root / "shop/broken.py").unlink()
    cart = root / "shop/cart.py"
    cart.write_text(PRICES, encoding="utf-8")
    os.utime(cart, (2e9, 2e9))
    (root / "shop/new.py").write_text(TANGLED, encoding="utf-8")
    changed = await index.incremental_reindex()
    # Victor calls the unreadable file added, each time: it has not got into the index.
    assert sorted(changed["added"]) == ["shop/latin.py", "shop/new.py"]
    assert changed["updated"] == ["shop/cart.py"]
    analyzed(count, "index", PRICES, TANGLED)
    await index.ensure_indexed()

    store = SymbolStore(str(root))
    indexed = await store.index_codebase()
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in root.glob("shop/*.py")]
    assert indexed["files_indexed"] == len(texts) == 5
    analyzed(count, "index", *texts)
    assert (await store.index_codebase())["files_skipped"] == len(texts)


async def measurements(count: Count) -> None:
    """The tool `metrics`, which leaves out what it cannot parse when it makes a profile."""
    from victor.tools.metrics_tool import metrics

    root = plant()
    parsed = [text for name, text in TREE.items() if name != "shop/broken.py"]
    report = await metrics(str(root))
    assert report["files_analyzed"] == len(parsed)
    measured(count, len(parsed), parsed)
    count.add(ISSUES, source="metrics", severity="warning")  # tangled

    await metrics(str(root), ["complexity"], complexity_threshold=1)
    measured(count, len(TREE), ())
    count.add(ISSUES, 2, source="metrics", severity="warning")  # and the `except` of prices
    assert not (await metrics("nowhere"))["success"]


def measured(count: Count, files: int, texts: Iterable[str]) -> None:
    count.add(FILES, files, source="metrics")
    lines = sum(bool(line.strip()) for text in texts for line in text.splitlines())
    if lines:
        count.add(LINES, lines, source="metrics")


async def generated_tests(count: Count) -> None:
    """For a file, a directory and a package, by what stands in the generated files."""
    from victor_coding.testgen.manager import TestGenManager

    root = plant()
    manager = TestGenManager(root)
    results = [
        manager.generate_for_file(root / "shop/prices.py"),
        manager.generate_for_directory(root / "shop", recursive=False),
        manager.generate_for_module(root / "shop", write_files=False),
        manager.generate_for_file(root / "shop/cart.py"),  # nothing to test
        manager.generate_for_file(root / "shop/latin.py"),  # not to be read
    ]
    assert not any(result.generated_files for result in results[-2:])
    assert manager.preview_generation(root / "shop/prices.py")
    for result in results:
        for generated in result.generated_files:
            count.add(TESTS, len(re.findall(r"^ *def test_", generated.content, re.MULTILINE)))


async def refactorings(count: Count) -> None:
    """By the library and by the tools' functions: Victor's word, and previews left out."""
    from victor.tools.refactor_tool import extract, inline, organize_imports, rename
    from victor_coding.refactor.manager import RefactorManager
    from victor_coding.refactor.protocol import RefactorType

    prices = plant() / "shop/prices.py"
    line = PRICES.splitlines().index("def rounded(amount: float, places: int = 2) -> float:") + 1
    manager = RefactorManager(prices.parent)
    manager.preview(RefactorType.RENAME_SYMBOL, prices, line, 4, line, 11, new_name="even")
    assert "even" not in prices.read_text(encoding="utf-8")
    assert manager.rename_symbol(prices, line, 4, "even").success  # nothing changes
    assert not manager.rename_symbol(prices, line, 4, "class").success  # a keyword
    assert not manager.rename_symbol(prices, 2, 0, "odd").success  # an empty line
    count.ratio(REFACTORINGS, 1, 3)

    path = str(prices)
    for change, succeeds in (
        (rename("Price", "cost", path), True),
        (rename("Price", "cost", path), False),  # it is gone
        (inline(path, "shown"), True),
        (inline(str(prices.parent / "broken.py"), "shown"), False),
        (extract(path, 8, 8, "evaluate"), True),
        (extract(path, 80, 80, "evaluate"), False),
        (organize_imports(str(prices.parent / "cart.py")), True),
        (organize_imports("nowhere.py"), False),
    ):
        assert (await change)["success"] is succeeds
        count.ratio(REFACTORINGS, succeeds, 1)
    for preview in (
        rename("cost", "price", path, preview=True),
        extract(path, 8, 8, "again", preview=True),
        inline(path, "amount", True),
        organize_imports(path, True),
    ):
        await preview


async def by_an_agent(count: Count) -> None:
    """Each tool once, as a model calls it; Victor tries the missing file under four names."""
    from victor.tools.metrics_tool import metrics
    from victor.tools.refactor_tool import extract, inline, organize_imports, rename

    shop = plant() / "shop"
    path = "code/shop/prices.py"
    calls = (
        ToolCall("metrics", {"path": "code/shop"}),
        ToolCall("code", {"cmd": "metrics code/shop"}),
        ToolCall("rename", {"old_name": "rounded", "new_name": "even", "path": path}),
        ToolCall(
            "rename", {"old_name": "Price", "new_name": "cost", "path": path, "preview": True}
        ),
        ToolCall("inline", {"file": "code/shop/nowhere.py", "variable_name": "shown"}),
        ToolCall(
            "extract",
            {"file": path, "start_line": 8, "end_line": 8, "function_name": "evaluate"},
        ),
        ToolCall("organize_imports", {"file": "code/shop/broken.py"}),
    )
    registered = [one.Tool for one in (metrics, rename, inline, extract, organize_imports)]
    with model(coder=[*(Step(calls=[call]) for call in calls), Step("Done.")]) as served:
        async with agent(served, "coder", *registered) as worker:
            await worker.run("Tidy up the shop.")
    changed = (shop / "prices.py").read_text(encoding="utf-8")
    assert "def even(" in changed
    assert "def evaluate(" in changed
    assert "def Price(" in changed
    count.ratio(REFACTORINGS, 2, 4)

    parsed = [text for name, text in TREE.items() if name != "shop/broken.py"]
    measured(count, len(parsed), parsed)
    count.add(ISSUES, source="metrics", severity="warning")
    # `code` parses nothing and reads past what is not UTF-8.
    everything = [*TREE.values(), LATIN.decode(errors="ignore")]
    measured(count, len(everything), everything)


_LIBRARY = ("victor-coding",)
_ANALYSIS = (FILES_ANALYZED, LOC_REVIEWED, ISSUES_FOUND)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=reviews, proves=_ANALYSIS, needs=_LIBRARY),
    Scenario(run=indexes, proves=(FILES_ANALYZED, LOC_REVIEWED), needs=_LIBRARY),
    Scenario(run=measurements, proves=_ANALYSIS),
    Scenario(run=generated_tests, proves=(TESTS_GENERATED,), needs=_LIBRARY),
    Scenario(run=refactorings, proves=(REFACTORING_SUCCESS_RATE,), needs=_LIBRARY),
    Scenario(run=by_an_agent, proves=(*_ANALYSIS, REFACTORING_SUCCESS_RATE)),
)
